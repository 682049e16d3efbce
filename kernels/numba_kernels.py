"""The kernels in numba: loops fused and compiled, matrix products of vector instructions, teams of threads.

The contract, with what each function does and takes, is `fastnn.kernels.contract`. Compiled code is cached on disk
(`numba_cache`) and releases the GIL. Every kernel computes its member's part and ends with a barrier (`numba_team`).
The matrix products are those of `numba_simd`, or scipy's BLAS (`numba_blas`) where the environment variable FASTNN_GEMM
says ``blas`` or the CPU is not one that `numba_simd` knows; the BLAS then has threads of its own and the team is one.

Fast-math is off: it allows the compiler to round differently wherever it arranges code differently. An earlier version
of `sgd` under it gave other last bits in the process that compiled than in those that loaded the code from disk.
Without it an epoch of 784-30-10 or 784-128-10 takes 1 to 2 % longer.
"""

import math
import operator
import platform
from collections.abc import Sequence
from typing import Any

import llvmlite
import numba
import numpy as np
import scipy
from numba.core import config
from numba.core.dispatcher import Dispatcher

from fastnn.errors import BackendError
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.kernels.numba_cache import compile, compile_interruptibly
from fastnn.kernels.numba_deform import load_deform as load_deform  # of the contract, as `load_activation` is
from fastnn.kernels.numba_intrinsics import address_of, call, call_for_float, prefetch
from fastnn.kernels.numba_operations import load_activation as load_activation  # of the contract, as the next two are
from fastnn.kernels.numba_operations import load_loss as load_loss
from fastnn.kernels.numba_operations import load_optimizer as load_optimizer
from fastnn.kernels.numba_prediction import make_predictor as make_predictor  # see `fastnn.model.Model.predictor`
from fastnn.kernels.numba_products import PRECISE_PRODUCTS, choose, load, product
from fastnn.kernels.numba_random import philox
from fastnn.kernels.numba_simd import ISA
from fastnn.kernels.numba_team import Team, assemble, barrier, partition
from fastnn.kernels.numba_team import launch as launch  # of the contract, as `compile` is
from fastnn.kernels.numpy_kernels import (  # noqa: F401 - functions of the contract: arrays are numpy's
    as_source,
    asarray,
    from_dlpack,
    limit_threads,
    side_by_side,
    synchronize,
    to_numpy,
    zeros,
)

_SEGMENTS = 64  # of the gradient, summed one by one, so that its norm does not depend on the size of the team
_WORK = 500_000  # multiply-adds of a layer's product that are worth another member: some 10 us


# ---- the batch ------------------------------------------------------------------------------------------------------


@compile
def gather(x, order, step, batch_size, scale, shift, out, team):
    real = out.dtype.type
    scale, shift = real(scale), real(shift)
    ahead = 8  # rows: each comes from anywhere in memory, which takes as long as converting some others
    for i in range(out.shape[0] + ahead):
        if i < out.shape[0]:
            _prefetch_row(x, order[step * batch_size + i])
        if i >= ahead:
            source, target = x[order[step * batch_size + i - ahead]], out[i - ahead]
            for j in range(target.size):
                target[j] = real(source[j]) * scale + shift


@compile
def _prefetch_row(x, sample):
    start, size = address_of(x[sample]), x.shape[1] * x.itemsize
    for offset in range(0, size, 64):
        prefetch(start + offset)


@compile
def gather_targets(labels, targets, sample_weight, order, step, batch_size, out, weight_out, team):
    first, last = partition(out.shape[0], 8, team)
    for i in range(first, last):
        sample = order[step * batch_size + i]
        for j in range(out.shape[1]):
            out[i, j] = 0 if labels.size > 0 else targets[sample, j]
        if labels.size > 0:
            out[i, labels[sample]] = 1
        if sample_weight.size > 0:
            weight_out[i] = sample_weight[sample]
    barrier(team)


@compile
def deform(x, order, step, batch_size, scale, shift, function, ranges, row_basis, column_basis, stream, out, team):
    first, last = partition(out.shape[0], 1, team)
    start, random = step * batch_size, (address_of(ranges), address_of(stream))
    rows = row_basis.shape[0], row_basis.shape[1], address_of(row_basis)
    columns = column_basis.shape[0], column_basis.shape[1], address_of(column_basis)
    for i in range(first, last):
        sample = order[start + i]
        images = address_of(x[sample]), sample, scale, shift, address_of(out[i])
        call(function, (*images, *random, *rows, *columns))
    barrier(team)


