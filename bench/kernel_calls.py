"""Each kernel of the contract on the shapes of a network: checked against float64 formulas, and ready to be timed.

A kernel takes microseconds, the interpreter's way to it no less. So what is timed is a loop of calls which is compiled
as the step is: the `repeat_` functions here are bound to a backend's kernels in the manner of `fastnn.step.bind`.

Operations are counted one each: additions, multiplications, comparisons of reals, divisions, square roots,
exponentials; a multiply-add is two. The integers of random numbers and of indices are not counted, and neither is what
a mini-batch needs once (a rate, the index of a step). Bytes are those that have to be moved if nothing is in a cache:
each operand read once, each result written once, twice for what is updated. Where the members of a team each gather
the samples for themselves, that counts once.
"""

import functools
import itertools
import math
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn.augmentation import Deform
from fastnn.bench import reference
from fastnn.kernels.codes import CLASSIFICATION
from fastnn.kernels.numpy_kernels import (
    apply_optimizer,
    clip,
    deform,
    dense,
    dense_gradient,
    dense_sgd,
    dropout,
    gather,
    gather_targets,
    input_gradient,
    loss_gradient,
)
from fastnn.operations import ACTIVATIONS, LOSSES, Activation, Optimizer
from fastnn.operations.optimizers import SGD, Adam, RMSprop
from fastnn.step import KERNELS, Data

__all__ = ["TOLERANCES", "KernelCall", "calls", "shapes"]

TOLERANCES = {
    # Relative to the largest element. Rounding of a sum of k terms grows like sqrt(k), 28 to 32 times the unit
    # roundoff for the longest sums of usual networks, times a few operations before and after.
    "float64": 1e-13,
    "float32": 1e-5,
    # The reference's operands are rounded, too; the sums of matrix units are not rounded to nearest.
    "bf16": 5e-5,
    "tf32": 5e-5,
}
PRODUCTS = ("dense", "input_gradient", "dense_gradient", "dense_sgd")

_STEPS = 1024  # of one launch; whatever a kernel finds by the index of its step is as long
_SAMPLES = 4096  # to gather from
_CHECKED_STEP = 1  # not the first, so that a kernel that disregards the step is found out
_IDLE_RATE = 1e-9  # a learning rate at which nothing grows, however often it is applied
_RATE = 0.1
_DROPPED = 0.5
_OPTIMIZERS = (SGD(momentum=0.9), RMSprop(), Adam())
_NO_DECAY = 0.0  # with weight decay and with nesterov a kernel may add to its gradients: they would grow for ever
_STREAM = (0xA4093822, 0x299F31D0, 7)  # a key of dropout masks and an epoch
_LAYER = 1


class KernelCall(NamedTuple):
    """A kernel on one shape. See the module for what is counted."""

    kernel: str  # its name in the contract
    shape: str  # for people: samples x inputs x outputs of the layer, samples x units, or the number of parameters
    run: Callable[[int], None]  # call it so many times, by all members of the team; returns when all of it is done
    flops: int  # operations of one call
    bytes: int  # compulsory traffic of one call
    error: Callable[[], float]  # of one call on fresh operands: max|found - expected| / max|expected|, the worst result
    tolerance: float  # what the error may be at most


def calls(
    kernels: types.ModuleType,
    *,
    sizes: Sequence[int] = (784, 128, 10),
    rows: int = 64,
    dtype: str = "float32",
    threads: int = 1,
    precision: str | None = None,
    only: Sequence[str] | None = None,
) -> Iterator[KernelCall]:
    """The kernels on the shapes that a ReLU network of these sizes meets; a shape that comes again is left out.

    Parameters
    ----------
    kernels : module
        A backend's.
    sizes : sequence of int
        Features, hidden units layer by layer, outputs.
    rows : int
        Samples a mini-batch.
    dtype : {"float32", "float64"}
    threads : int
    precision : {None, "bf16", "tf32"}
        Of the operands of matrix products.
    only : sequence of str or None
        The kernels wanted; None: all.
    """
    real = np.dtype(dtype)
    network = _Network(tuple(sizes), rows, real)
    for case in _cases(network.sizes, rows, real.itemsize, only):
        bench = _Bench(kernels, case, network, threads, precision)
        tolerance = TOLERANCES[precision if precision and case.kernel in PRODUCTS else real.name]
        yield KernelCall(case.kernel, case.shape, bench.run, case.flops, case.bytes, bench.error, tolerance)


