"""The kernels on a CUDA device: the place that is kept for them.

The names and parameters are the contract's, `fastnn.kernels.numpy_kernels`, and a test holds them to it. Their CUDA C++
is not part of this version: `device` says so even where there is one, and the backend is never chosen.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NoReturn

import cupy
import numpy as np

from fastnn.errors import BackendError

_MISSING = f"this version of fastnn has no CUDA kernels yet (cupy {cupy.__version__} is there): use numba or numpy"


def _unavailable() -> NoReturn:
    raise BackendError(_MISSING)


def device() -> str:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"no CUDA device: {error}") from error
    if count == 0:
        raise BackendError("no CUDA device: the driver sees none")
    raise ImportError(_MISSING)


def gather(x, order, step, batch_size, scale, shift, out, team):
    _unavailable()


def gather_targets(labels, targets, sample_weight, order, step, batch_size, out, weight_out, team):
    _unavailable()


def dropout(x, rate, stream, step, layer, out, team):
    _unavailable()


def dense(x, W, b, activation, z, a, team):
    _unavailable()


def loss_gradient(z, a, targets, sample_weight, activation, loss, task, delta, losses, hits, step, team):
    _unavailable()


def input_gradient(delta, W, activation, z, a, dX, team):
    _unavailable()


def dense_gradient(x, delta, dW, db, team):
    _unavailable()


def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    _unavailable()


def sgd(params, grads, velocity, rates, step, momentum, nesterov, weight_decay, n_weights, team):
    _unavailable()


def rmsprop(params, grads, mean_square, rates, step, rho, epsilon, weight_decay, n_weights, team):
    _unavailable()


def adam(
    params, grads, mean, mean_square, rates, step, beta1, beta2, epsilon, weight_decay, decoupled, n_weights, team
):
    _unavailable()


def asarray(values: np.ndarray) -> Any:
    _unavailable()


def zeros(shape: Sequence[int], dtype: np.dtype) -> Any:
    _unavailable()


def to_numpy(array: Any) -> np.ndarray:
    _unavailable()


def synchronize() -> None:
    _unavailable()


def compile(function: Callable, entry: bool) -> Callable:
    _unavailable()


def precisions() -> tuple[str, ...]:
    _unavailable()


def make_team(threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype, precision: str | None) -> Sequence[Any]:
    _unavailable()


def prepare(function: Callable, call: tuple) -> None:
    _unavailable()


def launch(function: Callable, calls: Sequence[tuple]) -> None:
    _unavailable()


def limit_threads(n: int) -> AbstractContextManager[None]:
    _unavailable()


def versions() -> dict[str, str]:
    return {"cupy": cupy.__version__}
