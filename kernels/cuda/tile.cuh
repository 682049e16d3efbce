// A tile of C = A B by one block.
//
// The sum over k goes slab by slab, DEPTH deep. Slabs travel from global to shared memory STAGES - 1 ahead of the
// arithmetic. SLICES groups of WARPS_M x WARPS_N warps take turns at them, so that a small C with a long sum still
// keeps a multiprocessor busy; their sums are added in a fixed order at the end: the result is the same at every run.
//
// A slab lies in shared memory as it does in global memory, "by k" where elements of consecutive k are neighbours
// there, else "by i". Rows are padded so that a warp reads from different banks at a time: by 16 bytes where they are
// 64 long (by k), else by 32.
#include "matrix_units.cuh"

constexpr int DEPTH = 64 / sizeof(REAL);
constexpr int VECTOR = 16 / sizeof(REAL);
constexpr int SLICE_THREADS = 32 * WARPS_M * WARPS_N;
constexpr int THREADS = SLICES * SLICE_THREADS;
constexpr int SUM_STRIDE = TILE_N + 8;
constexpr int WARP_M = TILE_M / WARPS_M, WARP_N = TILE_N / WARPS_N;

template <int EXTENT, bool BY_K>
struct Slab {
  static constexpr int STRIDE = BY_K ? DEPTH + VECTOR : EXTENT + 2 * VECTOR;
  static constexpr int ROWS = BY_K ? EXTENT : DEPTH, COLUMNS = BY_K ? DEPTH : EXTENT;
  static constexpr int SIZE = ROWS * STRIDE;

  __device__ __forceinline__ static int at(int k, int i) { return BY_K ? i * STRIDE + k : k * STRIDE + i; }

  // Begin to fetch elements k0.. and i0.. of a matrix of `depth` by `extent`; beyond its edges are zeros.
  __device__ __forceinline__ static void fetch(REAL* slab, const REAL* matrix, int k0, int depth, int i0, int extent,
                                               int thread, bool aligned) {
    const int row0 = BY_K ? i0 : k0, rows = BY_K ? extent : depth;
    const int column0 = BY_K ? k0 : i0, columns = BY_K ? depth : extent;
    if (aligned)
      fetch_pieces<VECTOR>(slab, matrix, row0, rows, column0, columns, thread);
    else
      fetch_pieces<1>(slab, matrix, row0, rows, column0, columns, thread);
  }

  template <int PIECE>
  __device__ __forceinline__ static void fetch_pieces(REAL* slab, const REAL* matrix, int row0, int rows, int column0,
                                                      int columns, int thread) {
    constexpr int PIECES = COLUMNS / PIECE;
#pragma unroll 4  // more would need more registers for addresses than there are
    for (int first = 0; first < ROWS * PIECES; first += SLICE_THREADS) {
      const int e = first + thread, r = e / PIECES, c = e % PIECES * PIECE;
      if (ROWS * PIECES % SLICE_THREADS && e >= ROWS * PIECES) break;
      const bool inside = row0 + r < rows && column0 + c < columns;
      const REAL* from = inside ? matrix + (size_t)(row0 + r) * columns + column0 + c : matrix;
      copy_async<PIECE * sizeof(REAL)>(slab + r * STRIDE + c, from, inside);
    }
  }
};

__device__ __forceinline__ bool is_aligned(const REAL* matrix, int columns) {
  return (size_t)matrix % 16 == 0 && columns % VECTOR == 0;
}

#ifdef MATRIX_UNITS

// A warp's part of the tile on its matrix unit: in pieces of 16 x 8, in the fragments of mma.sync, where lane
// 4 g + t has rows g and g + 8 of A and columns 2 t and 2 t + 1 of C.
template <bool A_BY_K, bool B_BY_K>
struct Sums {
  static constexpr int PIECES_M = WARP_M / 16, PIECES_N = WARP_N / 8;
  using SlabA = Slab<TILE_M, A_BY_K>;
  using SlabB = Slab<TILE_N, B_BY_K>;
  float sum[PIECES_M][PIECES_N][4] = {};

