"""What training ought to give: a ReLU network with softmax and cross-entropy, in float64 and plain numpy.

The suites hold what they time against it. Nothing here calls the library. Samples are rows, already scaled, float64;
`weights` is a list with (W, b) of each layer. With a precision, the operands of matrix products are rounded to it, as
matrix units do; all else, and so the sums, stays in float64.
"""

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]


def as_float64(weights: Weights) -> Weights:
    """A copy of its own to compute with."""
    return [(W.astype(np.float64), b.astype(np.float64)) for W, b in weights]


def rounded(values: np.ndarray, precision: str | None) -> np.ndarray:
    """To nearest, as float64: bfloat16 ("bf16") has 8 bits and of two equally near the even one, "tf32" has 11 and the
    one farther from zero; None rounds nothing.
    """
    if precision is None:
        return values
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half, kept = {"bf16": (0x7FFF + ((bits >> 16) & 1), 0xFFFF0000), "tf32": (0x1000, 0xFFFFE000)}[precision]
    return ((bits + half) & np.uint32(kept)).astype(np.uint32).view(np.float32).astype(np.float64)


def product(a: np.ndarray, b: np.ndarray, precision: str | None) -> np.ndarray:
    return rounded(a, precision) @ rounded(b, precision)


def forward(weights: Weights, x: np.ndarray, precision: str | None = None) -> list[np.ndarray]:
    """Activations: the samples, then what each layer makes of them; the last are probabilities."""
    a = [x]
    for W, b in weights[:-1]:
        a.append(np.maximum(product(a[-1], W, precision) + b, 0))
    W, b = weights[-1]
    z = product(a[-1], W, precision) + b
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return [*a, powers / powers.sum(axis=1, keepdims=True)]


def distance_to_corners(weights: Weights, x: np.ndarray, precision: str | None = None) -> np.ndarray:
    """For each sample, how close the hidden unit nearest to the corner of its ReLU comes to it; (n,)."""
    a, nearest = forward(weights, x, precision), np.full(len(x), np.inf)
    for (W, b), below in zip(weights[:-1], a[:-2], strict=True):
        np.minimum(nearest, np.abs(product(below, W, precision) + b).min(axis=1), out=nearest)
    return nearest


def loss_and_gradients(
    weights: Weights, x: np.ndarray, labels: np.ndarray, precision: str | None = None
) -> tuple[float, Weights]:
    """Mean cross-entropy of the samples, and its gradient (dW, db) for each layer."""
    a, each = forward(weights, x, precision), np.arange(len(x))
    loss = -np.log(a[-1][each, labels]).mean()
    delta = a[-1].copy()
    delta[each, labels] -= 1
    delta /= len(x)
    gradients = []
    for i in range(len(weights) - 1, -1, -1):
        gradients.append((product(a[i].T, delta, precision), delta.sum(axis=0)))
        if i > 0:
            delta = product(delta, weights[i][0].T, precision) * (a[i] > 0)
    return float(loss), gradients[::-1]


def train(
    weights: Weights,
    x: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    batch_size: int,
    learning_rate: float,
    precision: str | None = None,
) -> tuple[Weights, list[float]]:
    """Plain SGD through the samples in that order, once; new weights, and the mean loss of each mini-batch."""
    weights, losses = as_float64(weights), []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        loss, gradients = loss_and_gradients(weights, x[rows], labels[rows], precision)
        losses.append(loss)
        for (W, b), (dW, db) in zip(weights, gradients, strict=True):
            W -= learning_rate * dW
            b -= learning_rate * db
    return weights, losses
