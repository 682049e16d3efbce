"""The kernels on a CUDA device. The contract, with the specification of each, is `fastnn.kernels.contract`.

Each function here launches a kernel of ``cuda/``: it says how many blocks, and in which tiles a matrix product goes.
`cuda_device` does the launching.

`step` is counted from the team's counter in device memory, so that the same launches serve all mini-batches: see
`cuda_team`, which runs them.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import SettingError
from fastnn.kernels.codes import PRECISIONS
from fastnn.kernels.cuda_device import (  # noqa: F401 - some are functions of the contract as they are
    asarray,
    capability,
    free_memory,
    from_dlpack,
    is_on_device,
    synchronize,
    to_numpy,
    versions,
    zeros,
)
from fastnn.kernels.cuda_device import device as describe_device
from fastnn.kernels.cuda_joint_launch import JointLaunch, current
from fastnn.kernels.cuda_modules import REALS, Product
from fastnn.kernels.cuda_persistent import launch_all
from fastnn.kernels.cuda_source import code_of, update_text
from fastnn.kernels.cuda_stream import StreamedSamples
from fastnn.kernels.cuda_team import Member, requested_plan
from fastnn.kernels.threads import limit_blas_threads
from fastnn.operations import ACTIVATIONS, LOSSES, Activation, Loss, Optimizer

Call = tuple[Any, ...]
_WARPS = {"float": 32, "double": 16}  # of the one block that sums up the loss, at most
_BLOCKS = 64  # at most, that sum up the gradient's squares: each thread reads their sums


class LoadedActivation(NamedTuple):
    """An activation and its code in the compiled sources."""

    record: Activation
    code: int


class LoadedLoss(NamedTuple):
    """The codes of a loss and of the output activation that it follows."""

    code: int
    output: int


class LoadedOptimizer(NamedTuple):
    """An optimizer and its formula in CUDA C++."""

    record: Optimizer
    update: str


# ---- operations -----------------------------------------------------------------------------------------------------


def load_activation(activation: Activation, dtype: np.dtype[Any]) -> LoadedActivation:
    return LoadedActivation(activation, code_of(activation.name, ACTIVATIONS))


def load_loss(loss: Loss, output: Activation, dtype: np.dtype[Any]) -> LoadedLoss:
    return LoadedLoss(code_of(loss.name, LOSSES), code_of(output.name, ACTIVATIONS))


def load_optimizer(optimizer: Optimizer, dtype: np.dtype[Any]) -> LoadedOptimizer:
    return LoadedOptimizer(optimizer, update_text(optimizer))


# ---- the batch ------------------------------------------------------------------------------------------------------


def gather(x, order, step, batch_size, scale, shift, out, team):
    sizes = (step, batch_size, float(scale), float(shift), out, *out.shape)
    rows, ring = _rows_and_ring(x, batch_size)
    team.each("batch.cu", f"gather_{x.dtype.name}", out.size, rows, order, ring, team.counter, *sizes)


def load_deform(source_dtype: np.dtype, dtype: np.dtype) -> int:
    return 0


def deform(x, order, step, batch_size, scale, shift, function, ranges, row_basis, column_basis, stream, out, team):
    (nodes_y, h), (nodes_x, w) = row_basis.shape, column_basis.shape
    shared = 6 * 8 + (2 * nodes_y * nodes_x + h * 2 * nodes_x) * 4
    rows, ring = _rows_and_ring(x, batch_size)
    images = (rows, order, ring, team.counter, step, batch_size, float(scale), float(shift))
    bases = (row_basis, nodes_y, h, column_basis, nodes_x, w)
    team.start("deform.cu", f"deform_{x.dtype.name}", len(out), 256, shared, *images, ranges, *bases, stream, out)


def gather_targets(labels, targets, sample_weight, order, step, batch_size, out, weight_out, team):
    arrays = (labels, int(labels.size > 0), targets, sample_weight, int(sample_weight.size > 0), order)
    sizes = (step, batch_size, out, weight_out, *out.shape)
    team.each("batch.cu", "gather_targets", out.size, *arrays, team.counter, *sizes)


def dropout(x, rate, stream, step, layer, out, team):
    team.each("batch.cu", "dropout", (x.size + 3) // 4, x, float(rate), stream, team.counter, step, layer, out, x.size)


# ---- forward --------------------------------------------------------------------------------------------------------


def dense(x, W, b, activation, z, a, team):
    (rows, n_in), n_out = x.shape, W.shape[1]
    softmax = activation.record.name == "softmax"  # has no formula for `dense`, which then returns z
    arguments = (x, W, b, int(b.size > 0), activation.code, z, z if softmax else a, rows, n_in, n_out)
    team.multiply("dense", Product(rows, n_out, n_in, a_by_k=True, b_by_k=False), *arguments)
    if softmax:
        team.each("loss.cu", "softmax", 32 * rows, z, a, rows, n_out)


# ---- loss -----------------------------------------------------------------------------------------------------------


def loss_gradient(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team):
    rows, columns = a.shape
    warps = min(_WARPS[team.real], rows)
    codes = (int(sample_weight.size > 0), loss.output, loss.code, task)
    results = (delta, losses, hits, team.counter, step, rows, columns)
    arrays = (z, a, targets, sample_weight)
    team.start("loss.cu", "loss_gradient", 1, 32 * warps, 8 * warps, *arrays, *codes, *results)


# ---- backward -------------------------------------------------------------------------------------------------------


def input_gradient(delta, W, activation, z, a, dX, team):
    (n_in, n_out), rows = W.shape, len(delta)
    product = Product(rows, n_in, n_out, a_by_k=True, b_by_k=True)
    team.multiply("input_gradient", product, delta, W, activation.code, z, a, dX, rows, n_in, n_out)


def dense_gradient(x, delta, dW, db, team):
    (rows, n_in), n_out = x.shape, delta.shape[1]
    product = Product(n_in, n_out, rows, a_by_k=False, b_by_k=False)
    team.multiply("dense_gradient", product, x, delta, dW, db, int(db.size > 0), rows, n_in, n_out)


def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    (rows, n_in), n_out = x.shape, delta.shape[1]
    product = Product(n_in, n_out, rows, a_by_k=False, b_by_k=False)
    rate = (rates, rates.shape[1], team.counter, step, float(weight_decay))
    team.multiply("dense_sgd", product, x, delta, *rate, W, b, int(b.size > 0), rows, n_in, n_out)


# ---- optimizers -----------------------------------------------------------------------------------------------------


def clip(grads, max_norm, team):
    threads = 256
    blocks = min(_BLOCKS, -(-grads.size // threads))
    sums = team.scratch(blocks)
    team.start("gradients.cu", "sum_squares", blocks, threads, 8 * threads // 32, grads, sums, grads.size)
    team.each("gradients.cu", "clip", grads.size, grads, sums, blocks, float(max_norm), grads.size)


def apply_optimizer(params, grads, state, optimizer, rates, step, constants, weight_decay, n_weights, team):
    arrays = (params, grads, state, rates, rates.shape[1], team.counter, step, constants)
    team.apply(optimizer.update, params.size, *arrays, float(weight_decay), n_weights, params.size)


# ---- the host's side ------------------------------------------------------------------------------------------------


def as_source(values: NDArray[Any]) -> Any:
    if is_on_device(values):
        return values
    joint = current()
    return joint.source(values, _upload) if joint else _upload(values)


def _upload(values: NDArray[Any]) -> Any:
    limit = _data_limit()
    fits = values.nbytes <= (free_memory() / 2 if limit is None else limit)
    return asarray(values) if fits else StreamedSamples(values)


def _data_limit() -> float | None:
    """Bytes of device memory that a data set may take, if that is set."""
    text = os.environ.get("FASTNN_CUDA_DATA_LIMIT")
    if not text:
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise SettingError(f"FASTNN_CUDA_DATA_LIMIT must be a number of bytes, got {text!r}")
    return limit


def device() -> str:
    description = describe_device()
    requested_plan(), _data_limit()  # raise at once what would be raised when a network trains
    return description


def compile(function: Callable[..., None], entry: bool) -> Callable[..., None]:
    return function


def precisions() -> tuple[str, ...]:
    return PRECISIONS if capability() >= (8, 0) else ()


def make_team(
    threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype[Any], precision: str | None
) -> Sequence[Any]:
    return (Member(REALS[np.dtype(dtype).name], precision),)


def plan(member: Any) -> str:
    return str(member.plan)


def prepare(function: Callable[..., None], call: Call) -> None:
    call[-1].prepare(*_read_call(function, call))


def launch(function: Callable[..., None], calls: Sequence[Call]) -> None:
    (call,) = calls
    if isinstance(call[0], int):
        call[-1].run(*_read_call(function, call))
    else:  # a kernel by itself
        function(*call)


def _read_call(function: Callable[..., None], call: Call) -> tuple[Callable[[int], None], int, int, Call]:
    """An entry of the step begins with a range of mini-batches, or with the one that it is for."""
    if isinstance(call[1], int):
        first, last, *rest = call
        return lambda n: function(0, n, *rest), first, last, (function, *rest)
    first, *rest = call
    return lambda n: function(0, *rest), first, first + 1, (function, *rest)


def side_by_side(n: int, threads: int) -> tuple[int, AbstractContextManager[None]]:
    return n, JointLaunch(n, launch_all)


def limit_threads(n: int) -> AbstractContextManager[None]:
    return limit_blas_threads(n)  # the host's part alone


def _rows_and_ring(x: Any, batch_size: int) -> tuple[Any, int]:
    """Where samples lie on the device, and how many rows that has if it is a ring."""
    if not isinstance(x, StreamedSamples):
        return x, 0
    rows = x.ring(batch_size)
    return rows, len(rows)
