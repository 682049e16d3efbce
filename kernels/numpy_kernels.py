"""The kernels in numpy: the reference of the contract, whose specification is in `fastnn.kernels.contract`.

All matrix products go through scipy's BLAS, which has ``C = alpha A B + beta C`` in place. numpy brings another, with
threads of its own, and two pools that spin for each other's cores cost a factor of ten (784-128-10, two threads, one
core busy: 10.7 ms for a forward and an update in two pools, 0.8 ms in one).
"""

import contextlib
import functools
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import scipy
import scipy.linalg.blas as blas
from fastnn.kernels import memory
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.kernels.threads import limit_blas_threads

from fastnn.operations import Activation, Loss, Optimizer
from fastnn.operations.expressions import Program

_GEMM = {np.dtype(np.float32): blas.sgemm, np.dtype(np.float64): blas.dgemm}
_AXPY = {np.dtype(np.float32): blas.saxpy, np.dtype(np.float64): blas.daxpy}
_CHUNK = 131_072  # parameters that an optimizer goes through at once: few enough for the cache


class LoadedLoss(NamedTuple):
    """A loss and the output activation that it follows."""

    loss: Loss
    output: Activation


class LoadedOptimizer(NamedTuple):
    """An optimizer's formula for a parameter that decays, and for one that does not."""

    with_decay: Program
    without_decay: Program


# ---- operations -----------------------------------------------------------------------------------------------------


def load_activation(activation: Activation, dtype: np.dtype) -> Activation:
    return activation


def load_loss(loss: Loss, output: Activation, dtype: np.dtype) -> LoadedLoss:
    return LoadedLoss(loss, output)


def load_optimizer(optimizer: Optimizer, dtype: np.dtype) -> LoadedOptimizer:
    return LoadedOptimizer(optimizer.program, optimizer.program_without_decay)


# ---- the batch ------------------------------------------------------------------------------------------------------


def gather(x, order, step, batch_size, scale, shift, out, team):
    start = step * batch_size
    rows = team.scratch("gather", out.shape, x.dtype)
    # take is faster than x[...] for whole rows; it writes straight into `rows` only if it need not check the indices.
    out[...] = x.take(order[start : start + len(out)], axis=0, out=rows, mode="clip")
    if scale != 1.0:
        out *= scale
    if shift != 0.0:
        out += shift


def gather_targets(labels, targets, sample_weight, order, step, batch_size, out, weight_out, team):
    start = step * batch_size
    rows = order[start : start + len(out)]
    if labels.size:
        out[...] = 0
        out[np.arange(len(out)), labels[rows]] = 1
    else:
        out[...] = targets[rows]
    if sample_weight.size:
        weight_out[...] = sample_weight[rows]


