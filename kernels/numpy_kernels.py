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
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from fastnn.kernels import memory
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.kernels.numpy_operations import Scratch, add_multiple, multiply_matrices, scratch_like
from fastnn.kernels.numpy_operations import load_activation as load_activation  # of the contract, as the next two are
from fastnn.kernels.numpy_operations import load_loss as load_loss
from fastnn.kernels.numpy_operations import load_optimizer as load_optimizer
from fastnn.kernels.numpy_prediction import make_predictor as make_predictor  # see `fastnn.model.Model.predictor`
from fastnn.kernels.threads import limit_blas_threads

_CHUNK = 131_072  # parameters that an optimizer goes through at once: few enough for the cache


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


def load_deform(source_dtype: np.dtype, dtype: np.dtype) -> int:
    return 0


def deform(x, order, step, batch_size, scale, shift, function, ranges, row_basis, column_basis, stream, out, team):
    (nodes_y, h), (nodes_x, w) = row_basis.shape, column_basis.shape
    samples = order[step * batch_size : step * batch_size + len(out)]
    words = _sample_words(samples, 8 + 2 * nodes_y * nodes_x, stream)
    affine, translation = _affine_maps(words[:, :6], ranges)
    place = _displacements(words[:, 8:], np.float32(ranges[4] / 65535), row_basis, column_basis)  # (2, B, h, w)
    for axis, size in enumerate((w, h)):  # x, y
        across = np.arange(w) - (w - 1) / 2 - translation[0][:, None]
        down = np.arange(h) - (h - 1) / 2 - translation[1][:, None]
        along_row = (affine[2 * axis][:, None] * across).astype(np.float32)
        start = (affine[2 * axis + 1][:, None] * down + (size - 1) / 2).astype(np.float32)
        place[axis] += along_row[:, None, :] + start[:, :, None]
        np.clip(place[axis], 0, size - 1, out=place[axis])
    left, top = place.astype(np.int32)
    right_of, below = ((place[axis] - corner).astype(out.dtype) for axis, corner in enumerate((left, top)))
    corner = (top * w + left).reshape(len(out), -1) + np.arange(len(out))[:, None] * (h * w)

    pixels = x[samples].astype(out.dtype).reshape(-1)

    def pixel(offset):  # beyond the last image there is none, and its weight is 0
        return pixels.take(corner + offset, mode="clip").reshape(place.shape[1:])

    upper, lower = pixel(0), pixel(w)
    upper += right_of * (pixel(1) - upper)
    lower += right_of * (pixel(w + 1) - lower)
    upper += below * (lower - upper)
    out[...] = upper.reshape(out.shape)
    out *= out.dtype.type(scale)
    out += out.dtype.type(shift)


