"""The kernel contract, and its reference in numpy.

Every backend's module has these functions with these parameters; each docstring here is the specification and is not
repeated elsewhere. `fastnn.step` is written against them.

Conventions. Samples are rows: ``x (B, n_in)``, ``W (n_in, n_out)``, ``b (n_out,)``, ``z = x @ W + b``. Matrices are C
ordered and of one dtype, float32 or float64 ("real" below); results are written into the last arguments, which the
caller has allocated. An array that does not apply is empty (``size == 0``), never None, so that its type stays fixed.
``step`` is the index of the mini-batch within the epoch: an int here, a device counter on a GPU, which is why kernels
receive it whole and why what depends on it (learning rates, sample order) is an array.

``team`` is who does the work together: every kernel is called by all its members, on the same arrays, does a share of
the work for each, and returns when all of it is done. What a member is, is the backend's matter (`make_team`).

All matrix products go through scipy's BLAS, which has ``C = alpha A B + beta C`` in place. numpy brings another, with
threads of its own, and two pools that spin for each other's cores cost a factor of ten (784-128-10, two threads, one
core busy: 10.7 ms for a forward and an update in two pools, 0.8 ms in one).
"""

import contextlib
import platform
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import scipy.linalg.blas as blas
import scipy.special
from fastnn.kernels import memory
from fastnn.kernels.codes import (
    BINARY_CROSS_ENTROPY,
    CLASSIFICATION,
    CROSS_ENTROPY,
    EXPONENTIAL,
    GELU,
    IDENTITY,
    LEAKY_RELU,
    LEAKY_SLOPE,
    MULTILABEL,
    POISSON,
    RELU,
    SIGMOID,
    SOFTMAX,
    TANH,
)
from fastnn.kernels.threads import limit_blas_threads

__all__ = [
    "adam",
    "as_source",
    "asarray",
    "clip",
    "compile",
    "dense",
    "dense_gradient",
    "dense_sgd",
    "device",
    "dropout",
    "from_dlpack",
    "gather",
    "gather_targets",
    "input_gradient",
    "launch",
    "limit_threads",
    "loss_gradient",
    "make_team",
    "plan",
    "precisions",
    "prepare",
    "rmsprop",
    "sgd",
    "side_by_side",
    "synchronize",
    "to_numpy",
    "versions",
    "zeros",
]

_GEMM = {np.dtype(np.float32): blas.sgemm, np.dtype(np.float64): blas.dgemm}
_AXPY = {np.dtype(np.float32): blas.saxpy, np.dtype(np.float64): blas.daxpy}


# ---- the batch ------------------------------------------------------------------------------------------------------


def gather(x, order, step, batch_size, scale, shift, out, team):
    """Fetch the samples of mini-batch `step`: ``out[i] = x[order[step * batch_size + i]] * scale + shift``.

    Parameters
    ----------
    x : (n, n_in) uint8, float32 or float64
        The whole data set, as it is; read only. From `as_source`.
    order : (n,) int64
        The epoch's order of samples.
    step, batch_size : int
        `batch_size` is that of the full batches even where `out` has fewer rows (the last one).
    scale, shift : float
    out : (B, n_in) real
        Each member of the team has its own.
    """
    start = step * batch_size
    rows = team.room("gather", out.shape, x.dtype)
    # take is faster than x[...] for whole rows; it writes straight into `rows` only if it need not check the indices.
    out[...] = x.take(order[start : start + len(out)], axis=0, out=rows, mode="clip")
    if scale != 1.0:
        out *= scale
    if shift != 0.0:
        out += shift