def dropout(x, rate, stream, step, layer, out, team):
    groups = np.arange((x.size + 3) // 4, dtype=np.uint64)
    words = np.stack(_philox(groups, step, layer, stream), axis=-1).reshape(-1)[: x.size].reshape(x.shape)
    keep = words >= np.uint64(rate * 2.0**32)
    np.multiply(x, keep * x.dtype.type(1.0 / (1.0 - rate)), out=out)


def _philox(groups, step, layer, stream):
    """Ten rounds of Philox4x32 over counters ``(groups, step, layer, stream[2])``: four arrays of 32-bit words."""
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1 = groups & mask, np.full_like(groups, step)
    c2, c3 = np.full_like(groups, layer), np.full_like(groups, stream[2])
    k0, k1 = int(stream[0]), int(stream[1])
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ np.uint64(k0), p1 & mask, (p0 >> shift) ^ c3 ^ np.uint64(k1), p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


# ---- forward --------------------------------------------------------------------------------------------------------


def dense(x, W, b, activation, z, a, team):
    _gemm(1.0, x, False, W, False, 0.0, z)
    if b.size:
        z += b
    if activation.name == "softmax":
        powers = team.scratch("powers", z.shape, np.float64)
        np.subtract(z, z.max(axis=1, keepdims=True), out=powers, dtype=np.float64)
        np.exp(powers, out=powers)  # at most 1: never an overflow
        a[...] = powers
        np.divide(a, powers.sum(axis=1, keepdims=True), out=a, casting="same_kind")
    else:
        activation.value_program.evaluate({"z": z}, (a,), ("z",), team.scratch_like(z))


def _gemm(alpha, A, transpose_a, B, transpose_b, beta, C):
    """``C = alpha * A @ B + beta * C`` in place, with A or B transposed where so flagged; all are C ordered.

    BLAS reads arrays by columns, where ours are by rows: it sees every one transposed. So it is given the transposed
    problem, ``C.T = alpha * B.T @ A.T + beta * C.T``, and nothing is copied.
    """
    _GEMM[C.dtype](alpha, B.T, A.T, beta, C.T, transpose_b, transpose_a, overwrite_c=True)


# ---- loss -----------------------------------------------------------------------------------------------------------


def loss_gradient(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team):
    best, (ones, starts) = a.argmax(axis=1), _rows(*a.shape, a.dtype)
    of_log_probability = loss.loss.of == "log_probability"
    if of_log_probability:  # log a_j = z_j - z_k + log a_k for any k: the largest has the most digits
        largest = best + starts
        top, log_top = z.reshape(-1).take(largest), np.log(a.reshape(-1).take(largest))
        z = np.subtract(z, top[:, None], out=team.scratch("log a", z.shape, z.dtype))
        z += log_top[:, None]
    symbols = {"z": z, "a": a, "t": targets, "n": float(a.shape[1])}
    values, gradient = loss.loss.program.evaluate(symbols, scratch=team.scratch_like(a))
    row_loss = values.dot(ones)
    if of_log_probability:
        np.multiply(a, gradient.dot(ones)[:, None], out=delta)
        np.subtract(gradient, delta, out=delta)
    elif loss.loss.of == "output" and loss.output.name == "softmax":  # J = diag(a) - a a'
        np.subtract(gradient, np.einsum("ij,ij->i", gradient, a)[:, None], out=delta)
        delta *= a
    else:
        delta[...] = gradient
        if loss.loss.of == "output":
            delta *= loss.output.derivative_program.evaluate({"z": z, "a": a}, scratch=team.scratch_like(a))[0]

    if task == CLASSIFICATION:
        row_hit = best == targets.argmax(axis=1)
    else:
        row_hit = ((a >= 0.5) == (targets >= 0.5)).mean(axis=1) if task == MULTILABEL else np.zeros(len(a))

    if sample_weight.size:
        weight = sample_weight.astype(np.float64)
        share = weight / weight.sum() if weight.any() else weight
        delta *= share[:, None].astype(delta.dtype)
        losses[step], hits[step] = weight.dot(row_loss), weight.dot(row_hit)
    else:
        delta *= 1 / len(delta)
        losses[step], hits[step] = row_loss.sum(dtype=np.float64), row_hit.sum()


@functools.lru_cache(maxsize=16)
def _rows(n: int, columns: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """What a product with sums up rows, faster than a sum does; and where each row of a matrix begins."""
    return np.ones(columns, dtype), np.arange(0, n * columns, columns)


# ---- backward -------------------------------------------------------------------------------------------------------


def input_gradient(delta, W, activation, z, a, dX, team):
    _gemm(1.0, delta, False, W, True, 0.0, dX)
    dX *= activation.derivative_program.evaluate({"z": z, "a": a}, scratch=team.scratch_like(a))[0]


def dense_gradient(x, delta, dW, db, team):
    _gemm(1.0, x, True, delta, False, 0.0, dW)
    if db.size:
        delta.sum(axis=0, out=db)


def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    rate = rates[step, 0]
    _gemm(-rate, x, True, delta, False, 1.0 - rate * weight_decay, W)
    if b.size:
        _add(-rate, delta.sum(axis=0, out=team.scratch("sum", b.shape, b.dtype)), b)


# ---- optimizers -----------------------------------------------------------------------------------------------------


def clip(grads, max_norm, team):
    norm = np.sqrt(np.einsum("i,i->", grads, grads, dtype=np.float64))
    if norm > max_norm:
        grads *= grads.dtype.type(max_norm / norm)


def apply_optimizer(params, grads, state, optimizer, rates, step, constants, weight_decay, n_weights, team):
    symbols = {f"rates[{i}]": float(rate) for i, rate in enumerate(rates[step])}
    symbols |= {f"constants[{i}]": float(constant) for i, constant in enumerate(constants)}
    for begin, end, decay in ((0, n_weights, float(weight_decay)), (n_weights, params.size, 0.0)):
        program = optimizer.with_decay if decay else optimizer.without_decay
        names = ("p", *(f"s{i}" for i in range(len(state))))
        for start in range(begin, end, _CHUNK):
            part = slice(start, min(start + _CHUNK, end))
            outs = [array[part] for array in (params, *state)]
            values = symbols | dict(zip(names, outs, strict=True)) | {"g": grads[part], "decay": decay}
            program.evaluate(values, outs, names, team.scratch_like(outs[0]))


def _add(factor, x, y):
    """``y += factor * x`` in one pass over flat arrays, without an intermediate result: BLAS's axpy."""
    if y.size:
        _AXPY[y.dtype](x, y, a=factor)


# ---- the host's side ------------------------------------------------------------------------------------------------


def asarray(values: np.ndarray) -> Any:
    return values


def as_source(values: np.ndarray) -> Any:
    return values


def from_dlpack(values: Any) -> Any:
    return memory.from_dlpack(values)


def zeros(shape: Sequence[int], dtype: np.dtype) -> Any:
    return memory.zeros(shape, dtype)


def to_numpy(array: Any) -> np.ndarray:
    return array


def synchronize() -> None:
    pass


def compile(function: Callable, entry: bool) -> Callable:
    return function


def precisions() -> tuple[str, ...]:
    return ()


def make_team(threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype, precision: str | None) -> Sequence[Any]:
    return (_Member(),)


def plan(member: Any) -> str:
    return "interpreted"


class _Member:
    """Memory for intermediate results, kept from batch to batch: fresh memory for the larger ones costs page faults."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[Any, ...], np.ndarray] = {}
        self._numbered: dict[tuple[Any, ...], dict[int, np.ndarray]] = {}

    def scratch(self, purpose: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of undefined content; the same one for the same purpose, shape and dtype."""
        key = purpose, shape, dtype
        if key not in self._arrays:
            self._arrays[key] = memory.zeros(shape, dtype)
        return self._arrays[key]

    def scratch_like(self, array: np.ndarray) -> Callable[[int, bool], np.ndarray]:
        """Arrays of the shape of another for the steps of a formula, see `Program.evaluate`."""
        shape, dtype = array.shape, array.dtype
        there = self._numbered.setdefault((shape, dtype), {})

        def scratch(number: int, of_booleans: bool) -> np.ndarray:
            key = ~number if of_booleans else number
            if key not in there:
                there[key] = memory.zeros(shape, np.bool_ if of_booleans else dtype)
            return there[key]

        return scratch


def prepare(function: Callable, call: tuple) -> None:
    pass


def launch(function: Callable, calls: Sequence[tuple]) -> None:
    for call in calls:
        function(*call)


def device() -> str:
    return f"{platform.machine()} CPU"


def side_by_side(n: int, threads: int) -> tuple[int, AbstractContextManager[None]]:
    return min(n, threads), contextlib.nullcontext()


def limit_threads(n: int) -> AbstractContextManager[None]:
    return limit_blas_threads(n)


def versions() -> dict[str, str]:
    return {"numpy": np.__version__, "scipy": scipy.__version__}
