// Activations and their derivatives; the codes are those of codes.py, which passes them on as macros.
#include "platform.cuh"

__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ double exponential(double x) { return exp(x); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }
__device__ __forceinline__ double hyperbolic_tangent(double x) { return tanh(x); }
__device__ __forceinline__ float normal_cdf(float x) { return 0.5f * erfcf(-0.70710678118654752f * x); }
__device__ __forceinline__ double normal_cdf(double x) { return 0.5 * erfc(-0.70710678118654752 * x); }

// a = activation(z); softmax needs the whole row and is not among them
template <class Real>
__device__ __forceinline__ Real activate(int activation, Real z) {
  switch (activation) {
    case RELU: return z > 0 || z != z ? z : 0;  // NaN stays NaN
    case LEAKY_RELU: return z > 0 ? z : z * (Real)LEAKY_SLOPE;
    case SIGMOID: return 1 / (1 + exponential(-z));
    case TANH: return hyperbolic_tangent(z);
    case GELU: return z * normal_cdf(z);
    case EXPONENTIAL: return exponential(z);
    default: return z;
  }
}

// activation'(z), from a alone but for gelu
template <class Real>
__device__ __forceinline__ Real derivative(int activation, Real z, Real a) {
  switch (activation) {
    case RELU: return a > 0;
    case LEAKY_RELU: return a > 0 ? (Real)1 : (Real)LEAKY_SLOPE;
    case SIGMOID: return a * (1 - a);
    case TANH: return 1 - a * a;
    case GELU: return normal_cdf(z) + z * (Real)0.39894228040143268 * exponential((Real)-0.5 * z * z);
    default: return 1;
  }
}
