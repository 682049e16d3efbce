"""The kernels in numba: loops fused and compiled, matrix products of vector instructions, work shared by a team.

The contract, with what each function does and takes, is `fastnn.kernels.numpy_kernels`. Compiled code is kept on disk
(`numba_cache`) and releases the GIL. Every kernel does its member's share and ends with `wait` (`numba_team`). The
matrix products are those of `numba_simd`, or scipy's BLAS (`numba_blas`) where the environment variable FASTNN_GEMM
says ``blas`` or the CPU is not one that `numba_simd` knows; the BLAS then has threads of its own and the team is one.

Fast-math is off: it allows the compiler to round differently wherever it arranges code differently. An earlier version
of `sgd` under it gave other last bits in the process that compiled than in those that found the code on disk. Without
it an epoch of 784-30-10 or 784-128-10 takes 1 to 2 % longer.
"""

import contextlib
import math
import operator
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import llvmlite
import numba
import numpy as np
import scipy
from fastnn.kernels import memory
from fastnn.kernels.codes import (
    BINARY_CROSS_ENTROPY,
    CLASSIFICATION,
    CROSS_ENTROPY,
    EXPONENTIAL,
    GELU,
    LEAKY_RELU,
    LEAKY_SLOPE,
    MULTILABEL,
    POISSON,
    RELU,
    SIGMOID,
    SOFTMAX,
    TANH,
)
from fastnn.kernels.numba_cache import compile, out_of_reach
from fastnn.kernels.numba_products import PRECISE_PRODUCTS, choose, load, product
from fastnn.kernels.numba_simd import HOST
from fastnn.kernels.numba_team import Team, address_of, assemble, prefetch, share, wait
from fastnn.kernels.numba_team import launch as launch  # of the contract, as `compile` is
from fastnn.kernels.threads import limit_blas_threads

from fastnn.errors import BackendError

_SEGMENTS = 64  # of the gradient, whoever sums them: so its norm does not depend on the size of the team
_WORK = 500_000  # multiply-adds of a layer product that are worth another member: some 10 us


# ---- the batch ------------------------------------------------------------------------------------------------------


@compile
def gather(x, order, step, batch_size, scale, shift, out, team):
    real = out.dtype.type
    scale, shift = real(scale), real(shift)
    ahead = 8  # rows: each comes from anywhere in memory, and takes as long as converting some others
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
    first, last = share(out.shape[0], 8, team)
    for i in range(first, last):
        sample = order[step * batch_size + i]
        for j in range(out.shape[1]):
            out[i, j] = 0 if labels.size > 0 else targets[sample, j]
        if labels.size > 0:
            out[i, labels[sample]] = 1
        if sample_weight.size > 0:
            weight_out[i] = sample_weight[sample]
    wait(team)


@compile
def _philox(group, step, layer, stream):
    mask, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = np.uint64(group) & mask, np.uint64(step), np.uint64(layer), np.uint64(stream[2])
    k0, k1 = np.uint64(stream[0]), np.uint64(stream[1])
    for _ in range(10):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & mask, (p0 >> shift) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1, c2, c3


@compile
def dropout(x, rate, stream, step, layer, out, team):
    threshold, factor = np.uint64(rate * 2.0**32), x.dtype.type(1.0 / (1.0 - rate))
    source, target, groups = x.reshape(-1), out.reshape(-1), x.size // 4
    source4, target4 = source[: 4 * groups].reshape(groups, 4), target[: 4 * groups].reshape(groups, 4)
    first, last = share(groups, 8, team)
    for group in range(first, last):
        words = _philox(group, step, layer, stream)
        for j in range(4):
            target4[group, j] = source4[group, j] * factor if words[j] >= threshold else 0
    if team.rank == 0:
        words = _philox(groups, step, layer, stream)
        for j in range(x.size - 4 * groups):
            target[4 * groups + j] = source[4 * groups + j] * factor if words[j] >= threshold else 0
    wait(team)


# ---- forward --------------------------------------------------------------------------------------------------------


