"""Gradients against central differences, optimizers against plain formulas, and backends against each other.

Whole networks in float64 through the public interface, after `test_kernels` has looked at every kernel alone. Networks
have two layers almost everywhere, because numba compiles the step anew for every depth.
"""

import hashlib
import itertools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import reference

import fastnn
from fastnn import Network
from fastnn.kernels import numpy_kernels
from fastnn.kernels.contract import KERNELS
from fastnn.operations import ACTIVATIONS, LOSSES, hidden_activations

N_SAMPLES = 9


# Every activation with two losses, every loss with two activations: the step treats them apart.
CASES = [
    *itertools.product(hidden_activations(), [("cross_entropy", "softmax"), ("quadratic", "sigmoid")]),
    *itertools.product(["tanh", "gelu"], reference.COMBINATIONS),
]
CASES = [(hidden, *combination) for hidden, combination in dict.fromkeys(CASES)]


def make_case(sizes, loss, seed=0, **options):
    """A float64 network with random biases, samples and real-valued targets that the loss takes."""
    rng = np.random.default_rng([seed, *sizes])
    net = Network(sizes, dtype="float64", **options)
    net.set_weights([(W, b if b is None else rng.normal(size=b.shape)) for W, b in net.get_weights()])
    x, targets = rng.normal(size=(N_SAMPLES, sizes[0])), rng.random((N_SAMPLES, sizes[-1]))
    if loss is not None and LOSSES[loss].targets == "distribution":
        targets /= targets.sum(axis=1, keepdims=True)
    return net, x, targets


def flatten(pairs):
    """[(W, b), ...] as one vector: weights, then biases."""
    return np.concatenate([W.ravel() for W, _ in pairs] + [b for _, b in pairs if b is not None])


def unflatten(vector, like):
    """The inverse of `flatten`, with the shapes of `like`."""
    pieces, start = [], 0
    for array in [W for W, _ in like] + [b for _, b in like if b is not None]:
        pieces.append(vector[start : start + array.size].reshape(array.shape))
        start += array.size
    biases = pieces[len(like) :] or [None] * len(like)
    return list(zip(pieces[: len(like)], biases, strict=True))


def check_gradients(net, x, y, **options):
    """`Network.gradients` against central differences of its loss, in every parameter.

    With a step of 1e-5 the differences are good to about 1e-10. Next to a kink of ReLU they are not: such a case would
    fail, never pass, and the seeds here have none.
    """
    weights = net.get_weights()
    _, gradients = net.gradients(x, y, **options)
    start, h = flatten(weights), 1e-5
    differences = np.empty_like(start)
    for i in range(start.size):
        losses = []
        for sign in (1, -1):
            moved = start.copy()
            moved[i] += sign * h
            net.set_weights(unflatten(moved, weights))
            losses.append(net.gradients(x, y, **options)[0])
        differences[i] = (losses[0] - losses[1]) / (2 * h)
    net.set_weights(weights)
    for found, expected in zip(gradients, unflatten(differences, weights), strict=True):
        for claimed, measured in zip(found, expected, strict=True):
            assert (claimed is None) == (measured is None)
            if claimed is not None:
                assert claimed.shape == measured.shape
                assert np.abs(measured).max() > 1e-6, "a gradient of zero proves nothing"
                assert np.abs(claimed - measured).max() <= 1e-7 * np.abs(measured).max()


# ---- gradients ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("hidden", "loss", "output"), CASES)
def test_gradients(backend, hidden, output, loss, bias):
    net, x, y = make_case([5, 4, 3], loss, hidden=hidden, output=output, bias=bias, backend=backend)
    check_gradients(net, x, y, loss=loss)


@pytest.mark.parametrize("rates", [0.4, [0.3, 0.4]], ids=["hidden", "inputs and hidden"])
@pytest.mark.parametrize("hidden", hidden_activations())
def test_gradients_with_dropout(backend, hidden, rates):
    net, x, y = make_case([5, 4, 3], "cross_entropy", hidden=hidden, dropout=rates, backend=backend)
    check_gradients(net, x, y, dropout=3)
    assert net.gradients(x, y, dropout=3)[0] != net.gradients(x, y, dropout=4)[0]
    assert net.gradients(x, y, dropout=3)[0] != net.gradients(x, y)[0]


