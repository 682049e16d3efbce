"""Predictions on numpy: the forward pass of `fastnn.step` without its buffers and its bookkeeping."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.kernels.numpy_operations import multiply_matrices, scratch_like
from fastnn.kernels.threads import limit_blas_threads

__all__ = ["make_predictor"]

_ROWS = 512  # samples at a time: enough for the matrix product, few enough for the cache
_WORK = 1_000_000  # multiplications and additions for which BLAS does not think of a second thread


def make_predictor(
    layers: Any, dtype: np.dtype, precision: str | None, threads: int
) -> Callable[[np.ndarray, float, float, np.ndarray], None]:
    """A function ``predict(x, scale, shift, out)`` for a network: its outputs for samples ``x * scale + shift``.

    Parameters
    ----------
    layers : fastnn.step.Layers
        Arrays that stay where they are; their values may change.
    dtype : numpy.dtype
    precision : None
    threads : int
        Of BLAS.
    """
    parts = list(zip(layers.weights, layers.biases, layers.activations, strict=True))
    work = sum(W.size for W in layers.weights)

    def predict(x: np.ndarray, scale: float, shift: float, out: np.ndarray) -> None:
        is_small, kept = len(x) * work <= _WORK, dict[Any, Any]()
        with contextlib.nullcontext() if is_small else limit_blas_threads(threads), np.errstate(all="ignore"):
            for start in range(0, len(x), _ROWS):
                a = x[start : start + _ROWS].astype(dtype)
                if scale != 1.0:
                    a *= scale
                if shift != 0.0:
                    a += shift
                for W, b, activation in parts:
                    z = out[start : start + _ROWS] if W is parts[-1][0] else np.empty((len(a), W.shape[1]), dtype)
                    multiply_matrices(1.0, a, False, W, False, 0.0, z)
                    if b.size:
                        z += b
                    activation.value((z,), scratch_like(z, kept), z=z)
                    a = z

    return predict
