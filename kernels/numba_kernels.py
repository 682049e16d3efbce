"""The kernels in numba: the loops fused and compiled, the matrix products through scipy's BLAS.

The contract, with what each function does and takes, is `fastnn.kernels.numpy_kernels`. Compiled code is kept on disk
(see `_cache_folder`), releases the GIL, and starts no threads of its own: the only threads are those of the BLAS.

Fast-math is off: it allows the compiler to round differently wherever it arranges code differently. An earlier version
of `sgd` under it gave other last bits in the process that compiled than in those that found the code on disk. Without
it an epoch of 784-30-10 or 784-128-10 takes 1 to 2 % longer.
"""

import hashlib
import logging
import math
import platform
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
import scipy
from fastnn.kernels.codes import (
    BINARY_CROSS_ENTROPY,
    CLASSIFICATION,
    CROSS_ENTROPY,
    GELU,
    LEAKY_RELU,
    LEAKY_SLOPE,
    MULTILABEL,
    RELU,
    SIGMOID,
    SOFTMAX,
    TANH,
)
from fastnn.kernels.threads import limit_blas_threads
from numba.core import types
from numba.core.dispatcher import Dispatcher
from numba.np.linalg import ensure_blas

from fastnn.files import cache_dir

_logger = logging.getLogger("fastnn")
_cache_lock = threading.Lock()


def _cache_folder() -> Path | None:
    """Folder for the compiled code, made if need be; None where it cannot be had, which costs seconds a process.

    numba renews a cached function when its own file changes, not when a file with a function it calls does. So the
    folder's name is a digest of all sources that are compiled, and of the versions. (numba itself tells CPUs apart.) It
    is a folder of the user's, because the package's own may be read-only: FASTNN_CACHE_DIR, or the user's cache.
    """
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in [folder / "codes.py", *sorted(folder.glob("numba_*.py"))]:
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__} {platform.python_version()}".encode())
    try:
        folder = cache_dir() / "numba" / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _logger.warning("compiled code cannot be kept (%s): it is compiled anew in each process", error)
        return None
    return folder


_CACHE_FOLDER = _cache_folder()


def compile(function: Callable) -> Callable:
    options = {"nogil": True, "error_model": "numpy"}
    if _CACHE_FOLDER is None or _calls_kernels_of_others(function):
        return numba.njit(**options)(function)
    with _cache_lock:  # numba has one setting for all its users: borrow it for as long as it is looked at
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(_CACHE_FOLDER)
        try:
            return numba.njit(cache=True, **options)(function)
        finally:
            numba.config.CACHE_DIR = before


def _calls_kernels_of_others(function: Callable) -> bool:
    """Whether there are compiled functions from outside this folder among its globals, as a variant's are in a step.

    Neither numba nor the folder's name would notice that they are others than last time: the step with a variant would
    be found on disk where the one with our own is wanted.
    """
    own_file, folder = function.__code__.co_filename, Path(__file__).parent
    compiled = [value for value in function.__globals__.values() if isinstance(value, Dispatcher)]
    files = {value.py_func.__code__.co_filename for value in compiled}
    return any(file != own_file and Path(file).parent != folder for file in files)


# ---- matrix product -------------------------------------------------------------------------------------------------

ensure_blas()
# numba's own entry to scipy's BLAS: unlike a ctypes pointer, compiled code that calls it can be kept on disk.
_xxgemm = types.ExternalFunction(
    "numba_xxgemm",
    types.intc(
        *(types.char, types.char, types.char),  # kind, transpose first, transpose second
        *(types.intp, types.intp, types.intp),  # m, n, k
        *(types.voidptr, types.voidptr, types.intp, types.voidptr, types.intp),  # alpha, first, ld, second, ld
        *(types.voidptr, types.voidptr, types.intp),  # beta, result, ld
    ),
)
_S, _D, _N, _T = ord("s"), ord("d"), ord("n"), ord("t")


@compile
def _gemm(alpha, A, transpose_a, B, transpose_b, beta, C):
    """As `numpy_kernels._gemm`: the transposed problem, because BLAS reads by columns."""
    factors = np.empty(2, C.dtype)
    factors[0], factors[1] = alpha, beta
    depth = A.shape[0] if transpose_a else A.shape[1]
    _xxgemm(
        _S if C.itemsize == 4 else _D,
        _T if transpose_b else _N,
        _T if transpose_a else _N,
        C.shape[1],
        C.shape[0],
        depth,
        factors.ctypes,
        B.ctypes,
        B.shape[1],
        A.ctypes,
        A.shape[1],
        factors[1:].ctypes,
        C.ctypes,
        C.shape[1],
    )


# ---- the batch ------------------------------------------------------------------------------------------------------


