"""What ``fastnn bench`` measures, section by section; each returns its part of the results.

Everywhere the same: a process a contender, one at a time at work, in random order round after round, until the
section's time is over. See `fastnn.bench.verdicts` for what is made of the samples.
"""

import functools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from fastnn.bench import jobs, runner, startup, verdicts
from fastnn.bench.contenders import Entry, Field
from fastnn.bench.levels import Case, Level
from fastnn.bench.recipe import RECIPE
from fastnn.bench.runner import Contest, make_task, orders
from fastnn.bench.trainers import LEARNING_RATE, Task, make_fastnn
from fastnn.bench.workers import Crew, WorkerError

from fastnn.datasets import Dataset

# How far off float64 each quantity may be, relative to its largest value, by the precision of products, whose operands
# are rounded in the reference, too. What float32 has summed up in another order may be rounded the other way: of 30
# right networks on MNIST the worst was off by 3e-4 in tf32, by 2e-3 in bf16.
GATE = {
    None: {"outputs": 1e-5, "loss": 1e-5, "gradients": 1e-5, "updates": 1e-4},
    "tf32": {"outputs": 1e-3, "loss": 1e-4, "gradients": 1e-3, "updates": 1e-3},
    "bf16": {"outputs": 5e-3, "loss": 1e-4, "gradients": 5e-3, "updates": 5e-3},
}
CURVE_TOLERANCE, EXACT_CURVE_TOLERANCE = 1e-2, 1e-8  # of a mini-batch's loss in float32, in float64; relative
GOALS = (0.97, 0.98)
LEAST_SECONDS = 0.05  # of a sample
LEAST_ROUNDS = 2  # of a launch, however little time there is


class Setting(NamedTuple):
    """What all sections need."""

    level: Level
    field: Field
    data: Dataset | None  # None where tasks are made otherwise
    threads: int
    generator: np.random.Generator
    tick: Callable[[str], None]  # told now and then what is going on
    peak: Callable[[], float | None]


# ---- workers --------------------------------------------------------------------------------------------------------


@contextmanager
def crew(entries: Mapping[str, Entry], cores: int) -> Iterator[Crew]:
    """A worker for each of some contenders, in a block that ends them."""
    with Crew(cores) as workers:
        for name, entry in entries.items():
            workers.start(name, entry.contender.environment)
        yield workers


def shuffled(setting: Setting, names: Iterable[str]) -> list[str]:
    return [str(name) for name in setting.generator.permutation(sorted(names))]


# ---- the gate, and kernels ------------------------------------------------------------------------------------------


def gate(setting: Setting) -> list[dict[str, Any]]:
    """Each backend against plain numpy in float64, on the network of each case, and kernel by kernel."""
    backends = setting.field.of("backend")
    rows: list[dict[str, Any]] = []
    with crew(backends, setting.threads) as workers:
        for case in setting.level.cases:
            setting.tick("correctness gate")
            rows += gate_networks(setting, workers, case)
        setting.tick("correctness gate")
        rows += gate_kernels(setting, workers)
        rows += [failure(name, why) for name, why in workers.skipped.items()]
    return rows


def gate_networks(setting: Setting, workers: Crew, case: Case) -> list[dict[str, Any]]:
    samples = jobs.GATE_SAMPLES * case.batch_size
    task = make_task(case.sizes, case.batch_size, samples, setting.threads, setting.data)
    entries = setting.field.of("backend")
    asked = {name: (jobs.check, entries[name].backend, entries[name].precision, task) for name in workers}
    rows = []
    for name, errors in workers.call_all(asked).items():
        limits = GATE[entries[name].precision]
        rows += [gate_row(name, case.sizes, what, error, limits[what]) for what, error in errors.items()]
    return rows


def gate_kernels(setting: Setting, workers: Crew) -> list[dict[str, Any]]:
    entries, sizes = setting.field.of("backend"), setting.level.kernel_networks[0]
    asked = {}
    for name in workers:
        backend, precision = entries[name].backend, entries[name].precision
        asked[name] = (jobs.prepare_kernels, backend, precision, sizes, 64, setting.threads, None)
    rows = []
    for name, kernels in workers.call_all(asked).items():
        rows += [gate_row(name, sizes, f"{k['kernel']} {k['shape']}", k["error"], k["tolerance"]) for k in kernels]
    return rows


