"""A backend whose matrix products round their operands as matrix units do: the numpy kernels, right or with a fault."""

import types

import numpy as np

from fastnn.kernels import numpy_kernels


def rounded(values, precision):
    """To 8 bits, ties to even ("bf16"), or to 11, ties away from zero ("tf32"); float32."""
    fraction, exponent = np.frexp(values.astype(np.float64))
    if precision == "bf16":
        return np.ldexp(np.rint(fraction * 2**8) / 2**8, exponent).astype(np.float32)
    away = np.floor(np.abs(fraction) * 2**11 + 0.5) / 2**11
    return np.ldexp(np.copysign(away, fraction), exponent).astype(np.float32)


# ---- faults: of the operands of A B, the terms of whose sums lie along an axis of A ----


def halved(A, B, axis):
    return A / 2, B


def transposed(A, B, axis):
    """Where shapes allow it: W in forward and backward, else the product."""
    if axis == 0:
        return (B, A) if A.shape == B.shape else (A, B)
    return (A, B.T) if B.shape[0] == B.shape[1] else (A, B)


def term_missing(A, B, axis):
    A = A.copy()
    np.moveaxis(A, axis, 0)[np.abs(A).sum(axis=1 - axis).argmax()] = 0
    return A, B


FAULTS = [halved, transposed, term_missing]
TERMS = {"dense": 1, "input_gradient": 1, "dense_gradient": 0, "dense_sgd": 0}  # the axis that they lie along


def make_kernels(precision, wrong_kernel=None, fault=None):
    """A module of kernels, of whose products one may have a fault."""
    module = types.ModuleType("low_precision_kernels")
    vars(module).update(vars(numpy_kernels))
    module.precisions = lambda: ("bf16", "tf32")

    def operands(kernel, A, B):
        A, B = rounded(A, precision), rounded(B, precision)
        A, B = fault(A, B, TERMS[kernel]) if kernel == wrong_kernel else (A, B)
        return np.ascontiguousarray(A), np.ascontiguousarray(B)

    def dense(x, W, *rest):
        numpy_kernels.dense(*operands("dense", x, W), *rest)

    def input_gradient(delta, W, *rest):
        numpy_kernels.input_gradient(*operands("input_gradient", delta, W), *rest)

    def dense_gradient(x, delta, dW, db, team):
        numpy_kernels.dense_gradient(*operands("dense_gradient", x, delta), dW, db[:0], team)
        delta.sum(axis=0, out=db)

    def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
        numpy_kernels.dense_sgd(*operands("dense_sgd", x, delta), rates, step, weight_decay, W, b[:0], team)
        b -= rates[step, 0] * delta.sum(axis=0)

    for kernel in (dense, input_gradient, dense_gradient, dense_sgd):
        setattr(module, kernel.__name__, kernel)
    return module
