"""How long a backend takes until it trains: import, compilation, the first mini-batch; each in a fresh process.

`measure` starts one; what it runs is `main`, which is told when the process began to import.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastnn

SIZES, BATCH_SIZE = (784, 128, 10), 64
PROGRAM = "import time; begin = time.perf_counter(); from fastnn.bench.startup import main; main(begin, *{!r})"
CACHES = {"FASTNN_CACHE_DIR": "fastnn", "CUPY_CACHE_DIR": "cupy", "CUDA_CACHE_PATH": "cuda"}


def measure(
    backend: str,
    precision: str | None,
    threads: int,
    sizes: tuple[int, ...] = SIZES,
    batch_size: int = BATCH_SIZE,
    cache: str | Path | None = None,
) -> dict[str, float]:
    """Seconds of each part in a process of its own, and the loss of its mini-batch.

    Compiled code is kept in the folder `cache`, or, where that is None, where it always is.

    Raises
    ------
    RuntimeError
        If the process fails.
    """
    command = [sys.executable, "-c", PROGRAM.format((backend, precision, threads, sizes, batch_size))]
    folders = {variable: str(Path(cache, name)) for variable, name in CACHES.items()} if cache else {}
    environment = os.environ | folders
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RuntimeError(f"{backend} does not start: {lines[-1]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(begin: float, *task: Any) -> None:
    """Print the seconds of each part as JSON."""
    print(json.dumps(time_parts(begin, *task)))


def batch(sizes: tuple[int, ...], batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images, and labels of all classes."""
    x = np.random.default_rng(0).integers(0, 256, (batch_size, sizes[0]), dtype=np.uint8)
    return x, np.arange(batch_size) % sizes[-1]


def time_parts(
    begin: float, backend: str, precision: str | None, threads: int, sizes: tuple[int, ...], batch_size: int
) -> dict[str, float]:
    network = fastnn.Network(sizes, backend=backend, precision=precision, threads=threads)
    imported = time.perf_counter()
    x, y = batch(sizes, batch_size)
    history = network.fit(x, y, epochs=1, batch_size=batch_size, optimizer=fastnn.SGD(0.1), verbose=False)
    return {
        "import_seconds": imported - begin,
        "compile_seconds": history.compile_seconds,
        "first_batch_seconds": time.perf_counter() - imported - history.compile_seconds,
        "loss": history.loss[0],
    }