def gate_row(name: str, sizes: Sequence[int], what: str, error: float, tolerance: float) -> dict[str, Any]:
    row = {"contender": name, "sizes": list(sizes), "quantity": what, "error": error, "tolerance": tolerance}
    return row | {"passed": bool(error <= tolerance)}


def failure(name: str, why: str) -> dict[str, Any]:
    return gate_row(name, [], why, float("nan"), 0.0)


def time_kernels(setting: Setting, end: float) -> dict[str, Any]:
    """Seconds a call of each kernel, between the machine's measured peaks of arithmetic and of memory."""
    from fastnn.bench.peak import Bandwidth

    bandwidth, number = Bandwidth(setting.threads), setting.level.launches
    launches, bandwidths = [], []
    for done in range(number):
        slice_end = time.monotonic() + max(0.0, end - time.monotonic()) / (number - done)
        launches.append(launch_kernels(setting, slice_end))
        bandwidths += [bandwidth() for _ in range(4)]
    rows = [known[key] for known, _ in launches[:1] for key in known if all(key in others for others, _ in launches)]
    for row in rows:
        key = kernel_key(row)
        row["launches"] = [known[key]["seconds"] for known, _ in launches]
        row["seconds"] = [took for each in row["launches"] for took in each]
    peaks = [[peak for peak in each if peak is not None] for _, each in launches]
    return {
        "threads": setting.threads,
        "peaks": [peak for each in peaks for peak in each],
        "launch_peaks": peaks,
        "bandwidths": bandwidths,
        "device": None,
        "kernels": rows,
    }


def launch_kernels(setting: Setting, end: float) -> tuple[dict[tuple, dict[str, Any]], list[float | None]]:
    """What was timed in one launch, and the machine's peak in each of its rounds."""
    entries, peaks = setting.field.of("backend"), []
    found: dict[tuple, dict[str, Any]] = {}
    with crew(entries, setting.threads) as workers:
        for sizes in setting.level.kernel_networks:
            for name, entry in entries.items():
                asked = (jobs.prepare_kernels, entry.backend, entry.precision, sizes, 64, setting.threads, None)
                for row in workers.attempt(name, *asked) or []:
                    row = {"contender": name, **row, "seconds": []}
                    found.setdefault(kernel_key(row), row)  # networks have some in common
        while len(peaks) < 3 or time.monotonic() < end:
            for place in setting.generator.permutation(len(found)):
                row = list(found.values())[place]
                took = workers.attempt(row["contender"], jobs.time_kernel, row["index"], 2e-3)
                if took is not None:
                    row["seconds"].append(took)
            peaks.append(setting.peak())
            setting.tick("kernels")
        found = {key: row for key, row in found.items() if row["contender"] in workers}
    return found, peaks


def kernel_key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["contender"], row["kernel"], row["shape"]


# ---- throughput -----------------------------------------------------------------------------------------------------


class Launch:
    """The workers of one launch, ready to train one task after the other."""

    def __init__(self, setting: Setting, workers: Crew, entries: Mapping[str, Entry]) -> None:
        self.setting, self.workers = setting, workers
        self.contenders = {name: entry.contender for name, entry in entries.items()}

    def begin(self, task: Task) -> dict[str, float]:
        """Give all of them the task, and have them train an epoch of it; returns its loss."""
        self.contest = Contest(self.workers, self.contenders, task)
        self.workers.call_all(dict.fromkeys(self.workers, (jobs.forget_peak,)))
        self.contest.begin(self.workers)
        return self.contest.losses

    def run(self, name: str, epochs: int) -> float | None:
        """Seconds of an epoch, of so many; None if it failed, and is left out."""
        try:
            return self.contest.run(name, epochs)
        except WorkerError as error:
            self.workers.leave_out(name, str(error))
            return None

    def measure(self, least: float, end: float, what: str) -> dict[str, Any]:
        """Seconds of an epoch of each, round by round until `end`, and the machine's peak beside each of them."""
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, list[float]] = {}
        once = {name: self.run(name, 1) for name in self.workers}
        known = [took for took in once.values() if took is not None]
        if not known:
            return {"seconds": {}, "peaks": {}}
        epochs = max(1, round(least / min(known)))
        while len(next(iter(seconds.values()), [])) < LEAST_ROUNDS or time.monotonic() < end:
            this = {}
            for name in shuffled(self.setting, self.workers):
                peak = self.setting.peak()
                this[name] = self.run(name, epochs)
                if peak is not None:
                    peaks.setdefault(name, []).append((peak + self.setting.peak()) / 2)
            if any(took is None for took in this.values()):  # who fails now was never there
                seconds = {name: values for name, values in seconds.items() if name in self.workers}
            for name in self.workers:
                seconds.setdefault(name, []).append(this[name])
            if not self.workers:
                break
            self.setting.tick(what)
        return {"seconds": seconds, "peaks": peaks}