def gather_targets(labels, targets, sample_weight, order, step, batch_size, out, weight_out, team):
    """Fetch what mini-batch `step` ought to answer, one-hot for labels, and how much each sample counts.

    Parameters
    ----------
    labels : (n,) int32, or empty
        Classes; then ``out[i]`` is one-hot.
    targets : (n, n_out) real, or empty
        Used where `labels` is empty: ``out[i]`` is the sample's row.
    sample_weight : (n,) real, or empty
        Empty: every sample counts 1.
    order, step, batch_size
        As in `gather`.
    out : (B, n_out) real
    weight_out : (B,) real, or empty where `sample_weight` is
    """
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
    """Zero a share `rate` of the elements and scale the others by ``1 / (1 - rate)``; `out` may be `x`.

    Element ``e`` (row-major in the batch) is kept where the 32-bit word ``e % 4`` of Philox4x32-10 with counter
    ``(e // 4, step, layer, stream[2])`` and key ``(stream[0], stream[1])`` is at least ``floor(rate * 2**32)``. So the
    mask depends on seed, epoch, step and layer alone: every backend draws the same, and back-propagation applies it
    again instead of storing it.

    Parameters
    ----------
    x, out : (B, n) real
    rate : float in [0, 1)
    stream : (3,) uint32
        Two words of key from the network's seed, and the epoch.
    step, layer : int

    References
    ----------
    Srivastava et al., "Dropout", JMLR 15 (2014), section 10 for the scaling; Salmon et al., "Parallel random numbers:
    as easy as 1, 2, 3", SC11, section 4.3 for Philox.
    """
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
    """One layer forward: ``z = x @ W + b``, ``a = activation(z)``.

    Parameters
    ----------
    x : (B, n_in) real
    W : (n_in, n_out) real
    b : (n_out,) real, or empty for no bias
    activation : int
        A code of `fastnn.kernels.codes`: identity, relu, leaky_relu, sigmoid, tanh, gelu, exp, softmax (over each row,
        in float64 and rounded: libraries differ in the last bits of an exponential, and ReLU networks magnify that).
    z, a : (B, n_out) real
        May be the same array where nobody needs `z` afterwards (see `input_gradient`); then only `a` is left.
    """
    _gemm(1.0, x, False, W, False, 0.0, z)
    if b.size:
        z += b
    if activation == IDENTITY:
        if a is not z:
            a[...] = z
    elif activation == RELU:
        np.maximum(z, 0, out=a)
    elif activation == LEAKY_RELU:
        np.maximum(z, np.multiply(z, z.dtype.type(LEAKY_SLOPE), out=team.like(z)), out=a)
    elif activation == SIGMOID:
        scipy.special.expit(z, out=a)
    elif activation == TANH:
        np.tanh(z, out=a)
    elif activation == GELU:  # z Phi(z), Hendrycks & Gimpel 2016, the exact form
        np.multiply(z, scipy.special.ndtr(z, out=team.like(z)), out=a)
    elif activation == EXPONENTIAL:
        np.exp(z, out=a)
    elif activation == SOFTMAX:
        powers = team.room("powers", z.shape, np.float64)
        np.subtract(z, z.max(axis=1, keepdims=True), out=powers, dtype=np.float64)
        np.exp(powers, out=powers)  # at most 1: never an overflow
        a[...] = powers
        np.divide(a, powers.sum(axis=1, keepdims=True), out=a, casting="same_kind")


def _gemm(alpha, A, transpose_a, B, transpose_b, beta, C):
    """``C = alpha * A @ B + beta * C`` in place, with A or B transposed where so flagged; all are C ordered.

    BLAS reads arrays by columns, where ours are by rows: it sees every one transposed. So it is given the transposed
    problem, ``C.T = alpha * B.T @ A.T + beta * C.T``, and nothing is copied.
    """
    _GEMM[C.dtype](alpha, B.T, A.T, beta, C.T, transpose_b, transpose_a, overwrite_c=True)


# ---- loss -----------------------------------------------------------------------------------------------------------


