// CUDA's names for a C++ compiler, so that the kernels' own sources run on a CPU.
//
// Every thread of a block is a fiber with a stack of its own; it runs until it reaches a barrier of its block or warp,
// then the next one runs. Blocks run one after the other, or all at once if the kernel is cooperative. What a GPU would
// do in parallel is done in an order that the caller chooses, fair or not: results that depend on it reveal a missing
// barrier. A barrier that some thread never reaches is an error instead of a hang. Shared memory is NaN at first and
// has guards around it; asynchronous copies finish as late as the kernel allows.
//
// It shows neither the order of memory accesses between blocks, nor speed.
#pragma once
#include <math.h>
#include <setjmp.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define ALL_LANES 0xffffffffu
#define SHARED_MEMORY(NAME) unsigned char* NAME = on_cpu::block().shared()

namespace on_cpu {

constexpr size_t STACK = 256 * 1024, GUARD = 16 * 1024;
constexpr unsigned char POISON = 0xff;  // a NaN in every type of floating point

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

struct Copy {
  void* to;
  const void* from;
  int bytes;
  bool inside;
};

// Of a block or a warp.
struct Barrier {
  unsigned members = 0, arrived = 0, round = 0;
  bool complete() {
    if (arrived < members) return false;
    arrived = 0;
    round++;
    return true;
  }
};

struct Fiber {
  ucontext_t start;
  jmp_buf state;
  std::unique_ptr<char[]> stack{new char[STACK]};
  bool begun = false, finished = true;
  const Barrier* barrier = nullptr;       // at which it waits,
  unsigned round = 0;                     // for this round of it to end
  std::vector<std::vector<Copy>> copies;  // in groups; the last is not yet marked

  bool waits() const { return barrier && barrier->round == round; }
};

// What the lanes of a warp exchange, at its barrier.
struct Exchanged {
  u64 value[32];
  u32 a[32][4], b[32][2];
};

struct Warp : Barrier {
  Exchanged buffers[2];  // double-buffered: a lane writes to one again only after the next barrier

  Exchanged& buffer() { return buffers[round % 2]; }
};

struct Block {
  Index index;
  Barrier all;
  std::vector<Warp> warps;
  std::vector<unsigned char> memory;

  unsigned char* shared() {
    unsigned char* begin = memory.data() + GUARD;
    return begin + (16 - (size_t)begin % 16) % 16;
  }
};

// The resident blocks, thread by thread. Not thread_local, which is slow in a library: kernels run one at a time.
struct Grid {
  std::vector<Fiber> fibers;
  std::vector<Block> here;
  Index blocks, threads;
  Fiber* fiber = nullptr;  // that runs, its block, its warp, and its number in the block
  Block* block = nullptr;
  Warp* warp = nullptr;
  Index thread;
  size_t shared_size = 0;
  bool moved = false, looked = false;  // a thread made progress; a thread read the clock
  u64 time = 0;
  jmp_buf scheduler;
  std::function<void()> call;
  const char* failure = nullptr;
};

inline Grid grid;

inline Fiber& fiber() { return *grid.fiber; }
inline unsigned thread() { return grid.thread.x; }
inline Block& block() { return *grid.block; }
inline Warp& warp() { return *grid.warp; }

inline void leave() {  // to the scheduler, until it comes back
  if (!_setjmp(fiber().state)) _longjmp(grid.scheduler, 1);
}

inline void fail(const char* what) {
  grid.failure = what;
  leave();
}

inline void wait(Barrier& barrier) {
  grid.moved = true;
  fiber().barrier = &barrier;
  fiber().round = barrier.round;
  barrier.arrived++;
  if (!barrier.complete()) leave();  // `pass` resumes it when the round has ended
  fiber().barrier = nullptr;
  grid.moved = true;
}

inline void retire(Barrier& barrier) {  // a thread that has returned is no longer waited for
  barrier.members--;
  if (barrier.members) barrier.complete();
}

inline void body() {
  for (;;) {
    grid.call();
    fiber().finished = grid.moved = true;
    retire(block().all);
    retire(warp());
    leave();
  }
}

inline void resume(unsigned number) {
  grid.thread.x = number % grid.threads.x;
  grid.fiber = &grid.fibers[number];
  grid.block = &grid.here[number / grid.threads.x];
  grid.warp = &grid.block->warps[grid.thread.x / 32];
  if (_setjmp(grid.scheduler)) return;
  Fiber& next = fiber();
  if (next.begun) _longjmp(next.state, 1);
  next.begun = true;
  getcontext(&next.start);
  next.start.uc_stack.ss_sp = next.stack.get();
  next.start.uc_stack.ss_size = STACK - number * 1088 % (STACK / 2);  // tops in different sets of the caches
  next.start.uc_link = nullptr;
  makecontext(&next.start, body, 0);
  setcontext(&next.start);
}

inline std::vector<unsigned> make_order(unsigned n, int order) {
  std::vector<unsigned> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0u);
  if (order == 1) std::reverse(numbers.begin(), numbers.end());
  if (order > 1) std::shuffle(numbers.begin(), numbers.end(), std::mt19937(order));
  return numbers;
}