def shapes(sizes: Sequence[int], rows: int) -> list[tuple[str, str]]:
    """Kernel and shape of each of these calls, for which no backend is needed."""
    return [(case.kernel, case.shape) for case in _cases(tuple(sizes), rows, 4, None)]


# ---- what is compiled -----------------------------------------------------------------------------------------------
#
# All begin like the functions of the step: a range of mini-batches and the data. A GPU's launch looks at both, to count
# the steps where the kernels can read them, and to feed samples that do not fit there.


def repeat_gather(first, last, data, out, team):
    for step in range(first, last):
        gather(data.x, data.order, step, data.batch_size, data.scale, data.shift, out, team)


def repeat_deform(first, last, data, function, ranges, row_basis, column_basis, stream, out, team):
    d = data
    for step in range(first, last):
        samples = d.x, d.order, step, d.batch_size, d.scale, d.shift
        deform(*samples, function, ranges, row_basis, column_basis, stream, out, team)


def repeat_gather_targets(first, last, data, out, weight_out, team):
    d = data
    for step in range(first, last):
        gather_targets(d.labels, d.targets, d.sample_weight, d.order, step, d.batch_size, out, weight_out, team)


def repeat_dropout(first, last, data, x, rate, stream, layer, out, team):
    for step in range(first, last):
        dropout(x, rate, stream, step, layer, out, team)


def repeat_dense(first, last, data, x, W, b, activation, z, a, team):
    for _ in range(first, last):
        dense(x, W, b, activation, z, a, team)


def repeat_loss_gradient(first, last, data, z, a, targets, sample_weight, loss, task, delta, losses, hits, team):
    for step in range(first, last):
        loss_gradient(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team)


def repeat_input_gradient(first, last, data, delta, W, activation, z, a, dX, team):
    for _ in range(first, last):
        input_gradient(delta, W, activation, z, a, dX, team)


def repeat_dense_gradient(first, last, data, x, delta, dW, db, team):
    for _ in range(first, last):
        dense_gradient(x, delta, dW, db, team)


def repeat_dense_sgd(first, last, data, x, delta, rates, weight_decay, W, b, team):
    for step in range(first, last):
        dense_sgd(x, delta, rates, step, weight_decay, W, b, team)


def repeat_clip(first, last, data, grads, max_norm, team):
    for _ in range(first, last):
        clip(grads, max_norm, team)


def repeat_apply_optimizer(
    first, last, data, params, grads, state, optimizer, rates, constants, weight_decay, n_weights, team
):
    for step in range(first, last):
        apply_optimizer(params, grads, state, optimizer, rates, step, constants, weight_decay, n_weights, team)


@functools.cache
def _bind(kernels: types.ModuleType, name: str) -> Callable:
    """The loop over a kernel, with a backend's kernels in place of the reference's, compiled as that backend does."""
    bound = {**globals(), **{kernel: getattr(kernels, kernel) for kernel in KERNELS}}
    loop = bound[f"repeat_{name}"]
    return kernels.compile(types.FunctionType(loop.__code__, bound, loop.__name__), True)


# ---- how one is run -------------------------------------------------------------------------------------------------