@compile
def gather(x, order, step, batch_size, scale, shift, out):
    real = out.dtype.type
    scale, shift = real(scale), real(shift)
    for i in range(out.shape[0]):
        sample = order[step * batch_size + i]
        for j in range(out.shape[1]):
            out[i, j] = real(x[sample, j]) * scale + shift


@compile
def gather_targets(labels, targets, sample_weight, order, step, batch_size, out, weight_out):
    for i in range(out.shape[0]):
        sample = order[step * batch_size + i]
        for j in range(out.shape[1]):
            out[i, j] = 0 if labels.size > 0 else targets[sample, j]
        if labels.size > 0:
            out[i, labels[sample]] = 1
        if sample_weight.size > 0:
            weight_out[i] = sample_weight[sample]


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
def dropout(x, rate, stream, step, layer, out):
    threshold, factor = np.uint64(rate * 2.0**32), x.dtype.type(1.0 / (1.0 - rate))
    source, target, groups = x.reshape(-1), out.reshape(-1), x.size // 4
    source4, target4 = source[: 4 * groups].reshape(groups, 4), target[: 4 * groups].reshape(groups, 4)
    for group in range(groups):
        words = _philox(group, step, layer, stream)
        for j in range(4):
            target4[group, j] = source4[group, j] * factor if words[j] >= threshold else 0
    words = _philox(groups, step, layer, stream)
    for j in range(x.size - 4 * groups):
        target[4 * groups + j] = source[4 * groups + j] * factor if words[j] >= threshold else 0


# ---- forward --------------------------------------------------------------------------------------------------------


@compile
def dense(x, W, b, activation, z, a):
    _gemm(1.0, x, False, W, False, 0.0, z)
    for i in range(z.shape[0]):
        row = z[i]
        if b.size > 0:
            for j in range(row.size):
                row[j] += b[j]
        _activate(row, activation, a[i])


@compile
def _activate(z, activation, a):
    """One row of samples. z is copied first and a then changed in place: LLVM vectorizes that, z aliasing a or not."""
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
    elif activation == SOFTMAX:
        top, total = np.float64(a[_argmax(a)]), 0.0
        for j in range(n):
            power = math.exp(a[j] - top)
            total += power
            a[j] = power
        for j in range(n):
            a[j] /= total


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
    best = 0
    for j in range(1, row.size):
        if row[j] > row[best]:
            best = j
    return best


@compile
def _normal_cdf(z):
    return 0.5 * (1.0 + math.erf(z * math.sqrt(0.5)))


# ---- loss -----------------------------------------------------------------------------------------------------------


@compile
def loss_gradient(z, a, targets, sample_weight, activation, loss, task, delta, losses, hits, step):
    real, total_weight = delta.dtype.type, 0.0
    for i in range(sample_weight.size):
        total_weight += sample_weight[i]
    loss_sum, hit_sum = 0.0, 0.0
    for i in range(delta.shape[0]):
        weight, share = 1.0, 1.0 / delta.shape[0]
        if sample_weight.size > 0:
            weight = np.float64(sample_weight[i])
            share = weight / total_weight if total_weight > 0.0 else 0.0
        loss_sum += weight * _row_loss(z[i], a[i], targets[i], activation, loss, delta[i])
        hit_sum += weight * _row_hit(a[i], targets[i], task)
        for j in range(delta.shape[1]):
            delta[i, j] *= real(share)
    losses[step], hits[step] = loss_sum, hit_sum


@compile
def _row_loss(z, a, targets, activation, loss, delta):
    """Loss of one sample; its gradient with respect to z goes to delta."""
    real, n, result = delta.dtype.type, delta.size, 0.0
    if loss == CROSS_ENTROPY:
        best, expected = _argmax(a), real(0)
        for j in range(n):
            expected += targets[j] * z[j]
            delta[j] = a[j] - targets[j]
        result = (z[best] - expected) - math.log(a[best])
    elif loss == BINARY_CROSS_ENTROPY:
        for j in range(n):
            result += max(z[j], real(0)) - z[j] * targets[j] + math.log1p(math.exp(-abs(z[j])))
            delta[j] = a[j] - targets[j]
    else:
        along = real(0)
        for j in range(n):
            delta[j] = a[j] - targets[j]
            result += delta[j] * delta[j] / 2
            along += delta[j] * a[j]
        if activation == SIGMOID:
            for j in range(n):
                delta[j] *= a[j] * (real(1) - a[j])
        elif activation == SOFTMAX:
            for j in range(n):
                delta[j] = (delta[j] - along) * a[j]
    return result


@compile
def _row_hit(a, targets, task):
    if task == CLASSIFICATION:
        return 1.0 if _argmax(a) == _argmax(targets) else 0.0
    if task == MULTILABEL:
        count = 0
        for j in range(a.size):
            count += (a[j] >= 0.5) == (targets[j] >= 0.5)
        return count / a.size
    return 0.0


# ---- backward -------------------------------------------------------------------------------------------------------