def _sample_words(samples, n, stream):
    """(samples, n) random words, which depend on the sample and the epoch."""
    groups, counters = np.arange((n + 3) // 4, dtype=np.uint64)[None, :], samples.astype(np.uint64)[:, None]
    groups, counters = np.broadcast_arrays(groups, counters)
    return np.stack(_philox(groups, counters, 0xFFFFFFFF, stream), axis=-1).reshape(len(samples), -1)[:, :n]


def _affine_maps(words, ranges):
    """Elements of S^-1 K^-1 R^-1 by rows, for (x, y), and the translations of x and y: an array each, a sample each."""
    angle, in_x, in_y, shear, *translation = (words * 2.0**-31 - 1.0).T * ranges[[0, 1, 1, 2, 3, 3], None]
    in_x, in_y, sine, cosine, square = 1.0 + in_x, 1.0 + in_y, 1.0, 1.0, angle * angle
    for k in range(12, 0, -1):  # Taylor's series: the same in all libraries
        sine = 1.0 - square / (2.0 * k * (2.0 * k + 1.0)) * sine
        cosine = 1.0 - square / (2.0 * k * (2.0 * k - 1.0)) * cosine
    sine *= angle
    x = (cosine + shear * sine) / in_x, (sine - shear * cosine) / in_x
    return (*x, -sine / in_y, cosine / in_y), translation


def _displacements(words, unit, row_basis, column_basis):
    """(2, samples, h, w) float32: the elastic displacement of each pixel in x and y. Sums are in the nodes' order."""
    (nodes_y, h), (nodes_x, w) = row_basis.shape, column_basis.shape
    centred = (words & np.uint64(0xFFFF)).astype(np.int64) + (words >> np.uint64(16)).astype(np.int64) - 65535
    nodes = (centred.astype(np.float32) * unit).reshape(len(words), 2, nodes_y, nodes_x).swapaxes(0, 1)
    in_rows, place = np.zeros((2, len(words), h, nodes_x), np.float32), np.zeros((2, len(words), h, w), np.float32)
    for n in range(nodes_y):
        in_rows += row_basis[n][:, None] * nodes[:, :, n, None, :]
    for n in range(nodes_x):
        place += in_rows[..., n, None] * column_basis[n]
    return place


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
    multiply_matrices(1.0, x, False, W, False, 0.0, z)
    if b.size:
        z += b
    activation.value((a,), team.scratch_like(z), z=z)


# ---- loss -----------------------------------------------------------------------------------------------------------


def loss_gradient(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team):
    best, (ones, starts) = a.argmax(axis=1), _rows(*a.shape, a.dtype)
    if loss.of == "log_probability":  # log a_j = z_j - z_k + log a_k for any k: the largest has the most digits
        largest = best + starts
        top, log_top = z.reshape(-1).take(largest), np.log(a.reshape(-1).take(largest))
        z = np.subtract(z, top[:, None], out=team.scratch("log a", z.shape, z.dtype))
        z += log_top[:, None]
    values, gradient = loss.formula((), team.scratch_like(a), z=z, a=a, t=targets, n=float(a.shape[1]))
    row_loss = values.dot(ones)
    if loss.of == "log_probability":
        np.multiply(a, gradient.dot(ones)[:, None], out=delta)
        np.subtract(gradient, delta, out=delta)
    else:
        delta[...] = gradient
        if loss.of == "output":
            loss.output.backward(delta, team.scratch_like(a), z, a)

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
    multiply_matrices(1.0, delta, False, W, True, 0.0, dX)
    activation.backward(dX, team.scratch_like(a), z, a)


def dense_gradient(x, delta, dW, db, team):
    multiply_matrices(1.0, x, True, delta, False, 0.0, dW)
    if db.size:
        delta.sum(axis=0, out=db)


def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    rate = rates[step, 0]
    multiply_matrices(-rate, x, True, delta, False, 1.0 - rate * weight_decay, W)
    if b.size:
        add_multiple(b, -rate, delta.sum(axis=0, out=team.scratch("sum", b.shape, b.dtype)))


# ---- optimizers -----------------------------------------------------------------------------------------------------


def clip(grads, max_norm, team):
    norm = np.sqrt(np.einsum("i,i->", grads, grads, dtype=np.float64))
    if norm > max_norm:
        grads *= grads.dtype.type(max_norm / norm)


def apply_optimizer(params, grads, state, optimizer, rates, step, constants, weight_decay, n_weights, team):
    rates, constants, names = rates[step].tolist(), constants.tolist(), [f"s{i}" for i in range(len(state))]
    n_decaying = n_weights if weight_decay else 0
    for begin, end, decay in ((0, n_decaying, float(weight_decay)), (n_decaying, params.size, 0.0)):
        formula = optimizer.with_decay if decay else optimizer.without_decay
        for start in range(begin, end, _CHUNK):
            part = slice(start, min(start + _CHUNK, end))
            p, *states = (array[part] for array in (params, *state))
            symbols = dict(zip(names, states, strict=True))
            scratch = team.scratch_like(p)
            formula((p, *states), scratch, p=p, g=grads[part], rates=rates, constants=constants, decay=decay, **symbols)


# ---- the host's side ------------------------------------------------------------------------------------------------


def asarray(values: NDArray[Any]) -> Any:
    return values


def as_source(values: NDArray[Any]) -> Any:
    return values


def from_dlpack(values: Any) -> Any:
    return memory.from_dlpack(values)


def zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    return memory.zeros(shape, dtype)


def to_numpy(array: Any) -> Any:
    return array


def synchronize() -> None:
    pass


def compile(function: Callable[..., None], entry: bool) -> Callable[..., None]:
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
        self._numbered: dict[Any, Any] = {}

    def scratch(self, purpose: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of undefined content; the same one for the same purpose, shape and dtype."""
        key = purpose, shape, dtype
        if key not in self._arrays:
            self._arrays[key] = memory.zeros(shape, dtype)
        return self._arrays[key]

    def scratch_like(self, array: np.ndarray) -> Scratch:
        """The scratch arrays of a formula for arrays like this one."""
        return scratch_like(array, self._numbered)


def prepare(function: Callable[..., None], call: tuple[Any, ...]) -> None:
    pass


def launch(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
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
