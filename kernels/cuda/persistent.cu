// A whole span of mini-batches in one launch: weights, biases and velocity stay in shared memory.
//
// The hidden units of a network are partitioned over the blocks. Layers come in pairs. The first of a pair is split by
// columns: a block has some of its outputs, from all of its inputs. The second is split by rows: a block has the
// weights that read its own outputs of the first, and computes partial sums. These are added up over the blocks, in the
// blocks' order, so that every run gives the same result. That is one exchange a pair forward, and one backward for
// every pair but the first. A last layer without a partner, which has few outputs, is computed by every block for itself.
//
// Exchanges go through global memory. If a block is lost, the others time out at the next barrier and set `failed`.
#include "loss.cuh"
#include "multiply.cuh"

constexpr int MAX_LAYERS = 8;
constexpr int FEW = 32768;  // elements that a block reads to add up all sums; if more, each block adds up some of them
constexpr u64 TIMEOUT = 10ull * 1000 * 1000 * 1000;  // nanoseconds

struct Layer {
  long long n_in, n_out, activation;
  long long weights, bias;  // where in the parameters
};

struct Job {  // a network and its data, as cuda_persistent.py lays them out
  const void* x;
  const int* labels;
  const REAL* targets;
  const long long* order;
  const double* rates;
  REAL* params;
  REAL* velocity;
  double* losses;
  double* hits;
  REAL* partial;  // 2 x blocks x the largest exchange
  REAL* total;    // the largest exchange
  long long blocks, n_layers, has_labels, has_bias, has_velocity, nesterov, loss, task;
  long long first, last, batch_size, rows, exchange_size;  // exchange_size: elements of the largest exchange
  double scale, shift, momentum, weight_decay;
  Layer layers[MAX_LAYERS];
  long long arrived, failed;  // counted and set by the blocks; 0 at first
};

enum Split { COLUMNS, ROWS, WHOLE };

// A block's part of a layer. Matrices of samples have a row a sample.
struct Part {
  Split split;
  int activation, n_in, n_out;   // the numbers of units are those of the part
  int first_in, first_out;       // the first units of the part
  int columns;                   // of the whole layer
  long long weights, bias;       // where in the parameters
  REAL *W, *b, *vW, *vb;         // n_in x n_out and n_out
  REAL *a, *delta;               // outputs and their gradient; in one array for a hidden layer with all its outputs
};

struct State {
  Part parts[MAX_LAYERS];
  REAL *z, *target, *scratch;
  double* places;
  int rank;
  u32 barriers;  // passed so far
  bool failed;
};

static_assert(sizeof(Part) == 96 && sizeof(State) <= 832, "cuda_persistent.py counts on that");

__device__ __forceinline__ int slice_begin(int n, int rank, int blocks) { return (int)((long long)n * rank / blocks); }

__device__ __forceinline__ REAL* take(REAL*& free, int count) {
  REAL* taken = free;
  free += (count + 3) / 4 * 4;
  return taken;
}

// Lay out the parts and their arrays; by one thread. `shared_bytes` in cuda_persistent.py counts the same.
__device__ void lay_out(const Job& job, State& state, REAL* free) {
  const int blocks = (int)job.blocks, rank = state.rank, rows = (int)job.rows, last = (int)job.n_layers - 1;
  for (int l = 0; l <= last; l++) {
    const Layer& layer = job.layers[l];
    Part& p = state.parts[l];
    p.split = l % 2 ? ROWS : l == last ? WHOLE : COLUMNS;
    p.activation = (int)layer.activation;
    p.columns = (int)layer.n_out;
    p.weights = layer.weights;
    p.bias = layer.bias;
    const int begin_in = slice_begin(layer.n_in, rank, blocks), end_in = slice_begin(layer.n_in, rank + 1, blocks);
    const int begin_out = slice_begin(layer.n_out, rank, blocks), end_out = slice_begin(layer.n_out, rank + 1, blocks);
    p.first_in = p.split == ROWS ? begin_in : 0;
    p.n_in = p.split == ROWS ? end_in - begin_in : (int)layer.n_in;
    p.first_out = p.split == COLUMNS ? begin_out : 0;
    p.n_out = p.split == COLUMNS ? end_out - begin_out : (int)layer.n_out;
    p.W = take(free, p.n_in * p.n_out);
    p.b = take(free, p.n_out);
    p.vW = job.has_velocity ? take(free, p.n_in * p.n_out) : nullptr;
    p.vb = job.has_velocity ? take(free, p.n_out) : nullptr;
    p.a = take(free, rows * p.n_out);
    p.delta = p.split == COLUMNS || l == last ? take(free, rows * p.n_out) : p.a;
  }
  const int outputs = state.parts[last].n_out;
  state.z = take(free, rows * outputs);
  state.target = take(free, rows * outputs);
}

