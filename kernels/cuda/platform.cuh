// What these kernels use of a device beyond the language. GPU and CPU differ nowhere else.
//
// NVRTC compiles the sources for GPUs (compute capability 8.0 and later), without any header. With FASTNN_ON_CPU a C++
// compiler makes them run on a CPU, for the tests: then `on_cpu.h` supplies CUDA's names and the functions below.
//
// Conventions of all kernels: REAL is float or double; whole numbers come as `long long`, others as `double`, arrays as
// pointers; an array that does not apply has size 0, which comes as a null pointer or a count. `step` is the mini-batch's
// index relative to `*counter`: a captured graph has fixed arguments, so what changes is in device memory.

#ifdef FASTNN_ON_CPU
#include "on_cpu.h"
#else

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define ALL_LANES 0xffffffffu
#define SHARED_MEMORY(NAME) extern __shared__ __align__(16) unsigned char NAME[]

// An asynchronous copy from global to shared memory; zeros where `inside` is false.
template <int BYTES>
__device__ __forceinline__ void copy_async(void* to, const void* from, bool inside) {
  const u32 address = (u32)__cvta_generic_to_shared(to);
  if (BYTES == 16)  // past the first-level cache: each byte is read once by a block
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(inside ? 16 : 0));
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(BYTES),
                 "r"(inside ? BYTES : 0));
}

// The copies begun since the last mark form a group; `wait_for_copies<N>` returns when at most the N newest groups are
// unfinished.
__device__ __forceinline__ void mark_copies() { asm volatile("cp.async.commit_group;"); }

template <int GROUPS>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}

// float to tf32 (10 bits of mantissa) or to a pair of bfloat16, the first in the lower half; both to nearest.
__device__ __forceinline__ u32 to_tf32(float x) {
  u32 bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

__device__ __forceinline__ u32 to_bf16(float low, float high) {
  u32 bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}

// sum += a b by a warp's matrix unit; PTX ISA, "Matrix fragments for mma.m16n8k8" and "mma.m16n8k16".
__device__ __forceinline__ void multiply_tf32(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void multiply_bf16(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Between blocks: what was written before an `add_release` can be read after a `load_acquire` that reads its result.
__device__ __forceinline__ void add_release(u32* counter) {
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

__device__ __forceinline__ u32 load_acquire(const u32* counter) {
  u32 value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}

// A value that another block has written: from the second-level cache, which all blocks share.
__device__ __forceinline__ float load_shared_by_blocks(const float* address) { return __ldcg(address); }

#define POLLS_PER_CLOCK_READ 1024
__device__ __forceinline__ u64 read_clock() {  // nanoseconds
  u64 now;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  return now;
}

#endif

// The mini-batch that a kernel works on.
__device__ __forceinline__ long long index_of(const long long* counter, long long step) { return *counter + step; }

// This thread among all of the launch, and how many there are.
__device__ __forceinline__ long long first_element() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ long long all_threads() { return (long long)gridDim.x * blockDim.x; }