class _Bench:
    """A kernel on a backend, with operands that are made when they are first needed."""

    def __init__(
        self, kernels: types.ModuleType, case: "_Case", network: "_Network", threads: int, precision: str | None
    ) -> None:
        self._kernels, self._case, self._network = kernels, case, network
        self._threads, self._precision = threads, precision
        self._calls: list[tuple] = []

    def run(self, times: int) -> None:
        if not self._calls:
            self._calls = self._make_calls(*self._draw(_IDLE_RATE)[:2])
        for done in range(0, times, _STEPS):
            self._launch(self._calls, 0, min(_STEPS, times - done))
        self._kernels.synchronize()

    def error(self) -> float:
        data, arguments, expected = self._draw(_RATE)
        calls = self._make_calls(data, arguments)
        self._launch(calls, _CHECKED_STEP, _CHECKED_STEP + 1)
        self._kernels.synchronize()
        _, *found, _ = calls[0]
        return float(np.max([_error(self._kernels.to_numpy(found[i]), values) for i, values in expected.items()]))

    def _draw(self, rate: float) -> "_Drawn":
        return self._case.draw(_Draw(self._network, rate, self._precision))

    def _make_calls(self, data: Data, arguments: tuple) -> list[tuple]:
        """For each member of a team of their own: what follows the range of steps."""
        kernels, network = self._kernels, self._network
        team = kernels.make_team(self._threads, list(network.sizes), network.rows, network.real, self._precision)
        shared = {id(values): self._upload(values) for values in (*data[:-1], *arguments)}
        data = Data(*(shared[id(values)] for values in data[:-1]))._replace(x=kernels.as_source(data.x))
        calls = []
        for member in team:
            if self._case.kernel == "gather":  # its result each member has for itself
                shared |= {id(values): self._upload(values) for values in arguments}
            calls.append((data, *(shared[id(values)] for values in arguments), member))
        with kernels.limit_threads(self._threads):
            kernels.prepare(_bind(kernels, self._case.kernel), (0, 0, *calls[0]))
        return calls

    def _upload(self, values: Any) -> Any:
        kernels, real = self._kernels, self._network.real
        if isinstance(values, Activation):
            return kernels.load_activation(values, real)
        if isinstance(values, Optimizer):
            return kernels.load_optimizer(values, real)
        if isinstance(values, _LoadedDeform):
            return kernels.load_deform(values.source, real)
        if isinstance(values, tuple):
            return kernels.load_loss(*values, real)
        if not isinstance(values, np.ndarray):
            return values
        array = kernels.zeros(values.shape, values.dtype)
        if values.size:
            array[...] = kernels.asarray(values)
        return array

    def _launch(self, calls: list[tuple], first: int, last: int) -> None:
        with self._kernels.limit_threads(self._threads), np.errstate(all="ignore"):
            self._kernels.launch(_bind(self._kernels, self._case.kernel), [(first, last, *call) for call in calls])


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative to the largest element; infinite or NaN where what was found is not finite."""
    with np.errstate(all="ignore"):
        return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


# ---- operands -------------------------------------------------------------------------------------------------------

_Drawn = tuple[Data, tuple[Any, ...], dict[int, np.ndarray]]
"""The data, the loop's arguments between them and the team, and by place among these what is right, in float64."""


class _Network(NamedTuple):
    sizes: tuple[int, ...]
    rows: int
    real: np.dtype


class _Case(NamedTuple):
    """A kernel on a shape, without a backend."""

    kernel: str
    shape: str
    flops: int
    bytes: int
    draw: Callable[["_Draw"], _Drawn]


class _Draw:
    """Operands as a network in training meets them: samples in [0, 1], He's weights, deltas of a mean over samples."""

    def __init__(self, network: _Network, rate: float, precision: str | None) -> None:
        self.network, self.rng = network, np.random.default_rng(0)
        self.precision, self._rate = precision, rate

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * self.rng.standard_normal(shape)).astype(self.network.real)

    def relu(self, *shape: int) -> np.ndarray:
        return np.maximum(self.normal(*shape), 0)

    def weights(self, n_in: int, n_out: int) -> np.ndarray:
        return self.normal(n_in, n_out, scale=np.sqrt(2 / n_in))

    def delta(self, rows: int, n: int) -> np.ndarray:
        return self.normal(rows, n, scale=1 / rows)

    def result(self, *shape: int) -> np.ndarray:
        """For a result: what is not written stays NaN."""
        return np.full(shape, np.nan, self.network.real)

    def nothing(self) -> np.ndarray:
        return np.empty(0, self.network.real)

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """In float64, of operands that are rounded as they have to be."""
        return reference.product(_exact(a), _exact(b), self.precision)

    def rates(self) -> np.ndarray:
        """Learning rates, another one at the steps that are not checked."""
        return np.where(np.arange(_STEPS) == _CHECKED_STEP, self._rate, 2 * self._rate)[:, None]

    def optimizer_rates(self, optimizer: Optimizer) -> np.ndarray:
        """The same with an optimizer's corrections."""
        return optimizer.rates(self.rates()[:, 0] / optimizer.learning_rate, np.arange(_STEPS))

    def data(self, samples: int = 1, steps: int = 1) -> Data:
        """Random images and labels in a shuffled order, gone through again and again."""
        rows, sizes = self.network.rows, self.network.sizes
        return Data(
            x=self.rng.integers(0, 256, (samples, sizes[0]), np.uint8),
            labels=self.rng.integers(0, sizes[-1], samples, np.int32),
            targets=self.nothing().reshape(0, sizes[-1]),
            sample_weight=self.nothing(),
            order=np.resize(self.rng.permutation(samples), steps * rows),
            batch_size=rows,
            scale=1 / 255,
            shift=0.0,
        )