// Weights and biases between global and shared memory.
template <class Move>
__device__ void each_parameter(const Job& job, const State& state, Move move) {
  for (int l = 0; l < job.n_layers; l++) {
    const Part& p = state.parts[l];
    for (int e = threadIdx.x; e < p.n_in * p.n_out; e += THREADS) {
      const long long i = p.first_in + e / p.n_out, j = p.first_out + e % p.n_out;
      move(p.weights + i * p.columns + j, p.W + e, p.vW ? p.vW + e : nullptr, p.split != WHOLE);
    }
    if (job.has_bias)
      for (int j = threadIdx.x; j < p.n_out; j += THREADS)
        move(p.bias + p.first_out + j, p.b + j, p.vb ? p.vb + j : nullptr, p.split == COLUMNS);
  }
}

// Barrier of all blocks of the job. False if it timed out.
__device__ bool grid_barrier(Job& job, State& state) {
  __syncthreads();
  if (threadIdx.x == 0) {
    u32* arrived = (u32*)&job.arrived;
    u32* failed = (u32*)&job.failed;
    const u32 all = (u32)job.blocks * ++state.barriers;
    add_release(arrived);
    u64 begun = 0;
    for (int polls = 1; !state.failed && (int)(load_acquire(arrived) - all) < 0; polls++) {
      if (polls % POLLS_PER_CLOCK_READ) continue;
      const u64 now = read_clock();
      if (begun == 0) begun = now;
      if (now - begun > TIMEOUT) add_release(failed);
      state.failed = load_acquire(failed) != 0;
    }
  }
  __syncthreads();
  return !state.failed;
}

// Where a block puts its partial sums of the next exchange. `partial` is double-buffered: a block reuses a half only
// after the next barrier, so it does not write where others still read.
__device__ __forceinline__ REAL* half_of_partial(const Job& job, const State& state) {
  return job.partial + (size_t)(state.barriers & 1) * job.blocks * job.exchange_size;
}

__device__ __forceinline__ REAL* own_partial(const Job& job, const State& state) {
  return half_of_partial(job, state) + (size_t)state.rank * job.exchange_size;
}

// Sums over the blocks of what each has put into its `own_partial`; `finish(e, sum)` is called for all in every block.
template <class Finish>
__device__ bool sum_over_blocks(Job& job, State& state, int count, Finish finish) {
  const int blocks = (int)job.blocks;
  const REAL* partial = half_of_partial(job, state);
  const auto add_up = [&](int e) {
    REAL sum = 0;
    for (int block = 0; block < blocks; block++)
      sum += load_shared_by_blocks(partial + (size_t)block * job.exchange_size + e);
    return sum;
  };
  if (!grid_barrier(job, state)) return false;
  if (blocks == 1 || count * blocks <= FEW) {  // every block adds up all sums
    for (int e = threadIdx.x; e < count; e += THREADS) finish(e, add_up(e));
    return true;
  }
  const int begin = slice_begin(count, state.rank, blocks), end = slice_begin(count, state.rank + 1, blocks);
  for (int e = begin + threadIdx.x; e < end; e += THREADS) job.total[e] = add_up(e);
  if (!grid_barrier(job, state)) return false;
  for (int e = threadIdx.x; e < count; e += THREADS) finish(e, load_shared_by_blocks(job.total + e));
  return true;
}

// The samples of mini-batches in the data set's type. With two buffers the next one is fetched while one is used.
template <class Source>
struct Samples {
  unsigned char* memory;
  int n_in, rows, stride, buffers;  // stride: bytes; an odd number of words, so that a column lies in different banks
  REAL scale, shift;

  __device__ static int find_stride(int n_in) { return ((n_in * (int)sizeof(Source) + 3) / 4 | 1) * 4; }

  __device__ unsigned char* buffer(long long step) const { return memory + (size_t)(step % buffers) * rows * stride; }

  __device__ void fetch(const Job& job, long long step) const {
    const Source* x = (const Source*)job.x;
    const int bytes = n_in * (int)sizeof(Source);
    unsigned char* to = buffer(step);
    const long long* order = job.order + step * job.batch_size;
    const bool words = bytes % 4 == 0 && (size_t)x % 4 == 0;
    for (int i = threadIdx.x / 32; i < rows; i += THREADS / 32) {  // a warp for each row
      const Source* from = x + order[i] * n_in;
      unsigned char* row = to + i * stride;
      if (words)
        for (int e = 4 * (threadIdx.x % 32); e < bytes; e += 128) copy_async<4>(row + e, (const u8*)from + e, true);
      else
        for (int j = threadIdx.x % 32; j < n_in; j += 32) ((Source*)row)[j] = from[j];
    }
    mark_copies();
  }

