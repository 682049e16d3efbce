// Sums over threads, always in the same order.
#include "platform.cuh"

// The sum over LANES threads of a warp, 1 to 32; returned to each of them.
template <int LANES, class T>
__device__ __forceinline__ T sum_over_lanes(T value) {
#pragma unroll
  for (int distance = LANES / 2; distance; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
  return value;
}

// The sum over the warps of a block, in their order; returned to all threads.
__device__ __forceinline__ double sum_over_warps(double value, double* places) {
  __syncthreads();
  if (threadIdx.x % 32 == 0) places[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (int warp = 0; warp < blockDim.x / 32; warp++) sum += places[warp];
  return sum;
}