def loss_gradient(z, a, targets, sample_weight, activation, loss, task, delta, losses, hits, step, team):
    """Loss of a mini-batch, its gradient with respect to the output layer's `z`, and the count of right answers.

    With weights w: ``losses[step] = sum_i w_i loss_i``, ``hits[step] = sum_i w_i hit_i``, and
    ``delta = d(sum_i w_i loss_i / sum_i w_i) / dz`` (zero where all weights are). The loss of a sample is a sum over
    its outputs: cross-entropy ``-sum t log a`` (softmax), binary cross-entropy ``-sum t log a + (1 - t) log(1 - a)``
    (sigmoid), half the Poisson deviance ``sum a - t + t log(t / a)`` (exp), quadratic ``1/2 sum (a - t)^2`` (any,
    through softmax's full Jacobian). All but the last are taken from the logits z, so that no output of 0 meets a
    logarithm; targets of cross-entropy are distributions, rows that add up to 1, those of Poisson are not negative.

    Parameters
    ----------
    z, a, targets : (B, n_out) real
        Logits, outputs ``activation(z)``, and what they ought to be.
    sample_weight : (B,) real, or empty: every sample counts 1
    activation, loss, task : int
        Codes of `fastnn.kernels.codes`; the task says what a hit is.
    delta : (B, n_out) real
    losses, hits : (steps,) float64
        Element `step` is written.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning" (2006), sections 4.3.4 and 5.2.
    """
    np.subtract(a, targets, out=delta)
    best = a.argmax(axis=1)
    if loss == CROSS_ENTROPY:  # log sum exp z = z_k - log a_k for any k: the largest has the most digits
        rows = np.arange(len(a))
        row_loss = (z[rows, best] - np.einsum("ij,ij->i", targets, z)) - np.log(a[rows, best])
    elif loss == BINARY_CROSS_ENTROPY:
        row_loss = (np.maximum(z, 0) - z * targets + np.log1p(np.exp(-np.abs(z)))).sum(axis=1)
    elif loss == POISSON:
        row_loss = (delta - targets * z + scipy.special.xlogy(targets, targets)).sum(axis=1)
    else:
        row_loss = 0.5 * np.einsum("ij,ij->i", delta, delta)
        if activation == SIGMOID:
            delta *= a * (1 - a)
        elif activation == EXPONENTIAL:
            delta *= a
        elif activation == SOFTMAX:  # J = diag(a) - a a'
            delta -= np.einsum("ij,ij->i", delta, a)[:, None]
            delta *= a

    row_hit = np.zeros(len(a))
    if task == CLASSIFICATION:
        row_hit = best == targets.argmax(axis=1)
    elif task == MULTILABEL:
        row_hit = ((a >= 0.5) == (targets >= 0.5)).mean(axis=1)

    if sample_weight.size:
        weight = sample_weight.astype(np.float64)
        share = weight / weight.sum() if weight.any() else weight
        delta *= share[:, None].astype(delta.dtype)
        losses[step], hits[step] = weight.dot(row_loss), weight.dot(row_hit)
    else:
        delta *= 1 / len(delta)
        losses[step], hits[step] = row_loss.sum(dtype=np.float64), row_hit.sum()


# ---- backward -------------------------------------------------------------------------------------------------------


def input_gradient(delta, W, activation, z, a, dX, team):
    """Back through a layer's weights and the activation before it: ``dX = (delta @ W.T) * activation'(z)``.

    Parameters
    ----------
    delta : (B, n_out) real
        Gradient with respect to the layer's z.
    W : (n_in, n_out) real
    activation : int
        Of the layer below, whose outputs this layer reads.
    z, a : (B, n_in) real
        That layer's arrays as `dense` left them. gelu's derivative needs `z`; the others are computed from `a`.
    dX : (B, n_in) real
        Gradient with respect to that layer's z.
    """
    _gemm(1.0, delta, False, W, True, 0.0, dX)
    real, slope = a.dtype.type, team.like(a)
    if activation == RELU:
        dX *= np.greater(a, 0, out=team.room("mask", a.shape, np.bool_))
    elif activation == LEAKY_RELU:
        np.greater(a, 0, out=slope, casting="unsafe")
        slope *= real(1 - LEAKY_SLOPE)
        slope += real(LEAKY_SLOPE)
        dX *= slope
    elif activation == SIGMOID:  # a (1 - a)
        np.subtract(1, a, out=slope)
        slope *= a
        dX *= slope
    elif activation == TANH:  # 1 - a^2
        np.multiply(a, a, out=slope)
        dX *= np.subtract(1, slope, out=slope)
    elif activation == GELU:  # Phi(z) + z phi(z)
        np.multiply(z, z, out=slope)
        slope *= real(-0.5)
        np.exp(slope, out=slope)
        slope *= real(1 / np.sqrt(2 * np.pi))
        slope *= z
        slope += scipy.special.ndtr(z, out=team.room("cdf", z.shape, z.dtype))
        dX *= slope


def dense_gradient(x, delta, dW, db, team):
    """Gradient of a layer's parameters: ``dW = x.T @ delta``, ``db = sum_i delta_i``.

    Parameters
    ----------
    x : (B, n_in) real
    delta : (B, n_out) real
    dW : (n_in, n_out) real
    db : (n_out,) real, or empty for no bias
    """
    _gemm(1.0, x, True, delta, False, 0.0, dW)
    if db.size:
        delta.sum(axis=0, out=db)


