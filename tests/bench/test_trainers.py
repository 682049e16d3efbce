"""The trainers that are compared: they train what they say, and who trains something else is found."""

import functools
import sys
import threading

import low_precision
import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.bench import jobs, peak, reference, sections, trainers

SIZES, BATCH_SIZE = (784, 12, 10), 64
FIRST = sections.FIRST


@pytest.fixture
def digits():
    return fastnn.datasets.load("digits")


@pytest.fixture
def task(digits):
    return trainers.make_task(SIZES, BATCH_SIZE, 1280, 1, digits)


def first_order(task):
    return next(trainers.orders(task.sizes, len(task.x)))


def losses_of(make, task):
    """Of the first mini-batches, as a worker has them."""
    return jobs.begin({}, make, task, first_order(task), FIRST)["losses"]


def expected_losses(task):
    return jobs.trace_reference({}, task, first_order(task), "float32")


def is_left_out(make, task, precision=None):
    """Whether a trainer, asked for its first mini-batches, is told apart from plain numpy."""
    losses = {"it": losses_of(make, task)}
    return list(sections.disagreeing(losses, expected_losses(task), {"it": precision or task.precision})) == ["it"]


# ---- those that are right -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["graph", "eager"])
def test_fastnn_trains_on_each_backend(backend, plan, task, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_PLAN", plan)
    training = trainers.Training(task, backend)
    training.run(first_order(task))
    np.testing.assert_allclose(training.losses(), expected_losses(task), rtol=1e-5)
    if "cu" in backend:
        assert training.plan == plan


def test_fastnn_refuses_another_order(backend, task):
    orders = trainers.orders(task.sizes, len(task.x))
    next(orders)
    with pytest.raises(RuntimeError, match="in another order"):
        trainers.make_fastnn(task, backend).run(next(orders))


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of PyTorch's own modules, as it compiles
@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize(
    "make", [trainers.make_jax, trainers.make_torch, functools.partial(trainers.make_torch, how="compiled")]
)
def test_peers_begin_as_plain_numpy_does(make, precision, task):
    pytest.importorskip("jax" if make is trainers.make_jax else "torch")
    task = task._replace(precision=precision)
    assert not is_left_out(make, task)
    if precision is None:
        np.testing.assert_allclose(losses_of(make, task), expected_losses(task), rtol=1e-5)


@pytest.mark.parametrize("make", [trainers.make_plain_numpy, trainers.make_sklearn])
def test_trainers_of_float32_begin_as_plain_numpy_does(make, task):
    np.testing.assert_allclose(losses_of(make, task), expected_losses(task), rtol=1e-5)


def test_the_reference_trains_as_fastnn_in_float64(task):
    """The losses of two epochs of fastnn's numpy backend."""
    network = fastnn.Network(task.sizes, backend="numpy", dtype="float64")
    network.set_weights(task.weights)
    options = {"epochs": 2, "batch_size": BATCH_SIZE, "optimizer": fastnn.SGD(trainers.LEARNING_RATE)}
    history, weights = network.fit(task.x, task.y, **options), task.weights
    for expected, order in zip(history.loss, trainers.orders(task.sizes, len(task.x)), strict=False):
        weights, losses = reference.train(weights, task.x, task.y, order, BATCH_SIZE, trainers.LEARNING_RATE)
        np.testing.assert_allclose(np.mean(losses), expected, rtol=1e-12)


def test_jax_multiplies_bfloat16_in_the_gradient_too():
    jax = pytest.importorskip("jax")
    x, W = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    gradient = jax.grad(lambda x, W: trainers.make_jax_bf16()(x, W).sum(), (0, 1))
    lines = [line for line in str(jax.make_jaxpr(gradient)(x, W)).splitlines() if "dot_general" in line]
    assert len(lines) == 3
    text = str(jax.jit(gradient).lower(x, W).as_text())
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) >= 2
    assert all(line.count("bf16>") >= 2 for line in products), products


def test_torch_without_a_device_says_so(task):
    torch = pytest.importorskip("torch")
    with pytest.raises(fastnn.BackendError, match="CUDA graphs are for CUDA devices"):
        trainers.make_torch(task, how="graph")
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(fastnn.BackendError, match="sees no CUDA device"):
        trainers.make_torch(task, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["eager", "graph", "compiled"])
