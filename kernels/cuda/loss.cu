// The end of the forward pass and the beginning of the backward pass: softmax, and `loss_gradient` of the contract.
// A warp computes a row; the sums over rows have a fixed order.
#include "loss.cuh"

extern "C" __global__ void softmax(const REAL* z, REAL* a, long long rows, long long columns) {
  for (long long i = first_element() / 32; i < rows; i += all_threads() / 32)
    softmax_row<32>(z + i * columns, a + i * columns, (int)columns, threadIdx.x % 32);
}

// One block, so that the sums over all rows need no second launch; half as large in double, where the formulas of all
// losses take more registers.
extern "C" __global__ void __launch_bounds__(sizeof(REAL) == 8 ? 512 : 1024, 1)
    loss_gradient(const REAL* z, const REAL* a, const REAL* targets, const REAL* sample_weight, long long has_weights,
                  long long activation, long long loss, long long task, REAL* delta, double* losses, double* hits,
                  const long long* counter, long long step, long long rows, long long columns) {
  SHARED_MEMORY(shared);  // a double a warp
  double* places = (double*)shared;
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32, n = (int)columns;
  double all_weights = rows;
  if (has_weights) {
    double weights = 0;
    for (long long i = threadIdx.x; i < rows; i += blockDim.x) weights += sample_weight[i];
    all_weights = sum_over_warps(sum_over_lanes<32>(weights), places);
  }
  Counts sums{0, 0};
  for (long long i = threadIdx.x / 32; i < rows; i += warps) {
    const double weight = has_weights ? (double)sample_weight[i] : 1.0;
    const REAL share = (REAL)(all_weights > 0 ? weight / all_weights : 0.0);
    const Counts counts = judge<32>(z + i * n, a + i * n, targets + i * n, n, lane, (int)activation, (int)loss,
                                    (int)task, share, delta + i * n);
    sums.loss += weight * counts.loss;
    sums.hit += weight * counts.hit;
  }
  const double loss_sum = sum_over_warps(sums.loss, places), hit_sum = sum_over_warps(sums.hit, places);
  if (threadIdx.x == 0) {
    const long long index = index_of(counter, step);
    losses[index] = loss_sum;
    hits[index] = hit_sum;
  }
}
