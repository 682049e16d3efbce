// `clip` of the contract, in two passes over the gradient of all parameters; and the counter of mini-batches.
#include "sums.cuh"

// First pass of `clip`: each block's partial sum of the squared norm.
extern "C" __global__ void sum_squares(const REAL* grads, double* sums, long long size) {
  SHARED_MEMORY(shared);  // a double a warp
  double sum = 0;
  for (long long i = first_element(); i < size; i += all_threads()) sum += (double)grads[i] * grads[i];
  sum = sum_over_warps(sum_over_lanes<32>(sum), (double*)shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Second pass: every thread adds up the partial sums, in their order.
extern "C" __global__ void clip(REAL* grads, const double* sums, long long blocks, double max_norm, long long size) {
  double square = 0;
  for (long long i = 0; i < blocks; i++) square += sums[i];
  const double norm = sqrt(square);
  if (!(norm > max_norm)) return;
  const REAL factor = (REAL)(max_norm / norm);
  for (long long i = first_element(); i < size; i += all_threads()) grads[i] *= factor;
}

extern "C" __global__ void set_counter(long long* counter, long long value) { *counter = value; }

extern "C" __global__ void advance_counter(long long* counter, long long steps) { *counter += steps; }
