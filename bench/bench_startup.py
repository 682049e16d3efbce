"""What a script waits for before it trains: the import, the compiler or its cache, the first mini-batch.

Each time in a fresh process. Cold is with empty caches, also those of the CUDA libraries, warm with what the cold
process has left in them.
"""

import functools
import subprocess
import sys

import pytest

import fastnn
from fastnn.bench import reference, startup

IMPORT = "import time; a = time.perf_counter(); import fastnn; print(time.perf_counter() - a)"


@pytest.fixture
def first_batch(backend, threads):
    """Train one mini-batch in a fresh process, whose loss has to be right; the seconds that it took, part by part."""
    x, y = startup.batch(startup.SIZES, startup.BATCH_SIZE)
    weights = reference.copy_weights(fastnn.Network(startup.SIZES, backend="numpy").get_weights())
    expected, _ = reference.loss_and_gradients(weights, reference.scaled(x), y)

    def run(cache):
        found = startup.measure(backend, None, threads, cache=cache)
        assert found.pop("loss") == pytest.approx(expected, rel=1e-5)
        return found

    return run


@pytest.fixture(scope="session")
def cache_of(tmp_path_factory):
    """A folder for each backend's compiled code."""
    return functools.cache(lambda backend: tmp_path_factory.mktemp("cache"))


def measure(benchmark, group, function, *arguments, rounds, **notes):
    """Time a few rounds of something long; returns the results of all."""
    results = []
    benchmark.group = group
    benchmark.extra_info |= notes
    benchmark.pedantic(lambda: results.append(function(*arguments)), rounds=rounds)
    return results


def import_fastnn():
    return float(subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True).stdout)


def test_import(benchmark, full):
    results = measure(benchmark, "startup: import fastnn", import_fastnn, rounds=10 if full else 3)
    benchmark.extra_info["import_seconds"] = min(results)  # the rest is Python's own start


def test_cold(backend, benchmark, first_batch, cache_of, notes):
    (seconds,) = measure(benchmark, "startup: cold, first batch", first_batch, cache_of(backend), rounds=1, **notes)
    benchmark.extra_info["seconds"] = seconds


def test_warm(backend, benchmark, first_batch, cache_of, notes, full):
    if not any(cache_of(backend).iterdir()):
        first_batch(cache_of(backend))
    group, rounds = "startup: warm, first batch", 10 if full else 3
    results = measure(benchmark, group, first_batch, cache_of(backend), rounds=rounds, **notes)
    benchmark.extra_info["seconds"] = {part: min(result[part] for result in results) for part in results[0]}