def throughput(setting: Setting, end: float) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Epochs of each case, launch after launch; and who was left out, and why."""
    field, skipped = setting.field, {}
    cases = [new_case(setting, case) for case in setting.level.cases]
    total = setting.level.launches * len(cases)
    for number in range(setting.level.launches):
        entries = {name: entry for name, entry in field.entries.items() if name not in skipped}
        with crew(entries, setting.threads) as workers:
            launch = Launch(setting, workers, entries)
            for i, (case, result) in enumerate(zip(setting.level.cases, cases, strict=True)):
                what = f"throughput, launch {number + 1} of {setting.level.launches}"
                setting.tick(what)
                task = make_task(case.sizes, case.batch_size, case.samples, setting.threads, setting.data)
                losses = launch.begin(task)
                for name, why in disagreeing(losses, field).items():
                    workers.leave_out(name, f"{case}: {why}")
                left = total - number * len(cases) - i
                slice_end = time.monotonic() + max(0.0, end - time.monotonic()) / left
                result["launches"].append(launch.measure(LEAST_SECONDS, slice_end, what))
                result["memory"] |= workers.call_all(dict.fromkeys(workers, (jobs.peak_memory,)))
            skipped |= workers.skipped
    for result in cases:
        summarize(setting, result)
    return cases, skipped


def new_case(setting: Setting, case: Case) -> dict[str, Any]:
    task = make_task(case.sizes, case.batch_size, case.samples, setting.threads, setting.data)
    return {
        "sizes": list(case.sizes),
        "batch_size": case.batch_size,
        "samples": len(task.x),
        "steps": len(task.x) // case.batch_size,
        "flops": task.flops(),
        "launches": [],
        "memory": {},
    }


def disagreeing(losses: Mapping[str, float], field: Field) -> dict[str, str]:
    """Whose first epoch has another mean loss than the reference's, which has passed the gate."""
    contenders = {name: entry.contender for name, entry in field.entries.items()}
    return runner.disagreeing(losses, losses[field.reference], contenders) if field.reference in losses else {}


def summarize(setting: Setting, result: dict[str, Any]) -> None:
    """Medians, ratios and verdicts of a case; only who was in all launches is compared."""
    launches = result["launches"]
    names = [name for name in setting.field.entries if all(name in launch["seconds"] for launch in launches)]
    result["summary"] = {name: summary(result, launches, name) for name in names}
    result["comparisons"], result["control"] = {}, None
    reference = setting.field.reference
    if reference in names:
        for name in names:
            if name != reference:
                result["comparisons"][name] = versus(setting, launches, reference, name).to_dict()
    if setting.field.control and set(setting.field.control) <= set(names):
        result["control"] = versus(setting, launches, *setting.field.control).to_dict()
    ours = [name for name in names if setting.field.entries[name].kind == "backend"]
    result["fastest"], result["ahead"] = fastest(setting, launches, ours)


def gather(launches: list[dict[str, Any]], name: str) -> list[float]:
    return [took for launch in launches for took in launch["seconds"][name]]


