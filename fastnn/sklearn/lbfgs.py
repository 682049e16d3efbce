"""Training by L-BFGS: every step looks at all samples, as suits small data sets."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.optimize

from fastnn.network import Network
from fastnn.parameters import split_parameters

__all__ = ["minimize"]


def minimize(
    network: Network,
    x: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    weight_decay: float = 0.0,
    iterations: int = 200,
    evaluations: int = 15000,
    tolerance: float = 1e-4,
    callback: Callable[[float], None] = lambda loss: None,
) -> tuple[float, str]:
    """Bring the network's loss, without dropout, to a minimum, from the weights that it has.

    `weight_decay` adds ``weight_decay / 2 * |W|^2`` to the loss; `iterations` and `evaluations` limit the steps, and
    the losses and gradients looked at; the search ends where no element of the gradient is larger than `tolerance`.
    `callback` is called with the loss after every iteration.

    Returns
    -------
    loss : float
        With the weight decay's part.
    complaint : str
        Why the search ended before the minimum; empty if it did not.

    References
    ----------
    Nocedal & Wright, "Numerical Optimization" (2006), algorithm 7.5; `scipy.optimize.minimize`, method L-BFGS-B.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> from fastnn.sklearn.lbfgs import minimize
    >>> net = fastnn.Network([2, 8, 2], hidden="tanh", backend="numpy", dtype="float64")
    >>> x, y = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> loss, complaint = minimize(net, x, y, weight_decay=1e-4)
    >>> loss < 0.03, complaint, net.predict(x)
    (True, '', array([0, 1, 1, 0]))
    """

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, biases = split_parameters(flat, network.sizes, network.bias)
        network.set_weights([(W, b if network.bias else None) for W, b in zip(weights, biases, strict=True)])
        loss, gradients = network.gradients(x, y, sample_weight=sample_weight)
        gradient = _flatten((dW + weight_decay * W, db) for (dW, db), W in zip(gradients, weights, strict=True))
        return loss + 0.5 * weight_decay * sum(float(np.vdot(W, W)) for W in weights), gradient

    found = scipy.optimize.minimize(
        objective,
        _flatten(network.get_weights()),
        method="L-BFGS-B",
        jac=True,
        callback=lambda intermediate_result: callback(float(intermediate_result.fun)),
        options={"maxiter": iterations, "maxfun": evaluations, "gtol": tolerance},
    )
    loss, _ = objective(found.x)
    return loss, "" if found.success else str(found.message)


def _flatten(pairs: Iterable[tuple[np.ndarray, np.ndarray | None]]) -> np.ndarray:
    """As `split_parameters` has them: all weights, then all biases."""
    weights, biases = zip(*pairs, strict=True)
    arrays = [*weights, *(b for b in biases if b is not None)]
    return np.concatenate([array.ravel() for array in arrays]).astype(np.float64)