  __device__ __forceinline__ void add(const float* a, const float* b, int m0, int n0, int lane) {
    const int g = lane / 4, t = lane % 4;
    // The order of k is free as long as it is the same for A and B: t, t + 4, t + 8, ... lie in different banks.
#pragma unroll
    for (int k = t; k < DEPTH + t; k += UNIT_DEPTH) {
      u32 fragment_a[PIECES_M][4], fragment_b[PIECES_N][2];
#pragma unroll
      for (int i = 0; i < PIECES_M; i++)
#pragma unroll
        for (int r = 0; r < 4; r++) fragment_a[i][r] = load<SlabA>(a, k, r / 2, m0 + 16 * i + g + r % 2 * 8);
#pragma unroll
      for (int j = 0; j < PIECES_N; j++)
#pragma unroll
        for (int r = 0; r < 2; r++) fragment_b[j][r] = load<SlabB>(b, k, r, n0 + 8 * j + g);
#pragma unroll
      for (int i = 0; i < PIECES_M; i++)
#pragma unroll
        for (int j = 0; j < PIECES_N; j++) multiply_fragments(sum[i][j], fragment_a[i], fragment_b[j]);
    }
  }

  // Register `half` (lower or upper k) of a fragment.
  template <class AnySlab>
  __device__ __forceinline__ static u32 load(const float* slab, int k, int half, int i) {
    return pack(k + UNIT_DEPTH / 2 * half, [&](int q) { return slab[AnySlab::at(q, i)]; });
  }

  template <class Visit>
  __device__ __forceinline__ void each(int m0, int n0, int lane, Visit visit) const {
#pragma unroll
    for (int i = 0; i < PIECES_M; i++)
#pragma unroll
      for (int j = 0; j < PIECES_N; j++)
#pragma unroll
        for (int r = 0; r < 4; r++)
          visit(m0 + 16 * i + lane / 4 + r / 2 * 8, n0 + 8 * j + lane % 4 * 2 + r % 2, sum[i][j][r]);
  }
};

#else

// A warp's part of the tile in ordinary arithmetic: 8 x 4 lanes, each with every eighth row and fourth column, or with
// groups of them where neighbours can be read as one vector.
template <bool A_BY_K, bool B_BY_K>
struct Sums {
  static constexpr int M = WARP_M / 8, N = WARP_N / 4;
  using SlabA = Slab<TILE_M, A_BY_K>;
  using SlabB = Slab<TILE_N, B_BY_K>;
  REAL sum[M][N] = {};

  struct alignas(16) Vector {
    REAL element[VECTOR];
  };

  template <bool BY_K, int COUNT, int LANES>
  __device__ __forceinline__ static int index(int i, int lane) {
    constexpr int GROUP = BY_K || COUNT % VECTOR ? 1 : VECTOR;
    return i / GROUP * GROUP * LANES + lane * GROUP + i % GROUP;
  }

  // Elements k.. of COUNT rows (or columns), as vectors along k, or along i where that is how they lie.
  template <class AnySlab, bool BY_K, int COUNT, int LANES>
  __device__ __forceinline__ static void read(REAL (&out)[VECTOR][COUNT], const REAL* slab, int k, int i0, int lane) {
    if (BY_K) {
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        const Vector v = *(const Vector*)(slab + AnySlab::at(k, i0 + index<BY_K, COUNT, LANES>(i, lane)));
#pragma unroll
        for (int e = 0; e < VECTOR; e++) out[e][i] = v.element[e];
      }
    } else if (COUNT % VECTOR == 0) {
#pragma unroll
      for (int e = 0; e < VECTOR; e++)
#pragma unroll
        for (int i = 0; i < COUNT; i += VECTOR) {
          const Vector v = *(const Vector*)(slab + AnySlab::at(k + e, i0 + index<BY_K, COUNT, LANES>(i, lane)));
#pragma unroll
          for (int j = 0; j < VECTOR; j++) out[e][i + j] = v.element[j];
        }
    } else {
#pragma unroll
      for (int e = 0; e < VECTOR; e++)
#pragma unroll
        for (int i = 0; i < COUNT; i++) out[e][i] = slab[AnySlab::at(k + e, i0 + index<BY_K, COUNT, LANES>(i, lane))];
    }
  }

  __device__ __forceinline__ void add(const REAL* a, const REAL* b, int m0, int n0, int lane) {
#pragma unroll 1  // more would need more registers for what is read ahead than there are
    for (int k = 0; k < DEPTH; k += VECTOR) {
      REAL rows[VECTOR][M], columns[VECTOR][N];
      read<SlabA, A_BY_K, M, 8>(rows, a, k, m0, lane / 4);
      read<SlabB, B_BY_K, N, 4>(columns, b, k, n0, lane % 4);
#pragma unroll
      for (int e = 0; e < VECTOR; e++)
#pragma unroll
        for (int i = 0; i < M; i++)
#pragma unroll
          for (int j = 0; j < N; j++) sum[i][j] += rows[e][i] * columns[e][j];
    }
  }

  template <class Visit>
  __device__ __forceinline__ void each(int m0, int n0, int lane, Visit visit) const {
#pragma unroll
    for (int i = 0; i < M; i++)
#pragma unroll
      for (int j = 0; j < N; j++)
        visit(m0 + index<A_BY_K, M, 8>(i, lane / 4), n0 + index<B_BY_K, N, 4>(j, lane % 4), sum[i][j]);
  }
};