def summary(result: dict[str, Any], launches: list[dict[str, Any]], name: str) -> dict[str, Any]:
    seconds = gather(launches, name)
    median = statistics.median(seconds)
    peaks = [peak for launch in launches for peak in launch["peaks"].get(name, [])]
    shares = [result["flops"] / took / peak for took, peak in zip(seconds, peaks, strict=False)]
    return {
        "seconds": list(verdicts.quartiles(seconds)),
        "samples_per_second": result["samples"] / median,
        "flops_per_second": result["flops"] / median,
        "share_of_peak": statistics.median(shares) if shares else None,
        "n": len(seconds),
    }


def versus(setting: Setting, launches: list[dict[str, Any]], theirs: str, ours: str) -> verdicts.Comparison:
    """How many times as fast `ours` is as `theirs`."""
    seconds = ([launch["seconds"][name] for launch in launches] for name in (theirs, ours))
    return verdicts.compare_launches(*seconds, setting.generator)


def fastest(
    setting: Setting, launches: list[dict[str, Any]], names: Sequence[str]
) -> tuple[str | None, dict[str, Any] | None]:
    """Who is faster than the next, and by how much; nobody if that is not sure, or there is no other."""
    ranked = sorted(names, key=lambda name: statistics.median(gather(launches, name)))
    if len(ranked) < 2:
        return None, None
    ahead = versus(setting, launches, ranked[1], ranked[0])
    return (ranked[0] if ahead.verdict == verdicts.FASTER else None), ahead.to_dict() | {"over": ranked[1]}


# ---- the map --------------------------------------------------------------------------------------------------------


