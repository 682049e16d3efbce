// One pass over all parameters: `apply_optimizer` of the contract, for the optimizer whose formula is in update.cuh.
#include "activations.cuh"
#include "update.cuh"

extern "C" __global__ void apply_optimizer(REAL* params, const REAL* grads, REAL* state, const double* rates,
                                           long long columns, const long long* counter, long long step,
                                           const double* constants, double weight_decay, long long n_weights,
                                           long long size) {
  const double* now = rates + columns * index_of(counter, step);
  update(params, grads, state, now, constants, weight_decay, 0, n_weights, size);
  update(params, grads, state, now, constants, 0, n_weights, size, size);
}