@pytest.mark.parametrize(("loss", "output"), reference.COMBINATIONS)
def test_gradients_with_sample_weight(backend, output, loss):
    net, x, y = make_case([5, 4, 3], loss, hidden="tanh", output=output, backend=backend)
    weights = np.random.default_rng(1).random(len(x))
    weights[[0, 4]] = 0
    check_gradients(net, x, y, loss=loss, sample_weight=weights)


@pytest.mark.parametrize("sizes", [[5, 3], [5, 4, 4, 3], [5, 4, 1]], ids=lambda sizes: "-".join(map(str, sizes)))
def test_gradients_at_other_shapes(backend, sizes):
    hidden = ["gelu", "relu"][: len(sizes) - 2]
    dropout = [0.1, 0.2, 0.3][: len(sizes) - 1]
    net, x, y = make_case(sizes, None, hidden=hidden, output="sigmoid", dropout=dropout, backend=backend)
    check_gradients(net, x, y, dropout=1)


def test_gradients_of_labels_and_bytes(backend):
    net, _, _ = make_case([5, 4, 3], "cross_entropy", hidden="tanh", backend=backend)
    rng = np.random.default_rng(2)
    check_gradients(net, rng.integers(0, 256, (N_SAMPLES, 5), np.uint8), rng.integers(0, 3, N_SAMPLES))


@pytest.mark.parametrize(("loss", "output"), reference.COMBINATIONS)
def test_loss_is_the_formula(backend, output, loss):
    net, x, y = make_case([5, 4, 3], loss, hidden="tanh", output=output, backend=backend)
    (W1, b1), (W2, b2) = net.get_weights()
    z = np.tanh(x @ W1 + b1) @ W2 + b2
    np.testing.assert_allclose(net.predict_proba(x), reference.activate(output, z), rtol=1e-12)
    expected = reference.row_losses(loss, output, z, y)
    assert net.gradients(x, y, loss=loss)[0] == pytest.approx(expected.mean(), rel=1e-12)
    weights = np.arange(1.0, len(x) + 1)
    weighted = net.gradients(x, y, loss=loss, sample_weight=weights)[0]
    assert weighted == pytest.approx(weights @ expected / weights.sum(), rel=1e-12)


@pytest.mark.parametrize(("hidden", "loss", "output"), CASES)
def test_float32_gradients(backend, hidden, output, loss):
    options = {"hidden": hidden, "output": output, "dropout": 0.2, "backend": backend}
    net, x, y = make_case([5, 4, 3], loss, **options)
    single = Network([5, 4, 3], dtype="float32", **options)
    single.set_weights(net.get_weights())
    expected_loss, expected = net.gradients(x, y, loss=loss, dropout=1)
    found_loss, found = single.gradients(x, y, loss=loss, dropout=1)
    assert found_loss == pytest.approx(expected_loss, rel=1e-5)
    assert flatten(found).dtype == np.float32
    assert np.abs(flatten(found) - flatten(expected)).max() <= 1e-5 * np.abs(flatten(expected)).max()


# ---- the checker is fed wrong gradients -----------------------------------------------------------------------------


def transposed(gradients):
    return [(dW.T, db) if dW.shape[0] == dW.shape[1] else (dW, db) for dW, db in gradients]


def scaled(gradients):
    return [(dW * (1 + 1e-6), db) for dW, db in gradients]


def without_bias(gradients):
    return [(dW, None) for dW, _ in gradients]


def one_element_off(gradients):
    gradients[0][0][0, 0] += 1e-6
    return gradients


@pytest.mark.parametrize("wrong", [transposed, scaled, without_bias, one_element_off])
def test_wrong_gradient_is_rejected(wrong, monkeypatch):
    net, x, y = make_case([4, 4, 3], "cross_entropy", hidden="tanh", backend="numpy")
    right = net.gradients

    def gradients(*arguments, **options):
        loss, pairs = right(*arguments, **options)
        return loss, wrong(pairs)

    check_gradients(net, x, y)
    monkeypatch.setattr(net, "gradients", gradients)
    with pytest.raises(AssertionError):
        check_gradients(net, x, y)


IDENTITY = numpy_kernels.load_activation(ACTIVATIONS["identity"], np.dtype(np.float64))


def wrong_no_derivative(delta, W, activation, z, a, dX, team):
    numpy_kernels.input_gradient(delta, W, IDENTITY, z, a, dX, team)


def wrong_last_sample_missing(x, delta, dW, db, team):
    numpy_kernels.dense_gradient(x[:-1], delta[:-1], dW, db, team)


