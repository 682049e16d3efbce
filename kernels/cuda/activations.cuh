// The functions that the formulas of activations, losses and optimizers are made of, and those formulas.
#include "platform.cuh"

#define FUNCTION(NAME, OF_FLOAT, OF_DOUBLE)                              \
  __device__ __forceinline__ float NAME(float x) { return OF_FLOAT; } \
  __device__ __forceinline__ double NAME(double x) { return OF_DOUBLE; }
FUNCTION(f_exp, expf(x), exp(x))
FUNCTION(f_expm1, expm1f(x), expm1(x))
FUNCTION(f_log, logf(x), log(x))
FUNCTION(f_log1p, log1pf(x), log1p(x))
FUNCTION(f_sqrt, sqrtf(x), sqrt(x))
FUNCTION(f_tanh, tanhf(x), tanh(x))
FUNCTION(f_absolute, fabsf(x), fabs(x))
FUNCTION(f_sign, (float)(x > 0) - (float)(x < 0), (double)(x > 0) - (double)(x < 0))
FUNCTION(f_sigmoid, 1 / (1 + expf(-x)), 1 / (1 + exp(-x)))
FUNCTION(f_normal_cdf, 0.5f * erfcf(-0.70710678118654752f * x), 0.5 * erfc(-0.70710678118654752 * x))

template <class Real>
__device__ __forceinline__ Real f_maximum(Real x, Real y) { return x <= y ? y : x; }  // a NaN stays one

template <class Real>
__device__ __forceinline__ Real f_minimum(Real x, Real y) { return x >= y ? y : x; }

#include "operations.cuh"
