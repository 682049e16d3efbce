"""One process a trainer, epochs one at a time and interleaved, losses that have to agree: what the comparisons share.

`fastnn.bench.peers` compares on the CPU, `fastnn.bench.gpu` on a CUDA device. All trainers begin with the same weights
and see the same samples in the same order in each of their epochs.
"""

import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fastnn.bench.machine import PACKAGES, package_version
from fastnn.bench.trainers import Make, Task
from fastnn.bench.workers import Crew

import fastnn
from fastnn.datasets import Dataset


class Contender(NamedTuple):
    """Who is compared; all of it goes to another process, so `make` is a function of a module, or a partial of one."""

    make: Make
    environment: dict[str, str]  # variables of its process
    tolerance: float  # of its first epoch's mean loss, relative to the reference's


# ---- the task -------------------------------------------------------------------------------------------------------


def orders(sizes: tuple[int, ...], n: int) -> Iterator[np.ndarray]:
    """The order of samples in each epoch, as a fastnn network of seed 0 draws it."""
    network, epoch = fastnn.Network(sizes, backend="numpy"), 0
    while True:
        order = np.arange(n)
        network.generator("order", epoch).shuffle(order)
        yield order
        epoch += 1


def make_task(sizes: tuple[int, ...], batch_size: int, samples: int, threads: int, data: Dataset) -> Task:
    """The first `samples` of a data set, as far as they fill whole mini-batches, and the weights to begin with."""
    x = data.x_train.reshape(len(data.x_train), -1)
    if x.shape[1] != sizes[0] or x.dtype != np.uint8:
        raise SystemExit(f"{data.name} has samples of {x.shape[1]} {x.dtype}, the networks take {sizes[0]} uint8")
    n = min(samples, len(x)) // batch_size * batch_size  # whole batches only: scan needs them
    if n == 0:
        raise SystemExit(f"{min(samples, len(x))} samples are less than a mini-batch of {batch_size}")
    weights = [(W, b) for W, b in fastnn.Network(sizes, backend="numpy").get_weights()]
    return Task(x[:n], data.y_train[:n].astype(np.int64), sizes, batch_size, threads, weights)


# ---- one process a trainer ------------------------------------------------------------------------------------------


def prepare(kept: dict[str, Any], make: Make, task: Task) -> dict[str, Any]:
    """In a worker: get ready to train a task, instead of the one before; returns the trainer's settings."""
    kept.pop("loop", None)
    kept["loop"] = make(task)
    return kept["loop"].settings


def train(kept: dict[str, Any], orders: list[np.ndarray]) -> tuple[float, float]:
    """In a worker: train an epoch in each of the orders; returns the seconds of all, and the last one's loss."""
    start = time.perf_counter()
    for order in orders:
        loss = kept["loop"].run(order)
    return time.perf_counter() - start, loss


class Contest:
    """One task, trained epoch by epoch by each of a crew.

    Attributes
    ----------
    workers : Crew
        Those that are still in it, and who is left out.
    settings : dict of str to dict
        Of `trainers.Loop`.
    losses : dict of str to float
        Mean loss of the first epoch of all that trained one.
    """

    def __init__(self, workers: Crew, contenders: Mapping[str, Contender], task: Task) -> None:
        self.workers = workers
        self.settings: dict[str, dict[str, Any]] = {}
        self.losses: dict[str, float] = {}
        self._contenders, self._task = contenders, task
        self._orders = {name: orders(task.sizes, len(task.x)) for name in contenders}

    def begin(self, names: Iterable[str], deadline: float | None = None) -> None:
        """Have some of them train their first epoch, all at the same time; who has not at `deadline` is left out."""
        made = {name: (prepare, self._contenders[name].make, self._task) for name in names}
        settings = self.workers.call_all(made, deadline)
        trained = {name: (train, self._next_orders(name, 1)) for name in settings}
        self.settings |= settings
        self.losses |= {name: loss for name, (_, loss) in self.workers.call_all(trained, deadline).items()}

    def run(self, name: str, epochs: int, deadline: float | None = None) -> float:
        """Have one of them train its next epochs; returns the seconds of one.

        Raises
        ------
        WorkerError
            As `Worker.answer`.
        """
        seconds, _ = self.workers.call(name, train, self._next_orders(name, epochs), deadline=deadline)
        return seconds / epochs

    def _next_orders(self, name: str, epochs: int) -> list[np.ndarray]:
        return [next(self._orders[name]) for _ in range(epochs)]


@contextmanager
def contest(
    contenders: Mapping[str, Contender],
    task: Task,
    *,
    cores: int | None = None,
    together: bool = False,
    deadline: float | None = None,
) -> Iterator[Contest]:
    """Workers that have trained their first epoch; they end with the block.

    Parameters
    ----------
    contenders : mapping of str to Contender
    task : Task
    cores : int or None
        How many of the machine's each of them may use; None: all.
    together : bool
        They start at the same time, and train the first epoch at the same time; else one after the other.
    deadline : float or None
        Who has not trained it then, by `time.monotonic`, is left out.
    """
    with Crew(cores) as workers:
        started = Contest(workers, contenders, task)
        for names in [list(contenders)] if together else [[name] for name in contenders]:
            for name in names:
                workers.start(name, contenders[name].environment)
            started.begin(names, deadline)
        yield started


def disagreeing(losses: Mapping[str, float], expected: float, contenders: Mapping[str, Contender]) -> dict[str, str]:
    """Those whose loss of the first epoch is not the expected one, and how far off they are."""
    wrong = {}
    for name, loss in losses.items():
        error = abs(loss - expected) / expected
        if not error <= contenders[name].tolerance:
            wrong[name] = f"its loss {loss:.6f} is not {expected:.6f}: off by {error:.1e}"
    return wrong


# ---- report ---------------------------------------------------------------------------------------------------------


def print_rows(
    seconds: Mapping[str, Sequence[float]],
    skipped: Mapping[str, str],
    describe: Callable[[str, Sequence[float]], str],
    width: int,
) -> None:
    """A line for each trainer, the fastest first, and one for each that was left out."""
    for name, values in sorted(seconds.items(), key=lambda item: statistics.median(item[1])):
        print(f"  {name:{width}s} {describe(name, values)}")
    for name, why in skipped.items():
        print(f"  {name:{width}s} left out: {why}")
    sys.stdout.flush()


def environment(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    import platform

    backend = fastnn.available_backends()["numba"]
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu": backend.reason,
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {package: package_version(package) for package in PACKAGES},
    }


def write_json(file: str | Path, content: dict[str, Any]) -> None:
    """Write `content` with all its samples; the folder is made if it is not there."""
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if math.isfinite(value) else None
