"""The conformance suite: every kernel of every backend against plain float64 formulas (`reference`).

Each ``check_<kernel>(kernels, dtype, n)`` passes the kernels of a backend; and rejects each of the wrong ones at the
end of this file, so that no check is one that cannot fail. All of it for teams of one, two and three, whose results
have to be the same to the bit.
"""

import dataclasses
import inspect
import itertools
import types

import numpy as np
import pytest
import reference
from products import with_all_products

import fastnn
from fastnn.kernels import numpy_kernels
from fastnn.kernels.codes import TASKS
from fastnn.kernels.contract import KERNELS as CONTRACT
from fastnn.operations import (
    ACTIVATIONS,
    LOSSES,
    OPTIMIZERS,
    Activation,
    Optimizer,
    check_loss,
    hidden_activations,
    output_activations,
)
from fastnn.step import KERNELS

SIZES = [1, 7, 33, 784]
# One more than a vector or a tile has, and as much, at any length of vector; from 64 and 96 columns on, two and three
# members share columns.
EDGES = [1, 8, 9, 16, 17, 31, 32, 64, 65, 97]
TOLERANCES = {
    # Relative to the largest element of the reference. Rounding of a sum of k terms grows like sqrt(k), 28 times the
    # unit roundoff for the longest sums here: 3e-15 and 2e-6, times a few operations before and after.
    "float64": 1e-13,
    "float32": 1e-5,
}
GUARD = -12345.0
KEY = [0xA4093822, 0x299F31D0, 7]  # a dropout stream: two words of key, and the epoch


# ---- how a kernel is called, and what is looked at afterwards -------------------------------------------------------


class Output:
    """An array that a kernel may write: NaN beforehand, or `values` where the kernel updates them."""

    def __init__(self, shape=None, dtype=None, values=None):
        self.values = np.full(shape, np.nan, dtype) if values is None else values


def call(kernels, name, *arguments):
    """Run a kernel on arrays of its backend; returns what it wrote, one array for each distinct `Output`.

    Once for each size of team; what was written must be the same to the bit.
    """
    alone, *others = [run(kernels, name, arguments, team) for team in make_teams(kernels, name, arguments)]
    for found in others:
        for array, expected in zip(found, alone, strict=True):
            assert array.tobytes() == expected.tobytes(), f"{name}: another team, another result"
    return alone


def make_teams(kernels, name, arguments):
    """Teams of one, two and three for a kernel's arrays; the first alone where the backend has no larger ones."""
    parameters = inspect.signature(getattr(numpy_kernels, name)).parameters
    values = {key: getattr(argument, "values", argument) for key, argument in zip(parameters, arguments, strict=False)}
    arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
    sizes = [n for array in arrays.values() for n in array.shape if n > 0]
    rows = next((len(arrays[key]) for key in ("out", "x", "delta") if key in arrays), 1)
    dtype = next(argument.values.dtype for argument in arguments if isinstance(argument, Output))
    teams = [kernels.make_team(threads, [*sizes, 1], rows, dtype, None) for threads in (1, 2, 3)]
    assert len(teams[0]) == 1
    return teams[:1] + [team for team in teams[1:] if len(team) > 1]


def run(kernels, name, arguments, team):
    """`call` for one team.

    Every output lies between two guard rows. They and all inputs must come out as they were.
    """
    real = next(argument.values.dtype for argument in arguments if isinstance(argument, Output))
    arguments = [load(kernels, argument, real) for argument in arguments]
    inputs = {id(array): kernels.asarray(array) for array in arguments if isinstance(array, np.ndarray)}
    before = {id(array): array.copy() for array in arguments if isinstance(array, np.ndarray)}
    outputs = list(dict.fromkeys(argument for argument in arguments if isinstance(argument, Output)))
    copies = len(team) if name == "gather" else 1  # its output each member has for itself, others are the team's
    outers = {output: [kernels.asarray(surround(output.values)) for _ in range(copies)] for output in outputs}

    def passed(argument, rank):
        if isinstance(argument, Output):
            return outers[argument][rank % copies][1:-1]
        return inputs.get(id(argument), argument)

    calls = [(*[passed(argument, rank) for argument in arguments], member) for rank, member in enumerate(team)]
    kernels.launch(getattr(kernels, name), calls)
    kernels.synchronize()
    for key, array in inputs.items():
        np.testing.assert_array_equal(kernels.to_numpy(array), before[key], f"{name} changed an input")
    found = [[kernels.to_numpy(outer) for outer in outers[output]] for output in outputs]
    for first, *others in found:
        np.testing.assert_array_equal(first[[0, -1]], GUARD, f"{name} wrote beyond an output")
        for other in others:
            assert other.tobytes() == first.tobytes(), f"{name}: members have different results"
    return [first[1:-1].copy() for first, *_ in found]