  __device__ __forceinline__ REAL at(const unsigned char* in, int i, int j) const {
    return (REAL)((const Source*)(in + i * stride))[j] * scale + shift;
  }
};

__device__ void fetch_targets(const Job& job, const State& state, long long step, int n) {
  const long long* order = job.order + step * job.batch_size;
  for (int e = threadIdx.x; e < job.rows * n; e += THREADS) {
    const long long sample = order[e / n];
    state.target[e] = job.has_labels ? (REAL)(job.labels[sample] == e % n) : job.targets[sample * n + e % n];
  }
}

// Outputs of a layer from its inputs `in(i, k)`.
template <class In>
__device__ bool forward(Job& job, State& state, int l, In in) {
  Part& p = state.parts[l];
  const int rows = (int)job.rows, n = p.n_out;
  const bool last = l == job.n_layers - 1;
  const auto weight = [&](int k, int j) { return p.W[k * n + j]; };
  const auto out = [&](int i, int j, REAL sum) {
    const REAL z = sum + (job.has_bias ? p.b[j] : 0);
    if (last) state.z[i * n + j] = z;
    p.a[i * n + j] = activate(p.activation, z);
  };
  if (p.split != ROWS) {
    multiply(rows, n, p.n_in, in, weight, state.scratch, out);
  } else {
    REAL* partial = own_partial(job, state);
    multiply(rows, n, p.n_in, in, weight, state.scratch, [&](int i, int j, REAL sum) { partial[i * n + j] = sum; });
    if (!sum_over_blocks(job, state, rows * n, [&](int e, REAL sum) { out(e / n, e % n, sum); })) return false;
  }
  __syncthreads();
  return true;
}

// Loss of the mini-batch and its gradient, by every block; block 0 writes the loss. Rows are short: a few threads
// compute one, so that all rows are computed at once.
__device__ void find_loss(const Job& job, State& state, long long step) {
  constexpr int LANES = 4;
  Part& p = state.parts[job.n_layers - 1];
  const int rows = (int)job.rows, lane = threadIdx.x % LANES;
  const REAL share = (REAL)(1.0 / rows);
  Counts sums{0, 0};
  for (int first = 0; first < rows; first += THREADS / LANES) {
    const int i = first + threadIdx.x / LANES;
    const int n = i < rows ? p.n_out : 0;  // threads without a row take part in the warp's shuffles
    REAL* z = state.z + i * n;
    REAL *a = n ? p.a + i * n : z, *target = n ? state.target + i * n : z;
    if (p.activation == SOFTMAX) {
      softmax_row<LANES>(z, a, n, lane);
      __syncwarp();
    }
    const Counts counts = judge<LANES>(z, a, target, n, lane, p.activation, (int)job.loss, (int)job.task, share,
                                       p.delta + i * n);
    if (n && lane == 0) {
      sums.loss += counts.loss;
      sums.hit += counts.hit;
    }
  }
  const double loss = sum_over_warps(sum_over_lanes<32>(sums.loss), state.places);
  const double hit = sum_over_warps(sum_over_lanes<32>(sums.hit), state.places);
  if (threadIdx.x == 0 && state.rank == 0) {
    job.losses[step] = loss;
    job.hits[step] = hit;
  }
}

// One step of SGD for the parameter `w`; `v` is null without momentum.
__device__ __forceinline__ void descend(const Job& job, REAL rate, REAL decay, REAL gradient, REAL* w, REAL* v) {
  REAL change = gradient + decay * *w;
  if (v) {
    *v = (REAL)job.momentum * *v + change;
    change = job.nesterov ? change + (REAL)job.momentum * *v : *v;
  }
  *w -= rate * change;
}