@compile
def dense(x, W, b, activation, z, a, team):
    rows, columns = _share_outputs(z, activation == SOFTMAX, team)
    product(team.multiply, 1.0, x, False, W, x.shape[1], 0.0, z, rows, columns, team.scratch)
    bias = b[columns[0] : columns[1]]
    for i in range(rows[0], rows[1]):
        row = z[i, columns[0] : columns[1]]
        if b.size > 0:
            for j in range(row.size):
                row[j] += bias[j]
        _activate(row, activation, a[i, columns[0] : columns[1]], team.powers)
    wait(team)


@compile
def _share_outputs(z, whole_rows, team):
    """This member's rows and columns of a layer's outputs.

    Columns, if there are enough: then the member reads only its columns of W, and those are the ones it updates.
    """
    if z.shape[1] >= 32 * team.size and not whole_rows:
        return (0, z.shape[0]), share(z.shape[1], 32, team)
    return share(z.shape[0], 8, team), (0, z.shape[1])


@compile
def _activate(z, activation, a, powers):
    """One row of samples; `powers` is room for as many float64.

    z is copied first and a then changed in place: LLVM vectorizes that, z aliasing a or not.
    """
    real, n = a.dtype.type, a.size
    for j in range(n):
        a[j] = z[j]
    if activation == RELU:
        for j in range(n):
            a[j] = real(0) if a[j] <= 0 else a[j]  # a NaN stays one
    elif activation == LEAKY_RELU:
        for j in range(n):
            a[j] *= real(LEAKY_SLOPE) if a[j] <= 0 else real(1)
    elif activation == SIGMOID:
        for j in range(n):
            scale, rest = _exp_parts(-np.float64(a[j]))
            a[j] = 1.0 / (1.0 + (scale + scale * rest))
    elif activation == TANH:  # (e^2x - 1) / (e^2x + 1)
        for j in range(n):
            scale, rest = _exp_parts(2.0 * np.float64(a[j]))
            less_one = (scale - 1.0) + scale * rest
            a[j] = less_one / (less_one + 2.0)
    elif activation == GELU:
        for j in range(n):
            a[j] *= _normal_cdf(a[j])
    elif activation == EXPONENTIAL:
        for j in range(n):
            scale, rest = _exp_parts(np.float64(a[j]))
            a[j] = scale + scale * rest
    elif activation == SOFTMAX:
        top, total = np.float64(a[_argmax(a)]), 0.0
        for j in range(n):
            scale, rest = _exp_parts(a[j] - top)
            powers[j] = scale + scale * rest
        for j in range(n):
            total += powers[j]
        for j in range(n):
            a[j] = real(powers[j]) / total


@compile
def _exp_parts(x):
    """``(2^n, e^r - 1)`` with ``e^x = 2^n e^r`` and ``|r| <= ln(2) / 2``: e^x and e^x - 1 without cancellation.

    Taylor's series to r^13 (the next term is below 5e-18), in operations that LLVM vectorizes; it has no vector version
    of libm's. Within 3e-16 of the true sigmoid, 5e-16 of tanh; 64 x 128 of them take 12 us, through libm 27 and 62 to
    99 us. Beyond +-708, where sigmoid and tanh have long reached their limits, x is cut off; a NaN stays one.
    """
    x = -708.0 if x < -708.0 else (708.0 if x > 708.0 else x)
    n = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 0.693145751953125) - n * 1.4286068203094173e-06  # ln 2 in two parts: the first product is exact
    p = (1 / 6227020800 * r + 1 / 479001600) * r + 1 / 39916800
    p = ((p * r + 1 / 3628800) * r + 1 / 362880) * r + 1 / 40320
    p = ((p * r + 1 / 5040) * r + 1 / 720) * r + 1 / 120
    p = ((p * r + 1 / 24) * r + 1 / 6) * r + 1 / 2
    power = np.int64((np.int64(n) + np.int64(1023)) << np.int64(52)).view(np.float64)
    return power, (p * r + 1.0) * r


@compile
def _argmax(row):
    """Index of the first largest element, without branches: which is the largest cannot be predicted."""
    best, top = 0, row[0]
    for j in range(1, row.size):
        better = row[j] > top
        best, top = (j, row[j]) if better else (best, top)
    return best