def load(kernels, argument, dtype):
    """What the kernels take in place of a record."""
    if isinstance(argument, Activation):
        return kernels.load_activation(argument, dtype)
    if isinstance(argument, Optimizer):
        return kernels.load_optimizer(argument, dtype)
    if isinstance(argument, tuple) and isinstance(argument[0], fastnn.operations.Loss):
        return kernels.load_loss(*argument, dtype)
    return argument


def surround(values):
    """A copy between two guard rows."""
    outer = np.full((len(values) + 2, *values.shape[1:]), GUARD, values.dtype)
    outer[1:-1] = values
    return outer


def assert_close(found, expected, dtype, what):
    """The largest error is a small share of the largest element; where all of the reference is 0, there is none."""
    expected = np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    error = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    limit = TOLERANCES[dtype] * np.abs(expected).max(initial=0.0)
    assert error <= limit, f"{what}: off by {error:.3g}, limit {limit:.3g}"


def draw(rng, *shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def shapes(n):
    """(samples, inputs, outputs), each of them `n` once."""
    return [(n, 5, 3), (4, n, 3), (3, 5, n)]


def empty(dtype):
    return np.empty(0, dtype)


# ---- the batch ------------------------------------------------------------------------------------------------------


def batches(n_samples, batch_size):
    """(step, rows of that mini-batch)"""
    starts = range(0, n_samples, batch_size)
    return [(step, min(batch_size, n_samples - start)) for step, start in enumerate(starts)]


def check_gather(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for source, (batch_size, width) in itertools.product(["uint8", "float32", "float64"], [(5, n), (n, 3)]):
        n_samples = 2 * batch_size + (batch_size + 1) // 2
        x = rng.integers(0, 256, (n_samples, width)).astype(source)
        if source != "uint8":
            x *= rng.standard_normal(width).astype(source)
        x.flags.writeable = False  # as the library hands it over
        order = rng.permutation(n_samples)
        for scale, shift in [(1.0, 0.0), (1 / 255, 0.0), (0.5, -20.0), (1.0, 3.0)]:
            for step, rows in batches(n_samples, batch_size):
                out = Output((rows, width), dtype)
                (found,) = call(kernels, "gather", x, order, step, batch_size, scale, shift, out)
                expected = [x[order[step * batch_size + i]].astype(np.float64) * scale + shift for i in range(rows)]
                assert_close(found, expected, dtype, f"{source} * {scale} + {shift}, step {step}")


IMAGES = {1: (1, 1), 7: (1, 7), 33: (11, 3), 784: (28, 28)}  # shapes of so many pixels


def check_deform(kernels, dtype, n):
    """Coordinates are float32 for all dtypes, and so is the tolerance."""
    rng, (h, w), batch_size = np.random.default_rng(n), IMAGES[n], 3
    bent = fastnn.Deform(rotate=15, scale=0.15, shear=0.2, translate=1.5, elastic=(40, 4))
    turned = fastnn.Deform(rotate=180, scale=0.5, translate=5)
    for source, deform in itertools.product(["uint8", "float32", "float64"], [bent, turned]):
        x = (rng.random((2 * batch_size + 2, h * w)) * 255).astype(source)
        x.flags.writeable = False
        order, stream = rng.permutation(len(x)), np.array(KEY, np.uint32)
        ranges, bases = deform.ranges(), deform.bases((h, w))
        function = kernels.load_deform(x.dtype, np.dtype(dtype))
        for step, rows in batches(len(x), batch_size):
            images = (x, order, step, batch_size, 1 / 255, 0.25, function)
            (found,) = call(kernels, "deform", *images, ranges, *bases, stream, Output((rows, h * w), dtype))
            samples = order[step * batch_size :][:rows]
            images = [reference.deform(x[i].reshape(h, w), i, stream, ranges, *bases).ravel() for i in samples]
            assert_close(found, np.array(images) / 255 + 0.25, "float32", f"{source}, {deform}, step {step}")


def check_gather_targets(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for (batch_size, width), by_label, weighted in itertools.product([(5, n), (n, 3)], [True, False], [True, False]):
        n_samples = 2 * batch_size + (batch_size + 1) // 2
        classes = rng.integers(0, width, n_samples).astype(np.int32)
        rows_of_targets = np.eye(width)[classes] if by_label else draw(rng, n_samples, width, dtype=dtype)
        labels = classes if by_label else empty(np.int32)
        targets = np.empty((0, width), dtype) if by_label else rows_of_targets
        weights = rng.random(n_samples).astype(dtype) if weighted else empty(dtype)
        order = rng.permutation(n_samples)
        for step, rows in batches(n_samples, batch_size):
            out, weight_out = Output((rows, width), dtype), Output(rows if weighted else 0, dtype)
            arrays = (labels, targets, weights, order, step, batch_size, out, weight_out)
            found, found_weights = call(kernels, "gather_targets", *arrays)
            samples = order[step * batch_size :][:rows]
            np.testing.assert_array_equal(found, rows_of_targets[samples])
            np.testing.assert_array_equal(found_weights, weights[samples] if weighted else weights)


def check_dropout(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for step, layer, rate in [(0, 0, 0.5), (3, 1, 0.25), (1, 2, 0.9), (1, 0, 0.0)]:
        x, stream = draw(rng, 5, n, dtype=dtype), np.array(KEY, np.uint32)
        words = np.array(reference.dropout_words(x.size, KEY, step, layer)).reshape(x.shape)
        (found,) = call(kernels, "dropout", x, rate, stream, step, layer, Output(x.shape, dtype))
        np.testing.assert_array_equal(found == 0, words < rate * 2**32)
        assert_close(found, np.where(words < rate * 2**32, 0, x / (1 - rate)), dtype, f"dropout {rate}")
        in_place = Output(values=x)
        (again,) = call(kernels, "dropout", in_place, rate, stream, step, layer, in_place)
        np.testing.assert_array_equal(again, found, "in place")
        (twice,) = call(kernels, "dropout", found, rate, stream, step, layer, Output(x.shape, dtype))
        np.testing.assert_array_equal(twice == 0, found == 0, "applied twice")

    ones, stream, rate = np.ones((200, n), dtype), np.array([1, 2**32 - 1, 2**32 - 1], np.uint32), 0.3
    (found,) = call(kernels, "dropout", ones, rate, stream, 2, 1, Output(ones.shape, dtype))
    spread = np.sqrt(rate * (1 - rate) / ones.size)
    assert abs((found != 0).mean() - (1 - rate)) < 4 * spread

    word = reference.dropout_words(1, KEY, 0, 0)[0]  # kept up to exactly its own size
    for rate, kept in [(word / 2**32, True), ((word + 1) / 2**32, False)]:
        one = np.ones((1, 1), dtype)
        (found,) = call(kernels, "dropout", one, rate, np.array(KEY, np.uint32), 0, 0, Output((1, 1), dtype))
        assert (found[0, 0] != 0) == kept


# ---- forward and backward -------------------------------------------------------------------------------------------


def check_one_dense(kernels, dtype, rng, shape, name, bias):
    """One call of dense, and one with z and a in the same array; each draws its own numbers."""
    rows, n_in, n_out = shape
    x, W = draw(rng, rows, n_in, dtype=dtype), draw(rng, n_in, n_out, dtype=dtype)
    b, record = draw(rng, n_out, dtype=dtype) if bias else empty(dtype), ACTIVATIONS[name]
    expected_z = x.astype(np.float64) @ W.astype(np.float64) + (b.astype(np.float64) if bias else 0)
    expected_a = reference.activate(name, expected_z)
    z, a = call(kernels, "dense", x, W, b, record, Output((rows, n_out), dtype), Output((rows, n_out), dtype))
    assert_close(z, expected_z, dtype, f"z {shape}")
    # The error of z is relative to its largest element, of which a may be the exponential; the derivative of
    # every other activation is at most 1.13.
    exact = reference.activate(name, z.astype(np.float64))
    assert_close(a, exact, dtype, f"{name} {shape}")
    if name not in ("softmax", "exp"):
        limit = 2 * TOLERANCES[dtype] * max(np.abs(expected_z).max(), np.abs(expected_a).max())
        assert np.abs(a - expected_a).max() <= limit
    shared = Output((rows, n_out), dtype)
    (alone,) = call(kernels, "dense", x, W, b, record, shared, shared)
    np.testing.assert_array_equal(alone, a, "z and a in one array")


def check_dense(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for shape, name, bias in itertools.product(shapes(n), ACTIVATIONS, [True, False]):
        check_one_dense(kernels, dtype, rng, shape, name, bias)
    far = np.array([[-1e4, 0, 1e4], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype)
    for name, record in ACTIVATIONS.items():
        outputs = Output(far.shape, dtype), Output(far.shape, dtype)
        logits = far / 500 if name == "exp" else far  # e^1e4 is no number of any dtype
        _, a = call(kernels, "dense", logits, np.eye(3, dtype=dtype), empty(dtype), record, *outputs)
        assert_close(a, reference.activate(name, logits.astype(np.float64)), dtype, f"{name} of extreme logits")


def check_one_input_gradient(kernels, dtype, rng, shape, name):
    rows, n_in, n_out = shape
    delta, W = draw(rng, rows, n_out, dtype=dtype), draw(rng, n_in, n_out, dtype=dtype)
    z, record = draw(rng, rows, n_in, dtype=dtype), ACTIVATIONS[name]
    a = reference.activate(name, z.astype(np.float64)).astype(dtype)
    expected = delta.astype(np.float64) @ W.astype(np.float64).T * reference.derivative(name, z.astype(np.float64))
    for left in [z] if record.needs_z else [z, a]:  # the others must do without it
        (found,) = call(kernels, "input_gradient", delta, W, record, left, a, Output((rows, n_in), dtype))
        assert_close(found, expected, dtype, f"{name} {shape}")


def check_input_gradient(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for shape, name in itertools.product(shapes(n), hidden_activations()):
        check_one_input_gradient(kernels, dtype, rng, shape, name)


def check_one_dense_gradient(kernels, dtype, rng, shape, bias):
    rows, n_in, n_out = shape
    x, delta = draw(rng, rows, n_in, dtype=dtype), draw(rng, rows, n_out, dtype=dtype)
    outputs = Output((n_in, n_out), dtype), Output(n_out if bias else 0, dtype)
    dW, db = call(kernels, "dense_gradient", x, delta, *outputs)
    x, delta = x.astype(np.float64), delta.astype(np.float64)
    assert_close(dW, sum(np.outer(x[i], delta[i]) for i in range(rows)), dtype, f"dW {shape}")
    assert_close(db, delta.sum(axis=0) if bias else empty(dtype), dtype, f"db {shape}")


def check_dense_gradient(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for shape, bias in itertools.product(shapes(n), [True, False]):
        check_one_dense_gradient(kernels, dtype, rng, shape, bias)


def check_one_dense_sgd(kernels, dtype, rng, shape, bias, decay):
    rows, n_in, n_out = shape
    rates = np.array([[9.0, 1, 1], [0.3, 1, 1], [9.0, 1, 1]])
    x, delta = draw(rng, rows, n_in, dtype=dtype), draw(rng, rows, n_out, dtype=dtype)
    W, b = draw(rng, n_in, n_out, dtype=dtype), draw(rng, n_out if bias else 0, dtype=dtype)
    outputs = Output(values=W), Output(values=b)
    found_W, found_b = call(kernels, "dense_sgd", x, delta, rates, 1, decay, *outputs)
    x, delta, W, b = (array.astype(np.float64) for array in (x, delta, W, b))
    assert_close(found_W, W - 0.3 * (x.T @ delta + decay * W), dtype, f"W {shape}, weight decay {decay}")
    assert_close(found_b, b - 0.3 * delta.sum(axis=0) if bias else b, dtype, f"b {shape}")


def check_dense_sgd(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for shape, bias, decay in itertools.product(shapes(n), [True, False], [0.0, 0.2]):
        check_one_dense_sgd(kernels, dtype, rng, shape, bias, decay)


def check_products(kernels, dtype, shape):
    """The matrix products of one shape, with as little as can be around them.

    A bias that stands alone may happen to become almost 0, and its error, however small, then is a large share.
    """
    rng, bias = np.random.default_rng(shape), shape[2] > 1
    check_one_dense(kernels, dtype, rng, shape, "identity", bias=False)
    check_one_input_gradient(kernels, dtype, rng, shape, "identity")
    check_one_dense_gradient(kernels, dtype, rng, shape, bias)
    for decay in (0.0, 0.2):
        check_one_dense_sgd(kernels, dtype, rng, shape, bias, decay)


# ---- loss -----------------------------------------------------------------------------------------------------------


def draw_targets(rng, loss, rows, n_out, dtype):
    """Of the kind that the loss takes; one-hot in every other row."""
    shares = rng.random((rows, n_out))
    targets = {
        "distribution": shares / shares.sum(axis=1, keepdims=True),
        "share": rng.random((rows, n_out)),
        "any": rng.standard_normal((rows, n_out)),
        "non-negative": rng.poisson(3, (rows, n_out)) * 1.0,
    }[LOSSES[loss].targets]
    targets[::2] = np.eye(n_out)[rng.integers(0, n_out, len(targets[::2]))]
    return targets.astype(dtype)


def check_one_loss(kernels, dtype, loss, output, task, z, targets, weights):
    """One call of loss_gradient, on step 1 of 3."""
    exact_z, t = z.astype(np.float64), targets.astype(np.float64)
    a = reference.activate(output, exact_z).astype(dtype)
    w = weights.astype(np.float64) if weights.size else np.ones(len(z))
    share = w / w.sum() if w.any() else w
    records = (LOSSES[loss], ACTIVATIONS[output]), TASKS[task]
    outputs = Output(z.shape, dtype), Output(values=np.full(3, GUARD)), Output(values=np.full(3, GUARD))
    delta, losses, hits = call(kernels, "loss_gradient", z, a, targets, weights, *records, *outputs, 1)
    what = f"{loss} of {output}, {task}, weights {weights[:3]}"
    assert_close(delta, share[:, None] * reference.logit_gradients(loss, output, exact_z, t), dtype, what)
    expected = w @ reference.row_losses(loss, output, exact_z, t), w @ reference.row_hits(task, a, targets)
    for sums, value in zip((losses, hits), expected, strict=True):
        assert_close(sums[1:2], [value], dtype, what)
        np.testing.assert_array_equal(sums[[0, 2]], GUARD, "the sums of another step changed")


def check_loss_gradient(kernels, dtype, n):
    rng = np.random.default_rng(n)
    combinations = list(itertools.product(reference.COMBINATIONS, TASKS))
    if n > 100:  # each loss with one task only: smaller sizes have them all, and a task changes nothing but the hits
        combinations = list(zip(reference.COMBINATIONS, itertools.cycle(TASKS), strict=False))
    for (rows, _, n_out), ((loss, output), task) in itertools.product(shapes(n), combinations):
        z, targets = draw(rng, rows, n_out, dtype=dtype), draw_targets(rng, loss, rows, n_out, dtype)
        some = rng.random(rows).astype(dtype)
        some[1::3] = 0
        for weights in [empty(dtype), some, np.zeros(rows, dtype)]:
            check_one_loss(kernels, dtype, loss, output, task, z, targets, weights)
    for (loss, output), task in combinations:
        z = np.array([[-1e4, 0, 1e4], [1e4, -1e4, 0], [0, 1e4, -1e4], [-1e4, -2e4, -3e4]], dtype)
        z /= 500 if output == "exp" else 1  # e^20 is far too
        for winner in range(3):  # right by far, wrong by far
            targets = np.eye(3, dtype=dtype)[[winner] * 4]
            check_one_loss(kernels, dtype, loss, output, task, z, targets, empty(dtype))
    # Losses of 1e-9, which log(1 + x) would lose. (With targets of 1 the outputs are rounded to 1, and delta to 0.)
    z, targets = np.array([[-20, -21], [-22, -20]], dtype), np.zeros((2, 2), dtype)
    check_one_loss(kernels, dtype, "binary_cross_entropy", "sigmoid", "multilabel", z, targets, empty(dtype))


# ---- optimizers -----------------------------------------------------------------------------------------------------


def check_optimizer(kernels, dtype, n, optimizer):
    """Four steps of an optimizer that has a learning rate of 0.2, falling."""
    rng = np.random.default_rng(n)
    rates = optimizer.rates(1 / np.arange(1.0, 6), np.arange(5))
    own = {one.name: getattr(optimizer, one.name) for one in dataclasses.fields(optimizer)}
    constants = {
        name: value for name, value in own.items() if name not in ("learning_rate", "weight_decay", "clip_norm")
    }
    kind = {"AdamW": "Adam"}.get(type(optimizer).__name__, type(optimizer).__name__)
    constants |= {"decoupled": True} if isinstance(optimizer, fastnn.AdamW) else {}
    for n_weights, weight_decay in itertools.product([0, n // 2, n], [0.0, 0.3]):
        decay = np.where(np.arange(n) < n_weights, weight_decay, 0.0)
        formula = getattr(reference, kind)(decay, **constants)
        found, state = draw(rng, n, dtype=dtype), np.zeros((len(optimizer.state), n), dtype)
        expected = found.astype(np.float64)
        for step in range(4):
            grads = draw(rng, n, dtype=dtype)
            outputs = [Output(values=array) for array in (found, grads, state)]
            rest = optimizer, rates, step, optimizer.constants, weight_decay, n_weights
            found, _, state = call(kernels, "apply_optimizer", *outputs, *rest)
            expected = formula.step(expected, grads.astype(np.float64), rates[step, 0])
            what = f"{optimizer}, step {step}, {n_weights} weights, weight decay {weight_decay}"
            assert_close(found, expected, dtype, what)
        for name, array in zip(optimizer.state, state, strict=True):
            assert_close(array, formula.s if "square" in name else formula.m, dtype, f"{optimizer}, {name}")


def check_clip(kernels, dtype, n):
    rng = np.random.default_rng(n)
    for size in (1.0, 1e30):  # whose square float32 does not hold
        grads = size * draw(rng, n, dtype=dtype)
        norm = float(np.linalg.norm(grads.astype(np.float64)))
        for share in (0.01, 0.5, 1.001, 2.0):
            (found,) = call(kernels, "clip", Output(values=grads), share * norm)
            if share < 1:
                assert_close(found / size, share * grads.astype(np.float64) / size, dtype, f"to {share}")
            else:
                np.testing.assert_array_equal(found, grads)
    (found,) = call(kernels, "clip", Output(values=np.zeros(n, dtype)), 1.0)
    np.testing.assert_array_equal(found, 0)


OPTIMIZER_CASES = [  # with an epsilon so large that it matters where it stands
    fastnn.SGD(0.2),
    fastnn.SGD(0.2, momentum=0.9),
    fastnn.SGD(0.2, momentum=0.9, nesterov=True),
    fastnn.RMSprop(0.2, rho=0.8, epsilon=0.1),
    fastnn.Adagrad(0.2, epsilon=0.1),
    fastnn.Adam(0.2, beta2=0.99, epsilon=0.1),
    fastnn.AdamW(0.2, beta2=0.99, epsilon=0.1),
    fastnn.NAdam(0.2, beta2=0.99, epsilon=0.1),
    fastnn.Lion(0.2, beta1=0.8),
]


def check_apply_optimizer(kernels, dtype, n):
    for optimizer in OPTIMIZER_CASES:
        check_optimizer(kernels, dtype, n, optimizer)


def test_every_optimizer_is_checked():
    assert {type(optimizer) for optimizer in OPTIMIZER_CASES} == set(OPTIMIZERS.values())


# ---- the suite ------------------------------------------------------------------------------------------------------

CHECKS = {name: globals()[f"check_{name}"] for name in KERNELS}  # a kernel without a check is a KeyError
PRODUCTS = ["dense", "input_gradient", "dense_gradient", "dense_sgd"]


@pytest.fixture
def kernels(kernels, full_teams):
    return kernels


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kernel", [name for name in CHECKS if name not in PRODUCTS])
def test_kernel(kernels, kernel, dtype, n):
    CHECKS[kernel](kernels, dtype, n)


@with_all_products
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("kernel", PRODUCTS)
def test_kernel_with_products(kernels, gemm, kernel, dtype, n):
    CHECKS[kernel](kernels, dtype, n)


@with_all_products
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_products_at_the_edges_of_tiles(kernels, gemm, dtype):
    combinations = list(itertools.product(EDGES, repeat=3))
    for i in np.random.default_rng(0).choice(len(combinations), 60, replace=False):
        check_products(kernels, dtype, combinations[i])


@with_all_products
def test_teams_are_as_large_as_is_claimed(kernels, gemm):
    """Or the comparison of teams would be one of nothing."""
    x, delta, dW, db = (np.ones(shape, np.float32) for shape in [(9, 5), (9, 3), (5, 3), 3])
    teams = make_teams(kernels, "dense_gradient", (x, delta, Output(values=dW), Output(values=db)))
    assert [len(team) for team in teams] == ([1, 2, 3] if gemm == "simd" else [1])


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_known_answers(counter, key, words):
    """The vectors that Random123 publishes (kat_vectors, philox4x32 10)."""
    assert [f"{word:08x}" for word in reference.philox4x32(counter, key)] == words.split()


@pytest.mark.parametrize("output", output_activations())
@pytest.mark.parametrize("loss", LOSSES)
def test_every_combination_of_loss_and_output_is_checked(loss, output):
    if (loss, output) in reference.COMBINATIONS:
        assert check_loss(loss, output) == loss
    else:
        with pytest.raises(ValueError, match="needs output="):
            check_loss(loss, output)


@pytest.mark.parametrize("shape", [(0,), (1,), (7, 5), (3, 33, 2)], ids=str)
@pytest.mark.parametrize("dtype", [*TOLERANCES, "uint8"])
def test_zeros(kernels, dtype, shape):
    """And nobody else's: what is written to one is not seen in another."""
    arrays = [kernels.zeros(shape, np.dtype(dtype)) for _ in range(2)]
    arrays[0][...] = 1
    for array, value in zip(map(kernels.to_numpy, arrays), (1, 0), strict=True):
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.flags.c_contiguous
        assert (array == value).all()


def test_zeros_on_a_cpu_begin_with_a_cache_line(backend, kernels):
    if backend in ("cupy", "cuda_on_cpu"):
        pytest.skip("is no CPU")
    for n in [*range(1, 70), 1000, 100_000]:
        assert kernels.zeros((n,), np.dtype(np.float32)).ctypes.data % 64 == 0


# ---- wrong kernels: each is the right one with something amiss ------------------------------------------------------


def wrong_batch_start(right, *a):
    right(*a[:3], len(a[-1]), *a[4:])


def wrong_target_start(right, *a):
    right(*a[:5], len(a[-2]), *a[6:])


def wrong_missing_weights(right, *a):
    right(*a[:2], a[2][:0], *a[3:])


def wrong_unscaled_dropout(right, *a):
    right(*a)
    a[-1][...] *= 1 - a[1]


def wrong_other_layers_mask(right, *a):
    right(*a[:4], a[4] + 1, a[5])


def wrong_copied_row(right, *a):
    right(*a)
    a[-1][-1] = a[-1][0]


def wrong_lost_z(right, *a):
    right(*a[:4], a[5], a[5])
    a[4][...] = a[5]


def wrong_changed_input(right, *a):
    right(*a)
    a[0][0] += 1


def wrong_written_before_output(right, *a):
    right(*a)
    a[-1].base[0] = 0


def wrong_delta_scale(right, *a):
    right(*a)
    a[6][...] *= 1.001


def wrong_step_of_loss(right, *a):
    right(*a[:-1], a[-1] + 1)
    a[7][a[-1]] = a[7][a[-1] + 1]


def wrong_gelu_from_a(right, *a):
    right(*a[:3], a[4], a[4], a[5])


def wrong_last_sample_missing(right, *a):
    right(a[0][:-1], a[1][:-1], *a[2:])


def replaced(position, value):
    """The right kernel with one argument changed: to `value`, or to what it makes of the argument."""

    def wrong(right, *a):
        changed = value(a[position]) if callable(value) else value
        right(*a[:position], changed, *a[position + 1 :])

    return wrong


def first_none(array):
    return array[:0]


WRONG = {
    "gather: a smaller last batch counts from elsewhere": ("gather", wrong_batch_start),
    "gather: no scale": ("gather", replaced(4, 1.0)),
    "gather: no shift": ("gather", replaced(5, 0.0)),
    "gather: the last row is the first": ("gather", wrong_copied_row),
    "deform: not at all": ("deform", replaced(7, lambda ranges: 0 * ranges)),
    "deform: no elastic displacement": ("deform", replaced(9, lambda basis: 0 * basis)),
    "deform: another epoch's": ("deform", replaced(10, lambda stream: stream + np.uint32(1))),
    "deform: no shift": ("deform", replaced(5, 0.0)),
    "deform: the last row is the first": ("deform", wrong_copied_row),
    "gather_targets: a smaller last batch counts from elsewhere": ("gather_targets", wrong_target_start),
    "gather_targets: no weights": ("gather_targets", wrong_missing_weights),
    "dropout: another layer's mask": ("dropout", wrong_other_layers_mask),
    "dropout: another step's mask": ("dropout", replaced(3, lambda step: step + 1)),
    "dropout: not scaled": ("dropout", wrong_unscaled_dropout),
    "dropout: a little more": ("dropout", replaced(1, lambda rate: min(rate * 1.3, 0.99))),
    "dense: no bias": ("dense", replaced(2, first_none)),
    "dense: no activation": ("dense", replaced(3, ACTIVATIONS["identity"])),
    "dense: the last row is the first": ("dense", wrong_copied_row),
    "dense: z lost": ("dense", wrong_lost_z),
    "dense: an input changed": ("dense", wrong_changed_input),
    "dense: written before the output": ("dense", wrong_written_before_output),
    "loss_gradient: no sample weights": ("loss_gradient", replaced(3, first_none)),
    "loss_gradient: no derivative": ("loss_gradient", replaced(4, (LOSSES["quadratic"], ACTIVATIONS["identity"]))),
    "loss_gradient: delta a thousandth too large": ("loss_gradient", wrong_delta_scale),
    "loss_gradient: another step's sums": ("loss_gradient", wrong_step_of_loss),
    "loss_gradient: another task": ("loss_gradient", replaced(5, lambda task: (task + 1) % 3)),
    "input_gradient: no derivative": ("input_gradient", replaced(2, ACTIVATIONS["identity"])),
    "input_gradient: gelu from a": ("input_gradient", wrong_gelu_from_a),
    "dense_gradient: the last sample missing": ("dense_gradient", wrong_last_sample_missing),
    "dense_gradient: no db": ("dense_gradient", replaced(3, first_none)),
    "dense_sgd: no weight decay": ("dense_sgd", replaced(4, 0.0)),
    "dense_sgd: another step's rate": ("dense_sgd", replaced(3, 0)),
    "dense_sgd: the last sample missing": ("dense_sgd", wrong_last_sample_missing),
    "clip: never": ("clip", lambda right, *arrays: None),
    "clip: where it need not": ("clip", replaced(1, lambda norm: norm / 1.01)),
    "clip: to another norm": ("clip", replaced(1, lambda norm: 1.01 * norm)),
    "apply_optimizer: biases decay": ("apply_optimizer", replaced(8, lambda n: n + 1)),
    "apply_optimizer: another formula": ("apply_optimizer", replaced(3, fastnn.SGD(0.2, momentum=0.9))),
    "apply_optimizer: constants": ("apply_optimizer", replaced(6, lambda constants: constants * 0.999)),
    "apply_optimizer: another step's rates": ("apply_optimizer", replaced(5, 0)),
    "apply_optimizer: no weight decay": ("apply_optimizer", replaced(7, 0.0)),
}


def spoil(kernels, **functions):
    """The kernels with some functions replaced."""
    own = {public: getattr(kernels, public) for public in CONTRACT}
    return types.SimpleNamespace(**own | functions)


def spoil_alone(kernels, name, wrong):
    """The kernels with a wrong one among them that knows nothing of teams, in teams of one."""
    right = getattr(kernels, name)

    def kernel(*arguments):
        *arrays, member = arguments
        dtype = next(array.dtype for array in arrays if getattr(array, "ndim", 0) and array.dtype.kind == "f")
        wrong(lambda *changed: right(*(load(kernels, one, dtype) for one in changed), member), *arrays)

    def make_team(threads, *arguments):
        return kernels.make_team(1, *arguments)

    return spoil(kernels, **{name: kernel, "make_team": make_team})


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("fault", WRONG)
def test_wrong_kernel_is_rejected(kernels, fault, dtype):
    name, wrong = WRONG[fault]
    with pytest.raises(AssertionError):
        CHECKS[name](spoil_alone(kernels, name, wrong), dtype, 7)


@pytest.mark.parametrize("kernel", CHECKS)
def test_right_kernel_is_not(kernels, kernel):
    """What rejects the wrong ones is their fault, not the way that they are called."""
    CHECKS[kernel](spoil_alone(kernels, kernel, lambda right, *arrays: right(*arrays)), "float32", 7)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("kernel", "position"),
    [("gather", 6), ("dropout", 5), ("dense", 4), ("loss_gradient", 6), ("dense_gradient", 3), ("apply_optimizer", 0)],
)
def test_result_that_depends_on_the_team_is_rejected(kernels, kernel, position, dtype):
    """By one unit in the last place, in one element, which is well within the tolerances."""
    if len(kernels.make_team(2, [9, 9], 9, np.dtype(dtype), None)) == 1:
        pytest.skip("there are only teams of one here")

    def launch(size):
        def launch(function, calls):
            kernels.launch(function, calls)
            if len(calls) >= size:
                element = calls[0][position].reshape(-1)[:1]
                element[...] = np.nextafter(element, element.dtype.type(9))

        return launch

    CHECKS[kernel](spoil(kernels, launch=launch(4)), dtype, 7)
    for size in (2, 3):
        with pytest.raises(AssertionError, match=r"another team|members have different results"):
            CHECKS[kernel](spoil(kernels, launch=launch(size)), dtype, 7)


def test_every_kernel_has_a_wrong_one():
    assert {name for name, _ in WRONG.values()} == set(KERNELS)


@pytest.mark.parametrize("name", hidden_activations())
def test_record_says_whose_derivative_needs_z(name):
    record = ACTIVATIONS[name]
    delta, W, a, out = np.ones((2, 3)), np.ones((4, 3)), np.full((2, 4), 0.5), np.empty((2, 4))
    [team] = numpy_kernels.make_team(1, [4, 3], 2, np.dtype(np.float64), None)
    activation = numpy_kernels.load_activation(record, np.dtype(np.float64))
    with np.errstate(invalid="ignore"):
        numpy_kernels.input_gradient(delta, W, activation, np.full((2, 4), np.nan), a, out, team)
    assert np.isnan(out).any() == record.needs_z
