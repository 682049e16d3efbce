// Where the samples lie.
#include "platform.cuh"

// The row of the sample at a place of the order: as the order says, or in a ring of `ring` rows that the host fills.
__device__ __forceinline__ long long source_row(const long long* order, long long ring, long long place) {
  return ring ? place % ring : order[place];
}