inline void begin(Block& block, unsigned number, unsigned threads) {
  block.index.x = number;
  block.all = Barrier{threads};
  block.warps.assign((threads + 31) / 32, Warp{});
  for (unsigned w = 0; w < block.warps.size(); w++) block.warps[w].members = std::min(32u, threads - 32 * w);
  block.memory.assign(grid.shared_size + 2 * GUARD, POISON);
}

inline void check_guards(Block& block) {
  const unsigned char* begin = block.shared();
  for (const unsigned char* p = block.memory.data(); p < begin; p++)
    if (*p != POISON) grid.failure = "a write before the shared memory";
  for (const unsigned char* p = begin + grid.shared_size; p < block.memory.data() + block.memory.size(); p++)
    if (*p != POISON) grid.failure = "a write beyond the shared memory";
}

// Let the threads of some blocks, in this order, run until each waits; returns how many have not finished.
inline size_t pass(const std::vector<unsigned>& order) {
  size_t left = 0;
  for (unsigned i : order) {
    const Fiber& one = grid.fibers[i];
    if (!one.finished && !one.waits() && !grid.failure) resume(i);
    left += !one.finished;
  }
  return left;
}

// Run the blocks of these numbers at the same time. Groups of `group` neighbouring threads run in turn until none of
// them can go on: all threads (which is fair), those of a warp, or those of a block.
inline void run_blocks(const std::vector<unsigned>& numbers, const std::vector<unsigned>& order, size_t group) {
  for (size_t i = 0; i < numbers.size(); i++) begin(grid.here[i], numbers[i], grid.threads.x);
  for (unsigned i : order) {
    grid.fibers[i].finished = false;
    grid.fibers[i].barrier = nullptr;
    grid.fibers[i].copies.assign(1, {});
  }
  std::vector<std::vector<unsigned>> turns((order.size() + group - 1) / group);
  for (unsigned i : order) turns[i / group].push_back(i);
  for (size_t left = order.size(); left;) {
    bool moved = grid.looked = false;
    left = 0;
    for (const auto& turn : turns) {
      size_t here;
      do {
        grid.moved = false;
        here = pass(turn);
        moved |= grid.moved;
      } while (turns.size() > 1 && here && grid.moved && !grid.failure);
      left += here;
    }
    if (left && !moved && !grid.looked) grid.failure = "a barrier that some threads never reach";
    if (grid.failure) return;
  }
  for (Block& block : grid.here) check_guards(block);
}

template <class... Parameters, size_t... I>
void call_kernel(void (*kernel)(Parameters...), void** arguments, std::index_sequence<I...>) {
  kernel(*(Parameters*)arguments[I]...);
}

// Run a kernel, its blocks one after the other or all together; `arguments` has the address of each argument. Returns
// what went wrong, or null.
template <class... Parameters>
const char* launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, size_t shared, int order,
                   bool together, void** arguments) {
  grid.call = [=] { call_kernel(kernel, arguments, std::index_sequence_for<Parameters...>()); };
  grid.failure = nullptr;
  grid.blocks.x = blocks;
  grid.threads.x = threads;
  grid.shared_size = shared;
  const unsigned at_once = together ? blocks : 1;
  grid.here.resize(at_once);
  if (grid.fibers.size() < at_once * threads) grid.fibers.resize(at_once * threads);
  const std::vector<unsigned> block_order = make_order(blocks, order), in_turn = make_order(at_once * threads, order);
  const size_t group = std::vector<size_t>{in_turn.size(), 32, threads}[order % 3];
  for (unsigned first = 0; first < blocks && !grid.failure; first += at_once)
    run_blocks({block_order.begin() + first, block_order.begin() + first + at_once}, in_turn, group);
  if (grid.failure) grid.fibers.clear();  // those that still wait will not be resumed
  return grid.failure;
}

}  // namespace on_cpu

