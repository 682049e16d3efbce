"""fastnn against JAX, PyTorch, scikit-learn and a plain numpy loop on the CPU: ``python -m fastnn.bench.peers``.

Each of them trains in a process of its own, so that no thread pool disturbs another, on the same cores with as many
threads; but only one at a time: epochs are interleaved in random order. All begin with the same weights and see the
same samples in the same order, and their losses have to agree before any time counts. The machine's peak is measured
before and after each of them; the share of it is that of the moment, because a shared machine's changes. The first
two epochs, with compilation, are left out.

The peers are an extra, ``pip install -e '.[peers]'``; one that is missing is named and left out.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fastnn.bench.peak import Peak
from fastnn.bench.trainers import TRAINERS, Task

import fastnn
from fastnn.threads import resolve_threads

NETWORKS = ((784, 30, 10), (784, 128, 10), (784, 512, 512, 512, 10))
BATCH_SIZES = (64, 256)
OWN, REFERENCE = "fastnn numba", "fastnn numpy"
OURS = [name for name in TRAINERS if name.startswith("fastnn")]
TOLERANCE = {"scikit-learn": 0.1, "fastnn numba, bf16": 0.01}  # its own order of samples; other products
LEAST_SECONDS = 0.3  # that the fastest is measured for at a time
OTHERS_TOLERANCE = 1e-3  # of the first epoch's mean loss, relative to the reference's


def orders(sizes: tuple[int, ...], n: int) -> Iterator[np.ndarray]:
    """The order of samples in each epoch, as a fastnn network of seed 0 draws it."""
    network, epoch = fastnn.Network(sizes, backend="numpy"), 0
    while True:
        order = np.arange(n)
        network.generator("order", epoch).shuffle(order)
        yield order
        epoch += 1


def make_task(sizes: tuple[int, ...], batch_size: int, samples: int, threads: int, dataset: str) -> Task:
    data = fastnn.datasets.load(dataset)
    x = data.x_train.reshape(len(data.x_train), -1)
    if x.shape[1] != sizes[0] or x.dtype != np.uint8:
        raise SystemExit(f"{data.name} has samples of {x.shape[1]} {x.dtype}, the networks take {sizes[0]} uint8")
    n = min(samples, len(x)) // batch_size * batch_size  # whole batches only: scan needs them
    weights = [(W, b) for W, b in fastnn.Network(sizes, backend="numpy").get_weights()]
    return Task(x[:n], data.y_train[:n].astype(np.int64), sizes, batch_size, threads, weights)


# ---- one process a trainer ------------------------------------------------------------------------------------------


def serve(name: str, threads: int, pipe: Connection) -> None:
    """A worker: takes a task, then orders, and answers each with seconds and loss; an error ends it."""
    os.environ.update({variable: str(threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")})
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        run = TRAINERS[name](pipe.recv())
        pipe.send("ready")
        while (several := pipe.recv()) is not None:
            start = time.perf_counter()
            for order in several:
                loss = run(order)
            pipe.send((time.perf_counter() - start, loss))
    except ImportError as error:
        pipe.send(f"not installed: {error}")
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        pipe.send(f"{type(error).__name__}: {lines[0]}")
        if not isinstance(error, fastnn.FastnnError):
            traceback.print_exc()


class Worker:
    """The parent's side of a worker."""

    def __init__(self, name: str, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(name, task.threads, other), daemon=True)
        self._process.start()
        other.close()
        self._pipe.send(task)
        answer = self._receive()
        self.problem = None if answer == "ready" else answer

    def run(self, several: list[np.ndarray]) -> tuple[float, float]:
        """Seconds of as many epochs as there are orders, and the loss of the last."""
        self._pipe.send(several)
        answer = self._receive()
        if isinstance(answer, str):
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        if self._process.is_alive():
            with suppress(OSError):
                self._pipe.send(None)
            self._process.join(5)
            self._process.kill()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            return f"died with exit code {self._process.exitcode}"


@contextmanager
def workers(names: list[str], task: Task) -> Iterator[dict[str, Worker]]:
    started: dict[str, Worker] = {}
    try:
        for name in names:
            started[name] = Worker(name, task)
        yield started
    finally:
        for worker in started.values():
            worker.close()


# ---- measurement ----------------------------------------------------------------------------------------------------


def measure(task: Task, names: list[str], rounds: int, generator: np.random.Generator) -> dict[str, Any]:
    """Seconds of `rounds` epochs of each trainer and the peak measured beside them; what could not run, and why."""
    peak, peaks = Peak(task.threads), []
    with workers(names, task) as all_workers:
        skipped = {name: worker.problem for name, worker in all_workers.items() if worker.problem}
        ready = {name: worker for name, worker in all_workers.items() if not worker.problem}
        seconds: dict[str, list[float]] = {name: [] for name in ready}
        shares: dict[str, list[float]] = {name: [] for name in ready}
        stream = orders(task.sizes, len(task.x))
        first = [next(stream)]
        losses = {name: worker.run(first)[1] for name, worker in ready.items()}
        for name, why in disagreeing(losses).items():
            skipped[name] = why
            del ready[name], seconds[name], shares[name]
        order = [next(stream)]
        epochs = max(1, round(LEAST_SECONDS / min(worker.run(order)[0] for worker in ready.values())))
        for _ in range(rounds):
            several = [next(stream) for _ in range(epochs)]
            for name in generator.permutation(sorted(ready)):
                time.sleep(0.2)  # threads that spin for work go to sleep
                before = peak()
                took = ready[name].run(several)[0] / epochs
                peaks.append((before + peak()) / 2)
                seconds[name].append(took)
                shares[name].append(task.flops() / took / peaks[-1])
    return {
        "sizes": task.sizes,
        "batch_size": task.batch_size,
        "steps": len(task.x) // task.batch_size,
        "flops": task.flops(),
        "peak": peaks,
        "epochs": epochs,
        "seconds": seconds,
        "shares_of_peak": shares,
        "first_loss": losses,
        "skipped": skipped,
    }