def dense_sgd(x, delta, rates, step, weight_decay, W, b, team):
    """Gradient and plain SGD step of a layer in one: ``W -= rate * (x.T @ delta + weight_decay * W)``.

    One GEMM with ``alpha = -rate`` and ``beta = 1 - rate * weight_decay``: no gradient buffer, no second pass. `b`
    (may be empty) takes no weight decay. Parameters as in `dense_gradient`; rate is ``rates[step, 0]``.
    """
    rate = rates[step, 0]
    _gemm(-rate, x, True, delta, False, 1.0 - rate * weight_decay, W)
    if b.size:
        _add(-rate, delta.sum(axis=0, out=team.like(b)), b)


# ---- optimizers -----------------------------------------------------------------------------------------------------


def clip(grads, max_norm, team):
    """Scale the gradient down to a norm of `max_norm`, if its own is larger: ``grads *= max_norm / |grads|``.

    Parameters
    ----------
    grads : (n,) real
        Of all parameters together; the norm is Euclidean, summed in float64.
    max_norm : float > 0

    References
    ----------
    Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
    """
    norm = np.sqrt(np.einsum("i,i->", grads, grads, dtype=np.float64))
    if norm > max_norm:
        grads *= grads.dtype.type(max_norm / norm)


def sgd(params, grads, velocity, rates, step, momentum, nesterov, weight_decay, n_weights, team):
    """Stochastic gradient descent with momentum: ``v = momentum * v + g``, ``p -= rate * v``, over flat arrays.

    ``g = grads + weight_decay * p`` for the first `n_weights` elements and ``grads`` for the rest, the biases. With
    `nesterov` the step is ``g + momentum * v``.

    Parameters
    ----------
    params, grads, velocity : (n,) real
        `grads` is left undefined.
    rates : (steps, 3) float64
        ``rates[step, 0]`` is the learning rate.
    step, n_weights : int
    momentum, weight_decay : float
    nesterov : bool

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, section 2.
    """
    _add_weight_decay(params, grads, weight_decay, n_weights)
    velocity *= params.dtype.type(momentum)
    velocity += grads
    if nesterov:
        _add(momentum, velocity, grads)
    _add(-rates[step, 0], grads if nesterov else velocity, params)


def rmsprop(params, grads, mean_square, rates, step, rho, epsilon, weight_decay, n_weights, team):
    """RMSprop: ``s = rho * s + (1 - rho) * g^2``, ``p -= rate * g / (sqrt(s) + epsilon)``; as `sgd` otherwise.

    References
    ----------
    Tieleman & Hinton, "Neural Networks for Machine Learning", lecture 6.5 (2012).
    """
    real, change = params.dtype.type, team.like(params)
    _add_weight_decay(params, grads, weight_decay, n_weights)
    mean_square *= real(rho)
    _add(1 - rho, np.multiply(grads, grads, out=change), mean_square)
    np.sqrt(mean_square, out=change)
    change += real(epsilon)
    np.divide(grads, change, out=change)
    _add(-rates[step, 0], change, params)


def adam(
    params, grads, mean, mean_square, rates, step, beta1, beta2, epsilon, weight_decay, decoupled, n_weights, team
):
    """Adam, or AdamW where `decoupled`: ``m`` and ``s`` average g and g^2, ``p -= rate * m' / (sqrt(s') + epsilon)``.

    ``m' = m * rates[step, 1]`` and ``s' = s * rates[step, 2]`` undo the bias of the zero start: the host puts
    ``1 / (1 - beta^t)`` there. Weight decay is part of g, or if decoupled ``p -= rate * weight_decay * p``; as `sgd`
    otherwise.

    References
    ----------
    Kingma & Ba, "Adam", ICLR 2015, algorithm 1; Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR
    2019, algorithm 2.
    """
    real = params.dtype.type
    if decoupled:
        params[:n_weights] *= real(1.0 - rates[step, 0] * weight_decay)
    else:
        _add_weight_decay(params, grads, weight_decay, n_weights)
    change = team.like(params)
    mean *= real(beta1)
    _add(1 - beta1, grads, mean)
    mean_square *= real(beta2)
    _add(1 - beta2, np.multiply(grads, grads, out=change), mean_square)
    np.multiply(mean_square, real(rates[step, 2]), out=change)
    np.sqrt(change, out=change)
    change += real(epsilon)
    np.divide(mean, change, out=change)
    _add(-rates[step, 0] * rates[step, 1], change, params)