def wrong_mask_backwards(x, rate, stream, step, layer, out, team):
    numpy_kernels.dropout(x, rate, stream, step + (x is out), layer, out, team)  # in place is how deltas are masked


def wrong_logits(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team):
    loss = loss._replace(output=IDENTITY)
    numpy_kernels.loss_gradient(z, a, targets, sample_weight, loss, task, delta, losses, hits, step, team)


@pytest.mark.parametrize(
    ("kernel", "wrong", "loss"),
    [
        ("input_gradient", wrong_no_derivative, "cross_entropy"),
        ("dense_gradient", wrong_last_sample_missing, "cross_entropy"),
        ("dropout", wrong_mask_backwards, "cross_entropy"),
        ("loss_gradient", wrong_logits, "quadratic"),
    ],
)
def test_wrong_kernel_is_rejected(kernel, wrong, loss):
    net, x, y = make_case([5, 4, 3], loss, hidden="tanh", dropout=0.4, backend="numpy")
    check_gradients(net, x, y, loss=loss, dropout=1)
    net.kernels = types.ModuleType("wrong_kernels")
    for name in KERNELS:
        setattr(net.kernels, name, getattr(numpy_kernels, name))
    setattr(net.kernels, kernel, wrong)
    with pytest.raises(AssertionError):
        check_gradients(net, x, y, loss=loss, dropout=1)


# ---- optimizers -----------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": (fastnn.SGD(0.3), reference.SGD, {}),
    "sgd, weight decay": (fastnn.SGD(0.3, weight_decay=0.1), reference.SGD, {}),
    "momentum": (fastnn.SGD(0.1, momentum=0.9), reference.SGD, {"momentum": 0.9}),
    "momentum, weight decay": (fastnn.SGD(0.1, momentum=0.9, weight_decay=0.1), reference.SGD, {"momentum": 0.9}),
    "nesterov": (
        fastnn.SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.1),
        reference.SGD,
        {"momentum": 0.8, "nesterov": True},
    ),
    "sgd, clipped": (fastnn.SGD(0.1, weight_decay=0.1, clip_norm=0.05), reference.SGD, {"clip_norm": 0.05}),
    "nesterov, clipped now and then": (
        fastnn.SGD(0.1, momentum=0.8, nesterov=True, clip_norm=0.2),
        reference.SGD,
        {"momentum": 0.8, "nesterov": True, "clip_norm": 0.2},
    ),
    "adam, clipped": (fastnn.Adam(0.02, clip_norm=0.05), reference.Adam, {"clip_norm": 0.05}),
    "rmsprop": (fastnn.RMSprop(0.01), reference.RMSprop, {}),
    "rmsprop, weight decay": (
        fastnn.RMSprop(0.01, rho=0.8, epsilon=1e-3, weight_decay=0.1),
        reference.RMSprop,
        {"rho": 0.8, "epsilon": 1e-3},
    ),
    "adam": (fastnn.Adam(0.02), reference.Adam, {}),
    "adam, weight decay": (
        fastnn.Adam(0.02, beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.1),
        reference.Adam,
        {"beta1": 0.8, "beta2": 0.9, "epsilon": 1e-3},
    ),
    "adamw": (fastnn.AdamW(0.02), reference.Adam, {"decoupled": True}),
    "adamw, weight decay": (fastnn.AdamW(0.02, weight_decay=0.3), reference.Adam, {"decoupled": True}),
}


def warm_cosine(t, T, rise):
    return (t + 1) / (rise + 1) if t < rise else (1 + np.cos(np.pi * (t - rise) / (T - rise))) / 2


