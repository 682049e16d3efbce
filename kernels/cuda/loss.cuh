// Softmax, loss and its gradient of a row of outputs, by a group of LANES threads of a warp, 1 to 32. Sums over a row
// are computed in double. All threads of the warp have to call these functions.
#include "activations.cuh"
#include "sums.cuh"

// The largest element of a row and its index; of equal ones the first.
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
  const Best best = find_best<LANES>(a, n, lane);
  const int of = loss_of(loss);
  // log a_j = z_j - z_k + log a_k for any k: the largest has the most digits
  const double top = of == OF_LOG_PROBABILITY ? z[best.index] - log((double)a[best.index]) : 0;
  Counts counts{0, 0};
  double along = 0;  // of the gradient with a, or of the gradient alone
  for (int j = lane; j < n; j += LANES) {
    const LossAndGradient<REAL> one = evaluate_loss<REAL>(loss, (REAL)(z[j] - top), a[j], target[j], (REAL)n);
    counts.loss += one.value;
    along += (double)one.gradient * (of == OF_LOG_PROBABILITY ? 1 : a[j]);
    delta[j] = one.gradient;
    if (task == MULTILABEL) counts.hit += (a[j] >= (REAL)0.5) == (target[j] >= (REAL)0.5);
  }
  counts.loss = sum_over_lanes<LANES>(counts.loss);
  along = sum_over_lanes<LANES>(along);
  if (task == CLASSIFICATION)
    counts.hit = best.index == find_best<LANES>(target, n, lane).index;
  else if (task == MULTILABEL)
    counts.hit = sum_over_lanes<LANES>(counts.hit) / n;
  for (int j = lane; j < n; j += LANES) {
    REAL d = delta[j];
    if (of == OF_LOG_PROBABILITY)
      d -= a[j] * (REAL)along;
    else if (of == OF_OUTPUT && activation == SOFTMAX)
      d = (d - (REAL)along) * a[j];  // J = diag(a) - a a'
    else if (of == OF_OUTPUT)
      d *= derivative<REAL>(activation, z[j], a[j]);
    delta[j] = d * share;
  }
  return counts;
}
