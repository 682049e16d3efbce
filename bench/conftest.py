"""What the suites share: backends, sizes, a clock that waits for the backend, and what is noted beside the seconds.

``pytest bench/`` runs all, each of what it times checked against float64 before; ``--bench-size=full`` runs more of it,
for longer. FASTNN_REQUIRE names backends, separated by commas, whose absence is a failure; others are skipped, visibly.
"""

import functools
import os
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from fastnn.bench import reference

import fastnn
from fastnn.backends import READY, available_backends, resolve_backend
from fastnn.step import bind
from fastnn.threads import resolve_threads

LEARNING_RATE = 0.1
ROUNDS = {"small": {"min_rounds": 3, "max_time": 0.1}, "full": {"min_rounds": 5, "max_time": 0.5}}
WARM_UP = {"warmup": True, "warmup_iterations": 3}  # pytest-benchmark's own would be as many rounds as are measured
BACKENDS = [
    pytest.param(name, marks=pytest.mark.gpu) if name == "cupy" else name for name in reversed(available_backends())
]


def pytest_addoption(parser):
    parser.addoption("--bench-size", choices=tuple(ROUNDS), default="small", help="how much the bench suites measure")


def pytest_configure(config):
    config.addinivalue_line("markers", "full: measured with --bench-size=full alone")


def pytest_collection_modifyitems(config, items):
    """Leave out what is for the full size; give the others their clock and their rounds."""
    size, folder = config.getoption("--bench-size"), Path(__file__).parent
    left_out = [item for item in items if size != "full" and item.get_closest_marker("full")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if item.path.parent == folder:
            name = getattr(item, "callspec", None) and item.callspec.params.get("backend")
            item.add_marker(pytest.mark.benchmark(timer=clock(name), **WARM_UP, **ROUNDS[size]))


@functools.cache
def clock(backend):
    """Seconds when all work handed to a backend is done."""
    if backend is None or available_backends()[backend].state != READY:
        return time.perf_counter
    kernels = resolve_backend(backend).kernels

    def synchronized():
        kernels.synchronize()
        return time.perf_counter()

    return synchronized


@pytest.fixture(params=BACKENDS)
def backend(request) -> str:
    """Name of a ready backend."""
    info = available_backends()[request.param]
    if info.state != READY:
        message = f"backend {info.name} is not ready: {info.state}: {info.reason}"
        if info.name in os.environ.get("FASTNN_REQUIRE", "").split(","):
            pytest.fail(f"{message} (FASTNN_REQUIRE={os.environ['FASTNN_REQUIRE']})")
        pytest.skip(message)
    return info.name


@pytest.fixture
def kernels(backend):
    """The kernel module of a ready backend."""
    return resolve_backend(backend).kernels


@pytest.fixture(params=["float32", "float64", "bf16", "tf32"])
def arithmetic(request, kernels) -> tuple[str, str | None]:
    """A dtype and the precision of matrix products, if another."""
    if request.param.startswith("float"):
        return request.param, None
    if request.param not in kernels.precisions():
        pytest.skip(f"this backend has no {request.param} on this machine")
    return "float32", request.param


@pytest.fixture(scope="session")
def full(request) -> bool:
    return request.config.getoption("--bench-size") == "full"


@pytest.fixture(scope="session")
def threads() -> int:
    return resolve_threads(None)


@pytest.fixture(scope="session")
def dataset():
    """MNIST where it is to be had."""
    with warnings.catch_warnings(action="ignore"):  # that it is not to be had
        return fastnn.datasets.load("auto")


@pytest.fixture(scope="session")
def peak(threads) -> float | None:
    """FLOP/s of float32 that the CPU can do at most; None where that cannot be measured."""
    if available_backends()["numba"].state != READY:
        return None
    from fastnn.kernels import numba_simd

    if numba_simd.find_host() is None:
        return None
    from fastnn.bench.peak import Peak

    measure = Peak(threads)
    return max(measure() for _ in range(20))  # other programs take their share at times


@pytest.fixture
def timed(benchmark, threads):
    """Time a function, and note the circumstances and what is computed from its best seconds.

    ``timed(group, function, *arguments, rates={name: amount}, **notes)``; a rate is the amount a second.
    """

    def run(group, function, *arguments, rates=(), **notes):
        benchmark.group = group
        benchmark.extra_info |= {"threads": threads, **notes}
        result = benchmark(function, *arguments)
        note_rates(benchmark, rates)
        return result

    return run


def note_rates(benchmark, rates):
    if benchmark.stats:  # not with --benchmark-disable
        benchmark.extra_info |= {name: amount / benchmark.stats.stats.min for name, amount in dict(rates).items()}


# ---- training -------------------------------------------------------------------------------------------------------


class Training:
    """A network in plain SGD over the first samples of a data set, an epoch or a mini-batch at a time."""

    def __init__(self, backend, dtype, precision, sizes, batch_size, dataset, samples, threads):
        from fastnn.training import Trainer
        from fastnn.workspace import Workspace

        self.x, self.y = first_samples(dataset, samples)
        self.network = fastnn.Network(sizes, backend=backend, dtype=dtype, precision=precision, threads=threads)
        self.weights = reference.as_float64(self.network.get_weights())
        self.batch_size, optimizer = batch_size, fastnn.SGD(LEARNING_RATE)
        self.workspace = Workspace(
            self.network,
            self.x,
            self.y,
            batch_size,
            loss="cross_entropy",
            optimizer=optimizer,
            training=True,
        )
        self.trainer = Trainer(self.workspace, optimizer, fastnn.Constant(), epochs=1)
        self.trainer.compile()

        # A step by itself needs what an epoch would have put there.
        steps = np.arange(self.workspace.data.steps)
        self.workspace.objective.begin_epoch(optimizer.rates(np.ones(len(steps)), steps))

    def epoch(self):
        """In another order each time; returns the mean loss."""
        self.trainer.epoch(0, lambda trainer: None)
        return self.trainer.means()[0]

    def step(self, number):
        self.workspace.run(bind(self.network.kernels).train_steps, number, number + 1)

    def order(self):
        """Of the first epoch."""
        order = np.arange(len(self.x))
        self.network.generator("order", 0).shuffle(order)
        return order

    def expected(self, order):
        """Weights and losses after the samples in that order, from the weights that the network began with.

        On one thread: numpy's BLAS has a pool apart from scipy's, which would spin for a while in what is timed next.
        """
        with self.network.kernels.limit_threads(1):
            x, precision = self.x / 255.0, self.network.precision
            return reference.train(self.weights, x, self.y, order, self.batch_size, LEARNING_RATE, precision)

    def error(self, weights):
        """Of the network's weights, relative to what the largest change should be."""
        pairs = zip(self.network.get_weights(), weights, self.weights, strict=True)
        layers = [arrays for layer in pairs for arrays in zip(*layer, strict=True)]
        change = max(np.abs(wanted - before).max() for _, wanted, before in layers)
        return float(np.max([np.abs(found - wanted).max() for found, wanted, _ in layers]) / change)


def first_samples(dataset, samples):
    """uint8 rows and labels."""
    x = dataset.x_train[:samples]
    return x.reshape(len(x), -1), dataset.y_train[:samples]


@pytest.fixture
def make_training(backend, dataset, threads):
    """A `Training` of this backend, the BLAS held to as many threads as the network for the length of the test."""
    with resolve_backend(backend).kernels.limit_threads(threads):
        yield functools.partial(Training, backend, dataset=dataset, threads=threads)