@compile
def dropout(x, rate, stream, step, layer, out, team):
    threshold, factor = np.uint64(rate * 2.0**32), x.dtype.type(1.0 / (1.0 - rate))
    source, target, groups = x.reshape(-1), out.reshape(-1), x.size // 4
    source4, target4 = source[: 4 * groups].reshape(groups, 4), target[: 4 * groups].reshape(groups, 4)
    first, last = partition(groups, 8, team)
    for group in range(first, last):
        words = philox(group, step, layer, stream)
        for j in range(4):
            target4[group, j] = source4[group, j] * factor if words[j] >= threshold else 0
    if team.rank == 0:
        words = philox(groups, step, layer, stream)
        for j in range(x.size - 4 * groups):
            target[4 * groups + j] = source[4 * groups + j] * factor if words[j] >= threshold else 0
    barrier(team)


# ---- forward --------------------------------------------------------------------------------------------------------


@compile
def dense(x, W, b, activation, z, a, team):
    rows, columns = _partition_outputs(z, activation.by_rows, team)
    product(team.multiply, 1.0, x, False, W, x.shape[1], 0.0, z, rows, columns, team.scratch)
    bias = b[columns[0] : columns[1]]
    for i in range(rows[0], rows[1]):
        row, out = z[i, columns[0] : columns[1]], a[i, columns[0] : columns[1]]
        if b.size > 0:
            for j in range(row.size):
                row[j] += bias[j]
        call(activation.value, (address_of(row), address_of(out), row.size, address_of(team.exponentials)))
    barrier(team)


@compile
def _partition_outputs(z, whole_rows, team):
    """This member's rows and columns of a layer's outputs.

    A partition by columns, if there are enough: the member then reads only its columns of W, which it updates later.
    """
    if z.shape[1] >= 32 * team.size and not whole_rows:
        return (0, z.shape[0]), partition(z.shape[1], 32, team)
    return partition(z.shape[0], 8, team), (0, z.shape[1])


@compile
def _argmax(row):
    """Index of the first largest element, without branches: which is the largest cannot be predicted."""
    best, top = 0, row[0]
    for j in range(1, row.size):
        better = row[j] > top
        best, top = (j, row[j]) if better else (best, top)
    return best


# ---- loss -----------------------------------------------------------------------------------------------------------


@compile
def loss_gradient(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team):
    real, total_weight = delta.dtype.type, 0.0
    for i in range(sample_weight.size):
        total_weight += sample_weight[i]
    first, last = partition(delta.shape[0], 8, team)
    for i in range(first, last):
        weight, part = 1.0, 1.0 / delta.shape[0]
        if sample_weight.size > 0:
            weight = np.float64(sample_weight[i])
            part = weight / total_weight if total_weight > 0.0 else 0.0
        best = _argmax(a[i])
        row = address_of(z[i]), address_of(a[i]), address_of(targets[i]), address_of(delta[i]), a.shape[1], best
        team.row_sums[0, i] = weight * call_for_float(loss, row)
        team.row_sums[1, i] = weight * _row_hit(a[i], best, targets[i], task)
        for j in range(delta.shape[1]):
            delta[i, j] *= real(part)
    barrier(team)
    if team.rank == 0:  # in the order of the samples, however they were partitioned
        loss_sum, hit_sum = 0.0, 0.0
        for i in range(delta.shape[0]):
            loss_sum += team.row_sums[0, i]
            hit_sum += team.row_sums[1, i]
        losses[step], hits[step] = loss_sum, hit_sum


@compile
def _row_hit(a, best, targets, task):
    if task == CLASSIFICATION:
        return 1.0 if best == _argmax(targets) else 0.0
    if task == MULTILABEL:
        count = 0
        for j in range(a.size):
            count += (a[j] >= 0.5) == (targets[j] >= 0.5)
        return count / a.size
    return 0.0


# ---- backward -------------------------------------------------------------------------------------------------------


@compile
def input_gradient(delta, W, activation, z, a, dX, team):
    (start, stop), columns = _partition_inputs(dX, team)
    for first in range(start, stop, 32):  # few enough samples for the cache
        rows = first, min(first + 32, stop)
        product(team.multiply_transposed, 1.0, delta, False, W, W.shape[1], 0.0, dX, rows, columns, team.scratch)
        for i in range(rows[0], rows[1]):
            part = slice(columns[0], columns[1])
            row = address_of(z[i, part]), address_of(a[i, part]), address_of(dX[i, part])
            call(activation.derivative, (*row, columns[1] - columns[0]))
    barrier(team)


@compile
def _partition_inputs(dX, team):
    """This member's rows and columns of the gradient to a layer's inputs.

    A partition by rows, if there are enough. By columns a member would not read the whole of W, but its core prefetches
    beyond them into its neighbour's (64 x 128 from 10 outputs: 12.9 us by columns, 3.1 by rows, 5.1 on one thread).
    """
    if dX.shape[0] >= 32 * team.size:
        return partition(dX.shape[0], 32, team), (0, dX.shape[1])
    return (0, dX.shape[0]), partition(dX.shape[1], 32, team)


