// One pass over all parameters: `sgd`, `rmsprop` and `adam` of the contract; `clip` in two; the counter of mini-batches.
#include "sums.cuh"

__device__ __forceinline__ float root(float x) { return sqrtf(x); }
__device__ __forceinline__ double root(double x) { return sqrt(x); }

// First pass of `clip`: each block's share of the squared norm.
extern "C" __global__ void sum_squares(const REAL* grads, double* sums, long long size) {
  SHARED_MEMORY(shared);  // a double a warp
  double sum = 0;
  for (long long i = first_element(); i < size; i += all_threads()) sum += (double)grads[i] * grads[i];
  sum = sum_over_warps(sum_over_lanes<32>(sum), (double*)shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// Second pass: every thread adds up the shares, in their order.
extern "C" __global__ void clip(REAL* grads, const double* sums, long long shares, double max_norm, long long size) {
  double square = 0;
  for (long long i = 0; i < shares; i++) square += sums[i];
  const double norm = sqrt(square);
  if (!(norm > max_norm)) return;
  const REAL factor = (REAL)(max_norm / norm);
  for (long long i = first_element(); i < size; i += all_threads()) grads[i] *= factor;
}

extern "C" __global__ void sgd(REAL* params, const REAL* grads, REAL* velocity, const double* rates,
                               const long long* counter, long long step, double momentum, long long nesterov,
                               double weight_decay, long long n_weights, long long size) {
  const REAL rate = (REAL)rates[3 * index_of(counter, step)], m = (REAL)momentum, decay = (REAL)weight_decay;
  for (long long i = first_element(); i < size; i += all_threads()) {
    const REAL g = grads[i] + (i < n_weights ? decay * params[i] : (REAL)0);
    const REAL v = m * velocity[i] + g;
    velocity[i] = v;
    params[i] -= rate * (nesterov ? g + m * v : v);
  }
}

extern "C" __global__ void rmsprop(REAL* params, const REAL* grads, REAL* mean_square, const double* rates,
                                   const long long* counter, long long step, double rho, double epsilon,
                                   double weight_decay, long long n_weights, long long size) {
  const REAL rate = (REAL)rates[3 * index_of(counter, step)], decay = (REAL)weight_decay;
  const REAL keep = (REAL)rho, take = (REAL)(1 - rho);
  for (long long i = first_element(); i < size; i += all_threads()) {
    const REAL g = grads[i] + (i < n_weights ? decay * params[i] : (REAL)0);
    const REAL s = keep * mean_square[i] + take * g * g;
    mean_square[i] = s;
    params[i] -= rate * g / (root(s) + (REAL)epsilon);
  }
}

extern "C" __global__ void adam(REAL* params, const REAL* grads, REAL* mean, REAL* mean_square, const double* rates,
                                const long long* counter, long long step, double beta1, double beta2, double epsilon,
                                double weight_decay, long long decoupled, long long n_weights, long long size) {
  const double* now = rates + 3 * index_of(counter, step);
  const REAL rate = (REAL)(now[0] * now[1]), correction = (REAL)now[2], decay = (REAL)weight_decay;
  const REAL keep1 = (REAL)beta1, take1 = (REAL)(1 - beta1), keep2 = (REAL)beta2, take2 = (REAL)(1 - beta2);
  const REAL shrink = (REAL)(1 - now[0] * weight_decay);
  for (long long i = first_element(); i < size; i += all_threads()) {
    REAL p = params[i], g = grads[i];
    if (i < n_weights) {
      if (decoupled)
        p *= shrink;
      else
        g += decay * p;
    }
    const REAL m = keep1 * mean[i] + take1 * g, s = keep2 * mean_square[i] + take2 * g * g;
    mean[i] = m;
    mean_square[i] = s;
    params[i] = p - rate * m / (root(s * correction) + (REAL)epsilon);
  }
}

extern "C" __global__ void set_counter(long long* counter, long long value) { *counter = value; }

extern "C" __global__ void advance_counter(long long* counter, long long steps) { *counter += steps; }