#endif

// The block's tile of A (m, k) times B (k, n), both as they lie in memory; `finish(i, j, value)` is called for each
// element inside C.
template <bool A_BY_K, bool B_BY_K, class Finish>
__device__ __forceinline__ void multiply_tile(const REAL* A, const REAL* B, int m, int n, int k, int m0, int n0,
                                              REAL* shared, Finish finish) {
  using SlabA = Slab<TILE_M, A_BY_K>;
  using SlabB = Slab<TILE_N, B_BY_K>;
  constexpr int PAIR = SlabA::SIZE + SlabB::SIZE;  // of slabs
  const int thread = threadIdx.x % SLICE_THREADS, slice = threadIdx.x / SLICE_THREADS;
  const int warp = thread / 32, lane = thread % 32;
  const int warp_m0 = warp / WARPS_N * WARP_M, warp_n0 = warp % WARPS_N * WARP_N;
  const int rounds = (k + SLICES * DEPTH - 1) / (SLICES * DEPTH);
  const bool aligned_a = is_aligned(A, A_BY_K ? k : m), aligned_b = is_aligned(B, B_BY_K ? k : n);

  const auto fetch = [&](int round) {
    if (round < rounds) {
      REAL* pair = shared + (round % STAGES * SLICES + slice) * PAIR;
      const int k0 = (round * SLICES + slice) * DEPTH;
      SlabA::fetch(pair, A, k0, k, m0, m, thread, aligned_a);
      SlabB::fetch(pair + SlabA::SIZE, B, k0, k, n0, n, thread, aligned_b);
    }
    mark_copies();  // also an empty group: the count of groups stays the count of rounds
  };

  Sums<A_BY_K, B_BY_K> sums;
#pragma unroll
  for (int round = 0; round < STAGES - 1; round++) fetch(round);
  for (int round = 0; round < rounds; round++) {
    wait_for_copies<STAGES - 2>();
    __syncthreads();  // the round's slabs are there for all, and all are done with those of the round before
    fetch(round + STAGES - 1);
    const REAL* pair = shared + (round % STAGES * SLICES + slice) * PAIR;
    sums.add(pair, pair + SlabA::SIZE, warp_m0, warp_n0, lane);
  }

  // All sums go to shared memory and are added up there, so that one short loop over rows of C follows.
  wait_for_copies<0>();
  __syncthreads();
  sums.each(warp_m0, warp_n0, lane,
            [&](int i, int j, REAL value) { shared[(slice * TILE_M + i) * SUM_STRIDE + j] = value; });
  __syncthreads();
  for (int e = threadIdx.x; e < TILE_M * TILE_N; e += THREADS) {
    const int i = e / TILE_N, j = e % TILE_N;
    if (m0 + i >= m || n0 + j >= n) continue;
    REAL value = 0;
#pragma unroll
    for (int s = 0; s < SLICES; s++) value += shared[(s * TILE_M + i) * SUM_STRIDE + j];
    finish(m0 + i, n0 + j, value);
  }
}