@compile
def _normal_cdf(z):
    return 0.5 * (1.0 + math.erf(z * math.sqrt(0.5)))


# ---- loss -----------------------------------------------------------------------------------------------------------


@compile
def loss_gradient(z, a, targets, sample_weight, activation, loss, task, delta, losses, hits, step, team):
    real, total_weight = delta.dtype.type, 0.0
    for i in range(sample_weight.size):
        total_weight += sample_weight[i]
    first, last = share(delta.shape[0], 8, team)
    for i in range(first, last):
        weight, part = 1.0, 1.0 / delta.shape[0]
        if sample_weight.size > 0:
            weight = np.float64(sample_weight[i])
            part = weight / total_weight if total_weight > 0.0 else 0.0
        best = _argmax(a[i])
        team.row_sums[0, i] = weight * _row_loss(z[i], a[i], best, targets[i], activation, loss, delta[i])
        team.row_sums[1, i] = weight * _row_hit(a[i], best, targets[i], task)
        for j in range(delta.shape[1]):
            delta[i, j] *= real(part)
    wait(team)
    if team.rank == 0:  # in the order of the samples, whoever had them
        loss_sum, hit_sum = 0.0, 0.0
        for i in range(delta.shape[0]):
            loss_sum += team.row_sums[0, i]
            hit_sum += team.row_sums[1, i]
        losses[step], hits[step] = loss_sum, hit_sum


@compile
def _row_loss(z, a, best, targets, activation, loss, delta):
    """Loss of one sample, whose largest output is `best`; its gradient with respect to z goes to delta."""
    real, n, result = delta.dtype.type, delta.size, 0.0
    if loss == CROSS_ENTROPY:
        expected = real(0)
        for j in range(n):
            expected += targets[j] * z[j]
            delta[j] = a[j] - targets[j]
        result = (z[best] - expected) - math.log(a[best])
    elif loss == BINARY_CROSS_ENTROPY:
        for j in range(n):
            result += max(z[j], real(0)) - z[j] * targets[j] + math.log1p(math.exp(-abs(z[j])))
            delta[j] = a[j] - targets[j]
    elif loss == POISSON:
        for j in range(n):
            delta[j] = a[j] - targets[j]
            t = np.float64(targets[j])
            result += (a[j] - t) - t * z[j] + (t * math.log(t) if t > 0.0 else 0.0)
    else:
        along = real(0)
        for j in range(n):
            delta[j] = a[j] - targets[j]
            result += delta[j] * delta[j] / 2
            along += delta[j] * a[j]
        if activation == SIGMOID:
            for j in range(n):
                delta[j] *= a[j] * (real(1) - a[j])
        elif activation == EXPONENTIAL:
            for j in range(n):
                delta[j] *= a[j]
        elif activation == SOFTMAX:
            for j in range(n):
                delta[j] = (delta[j] - along) * a[j]
    return result


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
    (start, stop), columns = _share_inputs(dX, team)
    for first in range(start, stop, 32):  # few enough samples for the cache
        rows = first, min(first + 32, stop)
        product(team.multiply_transposed, 1.0, delta, False, W, W.shape[1], 0.0, dX, rows, columns, team.scratch)
        for i in range(rows[0], rows[1]):
            part = slice(columns[0], columns[1])
            _activation_gradient(activation, z[i, part], a[i, part], dX[i, part])
    wait(team)


@compile
def _share_inputs(dX, team):
    """This member's rows and columns of the gradient to a layer's inputs.

    Rows, if there are enough. Columns would save reading the whole of W, but their neighbour's come along: the core
    prefetches beyond its own (64 x 128 from 10 outputs: 12.9 us by columns, 3.1 by rows, 5.1 on one thread).
    """
    if dX.shape[0] >= 32 * team.size:
        return share(dX.shape[0], 32, team), (0, dX.shape[1])
    return (0, dX.shape[0]), share(dX.shape[1], 32, team)


