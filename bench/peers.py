"""fastnn against JAX, PyTorch, scikit-learn and a plain numpy loop on the CPU: ``python -m fastnn.bench.peers``.

Each of them trains in a process of its own, so that no thread pool disturbs another, on the same cores with as many
threads; but only one at a time: epochs are interleaved in random order. All begin with the same weights and see the
same samples in the same order, and their losses have to agree before any time counts. The machine's peak is measured
before and after each of them; the share of it is that of the moment, because a shared machine's changes. The first
two epochs, with compilation, are left out.

The peers are an extra, ``pip install -e '.[peers]'``; one that is missing is named and left out.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastnn.bench import runner, verdicts
from fastnn.bench.peak import Peak
from fastnn.bench.report import formatting
from fastnn.bench.trainers import TRAINERS, Task

import fastnn
from fastnn.cli import exit_code
from fastnn.threads import resolve_threads

NETWORKS = ((784, 30, 10), (784, 128, 10), (784, 512, 512, 512, 10))
BATCH_SIZES = (64, 256)
OWN, REFERENCE = "fastnn numba", "fastnn numpy"
OURS = [name for name in TRAINERS if name.startswith("fastnn")]
TOLERANCE = {"scikit-learn": 0.1, "fastnn numba, bf16": 0.01}  # its own order of samples; other products
LEAST_SECONDS = 0.3  # that the fastest is measured for at a time
OTHERS_TOLERANCE = 1e-3  # of the first epoch's mean loss, relative to the reference's


def contender(name: str, threads: int) -> runner.Contender:
    """A trainer on so many threads of the CPU."""
    environment = {variable: str(threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
    environment["JAX_PLATFORMS"] = "cpu"
    return runner.Contender(TRAINERS[name], environment, TOLERANCE.get(name, OTHERS_TOLERANCE))


# ---- measurement ----------------------------------------------------------------------------------------------------


def measure(task: Task, names: list[str], rounds: int, generator: np.random.Generator) -> dict[str, Any]:
    """Seconds of `rounds` epochs of each trainer and the peak measured beside them; what could not run, and why."""
    peak, peaks = Peak(task.threads), []
    contenders = {name: contender(name, task.threads) for name in names}
    with runner.contest(contenders, task, cores=task.threads) as contest:
        for name, why in runner.disagreeing(contest.losses, contest.losses[REFERENCE], contenders).items():
            contest.workers.leave_out(name, why)
        seconds: dict[str, list[float]] = {name: [] for name in contest.workers}
        shares: dict[str, list[float]] = {name: [] for name in contest.workers}
        epochs = max(1, round(LEAST_SECONDS / min(contest.run(name, 1) for name in contest.workers)))
        for _ in range(rounds):
            for name in generator.permutation(sorted(contest.workers)):
                before = peak()
                took = contest.run(name, epochs)
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
        "first_loss": contest.losses,
        "skipped": contest.workers.skipped,
    }


# ---- report ---------------------------------------------------------------------------------------------------------


def show(result: dict[str, Any], generator: np.random.Generator) -> None:
    steps, own = result["steps"], result["seconds"].get(OWN)
    low, peak, high = (q / 1e9 for q in verdicts.quartiles(result["peak"]))
    print(f"\n{formatting.case(result)}: peak {peak:.0f} GFLOP/s [{low:.0f}, {high:.0f}]")

    def describe(name: str, values: Sequence[float]) -> str:
        low, median, high = (q / steps * 1e6 for q in verdicts.quartiles(values))
        share = statistics.median(result["shares_of_peak"][name])
        text = f"{median:7.0f} us a step [{low:.0f}, {high:.0f}]  {share:6.1%} of peak"
        if own and name != OWN:
            ratio, least, most = verdicts.compare(values, own, generator)
            text += f"   numba is {ratio:5.2f} times as fast [{least:.2f}, {most:.2f}]"
        return text

    runner.print_rows(result["seconds"], result["skipped"], describe, width=20)


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


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    parser.add_argument("--samples", type=int, default=60_000, help="of an epoch (default: 60000)")
    parser.add_argument("--threads", type=int, help="default: FASTNN_NUM_THREADS, or all cores")
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--only", metavar="NAME;...", help=f"of {', '.join(TRAINERS)}")
    parser.add_argument("--networks", metavar="N-N-N,...", help="default: those of the comparison")
    parser.add_argument("--batch-sizes", metavar="N,...", help="default: 64,256")
    parser.add_argument("--json", metavar="FILE", help="write all samples there")
    options = parser.parse_args(arguments)
    names = [name.strip() for name in options.only.split(";")] if options.only else list(TRAINERS)
    unknown = [name for name in names if name not in TRAINERS]
    if unknown or options.rounds < 2:
        parser.error(f"no trainer {', '.join(unknown)}" if unknown else "--rounds must be at least 2")
    networks = [tuple(map(int, n.split("-"))) for n in options.networks.split(",")] if options.networks else NETWORKS
    batch_sizes = [int(n) for n in options.batch_sizes.split(",")] if options.batch_sizes else BATCH_SIZES
    names = list(dict.fromkeys([REFERENCE, *names]))
    threads, generator, results = resolve_threads(options.threads), np.random.default_rng(), []
    data = fastnn.datasets.load(options.dataset)
    print(f"{threads} threads, {options.rounds} measurements of each, medians [quartiles]; ratios with 99 % intervals")
    for batch_size in batch_sizes:
        for sizes in networks:
            task = runner.make_task(sizes, batch_size, options.samples, threads, data)
            results.append(measure(task, names, options.rounds, generator))
            show(results[-1], generator)
    summarize(results)
    if options.json:
        content = {"schema_version": 1, "environment": runner.environment(threads), "results": results}
        runner.write_json(options.json, content)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
