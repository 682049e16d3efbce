"""A network's answers without learning: outputs, and loss and accuracy over a data set."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.samples import UNKNOWN
from fastnn.step import bind
from fastnn.workspace import Workspace

if TYPE_CHECKING:
    from fastnn.network import Network

__all__ = ["Evaluator", "outputs"]

_ROWS = 512  # samples at a time: enough for the matrix product, few enough for the cache


def outputs(network: "Network", x: Any) -> np.ndarray:
    """Outputs ``(n, n_out)`` of the network's dtype for samples `x`."""
    space = Workspace(network, x, UNKNOWN, _ROWS)
    result = np.empty((space.n_samples, network.sizes[-1]), network.dtype)
    with network.kernels.limit_threads(network.threads):
        for step in range(space.steps):
            start = step * space.rows
            result[start : start + space.rows] = network.kernels.to_numpy(space.forward(step))
    return result


class Evaluator:
    """Loss and accuracy of a network over one data set, to be asked as often as one likes.

    Raises
    ------
    DataError
        If samples, targets or weights do not fit the network.
    """

    def __init__(self, network: "Network", x: Any, y: Any, sample_weight: Any = None, *, loss: str) -> None:
        self._space = Workspace(network, x, y, _ROWS, loss=loss, sample_weight=sample_weight)
        self._step_weights = self._space.step_weights(np.arange(self._space.n_samples))

    def __call__(self) -> tuple[float, float]:
        """Mean loss and share of hits (NaN for regression)."""
        space, network = self._space, self._space.network
        with network.kernels.limit_threads(network.threads):
            space.run(bind(network.kernels).evaluate_steps, 0, space.steps)
        return space.means(self._step_weights, space.steps)