def disagreeing(losses: dict[str, float]) -> dict[str, str]:
    """Those whose loss of the first epoch is not the reference's, and how far off they are."""
    expected = losses[REFERENCE]
    wrong = {}
    for name, loss in losses.items():
        error = abs(loss - expected) / expected
        if not error <= TOLERANCE.get(name, OTHERS_TOLERANCE):
            wrong[name] = f"its loss {loss:.6f} is not {expected:.6f}: off by {error:.1e}"
    return wrong


def interval(ratios: list[float], generator: np.random.Generator) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    samples = generator.choice(ratios, (2000, len(ratios)))
    low, high = np.quantile(np.median(samples, axis=1), [0.025, 0.975])
    return float(low), float(high)


# ---- report ---------------------------------------------------------------------------------------------------------


def show(result: dict[str, Any], generator: np.random.Generator) -> None:
    steps, own = result["steps"], result["seconds"].get(OWN)
    peak = statistics.median(result["peak"])
    low, _, high = (q / 1e9 for q in statistics.quantiles(result["peak"], n=4))
    name = f"{'-'.join(map(str, result['sizes']))}, batch {result['batch_size']}"
    print(f"\n{name}: peak {peak / 1e9:.0f} GFLOP/s [{low:.0f}, {high:.0f}]")
    for name, values in sorted(result["seconds"].items(), key=lambda item: statistics.median(item[1])):
        low, median, high = (q / steps * 1e6 for q in statistics.quantiles(values, n=4))
        share = statistics.median(result["shares_of_peak"][name])
        text = f"  {name:20s} {median:7.0f} us a step [{low:.0f}, {high:.0f}]  {share:6.1%} of peak"
        if own and name != OWN:
            ratios = [theirs / ours for theirs, ours in zip(values, own, strict=True)]
            least, most = interval(ratios, generator)
            text += f"   numba is {statistics.median(ratios):5.2f} times as fast [{least:.2f}, {most:.2f}]"
        print(text)
    for name, why in result["skipped"].items():
        print(f"  {name:20s} left out: {why}")
    sys.stdout.flush()


def summarize(results: list[dict[str, Any]]) -> None:
    """numba against the fastest of the others in each, and their geometric mean."""
    ratios = []
    for result in results:
        medians = {name: statistics.median(values) for name, values in result["seconds"].items()}
        peers = {name: value for name, value in medians.items() if name not in OURS}
        if peers and OWN in medians:
            ratios.append(min(peers.values()) / medians[OWN])
    if ratios:
        mean = statistics.geometric_mean(ratios)
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"\nnumba against the fastest peer in each: {each}; geometric mean {mean:.2f}")


def environment(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    import platform
    from importlib import metadata

    packages = ("numpy", "scipy", "numba", "llvmlite", "jax", "jaxlib", "torch", "scikit-learn")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    backend = fastnn.available_backends()["numba"]
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cpu": backend.reason,
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    parser.add_argument("--samples", type=int, default=60_000, help="of an epoch (default: 60000)")
    parser.add_argument("--threads", type=int, help="default: FASTNN_NUM_THREADS, or all cores")
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--only", metavar="NAME;...", help=f"of {', '.join(TRAINERS)}")
    parser.add_argument("--networks", metavar="N-N-N,...", help="default: those of the comparison")
    parser.add_argument("--batch-sizes", metavar="N,...", help="default: 64,256")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    options = parser.parse_args()
    names = [name.strip() for name in options.only.split(";")] if options.only else list(TRAINERS)
    unknown = [name for name in names if name not in TRAINERS]
    if unknown or options.rounds < 2:
        parser.error(f"no trainer {', '.join(unknown)}" if unknown else "--rounds must be at least 2")
    networks = [tuple(map(int, n.split("-"))) for n in options.networks.split(",")] if options.networks else NETWORKS
    batch_sizes = [int(n) for n in options.batch_sizes.split(",")] if options.batch_sizes else BATCH_SIZES
    names = list(dict.fromkeys([REFERENCE, *names]))
    threads, generator, results = resolve_threads(options.threads), np.random.default_rng(), []
    print(f"{threads} threads, {options.rounds} measurements of each, medians [quartiles]; ratios with 95 % intervals")
    for batch_size in batch_sizes:
        for sizes in networks:
            task = make_task(sizes, batch_size, options.samples, threads, options.dataset)
            results.append(measure(task, names, options.rounds, generator))
            show(results[-1], generator)
    summarize(results)
    if options.json:
        content = {"schema_version": 1, "environment": environment(threads), "results": results}
        Path(options.json).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