SCHEDULES = {  # the factor at step t of T, with k steps an epoch
    None: lambda t, k, T: 1.0,
    "exponential(0.7)": lambda t, k, T: 0.7**t,
    "step(2, 0.5)": lambda t, k, T: 0.5 ** (t // k // 2),
    "cosine(final=0.1)": lambda t, k, T: 0.1 + 0.9 * (1 + np.cos(np.pi * t / T)) / 2,
    "cosine(warmup=0.5)": lambda t, k, T: warm_cosine(t, T, rise=(T + 1) // 2),
}


def follow(net, x, y, batch_size, epochs, optimizer, formula, constants, schedule=None, weights=None, dropout=False):
    """Weights after `epochs` in the given order by the plain formulas, driven by `Network.gradients`."""
    shapes = net.get_weights()
    p = flatten(shapes)
    n_weights = sum(W.size for W, _ in shapes)
    plain = formula(np.where(np.arange(p.size) < n_weights, optimizer.weight_decay, 0.0), **constants)
    starts = range(0, len(x), batch_size)
    for t in range(epochs * len(starts)):
        rows = slice(starts[t % len(starts)], starts[t % len(starts)] + batch_size)
        net.set_weights(unflatten(p, shapes))
        sample_weight = None if weights is None else weights[rows]
        _, gradients = net.gradients(x[rows], y[rows], sample_weight=sample_weight, dropout=t if dropout else None)
        factor = SCHEDULES[schedule](t, len(starts), epochs * len(starts))
        p = plain.step(p, flatten(gradients), optimizer.learning_rate * factor)
    return p


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(backend, name, schedule):
    """Full batches, with dropout: the masks of an epoch are those of `gradients` of that number."""
    options = {"hidden": "tanh", "dropout": 0.2, "backend": backend}
    expected = follow(
        *make_case([5, 4, 3], "cross_entropy", **options), 99, 5, *OPTIMIZERS[name], schedule, dropout=True
    )
    net, x, y = make_case([5, 4, 3], "cross_entropy", **options)
    start = flatten(net.get_weights())
    optimizer = OPTIMIZERS[name][0]
    net.fit(x, y, epochs=5, batch_size=len(x), optimizer=optimizer, schedule=schedule, shuffle=False)
    found = flatten(net.get_weights())
    assert np.abs(found - start).max() > 1e-3
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_in_mini_batches(backend, name, schedule):
    """Three of 4, 4 and 1 samples an epoch, each averaged over its own weights; two of them are 0."""
    options = {"hidden": "tanh", "backend": backend}
    weights = np.array([1.0, 0, 3, 0.5, 2, 1, 0, 1, 0.3])
    net, x, y = make_case([5, 4, 3], "cross_entropy", **options)
    expected = follow(net, x, y, 4, 3, *OPTIMIZERS[name], schedule, weights)
    net, x, y = make_case([5, 4, 3], "cross_entropy", **options)
    net.fit(
        *(x, y),
        epochs=3,
        batch_size=4,
        optimizer=OPTIMIZERS[name][0],
        schedule=schedule,
        sample_weight=weights,
        shuffle=False,
    )
    found = flatten(net.get_weights())
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_optimizer_comparison_notices(backend):
    """One wrong constant, by a thousandth, is far outside the limit of `test_optimizer`."""
    optimizer, formula, constants = OPTIMIZERS["momentum"]
    results = []
    for values in (constants, {"momentum": constants["momentum"] * 1.001}):
        net, x, y = make_case([5, 4, 3], "cross_entropy", hidden="tanh", backend=backend)
        results.append(follow(net, x, y, len(x), 5, optimizer, formula, values))
    assert np.abs(results[0] - results[1]).max() > 1e-6 * np.abs(results[0]).max()


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
def test_weight_decay_never_touches_biases(backend, name):
    """Where the gradient is zero, weights shrink and biases stay to the bit."""
    chosen = type(OPTIMIZERS[name][0])
    extra = {"momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}.get(name, {})
    net, x, _ = make_case([5, 4, 3], "quadratic", hidden="tanh", output="identity", backend=backend)
    before = net.get_weights()
    zeros = [(np.zeros_like(before[0][0]), before[0][1]), (np.zeros_like(before[1][0]), before[1][1])]
    net.set_weights([before[0], zeros[1]])  # outputs are the last biases, and no gradient passes the last weights
    y = np.tile(before[1][1], (len(x), 1))
    net.fit(x, y, epochs=3, batch_size=4, optimizer=chosen(0.01, weight_decay=0.5, **extra))
    after = net.get_weights()
    for layer in range(2):
        np.testing.assert_array_equal(after[layer][1], before[layer][1])
    assert (np.abs(after[0][0]) < np.abs(before[0][0])).all()
    np.testing.assert_array_equal(after[1][0], 0)


# ---- sample weights -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "output"), reference.COMBINATIONS)
def test_sample_weight_2_is_the_sample_twice(backend, output, loss):
    net, x, y = make_case([5, 4, 3], loss, hidden="tanh", output=output, backend=backend)
    twice = np.arange(len(x)) % 3 == 1
    x2, y2 = np.concatenate([x, x[twice]]), np.concatenate([y, y[twice]])
    loss_value, gradients = net.gradients(x, y, loss=loss, sample_weight=1.0 + twice)
    loss_value_2, gradients_2 = net.gradients(x2, y2, loss=loss)
    assert loss_value == pytest.approx(loss_value_2, rel=1e-13)
    np.testing.assert_allclose(flatten(gradients), flatten(gradients_2), rtol=1e-10, atol=1e-15)

    start, fitted = net.get_weights(), []
    for samples, targets, weights in [(x, y, 1.0 + twice), (x2, y2, None)]:
        net.set_weights(start)
        history = net.fit(
            *(samples, targets),
            loss=loss,
            sample_weight=weights,
            epochs=4,
            batch_size=len(samples),
            optimizer="adam(0.01)",
            shuffle=False,
        )
        fitted.append((flatten(net.get_weights()), history.loss, history.accuracy))
    for one, other in zip(*fitted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10)


# ---- one backend and another, one run and another -------------------------------------------------------------------

RUNS = {
    "sgd": ({"hidden": "relu"}, {"optimizer": "sgd(0.2)"}),
    "sgd, weight decay": ({"hidden": "leaky_relu"}, {"optimizer": "sgd(0.2, weight_decay=0.01)"}),
    "momentum, dropout": ({"hidden": "relu", "dropout": [0.1, 0.3]}, {"optimizer": "sgd(0.05, momentum=0.9)"}),
    "nesterov": ({"hidden": "sigmoid"}, {"optimizer": "sgd(0.1, momentum=0.9, nesterov=True)"}),
    "rmsprop": ({"hidden": "tanh", "output": "sigmoid"}, {"optimizer": "rmsprop(0.005)", "schedule": "cosine(0.2)"}),
    "adam, quadratic": ({"hidden": "gelu"}, {"optimizer": "adam(0.01)", "loss": "quadratic"}),
    "adamw, dropout": ({"hidden": "gelu", "dropout": 0.2}, {"optimizer": "adamw(0.01)"}),
    "regression": ({"hidden": "tanh", "output": "identity"}, {"optimizer": "sgd(0.02)"}),
}


def run(name, backend, dtype):
    """The network and the history of five epochs; 210 samples in mini-batches of 32, the last one smaller."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 4, 210)
    x = (rng.normal(size=(4, 20))[labels] + rng.normal(size=(210, 20))).astype(dtype)
    options, training = RUNS[name]
    net = Network([20, 16, 4], seed=1, dtype=dtype, backend=backend, **options)
    y = rng.normal(size=(210, 4)) if name == "regression" else labels
    return net, net.fit(x, y, epochs=5, batch_size=32, validation_data=(x, y), **training)


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-3), ("float64", 1e-9)])
@pytest.mark.parametrize("name", RUNS)
def test_backends_agree(backend, name, dtype, limit):
    if backend == "numpy":
        pytest.skip("numpy is what the others are compared with")
    _, expected = run(name, "numpy", dtype)
    _, found = run(name, backend, dtype)
    assert expected.loss[-1] < expected.loss[0]
    for kind in ("loss", "val_loss"):
        np.testing.assert_allclose(getattr(found, kind), getattr(expected, kind), rtol=limit)
    if dtype == "float64":
        assert found.accuracy == pytest.approx(expected.accuracy, rel=1e-12, nan_ok=True)


def digest(name, backend, dtype):
    """Of the bits of losses and weights."""
    net, history = run(name, backend, dtype)
    numbers = [np.array(history.loss + history.val_loss), flatten(net.get_weights())]
    return hashlib.sha256(b"".join(array.tobytes() for array in numbers)).hexdigest()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", RUNS)
def test_runs_repeat_to_the_bit(backend, name, dtype):
    assert digest(name, backend, dtype) == digest(name, backend, dtype)


def test_runs_repeat_to_the_bit_in_a_fresh_process(backend):
    """Where numba compiles nothing, but takes from disk what this process compiled."""
    if backend == "cuda_on_cpu":
        pytest.skip("nothing is compiled for it, and it takes long")
    cases = [(name, dtype) for name in RUNS for dtype in ("float32", "float64")]
    here = [digest(name, backend, dtype) for name, dtype in cases]
    program = f"import test_gradients as t; print(*[t.digest(n, {backend!r}, d) for n, d in {cases!r}])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == here