def crossover(setting: Setting, end: float) -> dict[str, Any]:
    """Networks with one hidden layer, width by batch size: which backend is the fastest for which."""
    level = setting.level
    entries = {name: entry for name, entry in setting.field.of("backend").items() if not entry.precision}
    places = [(width, rows) for width in level.widths for rows in level.batch_sizes]
    launches: dict[tuple[int, int], list[dict[str, Any]]] = {place: [] for place in places}
    number = max(1, level.launches // 2)
    for done in range(number):
        with crew(entries, setting.threads) as workers:
            launch = Launch(setting, workers, entries)
            for i, (width, rows) in enumerate(places):
                samples = max(2048, 8 * rows)
                launch.begin(make_task((784, width, 10), rows, samples, setting.threads, setting.data))
                left = (number - done) * len(places) - i
                slice_end = time.monotonic() + max(0.0, end - time.monotonic()) / left
                seconds = launch.measure(LEAST_SECONDS / 2, slice_end, "map of widths and batch sizes")["seconds"]
                steps = max(1, min(samples, len(setting.data.x_train)) // rows)
                each = {name: [took / steps for took in values] for name, values in seconds.items()}
                launches[width, rows].append({"seconds": each})
    cells = [cell(setting, width, rows, launches[width, rows]) for width, rows in places]
    return {
        "hidden_layers": 1,
        "widths": list(level.widths),
        "batch_sizes": list(level.batch_sizes),
        "cells": cells,
    }


def cell(setting: Setting, width: int, rows: int, launches: list[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in launches[0]["seconds"] if all(name in launch["seconds"] for launch in launches)]
    winner, ahead = fastest(setting, launches, names)
    seconds = {name: gather(launches, name) for name in names}
    return {
        "width": width,
        "batch_size": rows,
        "fastest": winner,
        "ahead": ahead,
        "second": ahead and ahead["over"],
        "seconds": seconds,
    }


# ---- loss curves ----------------------------------------------------------------------------------------------------


def curves(setting: Setting) -> dict[str, Any]:
    """The loss of each mini-batch of an epoch on each backend, and in float64 and plain numpy: the same run.

    Float32 follows float64 until a unit is rounded to the other side of a ReLU's corner; from there on the runs part,
    on every machine at another place. In float64 they coincide to the end.
    """
    sizes, rows, name64 = (784, 128, 10), 64, "float64, plain numpy"
    task = make_task(sizes, rows, 60_000, setting.threads, setting.data)
    order = [next(orders(sizes, len(task.x)))]
    entries = {name: entry for name, entry in setting.field.of("backend").items() if not entry.precision}
    found: dict[str, dict[str, Any]] = {"float32": {}, "float64": {}}
    with crew({name64: next(iter(entries.values())), **entries}, setting.threads) as workers:
        for dtype in ("float32", "float64") if setting.level.cold else ("float32",):
            for name, entry in entries.items():
                setting.tick("loss curves")
                make = functools.partial(make_fastnn, backend=entry.backend, dtype=dtype)
                found[dtype][name] = workers.attempt(name, jobs.trace, make, task, order)
        expected = workers.attempt(name64, jobs.trace_reference, task, order)
    divergence, exact = ({name: diverge(v, expected) for name, v in traces.items() if v} for traces in found.values())
    passed = all(row["largest"] <= CURVE_TOLERANCE for row in divergence.values())
    return {
        "sizes": list(sizes),
        "batch_size": rows,
        "seed": 0,
        "optimizer": f"SGD({LEARNING_RATE:g})",
        "losses": {name: values for name, values in found["float32"].items() if values} | {name64: expected},
        "reference": name64,
        "divergence": divergence,
        "tolerance": CURVE_TOLERANCE,
        "divergence_float64": exact,
        "tolerance_float64": EXACT_CURVE_TOLERANCE,
        "passed": passed and all(row["largest"] <= EXACT_CURVE_TOLERANCE for row in exact.values()),
    }


def diverge(losses: list[float], expected: list[float]) -> dict[str, Any]:
    """The largest difference of a mini-batch's loss, relative to what it should be, and where."""
    off = np.abs(np.array(losses) - expected) / expected
    step = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
    return {"largest": float(off[step]), "step": step}


# ---- accuracy -------------------------------------------------------------------------------------------------------


def accuracy(setting: Setting, dataset: str) -> dict[str, Any]:
    """Training by the recipe to its end, seed by seed, each in a fresh process."""
    entries, runs = setting.field.of("backend"), []
    for seed in range(setting.level.seeds):
        for name in shuffled(setting, entries):
            entry = entries[name]
            with crew({name: entry}, setting.threads) as workers:
                asked = (jobs.train_recipe, entry.backend, entry.precision, seed, setting.threads, dataset)
                if run := workers.attempt(name, *asked):
                    runs.append({"contender": name, **run})
            setting.tick("accuracy")
    recipe = {name: value for name, value in RECIPE.items() if value is not None}
    shown = {name: summarize_runs([run for run in runs if run["contender"] == name]) for name in entries}
    return {
        "recipe": recipe,
        "goals": list(GOALS),
        "runs": runs,
        "summary": {name: row for name, row in shown.items() if row},
    }


def summarize_runs(runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not runs:
        return None
    last = [run["accuracy"][-1] for run in runs]
    spread = statistics.stdev(last) if len(last) > 1 else 0.0
    times = {f"{goal:g}": [seconds_to(run, goal) for run in runs] for goal in GOALS}
    return {
        "accuracy": [statistics.mean(last), spread, min(last), max(last)],
        "seconds_to": {g: None if None in each else list(verdicts.quartiles(each)) for g, each in times.items()},
        "n": len(runs),
    }


def seconds_to(run: dict[str, Any], goal: float) -> float | None:
    """Of training until the first epoch with the goal."""
    pairs = zip(run["seconds"], run["accuracy"], strict=True)
    return next((seconds for seconds, reached in pairs if reached >= goal - 1e-9), None)  # 0.98 is no binary fraction


# ---- start-up -------------------------------------------------------------------------------------------------------


def start_up(setting: Setting) -> list[dict[str, Any]]:
    """Medians of what it takes until the first mini-batch is trained."""
    rows = []
    for name, entry in setting.field.of("backend").items():
        assert entry.backend is not None
        once = functools.partial(startup.measure, entry.backend, entry.precision, setting.threads)
        setting.tick("start-up")
        warm = [once() for _ in range(setting.level.startups)]
        cold = once(cold=True) if setting.level.cold else None
        middle = {part: statistics.median(run[part] for run in warm) for part in warm[0]}
        rows.append(
            {
                "contender": name,
                "import_seconds": middle["import_seconds"],
                "compile_warm_seconds": middle["compile_seconds"],
                "compile_cold_seconds": cold and cold["compile_seconds"],
                "first_batch_seconds": middle["first_batch_seconds"],
            }
        )
    return rows
