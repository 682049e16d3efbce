// The matrix unit of a warp, in tf32 or bfloat16: sum (16 x 8) += a (16 x UNIT_DEPTH) b (UNIT_DEPTH x 8), in fragments.
#include "platform.cuh"

#if defined(TF32)
#define MATRIX_UNITS
constexpr int UNIT_DEPTH = 8;

// A register of a fragment, from the elements `at(k)` of a row of a, or of a column of b.
template <class At>
__device__ __forceinline__ u32 pack(int k, At at) { return to_tf32(at(k)); }

__device__ __forceinline__ void multiply_fragments(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  multiply_tf32(sum, a, b);
}
#elif defined(BF16)
#define MATRIX_UNITS
constexpr int UNIT_DEPTH = 16;

template <class At>
__device__ __forceinline__ u32 pack(int k, At at) { return to_bf16(at(k), at(k + 4)); }

__device__ __forceinline__ void multiply_fragments(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  multiply_bf16(sum, a, b);
}
#endif