@pytest.mark.parametrize("precision", [None, "tf32", "bf16"])
def test_torch_on_a_device_begins_as_plain_numpy_does(how, precision, task):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    make = functools.partial(trainers.make_torch, how=how, device="cuda")
    assert not is_left_out(make, task._replace(precision=precision))


# ---- those that are wrong -------------------------------------------------------------------------------------------


def with_other_weights(task):
    return trainers.make_plain_numpy(task._replace(weights=[(W * np.float32(1.001), b) for W, b in task.weights]))


def with_other_samples(task):
    return trainers.make_plain_numpy(task._replace(x=np.roll(task.x, 1, axis=0), y=np.roll(task.y, 1)))


@pytest.mark.parametrize("make", [with_other_weights, with_other_samples])
def test_who_trains_something_else_is_left_out(make, task):
    assert not is_left_out(trainers.make_plain_numpy, task)
    assert is_left_out(make, task)


@pytest.mark.parametrize("rate", [0.099, 0.101])
def test_another_learning_rate_is_found(rate, task, monkeypatch):
    expected = expected_losses(task)
    monkeypatch.setattr(trainers, "LEARNING_RATE", rate)
    losses = {"it": losses_of(trainers.make_plain_numpy, task)}
    assert sections.disagreeing(losses, expected, {"it": None})


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("kernel", [None, "dense", "input_gradient", "dense_sgd"])
def test_a_wrong_product_of_low_precision_is_left_out(kernel, precision, task, monkeypatch):
    """The right one (None) is not, though its operands are rounded and those of the reference are not."""
    fault = low_precision.halved if kernel else None
    monkeypatch.setitem(sys.modules, "low_precision_kernels", low_precision.make_kernels(precision, kernel, fault))
    monkeypatch.setitem(backends._BUILTIN, "low_precision", ("low_precision_kernels", "numpy", ""))
    monkeypatch.setattr(backends, "_inspect", backends._inspect.__wrapped__)  # which would remember the first of them
    make = functools.partial(trainers.make_fastnn, backend="low_precision", precision=precision)
    assert is_left_out(make, task, precision) == (kernel is not None)


def test_losses_that_are_not_finite_are_wrong():
    expected, losses = [1.0, 2.0, 3.0], {"a": [1.0, 2.0, np.nan], "b": [np.nan] * 3, "c": [1.0, 2.0, np.inf]}
    assert list(sections.disagreeing(losses, expected, dict.fromkeys(losses))) == ["a", "b", "c"]


# ---- tasks, and the machine -----------------------------------------------------------------------------------------


def test_samples_that_do_not_fit_are_refused(digits):
    with pytest.raises(fastnn.DataError, match="less than a mini-batch of 64"):
        trainers.make_task(SIZES, 64, 63, 1, digits)
    with pytest.raises(fastnn.DataError, match="digits has samples of 784 uint8, the networks take 20"):
        trainers.make_task((20, 10), 64, 640, 1, digits)


def test_operations_are_counted(task):
    assert task.flops() == 2 * 1280 * (2 * 784 * 12 + 3 * 12 * 10)
    assert task.steps == 20


def test_peak_is_what_the_tiles_did(monkeypatch):
    """Each operand is a number that shows in the sums how many products were added up."""
    operations = []

    def run_once(function, calls):
        for repeats, a, b, c in calls:
            a[...], b[...], c[...] = 1, 1, 0
            function(1, a, b, c)
            operations.append(2 * repeats * c.sum(dtype=np.float64))
        return 0.5

    monkeypatch.setattr(peak, "seconds", run_once)
    assert peak.Peak(2)() == sum(operations) / 0.5
    assert len(operations) == 2
    assert min(operations) > 0


def test_peak_is_of_threads_that_run_at_the_same_time():
    """Each waits until the other is there, too."""
    met = threading.Barrier(2)
    assert 0 < peak.seconds(met.wait, [(60,), (60,)]) < 60
    assert not met.broken