def _exact(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64)


def _cases(sizes: tuple[int, ...], rows: int, itemsize: int, only: Sequence[str] | None) -> list[_Case]:
    """In the order in which a step meets them, each once."""
    unknown = set(only or ()) - set(KERNELS)
    if unknown:
        raise ValueError(f"only: no kernel {', '.join(sorted(unknown))}; there are {', '.join(KERNELS)}")
    pairs = list(itertools.pairwise(sizes))
    n_weights = sum(n_in * n_out for n_in, n_out in pairs)
    n = n_weights + sum(sizes[1:])
    cases = [
        _gather(rows, sizes[0], itemsize),
        *([_deform(rows, sizes[0], itemsize)] if math.isqrt(sizes[0]) ** 2 == sizes[0] else ()),
        _gather_targets(rows, sizes[-1], itemsize),
        *(_dropout(rows, width, itemsize) for width in sizes[1:-1]),
        *(_dense(rows, *pair, itemsize, "relu") for pair in pairs[:-1]),
        _dense(rows, *pairs[-1], itemsize, "softmax"),
        _loss_gradient(rows, sizes[-1], itemsize),
        *(_input_gradient(rows, *pair, itemsize) for pair in pairs[1:]),
        *(_dense_gradient(rows, *pair, itemsize) for pair in pairs),
        *(_dense_sgd(rows, *pair, itemsize) for pair in pairs),
        _clip(n, itemsize),
        *(_apply_optimizer(n, n_weights, itemsize, optimizer) for optimizer in _OPTIMIZERS),
    ]
    wanted = [case for case in cases if only is None or case.kernel in only]
    return list({(case.kernel, case.shape, case.flops): case for case in wanted}.values())


# ---- the kernels: what each is given, what it ought to make of that, and what it costs ------------------------------


def _gather(rows: int, n: int, itemsize: int) -> _Case:
    def draw(d: _Draw) -> _Drawn:
        data = d.data(_SAMPLES, _STEPS)
        return data, (d.result(rows, n),), {0: data.x[_checked_rows(data)] / 255.0}

    moved = rows * (8 + n + n * itemsize)  # an index, a byte a feature
    return _Case("gather", f"{rows} x {n}", rows * n, moved, draw)


def _deform(rows: int, n: int, itemsize: int) -> _Case:
    """Square images; some 60 operations a pixel, with nodes for displacements as wide as a fifth of the image."""
    side = math.isqrt(n)
    deformation = Deform(rotate=15, scale=0.15, shear=0.2, translate=1.5, elastic=(36, max(0.5, side / 5)))

    def draw(d: _Draw) -> _Drawn:
        data, stream = d.data(_SAMPLES, _STEPS), np.array(_STREAM, np.uint32)
        arrays = (deformation.ranges(), *deformation.bases((side, side)), stream)
        right = np.empty((rows, n))
        samples = data.x, data.order, _CHECKED_STEP, rows, data.scale, data.shift
        deform(*samples, 0, *arrays, right, None)  # the reference, for real numbers of float64
        return data, (_LoadedDeform(data.x.dtype), *arrays, d.result(rows, n)), {5: right}

    return _Case("deform", f"{rows} x {n}", 60 * rows * n, rows * (8 + n + n * itemsize), draw)


class _LoadedDeform(NamedTuple):
    """In place of what `Kernels.load_deform` gives for images of this type."""

    source: np.dtype


