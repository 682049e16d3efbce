"""What the suites share: backends, sizes, a clock that waits for the backend, and what is noted beside the seconds.

``pytest bench/`` runs all, each of what it times checked against float64 before; ``--bench-size=full`` runs more of it,
for longer. FASTNN_REQUIRE names backends, separated by commas, whose absence is a failure; others are skipped, visibly.
"""

import functools
import os
import time
import warnings
from pathlib import Path

import pytest

import fastnn
from fastnn.backends import READY, available_backends, resolve_backend
from fastnn.bench import jobs, sections
from fastnn.bench.harness import find_peak
from fastnn.bench.trainers import Training, make_task, orders
from fastnn.threads import resolve_threads

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
    measure = find_peak(threads)
    peaks = [measure() for _ in range(20)]  # other programs take their share at times
    return None if None in peaks else max(peaks)


@pytest.fixture
def notes(backend, threads):
    """What is noted beside the seconds of a test, unless it says something else."""
    return {"backend": backend, "dtype": "float32", "precision": None, "threads": threads}


@pytest.fixture
def timed(benchmark, notes):
    """Time a function, and note the circumstances and what is computed from its best seconds.

    ``timed(group, function, *arguments, rates={name: amount}, **notes)``; a rate is the amount a second.
    """

    def run(group, function, *arguments, rates, **more):
        benchmark.group = group
        benchmark.extra_info |= notes | more
        result = benchmark(function, *arguments)
        if benchmark.stats:  # not with --benchmark-disable
            benchmark.extra_info |= {name: amount / benchmark.stats.stats.min for name, amount in rates.items()}
        return result

    return run


@pytest.fixture
def make_training(backend, dataset, threads):
    """A function that makes a `Training` of this backend, whose results are those of the reference.

    The BLAS is held to as many threads as the network for the length of the test.
    """

    def make(dtype, precision, sizes, batch_size, samples):
        task = make_task(sizes, batch_size, samples, threads, dataset, precision)
        errors = jobs.check({}, backend, precision, task, dtype)
        limits = sections.GATE["float64" if dtype == "float64" else precision]
        assert all(error <= limits[what] for what, error in errors.items()), errors
        training = Training(task, backend, dtype=dtype)
        training.epoch()
        expected = jobs.trace_reference(
            {}, task, next(orders(sizes, len(task.x)))[: sections.FIRST * batch_size], dtype
        )
        losses = {backend: training.losses()[: len(expected)]}
        assert not sections.disagreeing(losses, expected, {backend: precision})
        return training

    with resolve_backend(backend).kernels.limit_threads(threads):
        yield make
