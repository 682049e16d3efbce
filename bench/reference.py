"""What training ought to give: a ReLU network with softmax and cross-entropy by plain SGD, in plain numpy.

It is the one reference of this package: the gate, the kernels' formulas and the suites hold what they measure against
it in float64, and in float32 it is the loop that one would write by hand, which takes part as the yardstick. Nothing
here calls the library. Arrays are (n, features) with a sample a row; `weights` is a list with (W, b) of each layer, and
all is computed in their dtype. With a precision, the operands of matrix products are rounded to it, as matrix units do;
all else, and so the sums, is not.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]
Weights = list[tuple[Array, Array]]


def copy_weights(weights: Weights, dtype: DTypeLike = np.float64) -> Weights:
    """A copy of its own to compute with, by default in float64."""
    return [(W.astype(dtype), b.astype(dtype)) for W, b in weights]


def scaled(x: NDArray[np.uint8], dtype: DTypeLike = np.float64) -> Array:
    """Images as networks take them: from 0 to 1."""
    real = np.dtype(dtype)
    return x.astype(real) / real.type(255)


def rounded(values: Array, precision: str | None) -> Array:
    """To nearest, in the same dtype: bfloat16 ("bf16") has 8 bits and of two equally near the even one, "tf32" has 11
    and the one farther from zero; None rounds nothing.
    """
    if precision is None:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half, kept = {"bf16": (0x7FFF + ((bits >> 16) & 1), 0xFFFF0000), "tf32": (0x1000, 0xFFFFE000)}[precision]
    return ((bits + half) & np.uint32(kept)).astype(np.uint32).view(np.float32).astype(values.dtype)


# ---- a layer: forward, and the gradients of a loss whose gradient by z is delta -------------------------------------


def product(a: Array, b: Array, precision: str | None = None) -> Array:
    return a @ b if precision is None else rounded(a, precision) @ rounded(b, precision)


def affine(x: Array, W: Array, b: Array, precision: str | None = None) -> Array:
    return product(x, W, precision) + b


def layer_gradients(x: Array, delta: Array, precision: str | None = None) -> tuple[Array, Array]:
    """dW and db."""
    return product(x.T, delta, precision), delta.sum(axis=0)


def input_delta(delta: Array, W: Array, a: Array, precision: str | None = None) -> Array:
    """The delta of the layer below, a ReLU layer with the outputs `a`."""
    return product(delta, W.T, precision) * (a > 0)


def softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(p: Array, labels: NDArray[np.integer]) -> tuple[Array, Array]:
    """The loss of each sample, (n,), and the gradient of their mean by the logits; `p` is softmax of these."""
    each = np.arange(len(p))
    losses, delta = -np.log(p[each, labels]), p.copy()
    delta[each, labels] -= 1
    return losses, delta / delta.dtype.type(len(p))


# ---- a network ------------------------------------------------------------------------------------------------------


def forward(weights: Weights, x: Array, precision: str | None = None) -> list[Array]:
    """Activations: the samples, then what each layer makes of them; the last are probabilities."""
    a = [x]
    for W, b in weights[:-1]:
        a.append(np.maximum(affine(a[-1], W, b, precision), 0))
    return [*a, softmax(affine(a[-1], *weights[-1], precision))]


def distance_to_corners(weights: Weights, x: Array, precision: str | None = None) -> Array:
    """For each sample, how close the hidden unit nearest to the corner of its ReLU comes to it; (n,)."""
    a, nearest = forward(weights, x, precision), np.full(len(x), np.inf)
    for (W, b), below in zip(weights[:-1], a[:-2], strict=True):
        np.minimum(nearest, np.abs(affine(below, W, b, precision)).min(axis=1), out=nearest)
    return nearest


def loss_and_gradients(
    weights: Weights, x: Array, labels: NDArray[np.integer], precision: str | None = None
) -> tuple[float, Weights]:
    """Mean cross-entropy of the samples, and its gradient (dW, db) for each layer."""
    a = forward(weights, x, precision)
    losses, delta = cross_entropy(a[-1], labels)
    gradients = []
    for i in range(len(weights) - 1, -1, -1):
        gradients.append(layer_gradients(a[i], delta, precision))
        if i > 0:
            delta = input_delta(delta, weights[i][0], a[i], precision)
    return float(losses.mean()), gradients[::-1]


def steps(
    weights: Weights,
    x: NDArray[np.uint8],
    labels: NDArray[np.integer],
    order: NDArray[np.integer],
    batch_size: int,
    learning_rate: float,
    precision: str | None = None,
) -> Iterator[float]:
    """Train by plain SGD through the samples in that order, once: changes `weights`, and yields each batch's loss."""
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        loss, gradients = loss_and_gradients(weights, scaled(x[rows], weights[0][0].dtype), labels[rows], precision)
        for (W, b), (dW, db) in zip(weights, gradients, strict=True):
            W -= learning_rate * dW
            b -= learning_rate * db
        yield loss


def train(
    weights: Weights,
    x: NDArray[np.uint8],
    labels: NDArray[np.integer],
    order: NDArray[np.integer],
    batch_size: int,
    learning_rate: float,
    precision: str | None = None,
    dtype: DTypeLike = np.float64,
) -> tuple[Weights, list[float]]:
    """`steps` from a copy of the weights in that dtype: the new weights, and the mean loss of each mini-batch."""
    weights = copy_weights(weights, dtype)
    return weights, list(steps(weights, x, labels, order, batch_size, learning_rate, precision))