def _gather_targets(rows: int, n: int, itemsize: int) -> _Case:
    def draw(d: _Draw) -> _Drawn:
        data = d.data(_SAMPLES, _STEPS)
        return data, (d.result(rows, n), d.nothing()), {0: np.eye(n)[data.labels[_checked_rows(data)]]}

    return _Case("gather_targets", f"{rows} x {n}", 0, rows * (8 + 4 + n * itemsize), draw)


def _checked_rows(data: Data) -> np.ndarray:
    return data.order[_CHECKED_STEP * data.batch_size : (_CHECKED_STEP + 1) * data.batch_size]


def _dropout(rows: int, n: int, itemsize: int) -> _Case:
    def draw(d: _Draw) -> _Drawn:
        x, stream = d.normal(rows, n), np.array(_STREAM, np.uint32)
        kept = _philox(x.size, _CHECKED_STEP, _LAYER, stream).reshape(x.shape) >= _DROPPED * 2**32
        right = np.where(kept, _exact(x) / (1 - _DROPPED), 0)
        return d.data(), (x, _DROPPED, stream, _LAYER, d.result(rows, n)), {4: right}

    return _Case("dropout", f"{rows} x {n}", rows * n, 2 * rows * n * itemsize, draw)


def _philox(size: int, step: int, layer: int, stream: np.ndarray) -> np.ndarray:
    """Philox4x32-10 (Salmon et al., SC11, section 4.3): a 32-bit word for each of `size` elements, as uint64."""
    low, bits = np.uint64(2**32 - 1), np.uint64(32)
    k0, k1, epoch = map(int, stream)
    c0 = np.arange(-(-size // 4), dtype=np.uint64)
    c1, c2, c3 = (np.full_like(c0, word) for word in (step, layer, epoch))
    for _ in range(10):
        left, right = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (right >> bits) ^ c1 ^ np.uint64(k0), right & low
        c2, c3 = (left >> bits) ^ c3 ^ np.uint64(k1), left & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=1).reshape(-1)[:size]


def _dense(rows: int, n_in: int, n_out: int, itemsize: int, activation: str) -> _Case:
    """z apart from a only in the last layer, as the step has it; relu is a comparison, softmax 5 operations."""
    softmax = activation == "softmax"

    def draw(d: _Draw) -> _Drawn:
        x, W, b, a = d.relu(rows, n_in), d.weights(n_in, n_out), d.normal(n_out, scale=0.1), d.result(rows, n_out)
        z = d.product(x, W) + b
        right = {4: z, 5: reference.softmax(z)} if softmax else {5: np.maximum(z, 0)}
        return d.data(), (x, W, b, ACTIVATIONS[activation], d.result(rows, n_out) if softmax else a, a), right

    flops = 2 * rows * n_in * n_out + rows * n_out * (1 + (5 if softmax else 1))
    moved = itemsize * (rows * n_in + n_in * n_out + n_out + rows * n_out * (2 if softmax else 1))
    return _Case("dense", f"{rows} x {n_in} x {n_out}", flops, moved, draw)


def _loss_gradient(rows: int, n: int, itemsize: int) -> _Case:
    """Cross-entropy on softmax: difference, mean, targets times z, two searches for the largest; 4 more a sample."""

    def draw(d: _Draw) -> _Drawn:
        z, labels = d.normal(rows, n), d.rng.integers(0, n, rows)
        labels[0] = z[0].argmax()  # a hit at least
        p, results = reference.softmax(_exact(z)), (d.result(rows, n), np.zeros(_STEPS), np.zeros(_STEPS))
        each, delta = reference.cross_entropy(p, labels)
        losses, hits = np.zeros((2, _STEPS))
        losses[_CHECKED_STEP], hits[_CHECKED_STEP] = each.sum(), (z.argmax(axis=1) == labels).sum()
        loss = LOSSES["cross_entropy"], ACTIVATIONS["softmax"]
        operands = z, p.astype(z.dtype), np.eye(n, dtype=z.dtype)[labels], d.nothing(), loss, CLASSIFICATION
        return d.data(), (*operands, *results), {6: delta, 7: losses, 8: hits}

    return _Case("loss_gradient", f"{rows} x {n}", rows * (6 * n + 4), 4 * rows * n * itemsize, draw)


def _input_gradient(rows: int, n_in: int, n_out: int, itemsize: int) -> _Case:
    """relu's derivative is a comparison and a multiplication; z is not read."""

    def draw(d: _Draw) -> _Drawn:
        a, delta, W = d.relu(rows, n_in), d.delta(rows, n_out), d.weights(n_in, n_out)
        right = d.product(delta, W.T) * (a > 0)
        return d.data(), (delta, W, ACTIVATIONS["relu"], a, a, d.result(rows, n_in)), {5: right}

    flops = 2 * rows * n_in * n_out + 2 * rows * n_in
    moved = itemsize * (rows * n_out + n_in * n_out + 2 * rows * n_in)
    return _Case("input_gradient", f"{rows} x {n_in} x {n_out}", flops, moved, draw)


def _dense_gradient(rows: int, n_in: int, n_out: int, itemsize: int) -> _Case:
    def draw(d: _Draw) -> _Drawn:
        x, delta = d.relu(rows, n_in), d.delta(rows, n_out)
        right = {2: d.product(x.T, delta), 3: _exact(delta).sum(axis=0)}
        return d.data(), (x, delta, d.result(n_in, n_out), d.result(n_out)), right

    flops = 2 * rows * n_in * n_out + rows * n_out
    moved = itemsize * (rows * n_in + rows * n_out + n_in * n_out + n_out)
    return _Case("dense_gradient", f"{rows} x {n_in} x {n_out}", flops, moved, draw)


def _dense_sgd(rows: int, n_in: int, n_out: int, itemsize: int) -> _Case:
    """The rate is a multiplication and a subtraction for each parameter."""

    def draw(d: _Draw) -> _Drawn:
        x, delta, rates = d.relu(rows, n_in), d.delta(rows, n_out), d.rates()
        W, b, rate = d.weights(n_in, n_out), d.normal(n_out, scale=0.1), rates[_CHECKED_STEP, 0]
        right = {4: W - rate * d.product(x.T, delta), 5: b - rate * _exact(delta).sum(axis=0)}
        return d.data(), (x, delta, rates, _NO_DECAY, W, b), right

    flops = 2 * rows * n_in * n_out + rows * n_out + 2 * (n_in + 1) * n_out
    moved = itemsize * (rows * n_in + rows * n_out + 2 * (n_in + 1) * n_out)
    return _Case("dense_sgd", f"{rows} x {n_in} x {n_out}", flops, moved, draw)


def _clip(n: int, itemsize: int) -> _Case:
    """Once scaled down, a gradient is only measured: as most are in training."""

    def draw(d: _Draw) -> _Drawn:
        gradient = d.normal(n)
        exact = _exact(gradient)
        return d.data(), (gradient, 1.0), {0: exact * min(1.0, 1.0 / np.linalg.norm(exact))}

    return _Case("clip", f"{n:,}", 2 * n, n * itemsize, draw)


def _apply_optimizer(n: int, n_weights: int, itemsize: int, optimizer: Optimizer) -> _Case:
    """Operations as its formula has them, but for the weight decay; each array of state is read and written."""
    program, k = optimizer.program, len(optimizer.state)

    def draw(d: _Draw) -> _Drawn:
        p, g, state, rates = d.normal(n), d.normal(n), np.abs(d.normal(k, n)), d.optimizer_rates(optimizer)
        values = {"p": _exact(p), "g": _exact(g), "decay": _NO_DECAY}
        values |= {f"s{i}": _exact(row) for i, row in enumerate(state)}
        values |= {f"rates[{i}]": rate for i, rate in enumerate(rates[_CHECKED_STEP])}
        values |= {f"constants[{i}]": constant for i, constant in enumerate(optimizer.constants)}
        new, *new_state = program.evaluate(values)
        arguments = p, g, state, optimizer, rates, optimizer.constants, _NO_DECAY, n_weights
        return d.data(), arguments, {0: new, 2: np.stack(new_state)}

    flops = sum(not step.uniform for step in program.steps.values()) - 2 * ("decay" in program.symbols)
    name = type(optimizer).__name__
    return _Case("apply_optimizer", f"{name}, {n:,}", flops * n, (3 + 2 * k) * n * itemsize, draw)
