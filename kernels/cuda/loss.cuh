// What a group of LANES threads of a warp, 1 to 32, does with a row of outputs: softmax, loss and its gradient. Sums over
// a row are taken in double. All threads of the warp come here together.
#include "activations.cuh"
#include "sums.cuh"

// The largest of a row and where it is, the first if there are several.
struct Best {
  REAL value;
  int index;
};

template <int LANES>
__device__ __forceinline__ Best find_best(const REAL* row, int n, int lane) {
  Best best{n > lane ? row[lane] : row[0], n > lane ? lane : 0};
  for (int j = lane + LANES; j < n; j += LANES)
    if (row[j] > best.value) best = Best{row[j], j};
#pragma unroll
  for (int distance = LANES / 2; distance; distance /= 2) {
    const REAL value = __shfl_xor_sync(ALL_LANES, best.value, distance);
    const int index = __shfl_xor_sync(ALL_LANES, best.index, distance);
    if (value > best.value || (value == best.value && index < best.index)) best = Best{value, index};
  }
  return best;
}

// a = exp(z) / sum(exp(z)) over a row; in place too.
template <int LANES>
__device__ __forceinline__ void softmax_row(const REAL* z, REAL* a, int n, int lane) {
  const double largest = (double)find_best<LANES>(z, n, lane).value;
  double sum = 0;
  for (int j = lane; j < n; j += LANES) sum += exp((double)z[j] - largest);
  sum = sum_over_lanes<LANES>(sum);
  for (int j = lane; j < n; j += LANES) a[j] = (REAL)(exp((double)z[j] - largest) / sum);
}

struct Counts {
  double loss, hit;
};

// Loss and hit of one row, and the gradient of its loss, times `share`.
template <int LANES>
__device__ __forceinline__ Counts judge(const REAL* z, const REAL* a, const REAL* target, int n, int lane,
                                        int activation, int loss, int task, REAL share, REAL* delta) {
  Counts counts{0, 0};
  double sum = 0;  // of t z, or of the loss
  for (int j = lane; j < n; j += LANES) {
    const double t = target[j];
    if (loss == CROSS_ENTROPY)
      sum += t * z[j];
    else if (loss == BINARY_CROSS_ENTROPY)
      sum += fmax((double)z[j], 0.0) - z[j] * t + log1p(exp(-fabs((double)z[j])));
    else if (loss == POISSON)
      sum += (double)a[j] - t - t * z[j] + (t > 0 ? t * log(t) : 0.0);
    else
      sum += 0.5 * ((double)a[j] - t) * ((double)a[j] - t);
    if (task == MULTILABEL) counts.hit += (a[j] >= (REAL)0.5) == (target[j] >= (REAL)0.5);
  }
  sum = sum_over_lanes<LANES>(sum);
  const Best best = find_best<LANES>(a, n, lane);
  // log sum exp z = z_k - log a_k for any k: the largest has the most digits
  counts.loss = loss == CROSS_ENTROPY ? z[best.index] - sum - log((double)a[best.index]) : sum;
  if (task == CLASSIFICATION)
    counts.hit = best.index == find_best<LANES>(target, n, lane).index;
  else if (task == MULTILABEL)
    counts.hit = sum_over_lanes<LANES>(counts.hit) / n;

  double slope = 0;
  if (loss == QUADRATIC && activation == SOFTMAX) {
    for (int j = lane; j < n; j += LANES) slope += ((double)a[j] - target[j]) * a[j];
    slope = sum_over_lanes<LANES>(slope);
  }
  for (int j = lane; j < n; j += LANES) {
    REAL d = a[j] - target[j];
    if (loss == QUADRATIC && activation == SIGMOID) d *= a[j] * (1 - a[j]);
    if (loss == QUADRATIC && activation == EXPONENTIAL) d *= a[j];
    if (loss == QUADRATIC && activation == SOFTMAX) d = (d - (REAL)slope) * a[j];  // J = diag(a) - a a'
    delta[j] = d * share;
  }
  return counts;
}