def _add_weight_decay(params, grads, weight_decay, n_weights):
    if weight_decay != 0.0:
        _add(weight_decay, params[:n_weights], grads[:n_weights])


def _add(factor, x, y):
    """``y += factor * x`` in one pass over flat arrays, without an intermediate result: BLAS's axpy."""
    if y.size:
        _AXPY[y.dtype](x, y, a=factor)


# ---- the host's side ------------------------------------------------------------------------------------------------


def asarray(values: np.ndarray) -> Any:
    """The host's array `values` where the kernels can use it: itself on a CPU, a copy on a device.

    One that is there already, from `from_dlpack`, is itself on both.
    """
    return values


def as_source(values: np.ndarray) -> Any:
    """The host's data set `values` ``(n, n_in)``, where `gather` can read it; nobody else does.

    Itself on a CPU. On a device a copy, or what brings it there piece by piece where it is too large; one that is there
    already, from `from_dlpack`, is itself.
    """
    return values


def from_dlpack(values: Any) -> Any:
    """An array of another library as the backend's, in the same memory; None if the backend does not compute there.

    `values` has ``__dlpack__`` and ``__dlpack_device__``; their errors are passed on. What comes back may be of any
    dtype, shape and order. On a device it has ``__cuda_array_interface__``, the methods of numpy's arrays, and ufuncs.
    """
    return memory.from_dlpack(values)


def zeros(shape: Sequence[int], dtype: np.dtype) -> Any:
    """A new array of zeros, where the kernels can use it and as they like it best."""
    return memory.zeros(shape, dtype)


def to_numpy(array: Any) -> np.ndarray:
    """A backend's array as numpy's; without a copy where that can be."""
    return array


def synchronize() -> None:
    """Return when all work handed to the backend is done."""


def compile(function: Callable, entry: bool) -> Callable:
    """Make a function of `fastnn.step`, already bound to this module's kernels, ready to run.

    One that is not an `entry` is called by others of the step only.
    """
    return function


def precisions() -> tuple[str, ...]:
    """Which of `codes.PRECISIONS` matrix products of float32 can be computed in here."""
    return ()


def make_team(threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype, precision: str | None) -> Sequence[Any]:
    """The members who run the steps of a network of these layer `sizes` over `rows` samples a mini-batch.

    At most `threads`, at least one. What a member is, only the kernels know. Matrix products are computed in
    `precision`, one of `precisions`, or if None in `dtype`.
    """
    return (_Member(),)


def plan(member: Any) -> str:
    """How the member's mini-batches are run, in a word for the record: "interpreted", "compiled", "graph"."""
    return "interpreted"


class _Member:
    """Memory for intermediate results, kept from batch to batch: fresh memory for the larger ones costs page faults."""

    def __init__(self) -> None:
        self._rooms: dict[tuple, np.ndarray] = {}

    def room(self, purpose: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of undefined content; the same one for the same purpose, shape and dtype."""
        key = purpose, shape, dtype
        if key not in self._rooms:
            self._rooms[key] = memory.zeros(shape, dtype)
        return self._rooms[key]

    def like(self, array: np.ndarray) -> np.ndarray:
        """Such an array of the shape and dtype of another."""
        return self.room("like", array.shape, array.dtype)


def prepare(function: Callable, call: tuple) -> None:
    """Do what the first ``function(*call)`` would have to do beforehand, compiling above all; interruptible."""


def launch(function: Callable, calls: Sequence[tuple]) -> None:
    """Have a function of `fastnn.step` run by all members of a team together; `calls` are the arguments of each."""
    for call in calls:
        function(*call)


def device() -> str:
    """What the kernels run on, for people to read.

    Raises
    ------
    BackendError
        If there is no such device here.
    """
    return f"{platform.machine()} CPU"


def side_by_side(n: int, threads: int) -> tuple[int, AbstractContextManager[None]]:
    """How many of `n` networks to train at once on so many CPU threads, and the context that each is trained in.

    Each in a Python thread of its own, which enters the context; as many of them as that are there at the same time.
    """
    return min(n, threads), contextlib.nullcontext()


def limit_threads(n: int) -> AbstractContextManager[None]:
    """Context in which the kernels, and every BLAS of the process, use at most `n` threads."""
    return limit_blas_threads(n)


def versions() -> dict[str, str]:
    """Name and version of each library that the kernels stand on, the devices' among them."""
    return {"numpy": np.__version__, "scipy": scipy.__version__}
