"""A network's predictions, without learning: outputs, and loss and accuracy over a data set."""

from typing import Any

import numpy as np

from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.model import Model
from fastnn.run_data import read_inputs
from fastnn.samples import UNKNOWN, is_of_other_library
from fastnn.sparse import is_sparse
from fastnn.step import bind
from fastnn.workspace import Workspace

__all__ = ["Evaluator", "outputs", "outputs_by_step", "predictions"]

_ROWS = 512  # samples at a time: enough for the matrix product, few enough for the cache


def outputs(network: Model, x: Any) -> Any:
    """Outputs ``(n, n_out)`` of the network's dtype for samples `x`: an array of the same library, where `x` is."""
    return _as_came(_forward(network, x), x)


def predictions(network: Model, x: Any) -> Any:
    """What the network says of samples `x`, see `fastnn.Network.predict`: of the same library, where `x` is."""
    a = _forward(network, x)
    if network.task == CLASSIFICATION:
        return _as_came(a.argmax(axis=1), x)
    result = (a >= 0.5).astype(np.int64) if network.task == MULTILABEL else a
    return _as_came(result[:, 0] if result.shape[1] == 1 else result, x)


def _forward(network: Model, x: Any) -> Any:
    """Outputs as an array of the backend's if `x` is one of another library on the same device; else of numpy's."""
    predict = network.predictor()
    if predict is None or is_sparse(x):
        return outputs_by_step(network, x)
    samples, scale, _ = read_inputs(network, x)
    result = np.empty((len(samples), network.sizes[-1]), network.dtype)
    predict(samples, scale, network.shift, result)
    return result


def outputs_by_step(network: Model, x: Any) -> Any:
    """Outputs by the forward pass of `fastnn.step`: an array of the backend's if `x` is one on the same device."""
    workspace, kernels = Workspace(network, x, UNKNOWN, _ROWS), network.kernels
    data = workspace.data
    shape = data.n_samples, network.sizes[-1]
    stays = is_of_other_library(x) and x.__dlpack_device__() == network.parameters.__dlpack_device__()
    result = kernels.zeros(shape, network.dtype) if stays else np.empty(shape, network.dtype)
    with kernels.limit_threads(network.threads):
        for step in range(data.steps):
            start, a = step * data.rows, workspace.forward(step)
            result[start : start + data.rows] = a if stays else kernels.to_numpy(a)
    return result


def _as_came(result: Any, x: Any) -> Any:
    if not is_of_other_library(x):
        return result
    from array_api_compat import array_namespace

    return array_namespace(x).from_dlpack(result)


class Evaluator:
    """Loss and accuracy of a network over one data set, to be asked as often as one likes.

    Raises
    ------
    DataError
        If samples, targets or weights do not fit the network.
    """

    def __init__(
        self, network: Model, x: Any, y: Any, sample_weight: Any = None, *, loss: str, task: int | None = None
    ) -> None:
        self._workspace = Workspace(network, x, y, _ROWS, loss=loss, sample_weight=sample_weight, task=task)
        data = self._workspace.data
        self._step_weights = data.step_weights(np.arange(data.n_samples))

    def __call__(self) -> tuple[float, float]:
        """Mean loss and share of hits (NaN for regression)."""
        workspace, network = self._workspace, self._workspace.network
        with network.kernels.limit_threads(network.threads):
            workspace.run(bind(network.kernels).evaluate_steps, 0, workspace.data.steps)
        return workspace.objective.means(self._step_weights, workspace.data.steps)