#define threadIdx (on_cpu::grid.thread)
#define blockIdx (on_cpu::block().index)
#define blockDim (on_cpu::grid.threads)
#define gridDim (on_cpu::grid.blocks)

inline void __syncthreads() { on_cpu::wait(on_cpu::block().all); }

inline void __syncwarp() { on_cpu::wait(on_cpu::warp()); }

template <class T>
T __shfl_xor_sync(u32, T value, int distance) {
  on_cpu::Exchanged& lanes = on_cpu::warp().buffer();
  const unsigned lane = on_cpu::thread() % 32;
  memcpy(&lanes.value[lane], &value, sizeof(T));
  on_cpu::wait(on_cpu::warp());
  T other;
  memcpy(&other, &lanes.value[lane ^ distance], sizeof(T));
  return other;
}

template <int BYTES>
void copy_async(void* to, const void* from, bool inside) {
  if ((size_t)to % BYTES || (size_t)from % BYTES) on_cpu::fail("an asynchronous copy that is not aligned");
  on_cpu::fiber().copies.back().push_back({to, from, BYTES, inside});
}

inline void mark_copies() { on_cpu::fiber().copies.emplace_back(); }

template <int GROUPS>
void wait_for_copies() {
  auto& groups = on_cpu::fiber().copies;
  while (groups.size() > GROUPS + 1) {
    for (const on_cpu::Copy& copy : groups.front())
      copy.inside ? memcpy(copy.to, copy.from, copy.bytes) : memset(copy.to, 0, copy.bytes);
    groups.erase(groups.begin());
  }
}

// ---- between blocks ----

inline void add_release(u32* counter) { ++*counter; }
inline u32 load_acquire(const u32* counter) { return *counter; }
template <class T>
T load_shared_by_blocks(const T* address) {
  return *address;
}

#define POLLS_PER_CLOCK_READ 1

// Nanoseconds: a millisecond for each read of the clock, which is how often a waiting thread has let all others run.
inline u64 read_clock() {
  on_cpu::grid.looked = true;
  on_cpu::leave();
  return on_cpu::grid.time += 1000000;
}

// ---- numbers of fewer bits, and the matrix units ----

inline float as_float(u32 bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

inline u32 as_bits(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  return bits;
}

inline u32 to_tf32(float x) {  // to nearest, ties away from zero
  return isfinite(x) ? (as_bits(x) + 0x1000u) & 0xffffe000u : as_bits(x);
}

inline u32 to_bf16(float x) {  // to nearest, ties to even
  const u32 bits = as_bits(x);
  return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}

inline u32 to_bf16(float low, float high) { return to_bf16(high) << 16 | to_bf16(low); }

// sum += a b over a warp: every lane writes its fragments, then reads what it needs of the others.
template <class ElementOfA, class ElementOfB>
void multiply_by_warp(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2], int depth, ElementOfA element_a,
                      ElementOfB element_b) {
  on_cpu::Exchanged& lanes = on_cpu::warp().buffer();
  const int lane = on_cpu::thread() % 32;
  memcpy(lanes.a[lane], a, sizeof a);
  memcpy(lanes.b[lane], b, sizeof b);
  on_cpu::wait(on_cpu::warp());
  for (int r = 0; r < 4; r++) {
    const int i = lane / 4 + r / 2 * 8, j = lane % 4 * 2 + r % 2;
    for (int k = 0; k < depth; k++) sum[r] += element_a(lanes, i, k) * element_b(lanes, k, j);
  }
}

inline void multiply_tf32(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  multiply_by_warp(
      sum, a, b, 8,
      [](on_cpu::Exchanged& w, int i, int k) { return as_float(w.a[i % 8 * 4 + k % 4][i / 8 + k / 4 * 2]); },
      [](on_cpu::Exchanged& w, int k, int j) { return as_float(w.b[j * 4 + k % 4][k / 4]); });
}

inline void multiply_bf16(float (&sum)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  const auto half = [](u32 pair, int upper) { return as_float(upper ? pair & 0xffff0000u : pair << 16); };
  multiply_by_warp(
      sum, a, b, 16,
      [=](on_cpu::Exchanged& w, int i, int k) {
        return half(w.a[i % 8 * 4 + k % 8 / 2][i / 8 + k / 8 * 2], k % 2);
      },
      [=](on_cpu::Exchanged& w, int k, int j) { return half(w.b[j * 4 + k % 8 / 2][k / 8], k % 2); });
}