@compile
def input_gradient(delta, W, activation, z, a, dX):
    _gemm(1.0, delta, False, W, True, 0.0, dX)
    for i in range(dX.shape[0]):
        _activation_gradient(activation, z[i], a[i], dX[i])


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
def _sum_rows(delta, total):
    """A row at a time: that is how the matrix lies in memory."""
    for j in range(total.size):
        total[j] = 0
    for i in range(delta.shape[0]):
        for j in range(total.size):
            total[j] += delta[i, j]


@compile
def dense_gradient(x, delta, dW, db):
    _gemm(1.0, x, True, delta, False, 0.0, dW)
    _sum_rows(delta, db)


@compile
def dense_sgd(x, delta, rates, step, weight_decay, W, b):
    real, rate = W.dtype.type, rates[step, 0]
    _gemm(-rate, x, True, delta, False, 1.0 - rate * weight_decay, W)
    db = np.empty_like(b)  # summed apart: added to b one by one, the small terms would be rounded at b's size
    _sum_rows(delta, db)
    for j in range(b.size):
        b[j] -= real(rate) * db[j]


# ---- optimizers -----------------------------------------------------------------------------------------------------
#
# Weights and biases are views with loops of their own: an index that starts at 0 is known not to be negative, and only
# then does LLVM vectorize (Adam on 784-128-10: 242 us with one loop from n_weights, 36 us so).


@compile
def sgd(params, grads, velocity, rates, step, momentum, nesterov, weight_decay, n_weights):
    real, n = params.dtype.type, n_weights
    rate, momentum = real(rates[step, 0]), real(momentum)
    _sgd(params[:n], grads[:n], velocity[:n], rate, momentum, nesterov, real(weight_decay))
    _sgd(params[n:], grads[n:], velocity[n:], rate, momentum, nesterov, real(0))


@compile
def _sgd(params, grads, velocity, rate, momentum, nesterov, decay):
    for i in range(params.size):
        g = grads[i] + decay * params[i]
        velocity[i] = momentum * velocity[i] + g
        params[i] -= rate * (g + momentum * velocity[i]) if nesterov else rate * velocity[i]


@compile
def rmsprop(params, grads, mean_square, rates, step, rho, epsilon, weight_decay, n_weights):
    real, n = params.dtype.type, n_weights
    rate, rest, rho, epsilon = real(rates[step, 0]), real(1 - rho), real(rho), real(epsilon)
    _rmsprop(params[:n], grads[:n], mean_square[:n], rate, rho, rest, epsilon, real(weight_decay))
    _rmsprop(params[n:], grads[n:], mean_square[n:], rate, rho, rest, epsilon, real(0))


@compile
def _rmsprop(params, grads, mean_square, rate, rho, rest, epsilon, decay):
    for i in range(params.size):
        g = grads[i] + decay * params[i]
        mean_square[i] = rho * mean_square[i] + rest * g * g
        params[i] -= rate * g / (math.sqrt(mean_square[i]) + epsilon)


@compile
def adam(params, grads, mean, mean_square, rates, step, beta1, beta2, epsilon, weight_decay, decoupled, n_weights):
    real, n = params.dtype.type, n_weights
    rate, unbias = real(rates[step, 0] * rates[step, 1]), real(rates[step, 2])
    keep = real(1.0 - rates[step, 0] * weight_decay) if decoupled else real(1)
    decay = real(0) if decoupled else real(weight_decay)
    betas = real(beta1), real(1 - beta1), real(beta2), real(1 - beta2)
    _adam(params[:n], grads[:n], mean[:n], mean_square[:n], rate, unbias, betas, real(epsilon), keep, decay)
    _adam(params[n:], grads[n:], mean[n:], mean_square[n:], rate, unbias, betas, real(epsilon), real(1), real(0))


@compile
def _adam(params, grads, mean, mean_square, rate, unbias, betas, epsilon, keep, decay):
    beta1, rest1, beta2, rest2 = betas
    for i in range(params.size):
        g = grads[i] + decay * params[i]
        mean[i] = beta1 * mean[i] + rest1 * g
        mean_square[i] = beta2 * mean_square[i] + rest2 * g * g
        params[i] = keep * params[i] - rate * mean[i] / (math.sqrt(mean_square[i] * unbias) + epsilon)


# ---- the host's side ------------------------------------------------------------------------------------------------


def asarray(values: np.ndarray) -> Any:
    return values


def to_numpy(array: Any) -> np.ndarray:
    return array


def synchronize() -> None:
    pass


def device() -> str:
    return f"{platform.machine()} CPU ({llvmlite.binding.get_host_cpu_name()})"


def limit_threads(n: int) -> AbstractContextManager[None]:
    return limit_blas_threads(n)


def versions() -> dict[str, str]:
    return {"numba": numba.__version__, "llvmlite": llvmlite.__version__, "scipy": scipy.__version__}
