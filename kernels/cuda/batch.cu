// Fetching a mini-batch, and dropout: `gather`, `gather_targets` and `dropout` of the contract.
#include "random.cuh"
#include "rows.cuh"

template <class Source>
__device__ void gather(const Source* x, const long long* order, long long ring, long long first, double scale,
                       double shift, REAL* out, long long rows, int columns) {
  const REAL s = (REAL)scale, t = (REAL)shift;
  for (long long e = first_element(); e < rows * columns; e += all_threads()) {
    const long long i = e / columns;
    const int j = (int)(e - i * columns);
    out[e] = (REAL)x[source_row(order, ring, first + i) * columns + j] * s + t;
  }
}

#define GATHER(NAME, SOURCE)                                                                                          \
  extern "C" __global__ void NAME(const SOURCE* x, const long long* order, long long ring, const long long* counter, \
                                  long long step, long long batch_size, double scale, double shift, REAL* out,       \
                                  long long rows, long long columns) {                                               \
    gather<SOURCE>(x, order, ring, index_of(counter, step) * batch_size, scale, shift, out, rows, (int)columns);     \
  }
GATHER(gather_uint8, u8)
GATHER(gather_float32, float)
GATHER(gather_float64, double)

extern "C" __global__ void gather_targets(const int* labels, long long has_labels, const REAL* targets,
                                          const REAL* sample_weight, long long has_weights, const long long* order,
                                          const long long* counter, long long step, long long batch_size, REAL* out,
                                          REAL* weight_out, long long rows, long long columns) {
  const long long first = index_of(counter, step) * batch_size;
  for (long long e = first_element(); e < rows * columns; e += all_threads()) {
    const long long i = e / columns, j = e - i * columns, sample = order[first + i];
    out[e] = has_labels ? (REAL)(labels[sample] == j) : targets[sample * columns + j];
    if (has_weights && j == 0) weight_out[i] = sample_weight[sample];
  }
}

extern "C" __global__ void dropout(const REAL* x, double rate, const u32* stream, const long long* counter,
                                   long long step, long long layer, REAL* out, long long size) {
  const u32 limit = (u32)(rate * 4294967296.0);
  const REAL factor = (REAL)(1.0 / (1.0 - rate));
  const u32 index = (u32)index_of(counter, step);
  for (long long group = first_element(); 4 * group < size; group += all_threads()) {
    const Words words = philox((u32)group, index, (u32)layer, stream[2], stream[0], stream[1]);
#pragma unroll
    for (int i = 0; i < 4; i++)
      if (4 * group + i < size) out[4 * group + i] = words.word[i] >= limit ? x[4 * group + i] * factor : (REAL)0;
  }
}