@compile
def _activation_gradient(activation, z, a, d):
    real, n = d.dtype.type, d.size
    if activation == RELU:
        for j in range(n):
            d[j] *= real(1) if a[j] > 0 else real(0)
    elif activation == LEAKY_RELU:
        for j in range(n):
            d[j] *= real(1) if a[j] > 0 else real(LEAKY_SLOPE)
    elif activation == SIGMOID:
        for j in range(n):
            d[j] *= a[j] * (real(1) - a[j])
    elif activation == TANH:
        for j in range(n):
            d[j] *= real(1) - a[j] * a[j]
    elif activation == GELU:
        for j in range(n):
            density = math.exp(real(-0.5) * z[j] * z[j]) * real(1 / math.sqrt(2 * math.pi))
            d[j] *= _normal_cdf(z[j]) + z[j] * density


@compile
def _share_weights(W, team):
    """This member's rows and columns of W: the columns that `_share_outputs` has it read in `dense`, if it can be."""
    if W.shape[1] >= 32 * team.size:
        return (0, W.shape[0]), share(W.shape[1], 32, team)
    return share(W.shape[0], 8, team), (0, W.shape[1])


@compile
def _sum_rows(delta, total):
    """A row at a time: that is how the matrix lies in memory."""
    for j in range(total.size):
        total[j] = 0
    for i in range(delta.shape[0]):
        row = delta[i]
        for j in range(total.size):
            total[j] += row[j]


@compile
def dense_gradient(x, delta, dW, db, team):
    rows, columns = _share_weights(dW, team)
    product(team.multiply, 1.0, x, True, delta, x.shape[0], 0.0, dW, rows, columns, team.scratch)
    if db.size > 0 and rows[1] == dW.shape[0]:
        part = slice(columns[0], columns[1])
        _sum_rows(delta[:, part], db[part])
    wait(team)


@compile
def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    real, rate = W.dtype.type, rates[step, 0]
    rows, columns = _share_weights(W, team)
    keep = 1.0 - rate * weight_decay
    product(team.multiply, -rate, x, True, delta, x.shape[0], keep, W, rows, columns, team.scratch)
    if b.size > 0 and rows[1] == W.shape[0]:
        bias, part = b[columns[0] : columns[1]], slice(columns[0], columns[1])
        db = team.scratch[: bias.size]  # summed apart: added to b one by one, small terms would be rounded at b's size
        _sum_rows(delta[:, part], db)
        for j in range(bias.size):
            bias[j] -= real(rate) * db[j]
    wait(team)


# ---- optimizers -----------------------------------------------------------------------------------------------------
#
# Weights and biases are views with loops of their own: an index that starts at 0 is known not to be negative, and only
# then does LLVM vectorize (Adam on 784-128-10: 242 us with one loop from n_weights, 36 us so).


@compile
def _weights(n_weights, team):
    """This member's slice of the parameters that are weights."""
    first, last = share(n_weights, 32, team)
    return slice(first, last)


@compile
def _biases(size, n_weights, team):
    """Its slice of those that are biases."""
    first, last = share(size - n_weights, 32, team)
    return slice(n_weights + first, n_weights + last)