// Gradient and update of a layer, and the gradient of the outputs that are its inputs.
template <class In>
__device__ bool backward(Job& job, State& state, int l, long long step, In in) {
  Part& p = state.parts[l];
  const int rows = (int)job.rows, n = p.n_out;
  const REAL rate = (REAL)job.rates[step], decay = (REAL)job.weight_decay;
  const auto delta = [&](int i, int j) { return p.delta[i * n + j]; };
  const auto weight = [&](int j, int i) { return p.W[i * n + j]; };
  Part& below = state.parts[l > 0 ? l - 1 : 0];
  REAL* partial = own_partial(job, state);
  const auto enter = [&](int i, int j, REAL sum) {
    const int e = i * p.n_in + j;
    below.delta[e] = sum * derivative(below.activation, (REAL)0, below.a[e]);
  };
  if (l > 0) {
    if (p.split == ROWS)
      multiply(rows, p.n_in, n, delta, weight, state.scratch, enter);
    else  // its destination is still read by the update
      multiply(rows, p.n_in, n, delta, weight, state.scratch,
               [&](int i, int j, REAL sum) { partial[i * p.n_in + j] = sum; });
  }
  __syncthreads();  // the old weights have been read
  multiply(p.n_in, n, rows, [&](int k, int i) { return in(i, k); }, delta, state.scratch,
           [&](int k, int j, REAL sum) {
             const int e = k * n + j;
             descend(job, rate, decay, sum, p.W + e, p.vW ? p.vW + e : nullptr);
           });
  if (job.has_bias)
    for (int j = threadIdx.x / 32; j < n; j += THREADS / 32) {  // a warp for each sum of a column
      REAL sum = 0;
      for (int i = threadIdx.x % 32; i < rows; i += 32) sum += p.delta[i * n + j];
      sum = sum_over_lanes<32>(sum);
      if (threadIdx.x % 32 == 0) descend(job, rate, 0, sum, p.b + j, p.vb ? p.vb + j : nullptr);
    }
  __syncthreads();
  if (l > 0 && p.split == COLUMNS) {
    const auto add = [&](int e, REAL sum) { enter(e / p.n_in, e % p.n_in, sum); };
    if (!sum_over_blocks(job, state, rows * p.n_in, add)) return false;
  } else if (l > 0 && p.split == WHOLE) {
    for (int e = threadIdx.x; e < rows * p.n_in; e += THREADS) enter(e / p.n_in, e % p.n_in, partial[e]);
  }
  __syncthreads();
  return true;
}

template <class Source>
__device__ bool train_step(Job& job, State& state, const Samples<Source>& samples, long long step) {
  const int last = (int)job.n_layers - 1;
  const unsigned char* x = samples.buffer(step);
  const auto sample = [&](int i, int k) { return samples.at(x, i, k); };
  const auto input = [&](int l) {
    const REAL* a = state.parts[l - 1].a;
    const int n = state.parts[l].n_in;
    return [=](int i, int k) { return a[i * n + k]; };
  };
  if (!forward(job, state, 0, sample)) return false;
  for (int l = 1; l <= last; l++)
    if (!forward(job, state, l, input(l))) return false;
  find_loss(job, state, step);
  __syncthreads();
  for (int l = last; l > 0; l--)
    if (!backward(job, state, l, step, input(l))) return false;
  return backward(job, state, 0, step, sample);
}

template <class Source>
__device__ void train_span(Job& job, long long blocks, long long buffers, unsigned char* shared) {
  State& state = *(State*)shared;
  REAL* free = (REAL*)(shared + 832);
  double* places = (double*)free;
  free += THREADS / 32 * sizeof(double) / sizeof(REAL);
  REAL* scratch = take(free, SCRATCH);
  Samples<Source> samples;
  samples.n_in = (int)job.layers[0].n_in;
  samples.rows = (int)job.rows;
  samples.stride = Samples<Source>::find_stride(samples.n_in);
  samples.buffers = (int)buffers;
  samples.scale = (REAL)job.scale;
  samples.shift = (REAL)job.shift;
  samples.memory = (unsigned char*)take(free, (int)(buffers * samples.rows * samples.stride / sizeof(REAL)));
  if (threadIdx.x == 0) {
    state.rank = (int)(blockIdx.x % blocks);
    state.barriers = 0;
    state.failed = false;
    state.places = places;
    state.scratch = scratch;
    lay_out(job, state, free);
  }
  __syncthreads();
  each_parameter(job, state, [&](long long at, REAL* w, REAL* v, bool) {
    *w = job.params[at];
    if (v) *v = job.velocity[at];
  });
  const int outputs = state.parts[job.n_layers - 1].n_out;
  samples.fetch(job, job.first);
  for (long long step = job.first; step < job.last; step++) {
    fetch_targets(job, state, step, outputs);
    wait_for_copies<0>();
    __syncthreads();
    if (buffers > 1 && step + 1 < job.last) samples.fetch(job, step + 1);
    if (!train_step(job, state, samples, step)) return;
    if (buffers == 1 && step + 1 < job.last) samples.fetch(job, step + 1);
  }
  each_parameter(job, state, [&](long long at, REAL* w, REAL* v, bool own) {
    if (!own && state.rank > 0) return;  // all blocks hold the same value
    job.params[at] = *w;
    if (v) job.velocity[at] = *v;
  });
}

#define TRAIN(NAME, SOURCE)                                                                                       \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) NAME(Job* jobs, long long blocks, long long buffers) { \
    SHARED_MEMORY(shared);                                                                                        \
    train_span<SOURCE>(jobs[blockIdx.x / blocks], blocks, buffers, shared);                                       \
  }
TRAIN(train_uint8, u8)
TRAIN(train_float32, float)
