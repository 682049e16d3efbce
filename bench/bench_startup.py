"""What a script waits for before it trains: the import, the compiler or its cache, the first mini-batch.

Each time in a fresh process. Cold is with empty caches (FASTNN_CACHE_DIR, and those of the CUDA libraries), warm with
what the cold process has left in them.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from fastnn.bench import reference

import fastnn

SIZES, BATCH = (784, 128, 10), 64
SCRIPT = """
import json, sys, time
start = time.perf_counter()
import numpy as np
import fastnn
imported = time.perf_counter()
arguments = json.loads(sys.argv[1])
sizes, batch = arguments["sizes"], arguments["batch"]
rng = np.random.default_rng(0)
x, y = rng.integers(0, 256, (batch, sizes[0]), np.uint8), rng.integers(0, 10, batch)
network = fastnn.Network(sizes, backend=arguments["backend"], threads=arguments["threads"])
history = network.fit(x, y, epochs=1, batch_size=batch, verbose=False)
seconds = {"import": imported - start, "compile": history.compile_seconds, "first_batch": history.seconds[0]}
print(json.dumps({"loss": history.loss[0], "seconds": seconds}))
"""


def run_python(code, *arguments, cache=None):
    environment = dict(os.environ)
    if cache is not None:
        places = {"FASTNN_CACHE_DIR": "fastnn", "CUPY_CACHE_DIR": "cupy", "CUDA_CACHE_PATH": "cuda"}
        environment |= {variable: str(cache / name) for variable, name in places.items()}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected_loss():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (BATCH, SIZES[0]), np.uint8), rng.integers(0, 10, BATCH)
    weights = reference.as_float64(fastnn.Network(SIZES, backend="numpy").get_weights())
    return reference.loss_and_gradients(weights, x / 255.0, y)[0]


@pytest.fixture
def first_batch(backend, threads):
    """Train one mini-batch in a fresh process, whose loss has to be right; the seconds that it took, part by part."""
    arguments = json.dumps({"sizes": SIZES, "batch": BATCH, "backend": backend, "threads": threads})
    expected = expected_loss()

    def run(cache):
        answer = json.loads(run_python(SCRIPT, arguments, cache=cache))
        assert answer["loss"] == pytest.approx(expected, rel=1e-5)
        return answer["seconds"]

    return run


@pytest.fixture(scope="session")
def caches():
    """By backend, what a cold process has left."""
    return {}


def measure(benchmark, group, function, *arguments, rounds, **notes):
    """Time a few rounds of something long; returns the results of all."""
    results = []
    benchmark.group = group
    benchmark.extra_info |= notes
    benchmark.pedantic(lambda: results.append(function(*arguments)), rounds=rounds)
    return results


def test_import(benchmark, full):
    assert run_python("import fastnn; print(fastnn.__name__)").strip() == "fastnn"
    code = "import time; a = time.perf_counter(); import fastnn; print(time.perf_counter() - a)"
    results = measure(benchmark, "startup: import fastnn", run_python, code, rounds=10 if full else 3)
    benchmark.extra_info["import_seconds"] = min(map(float, results))  # the rest is Python's own start


def test_cold(backend, benchmark, first_batch, caches, tmp_path_factory, threads):
    cache = tmp_path_factory.mktemp("cache")
    notes = {"backend": backend, "dtype": "float32", "precision": None, "threads": threads}
    (seconds,) = measure(benchmark, "startup: cold, first batch", first_batch, cache, rounds=1, **notes)
    benchmark.extra_info["seconds"] = seconds
    caches[backend] = cache


def test_warm(backend, benchmark, first_batch, caches, tmp_path_factory, threads, full):
    if backend not in caches:
        caches[backend] = tmp_path_factory.mktemp("cache")
        first_batch(caches[backend])
    notes = {"backend": backend, "dtype": "float32", "precision": None, "threads": threads}
    group, rounds = "startup: warm, first batch", 10 if full else 3
    results = measure(benchmark, group, first_batch, caches[backend], rounds=rounds, **notes)
    benchmark.extra_info["seconds"] = {part: min(result[part] for result in results) for part in results[0]}