@compile
def clip(grads, max_norm, team):
    real, n, square = grads.dtype.type, grads.size, 0.0
    first, last = share(_SEGMENTS, 1, team)
    for i in range(first, last):
        team.sums[i] = _sum_of_squares(grads[n * i // _SEGMENTS : n * (i + 1) // _SEGMENTS])
    wait(team)
    for i in range(_SEGMENTS):
        square += team.sums[i]
    norm = math.sqrt(square)
    if norm > max_norm:
        factor = real(max_norm / norm)
        first, last = share(n, 32, team)
        for i in range(first, last):
            grads[i] *= factor
    wait(team)


@compile
def _sum_of_squares(x):
    """Four sums side by side: one alone would wait for each of its additions."""
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
def sgd(params, grads, velocity, rates, step, momentum, nesterov, weight_decay, n_weights, team):
    real, n = params.dtype.type, n_weights
    rate, momentum = real(rates[step, 0]), real(momentum)
    for part, decay in ((_weights(n, team), real(weight_decay)), (_biases(params.size, n, team), real(0))):
        _sgd(params[part], grads[part], velocity[part], rate, momentum, nesterov, decay)
    wait(team)


@compile
def _sgd(params, grads, velocity, rate, momentum, nesterov, decay):
    for i in range(params.size):
        g = grads[i] + decay * params[i]
        velocity[i] = momentum * velocity[i] + g
        params[i] -= rate * (g + momentum * velocity[i]) if nesterov else rate * velocity[i]


@compile
def rmsprop(params, grads, mean_square, rates, step, rho, epsilon, weight_decay, n_weights, team):
    real, n = params.dtype.type, n_weights
    rate, rest, rho, epsilon = real(rates[step, 0]), real(1 - rho), real(rho), real(epsilon)
    for part, decay in ((_weights(n, team), real(weight_decay)), (_biases(params.size, n, team), real(0))):
        _rmsprop(params[part], grads[part], mean_square[part], rate, rho, rest, epsilon, decay)
    wait(team)


@compile
def _rmsprop(params, grads, mean_square, rate, rho, rest, epsilon, decay):
    for i in range(params.size):
        g = grads[i] + decay * params[i]
        mean_square[i] = rho * mean_square[i] + rest * g * g
        params[i] -= rate * g / (math.sqrt(mean_square[i]) + epsilon)


@compile
def adam(
    params, grads, mean, mean_square, rates, step, beta1, beta2, epsilon, weight_decay, decoupled, n_weights, team
):
    real, n = params.dtype.type, n_weights
    rate, unbias = real(rates[step, 0] * rates[step, 1]), real(rates[step, 2])
    keep = real(1.0 - rates[step, 0] * weight_decay) if decoupled else real(1)
    decay = real(0) if decoupled else real(weight_decay)
    betas = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    for part, kept, decays in ((_weights(n, team), keep, decay), (_biases(params.size, n, team), real(1), real(0))):
        moments = mean[part], mean_square[part]
        _adam(params[part], grads[part], moments, rate, unbias, betas, real(epsilon), kept, decays)
    wait(team)


@compile
def _adam(params, grads, moments, rate, unbias, betas, epsilon, keep, decay):
    (beta1, rest1, beta2, rest2), (mean, mean_square) = betas, moments
    for i in range(params.size):
        g = grads[i] + decay * params[i]
        mean[i] = beta1 * mean[i] + rest1 * g
        mean_square[i] = beta2 * mean_square[i] + rest2 * g * g
        params[i] = keep * params[i] - rate * mean[i] / (math.sqrt(mean_square[i] * unbias) + epsilon)


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


def precisions() -> tuple[str, ...]:
    return tuple(PRECISE_PRODUCTS)


def make_team(
    threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype, precision: str | None
) -> tuple[Team, ...]:
    products = load(dtype, max(rows, *sizes), precision)
    work = rows * sum(map(operator.mul, sizes, sizes[1:]))
    size = min(threads, 1 + int(work / _WORK)) if products.shared else 1
    return assemble(size, rows, max(sizes), _SEGMENTS, products, dtype)


def plan(member: Any) -> str:
    return "compiled"


def prepare(function: Callable, call: tuple) -> None:
    signature = tuple(map(function.typeof_pyval, call))
    if signature not in function.overloads:
        out_of_reach(function.compile, signature)


def device() -> str:
    if numba.config.DISABLE_JIT:
        raise BackendError("NUMBA_DISABLE_JIT is set, so that numba compiles nothing")
    products = {"simd": f"{HOST.instructions} products", "blas": "products by scipy's BLAS"}[choose()]
    return f"{platform.machine()} CPU ({llvmlite.binding.get_host_cpu_name()}), {products}"


def side_by_side(n: int, threads: int) -> tuple[int, AbstractContextManager[None]]:
    return min(n, threads), contextlib.nullcontext()


def limit_threads(n: int) -> AbstractContextManager[None]:
    return limit_blas_threads(n)


def versions() -> dict[str, str]:
    return {"numba": numba.__version__, "llvmlite": llvmlite.__version__, "scipy": scipy.__version__}
