"""What training ought to give: a ReLU network with softmax and cross-entropy, in float64 and plain numpy.

The suites hold what they time against it. Nothing here calls the library. Samples are rows, already scaled, float64;
`weights` is a list with (W, b) of each layer.
"""

import numpy as np

Weights = list[tuple[np.ndarray, np.ndarray]]


def as_float64(weights: Weights) -> Weights:
    """A copy of its own to compute with."""
    return [(W.astype(np.float64), b.astype(np.float64)) for W, b in weights]


def forward(weights: Weights, x: np.ndarray) -> list[np.ndarray]:
    """Activations: the samples, then what each layer makes of them; the last are probabilities."""
    a = [x]
    for W, b in weights[:-1]:
        a.append(np.maximum(a[-1] @ W + b, 0))
    W, b = weights[-1]
    z = a[-1] @ W + b
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    return [*a, powers / powers.sum(axis=1, keepdims=True)]


def distance_to_corners(weights: Weights, x: np.ndarray) -> np.ndarray:
    """For each sample, how close the hidden unit nearest to the corner of its ReLU comes to it; (n,)."""
    a, nearest = forward(weights, x), np.full(len(x), np.inf)
    for (W, b), below in zip(weights[:-1], a[:-2], strict=True):
        np.minimum(nearest, np.abs(below @ W + b).min(axis=1), out=nearest)
    return nearest


def loss_and_gradients(weights: Weights, x: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
    """Mean cross-entropy of the samples, and its gradient (dW, db) for each layer."""
    a, each = forward(weights, x), np.arange(len(x))
    loss = -np.log(a[-1][each, labels]).mean()
    delta = a[-1].copy()
    delta[each, labels] -= 1
    delta /= len(x)
    gradients = []
    for i in range(len(weights) - 1, -1, -1):
        gradients.append((a[i].T @ delta, delta.sum(axis=0)))
        if i > 0:
            delta = delta @ weights[i][0].T * (a[i] > 0)
    return float(loss), gradients[::-1]


def train(
    weights: Weights, x: np.ndarray, labels: np.ndarray, order: np.ndarray, batch_size: int, learning_rate: float
) -> tuple[Weights, list[float]]:
    """Plain SGD through the samples in that order, once; new weights, and the mean loss of each mini-batch."""
    weights, losses = as_float64(weights), []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        loss, gradients = loss_and_gradients(weights, x[rows], labels[rows])
        losses.append(loss)
        for (W, b), (dW, db) in zip(weights, gradients, strict=True):
            W -= learning_rate * dW
            b -= learning_rate * db
    return weights, losses