@compile
def _partition_weights(W, team):
    """This member's rows and columns of W; of columns the same that it reads in `dense` (`_partition_outputs`)."""
    if W.shape[1] >= 32 * team.size:
        return (0, W.shape[0]), partition(W.shape[1], 32, team)
    return partition(W.shape[0], 8, team), (0, W.shape[1])


@compile
def _sum_rows(delta, total):
    """The sum of all rows, a row at a time, as the matrix lies in memory."""
    for j in range(total.size):
        total[j] = 0
    for i in range(delta.shape[0]):
        row = delta[i]
        for j in range(total.size):
            total[j] += row[j]


@compile
def dense_gradient(x, delta, dW, db, team):
    rows, columns = _partition_weights(dW, team)
    product(team.multiply, 1.0, x, True, delta, x.shape[0], 0.0, dW, rows, columns, team.scratch)
    if db.size > 0 and rows[1] == dW.shape[0]:
        part = slice(columns[0], columns[1])
        _sum_rows(delta[:, part], db[part])
    barrier(team)


@compile
def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    real, rate = W.dtype.type, rates[step, 0]
    rows, columns = _partition_weights(W, team)
    keep = 1.0 - rate * weight_decay
    product(team.multiply, -rate, x, True, delta, x.shape[0], keep, W, rows, columns, team.scratch)
    if b.size > 0 and rows[1] == W.shape[0]:
        bias, part = b[columns[0] : columns[1]], slice(columns[0], columns[1])
        db = team.scratch[: bias.size]  # not added to b row by row: small terms would be rounded to b's precision
        _sum_rows(delta[:, part], db)
        for j in range(bias.size):
            bias[j] -= real(rate) * db[j]
    barrier(team)


# ---- optimizers -----------------------------------------------------------------------------------------------------


@compile
def clip(grads, max_norm, team):
    real, n, square = grads.dtype.type, grads.size, 0.0
    first, last = partition(_SEGMENTS, 1, team)
    for i in range(first, last):
        team.sums[i] = _sum_of_squares(grads[n * i // _SEGMENTS : n * (i + 1) // _SEGMENTS])
    barrier(team)
    for i in range(_SEGMENTS):
        square += team.sums[i]
    norm = math.sqrt(square)
    if norm > max_norm:
        factor = real(max_norm / norm)
        first, last = partition(n, 32, team)
        for i in range(first, last):
            grads[i] *= factor
    barrier(team)


@compile
def _sum_of_squares(x):
    """Four independent sums: in a single one each addition would wait for the one before."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    quarter = x.size // 4
    for i in range(quarter):
        a += np.float64(x[i]) ** 2
        b += np.float64(x[quarter + i]) ** 2
        c += np.float64(x[2 * quarter + i]) ** 2
        d += np.float64(x[3 * quarter + i]) ** 2
    for i in range(4 * quarter, x.size):
        a += np.float64(x[i]) ** 2
    return (a + b) + (c + d)


@compile
def apply_optimizer(params, grads, state, optimizer, rates, step, constants, weight_decay, n_weights, team):
    size, n = params.itemsize, params.size
    first, last = partition(n_weights, 32, team)
    numbers = n * size, address_of(rates[step]), address_of(constants)
    _update(optimizer, params, grads, state, first, last, numbers, weight_decay)
    first, last = partition(n - n_weights, 32, team)
    _update(optimizer, params, grads, state, n_weights + first, n_weights + last, numbers, 0.0)
    barrier(team)


@compile
def _update(optimizer, params, grads, state, first, last, numbers, decay):
    start = first * params.itemsize
    addresses = address_of(params) + start, address_of(grads) + start, address_of(state) + start
    call(optimizer, (*addresses, *numbers, decay, last - first))


# ---- the host's side ------------------------------------------------------------------------------------------------


def precisions() -> tuple[str, ...]:
    return tuple(PRECISE_PRODUCTS)


def make_team(
    threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype[Any], precision: str | None
) -> tuple[Team, ...]:
    products = load(dtype, max(rows, *sizes), precision)
    work = rows * sum(map(operator.mul, sizes, sizes[1:]))
    size = min(threads, 1 + int(work / _WORK)) if products.partitioned else 1
    return assemble(size, rows, max(sizes), _SEGMENTS, products, dtype)


def plan(member: Any) -> str:
    return "compiled"


def prepare(function: Dispatcher, call: tuple[Any, ...]) -> None:
    signature = tuple(map(function.typeof_pyval, call))
    if signature not in function.overloads:
        compile_interruptibly(function.compile, signature)


def device() -> str:
    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
        raise BackendError("NUMBA_DISABLE_JIT is set, so that numba compiles nothing")
    products = {"simd": f"{ISA.name} products", "blas": "products by scipy's BLAS"}[choose()]
    return f"{platform.machine()} CPU ({llvmlite.binding.get_host_cpu_name()}), {products}"


def versions() -> dict[str, str]:
    return {"numba": numba.__version__, "llvmlite": llvmlite.__version__, "scipy": scipy.__version__}
