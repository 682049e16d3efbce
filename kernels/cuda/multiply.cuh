// Small matrix products by one block. The functions `a(i, k)` and `b(k, j)` return the elements of the operands, and
// `finish(i, j, sum)` is called with each element of the result. Ends without a barrier.
#include "matrix_units.cuh"

constexpr int THREADS = 256;

#ifdef MATRIX_UNITS

constexpr int SCRATCH = THREADS / 32 * 128;  // elements: a piece of 16 x 8 for each warp

// On the matrix units, in pieces of 16 x 8. Where there are more warps than pieces, each computes a part of the
// sum over k.
template <class A, class B, class Finish>
__device__ __forceinline__ void multiply(int m, int n, int k, A a, B b, REAL* scratch, Finish finish) {
  const int down = (m + 15) / 16, pieces = down * ((n + 7) / 8), warps = THREADS / 32;
  int ways = 1;
  while (2 * ways * pieces <= warps) ways *= 2;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, way = warp % ways;
  const auto element_a = [&](int i, int q) { return i < m && q < k ? a(i, q) : 0; };
  const auto element_b = [&](int q, int j) { return j < n && q < k ? b(q, j) : 0; };

  for (int first = 0; first < pieces; first += warps / ways) {
    const int piece = first + warp / ways, i0 = piece % down * 16, j0 = piece / down * 8;
    float sum[4] = {};
    if (piece < pieces)
      for (int k0 = way * UNIT_DEPTH + t; k0 < k + t; k0 += ways * UNIT_DEPTH) {
        u32 fragment_a[4], fragment_b[2];
#pragma unroll
        for (int r = 0; r < 4; r++) {
          const int i = i0 + g + r % 2 * 8;
          fragment_a[r] = pack(k0 + r / 2 * (UNIT_DEPTH / 2), [&](int q) { return element_a(i, q); });
        }
#pragma unroll
        for (int r = 0; r < 2; r++)
          fragment_b[r] = pack(k0 + r * (UNIT_DEPTH / 2), [&](int q) { return element_b(q, j0 + g); });
        multiply_fragments(sum, fragment_a, fragment_b);
      }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 4; r++) scratch[warp * 128 + (g + r / 2 * 8) * 8 + 2 * t + r % 2] = sum[r];
    __syncthreads();
    for (int e = threadIdx.x; e < warps / ways * 128; e += THREADS) {
      const int other = first + e / 128, i = other % down * 16 + e % 128 / 8, j = other / down * 8 + e % 8;
      if (other >= pieces || i >= m || j >= n) continue;
      REAL all = 0;
      for (int w = 0; w < ways; w++) all += scratch[(e / 128 * ways + w) * 128 + e % 128];
      finish(i, j, all);
    }
  }
}

#else

constexpr int SCRATCH = 0;

// In ordinary arithmetic: 4 x 2 elements a thread; where there are more threads, up to 32 compute a part of the sum over
// k each.
template <class A, class B, class Finish>
__device__ __forceinline__ void multiply(int m, int n, int k, A a, B b, REAL*, Finish finish) {
  constexpr int M = 4, N = 2;
  const int down = (m + M - 1) / M, pieces = down * ((n + N - 1) / N);
  int ways = 1;
  while (ways < 32 && 2 * ways * pieces <= THREADS) ways *= 2;
  const int way = threadIdx.x % ways;

  for (int first = 0; first < pieces; first += THREADS / ways) {
    const int piece = first + threadIdx.x / ways, i0 = piece % down * M, j0 = piece / down * N;
    REAL sum[M][N] = {};
    if (piece < pieces)
      for (int q = way; q < k; q += ways) {
        REAL row[M], column[N];
#pragma unroll
        for (int i = 0; i < M; i++) row[i] = a(i0 + i < m ? i0 + i : m - 1, q);
#pragma unroll
        for (int j = 0; j < N; j++) column[j] = b(q, j0 + j < n ? j0 + j : n - 1);
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
          for (int j = 0; j < N; j++) sum[i][j] += row[i] * column[j];
      }
    for (int distance = 1; distance < ways; distance *= 2)
#pragma unroll
      for (int i = 0; i < M; i++)
#pragma unroll
        for (int j = 0; j < N; j++) sum[i][j] += __shfl_xor_sync(ALL_LANES, sum[i][j], distance);
    if (way || piece >= pieces) continue;
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int j = 0; j < N; j++)
        if (i0 + i < m && j0 + j < n) finish(i0 + i, j0 + j, sum[i][j]);
  }
}

#endif
