// The matrix products, with what follows them fused: `dense`, `input_gradient`, `dense_gradient` and `dense_sgd` of the
// contract. One block computes one tile.
#include "activations.cuh"
#include "tile.cuh"

struct Place {
  int m0, n0;
};

__device__ __forceinline__ Place find_tile(int columns) {
  const int across = (columns + TILE_N - 1) / TILE_N;
  return Place{(int)(blockIdx.x / across) * TILE_M, (int)(blockIdx.x % across) * TILE_N};
}

// z = x W + b, a = activation(z)
extern "C" __global__ void __launch_bounds__(THREADS)
    dense(const REAL* x, const REAL* W, const REAL* b, long long has_bias, long long activation, REAL* z, REAL* a,
          long long rows, long long n_in, long long n_out) {
  SHARED_MEMORY(shared);
  const Place tile = find_tile(n_out);
  multiply_tile<true, false>(x, W, rows, n_out, n_in, tile.m0, tile.n0, (REAL*)shared, [&](int i, int j, REAL value) {
    const size_t e = (size_t)i * n_out + j;
    if (has_bias) value += b[j];
    if (z != a) z[e] = value;
    a[e] = activate((int)activation, value);
  });
}

// dX = (delta W') * activation'(z)
extern "C" __global__ void __launch_bounds__(THREADS)
    input_gradient(const REAL* delta, const REAL* W, long long activation, const REAL* z, const REAL* a, REAL* dX,
                   long long rows, long long n_in, long long n_out) {
  SHARED_MEMORY(shared);
  const Place tile = find_tile(n_in);
  multiply_tile<true, true>(delta, W, rows, n_in, n_out, tile.m0, tile.n0, (REAL*)shared,
                            [&](int i, int j, REAL value) {
                              const size_t e = (size_t)i * n_in + j;
                              dX[e] = value * derivative((int)activation, z[e], a[e]);
                            });
}

// Sums of delta's columns, by the blocks of the uppermost tiles: `finish(j, sum)` is called for each.
template <class Finish>
__device__ __forceinline__ void sum_columns(const REAL* delta, int rows, int columns, Place tile, REAL* shared,
                                            Finish finish) {
  if (tile.m0 > 0) return;
  constexpr int GROUPS = THREADS / TILE_N;  // each adds up every GROUPS-th row
  const int j = threadIdx.x % TILE_N, group = threadIdx.x / TILE_N;
  __syncthreads();  // shared memory has served the product
  if (group < GROUPS) {
    REAL sum = 0;
    if (tile.n0 + j < columns)
      for (int i = group; i < rows; i += GROUPS) sum += delta[(size_t)i * columns + tile.n0 + j];
    shared[group * TILE_N + j] = sum;
  }
  __syncthreads();
  if (group == 0 && tile.n0 + j < columns) {
    REAL sum = 0;
    for (int g = 0; g < GROUPS; g++) sum += shared[g * TILE_N + j];
    finish(tile.n0 + j, sum);
  }
}

// dW = x' delta, db = sum of delta's rows
extern "C" __global__ void __launch_bounds__(THREADS)
    dense_gradient(const REAL* x, const REAL* delta, REAL* dW, REAL* db, long long has_bias, long long rows,
                   long long n_in, long long n_out) {
  SHARED_MEMORY(shared);
  const Place tile = find_tile(n_out);
  multiply_tile<false, false>(x, delta, n_in, n_out, rows, tile.m0, tile.n0, (REAL*)shared,
                              [&](int i, int j, REAL value) { dW[(size_t)i * n_out + j] = value; });
  if (has_bias) sum_columns(delta, rows, n_out, tile, (REAL*)shared, [&](int j, REAL sum) { db[j] = sum; });
}

// W -= rate (x' delta + weight_decay W), b -= rate * sum of delta's rows
extern "C" __global__ void __launch_bounds__(THREADS)
    dense_sgd(const REAL* x, const REAL* delta, const double* rates, long long columns, const long long* counter,
              long long step, double weight_decay, REAL* W, REAL* b, long long has_bias, long long rows, long long n_in,
              long long n_out) {
  SHARED_MEMORY(shared);
  const double rate = rates[columns * index_of(counter, step)];
  const REAL alpha = (REAL)-rate, beta = (REAL)(1 - rate * weight_decay);
  const Place tile = find_tile(n_out);
  multiply_tile<false, false>(x, delta, n_in, n_out, rows, tile.m0, tile.n0, (REAL*)shared,
                              [&](int i, int j, REAL value) {
                                REAL* w = W + (size_t)i * n_out + j;
                                *w = beta * *w + alpha * value;
                              });
  if (has_bias) sum_columns(delta, rows, n_out, tile, (REAL*)shared, [&](int j, REAL sum) { b[j] += alpha * sum; });
}
