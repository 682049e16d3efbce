"""What ``fastnn bench`` measures, section by section; each returns its part of the results.

Everywhere the same: a process a contender, one at a time at work, in random order round after round, until the
section's time is over. See `fastnn.bench.verdicts` for what is made of the samples.
"""

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.bench import jobs, startup, verdicts
from fastnn.bench.contenders import Contender, Field
from fastnn.bench.levels import Case, Level
from fastnn.bench.recipe import QUICK, reaches, read_recipe
from fastnn.bench.trainers import LEARNING_RATE, Task, make_fastnn, make_task, orders
from fastnn.bench.workers import Crew, RefusalError, WorkerError
from fastnn.datasets import Dataset

# How far off float64 each quantity may be, relative to its largest value, by the precision of products, whose operands
# are rounded in the reference, too. What float32 has summed up in another order may be rounded the other way: of 30
# right networks on MNIST the worst was off by 3e-4 in tf32, by 2e-3 in bf16.
GATE: dict[str | None, dict[str, float]] = {
    "float64": {"outputs": 1e-12, "loss": 1e-12, "gradients": 1e-12, "updates": 1e-11},
    None: {"outputs": 1e-5, "loss": 1e-5, "gradients": 1e-5, "updates": 1e-4},
    "tf32": {"outputs": 1e-3, "loss": 1e-4, "gradients": 1e-3, "updates": 1e-3},
    "bf16": {"outputs": 5e-3, "loss": 1e-4, "gradients": 5e-3, "updates": 5e-3},
}
# All that train, whatever their library and precision: how far the losses of the first mini-batches may be off those of
# plain numpy in float32, relative, by the lower quartile. Where a unit is rounded to the other side of its ReLU's
# corner, right runs part: within 20 mini-batches of the deep networks by 2e-2 at most, by 3e-4 in the median, by 1e-7
# in the lower quartile (tf32 and bf16 by 2e-3). Who begins with other weights or another rate is off from the start.
FIRST, FIRST_TOLERANCE = 20, {None: 1e-4, "tf32": 5e-3, "bf16": 5e-3}
CURVE_TOLERANCE, EXACT_CURVE_TOLERANCE = 1e-2, 1e-8  # of a mini-batch's loss in float32, in float64; relative
GOALS, FAR_GOALS = (0.97, 0.98), (0.97, 0.98, 0.99, 0.994)  # of the preset quick, of longer ones
RECIPE_PEERS = ("PyTorch eager",)  # who trains by a recipe, too, on the CPU
GOAL_SECONDS = 0.050  # of training on a device until the last of the goals, the median of the seeds
LEAST_SECONDS = 0.05  # of a sample
LEAST_ROUNDS = 2  # of a launch, however little time there is
NO_TIME = "no time left"
_REFERENCE = "the reference"
TIMED = "cupy"  # the backend whose times have limits


class Setting(NamedTuple):
    """What all sections need."""

    level: Level
    field: Field
    data: Dataset | None  # None: random samples
    dataset: str  # its name, for other processes
    threads: int
    generator: np.random.Generator
    tick: Callable[[str], None]  # told now and then what is going on
    peak: Callable[[], float | None]

    def task(self, case: Case) -> Task:
        return make_task(case.sizes, case.batch_size, case.samples, self.threads, self.data, case.precision)

    def shuffled(self, names: Iterable[str]) -> list[str]:
        return [str(name) for name in self.generator.permutation(sorted(names))]

    def is_over(self, end: float) -> bool:
        """Whether nothing more is measured, though it has not been at all."""
        return self.level.strict and time.monotonic() >= end

    def crew(self, entries: Mapping[str, Contender]) -> Crew:
        """A worker for each of some contenders, for a block that ends them."""
        workers = Crew(self.threads)
        for name, entry in entries.items():
            workers.start(name, entry.environment)
        return workers


# ---- the gate -------------------------------------------------------------------------------------------------------


def gate(setting: Setting) -> list[dict[str, Any]]:
    """Each backend against plain numpy in float64, on the network of each case, and kernel by kernel."""
    backends, rows = setting.field.of("backend"), []
    with setting.crew(backends) as workers:
        for case in dict.fromkeys(case._replace(samples=0) for case in setting.level.cases):
            setting.tick("correctness gate")
            rows += gate_networks(setting, workers, case)
        for precision in dict.fromkeys(case.precision for case in setting.level.cases):
            setting.tick("correctness gate")
            rows += gate_kernels(setting, workers, precision)
    checked = {row["contender"] for row in rows}
    return rows + [failure(name, "its backend can do none of the cases") for name in backends if name not in checked]


def gate_networks(setting: Setting, workers: Crew, case: Case) -> list[dict[str, Any]]:
    task = setting.task(case._replace(samples=jobs.GATE_SAMPLES * case.batch_size))
    entries = {name: entry for name, entry in setting.field.of("backend").items() if name in workers}
    precisions = {name: entry.precision or case.precision for name, entry in entries.items()}
    asked = {name: (jobs.check, entry.backend, precisions[name], task) for name, entry in entries.items()}
    answers, failures = workers.call_all(asked)
    rows = [failure(name, str(why)) for name, why in failures.items() if not isinstance(why, RefusalError)]
    for name, errors in answers.items():
        limits = GATE[precisions[name]]
        rows += [gate_row(name, case.sizes, what, error, limits[what]) for what, error in errors.items()]
    return rows


def gate_kernels(setting: Setting, workers: Crew, precision: str | None) -> list[dict[str, Any]]:
    sizes, asked = setting.level.kernel_networks[0], {}
    for name, entry in setting.field.of("backend").items():
        if name in workers:
            chosen = entry.precision or precision
            asked[name] = (jobs.prepare_kernels, entry.backend, chosen, sizes, 64, setting.threads, None)
    answers, failures = workers.call_all(asked)
    rows = [failure(name, str(why)) for name, why in failures.items() if not isinstance(why, RefusalError)]
    for name, kernels in answers.items():
        rows += [gate_row(name, sizes, f"{k['kernel']} {k['shape']}", k["error"], k["tolerance"]) for k in kernels]
    return rows


def gate_row(name: str, sizes: Sequence[int], what: str, error: float, tolerance: float) -> dict[str, Any]:
    row = {"contender": name, "sizes": list(sizes), "quantity": what, "error": error, "tolerance": tolerance}
    return row | {"passed": bool(error <= tolerance)}


def failure(name: str, why: str) -> dict[str, Any]:
    return gate_row(name, [], why, float("nan"), 0.0)


def disagreeing(
    losses: Mapping[str, Sequence[float]], expected: Sequence[float], precisions: Mapping[str, str | None]
) -> dict[str, str]:
    """Whose losses of the first mini-batches are not the expected ones, and how far off they are."""
    wrong = {}
    for name, values in losses.items():
        error, tolerance = differences(values, expected), FIRST_TOLERANCE[precisions[name]]
        quartile = np.quantile(error, 0.25)
        if not (quartile <= tolerance and np.isfinite(error).all()):
            off = f"off by {quartile:.1e}, the lower quartile, and by {error.max():.1e} at most"
            wrong[name] = f"its losses of the first {len(expected)} mini-batches are {off}; allowed is {tolerance:g}"
    return wrong


def differences(losses: Sequence[float], expected: Sequence[float]) -> NDArray[np.float64]:
    """Of each mini-batch's loss, relative to what it should be."""
    return np.abs(np.array(losses) - expected) / expected


def diverge(losses: Sequence[float], expected: Sequence[float]) -> dict[str, Any]:
    """The largest difference of a mini-batch's loss, relative to what it should be, and where."""
    off = differences(losses, expected)
    step = int(np.argmax(np.where(np.isfinite(off), off, np.inf)))
    return {"largest": float(off[step]), "step": step}


# ---- kernels --------------------------------------------------------------------------------------------------------


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
    with setting.crew(entries) as workers:
        for sizes in setting.level.kernel_networks:
            for name, entry in entries.items():
                asked = (jobs.prepare_kernels, entry.backend, entry.precision, sizes, 64, setting.threads, None)
                for row in attempt(workers, name, *asked) or []:
                    row = {"contender": name, **row, "seconds": []}
                    found.setdefault(kernel_key(row), row)  # networks have some in common
        while len(peaks) < 3 or time.monotonic() < end:
            for place in setting.generator.permutation(len(found)):
                row = list(found.values())[place]
                took = attempt(workers, row["contender"], jobs.time_kernel, row["index"], 2e-3)
                if took is not None:
                    row["seconds"].append(took)
            peaks.append(setting.peak())
            setting.tick("kernels")
        found = {key: row for key, row in found.items() if row["contender"] in workers}
    return found, peaks


def kernel_key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["contender"], row["kernel"], row["shape"]


def attempt(workers: Crew, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a worker answers; None if it cannot, or has ended before."""
    return workers.call_all({name: (function, *arguments)})[0].get(name) if name in workers else None


# ---- throughput -----------------------------------------------------------------------------------------------------


class Launch:
    """The processes of one launch, which train one task after the other; in a block that ends them.

    Attributes
    ----------
    active : list of str
        Who trains the present task.
    out : dict of str to str
        Who does not, and why.
    settings : dict of str to dict
        Of `trainers.Loop`.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.workers = setting, setting.crew({})
        self.active: list[str] = []
        self.out: dict[str, str] = {}
        self.settings: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Launch":
        return self

    def __exit__(self, *_: object) -> None:
        self.workers.__exit__()

    def begin(self, task: Task, entries: Mapping[str, Contender]) -> None:
        """Have some train a task, from now on; each has to begin as plain numpy does, see `FIRST_TOLERANCE`."""
        first = next(orders(task.sizes, len(task.x)))
        part = first[: FIRST * task.batch_size]
        asked: dict[str, tuple[Any, ...]] = {_REFERENCE: (jobs.trace_reference, task, part, "float32")}
        asked |= {name: (jobs.begin, entry.make, task, first, FIRST) for name, entry in entries.items()}
        for name in asked:
            self.workers.start(name, entries[name].environment if name in entries else {})
        self.workers.call_all(dict.fromkeys(asked, (jobs.forget_peak,)))  # a start takes no part of the patience
        answers, failures = self.workers.call_all(asked, self.setting.level.patience)
        self.out = {name: str(why) for name, why in failures.items()}
        if why := self.out.pop(_REFERENCE, None):  # nobody can be held against it
            answers, expected = {}, []
            self.out |= dict.fromkeys(entries, f"{_REFERENCE}: {why}")
        else:
            expected = answers.pop(_REFERENCE)
        precisions = {name: entry.precision or task.precision for name, entry in entries.items()}
        self.out |= disagreeing({name: answer["losses"] for name, answer in answers.items()}, expected, precisions)
        self.active = [name for name in answers if name not in self.out]
        self.settings = {name: answers[name]["settings"] for name in self.active}
        self._orders = {name: orders(task.sizes, len(task.x)) for name in self.active}
        for name in self.active:
            next(self._orders[name])

    def run(self, name: str, epochs: int, patience: float) -> float | None:
        """Seconds of an epoch, of so many; None if it failed, and is left out."""
        drawn = [next(self._orders[name]) for _ in range(epochs)]
        try:
            return self.workers.call(name, jobs.train, drawn, patience=patience)
        except WorkerError as error:
            self.out[name] = str(error)
            self.active.remove(name)
            return None

    def measure(self, least: float, end: float, what: str) -> dict[str, Any]:
        """Seconds of an epoch of each, round by round until `end`, and the machine's peak beside each of them."""
        seconds: dict[str, list[float]] = {}
        peaks: dict[str, list[float]] = {}
        patience = self.setting.level.patience
        once = {name: self.run(name, 1, patience) for name in list(self.active)}
        known = [took for took in once.values() if took is not None]
        epochs = max(1, round(least / min(known, default=least)))
        while self.active and (len(next(iter(seconds.values()), [])) < LEAST_ROUNDS or time.monotonic() < end):
            this = {}
            for name in self.setting.shuffled(self.active):
                peak = self.setting.peak()
                this[name] = self.run(name, epochs, patience)
                if peak is not None:
                    peaks.setdefault(name, []).append((peak + self.setting.peak()) / 2)
            # Who fails now was never there: rounds have to be of the same contenders.
            seconds = {name: [*seconds.get(name, []), this[name]] for name in self.active}
            self.setting.tick(what)
        return {"seconds": seconds, "peaks": {name: peaks[name] for name in self.active if name in peaks}}


def throughput(setting: Setting, end: float) -> list[dict[str, Any]]:
    """Epochs of each case, launch after launch."""
    cases = [new_case(setting, case) for case in setting.level.cases]
    total = setting.level.launches * len(cases)
    for number in range(setting.level.launches):
        with Launch(setting) as launch:
            for i, (case, result) in enumerate(zip(setting.level.cases, cases, strict=True)):
                what = f"throughput, launch {number + 1} of {setting.level.launches}"
                setting.tick(what)
                entries = {name: e for name, e in setting.field.entries.items() if name not in result["skipped"]}
                if setting.is_over(end):
                    result["skipped"] |= dict.fromkeys(entries, NO_TIME) if number == 0 else {}
                    continue
                now, left = time.monotonic(), total - number * len(cases) - i
                slice_end = now + max(0.0, end - now) / left
                launch.begin(setting.task(case), entries)
                result["launches"].append(launch.measure(LEAST_SECONDS, slice_end, what))
                result["memory"] |= launch.workers.call_all(dict.fromkeys(launch.active, (jobs.peak_memory,)))[0]
                result["settings"] |= launch.settings
                result["skipped"] |= launch.out
    for result in cases:
        summarize(setting, result)
    return cases


def skipped_cases(cases: list[dict[str, Any]], level: Level) -> dict[str, str]:
    """Who was left out of any case, and why."""
    found: dict[str, list[str]] = {}
    for case, result in zip(level.cases, cases, strict=True):
        for name, why in result["skipped"].items():
            found.setdefault(name, []).append(f"{case}: {why}")
    return {name: "; ".join(words) for name, words in found.items()}


def new_case(setting: Setting, case: Case) -> dict[str, Any]:
    task = setting.task(case)
    return {
        "sizes": list(case.sizes),
        "batch_size": case.batch_size,
        "precision": case.precision,
        "samples": len(task.x),
        "steps": task.steps,
        "flops": task.flops(),
        "launches": [],
        **{name: {} for name in ("memory", "settings", "skipped")},
    }


def summarize(setting: Setting, result: dict[str, Any]) -> None:
    """Medians, ratios and verdicts of a case; only who was in all launches is compared."""
    launches = result["launches"]
    names = [name for name in setting.field.entries if launches and all(name in each["seconds"] for each in launches)]
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
        with Launch(setting) as launch:
            for i, (width, rows) in enumerate(places):
                task = setting.task(Case((784, width, 10), rows, max(2048, 8 * rows)))
                launch.begin(task, entries)
                now, left = time.monotonic(), (number - done) * len(places) - i
                slice_end = now + max(0.0, end - now) / left
                seconds = launch.measure(LEAST_SECONDS / 2, slice_end, "map of widths and batch sizes")["seconds"]
                each = {name: [took / task.steps for took in values] for name, values in seconds.items()}
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


def curves(setting: Setting, end: float) -> dict[str, Any]:
    """The loss of each mini-batch of an epoch on each backend, and in float64 and plain numpy: the same run.

    Float32 follows float64 until a unit is rounded to the other side of a ReLU's corner; from there on the runs part,
    on every machine at another place. In float64 they coincide to the end.
    """
    case, name64 = Case((784, 128, 10), 64), "float64, plain numpy"
    task = setting.task(case)
    order = next(orders(task.sizes, len(task.x)))
    entries = {name: entry for name, entry in setting.field.backends().items() if not entry.precision}
    found: dict[str, dict[str, Any]] = {"float32": {}, "float64": {}}
    with setting.crew({name64: next(iter(entries.values())), **entries}) as workers:
        for dtype in ("float32", "float64") if setting.level.cold else ("float32",):
            for name, entry in entries.items():
                setting.tick("loss curves")
                make = functools.partial(make_fastnn, backend=entry.backend, dtype=dtype)
                if answer := attempt(workers, name, jobs.begin, make, task, order, task.steps):
                    found[dtype][name] = answer["losses"]
        expected = workers.call(name64, jobs.trace_reference, task, order, "float64")
    divergence, exact = ({name: diverge(v, expected) for name, v in traces.items()} for traces in found.values())
    passed = all(row["largest"] <= CURVE_TOLERANCE for row in divergence.values())
    return {
        "sizes": list(case.sizes),
        "batch_size": case.batch_size,
        "seed": 0,
        "optimizer": f"SGD({LEARNING_RATE:g})",
        "losses": found["float32"] | {name64: expected},
        "reference": name64,
        "divergence": divergence,
        "tolerance": CURVE_TOLERANCE,
        "divergence_float64": exact,
        "tolerance_float64": EXACT_CURVE_TOLERANCE,
        "passed": passed and all(row["largest"] <= EXACT_CURVE_TOLERANCE for row in exact.values()),
    }


# ---- accuracy -------------------------------------------------------------------------------------------------------


def accuracy(setting: Setting, end: float) -> dict[str, Any]:
    """Training by the recipe to its end, or on a device to the goal, seed by seed, each in a fresh process."""
    level, runs = setting.level, []
    entries = setting.field.backends()
    if not level.device:
        entries |= {name: entry for name, entry in setting.field.of("peer").items() if name in RECIPE_PEERS}
    goals = GOALS if level.preset == QUICK else FAR_GOALS
    goal = goals[-1] if level.device else None
    for seed in range(level.seeds):
        for name in setting.shuffled(entries):
            if setting.is_over(end):
                continue
            entry = entries[name]
            with setting.crew({name: entry}) as workers:
                settings = (seed, setting.threads, setting.dataset, level.preset)
                asked: tuple[Any, ...] = (jobs.train_recipe_by_torch, *settings)
                if entry.kind == "backend":
                    asked = (jobs.train_recipe, entry.backend, entry.precision, *settings, level.periods, goal)
                if run := attempt(workers, name, *asked):
                    runs.append({"contender": name, **run})
            setting.tick("accuracy")
    recipe = {name: value for name, value in read_recipe(level.preset).items() if value is not None}
    shown = {name: summarize_runs([run for run in runs if run["contender"] == name], goals) for name in entries}
    summary = {name: row for name, row in shown.items() if row}
    checks = judge_seconds(setting, summary)
    return {"recipe": recipe, "goals": list(goals), "runs": runs, "summary": summary, "checks": checks}


def judge_seconds(setting: Setting, summary: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """On a device the median of the seeds' seconds to the last goal has a limit, which is for MNIST."""
    if (
        not setting.level.device
        or setting.level.preset != QUICK
        or setting.data is None
        or setting.data.name != "mnist"
    ):
        return []
    rows = []
    for name, row in summary.items():
        if setting.field.backends()[name].backend == TIMED:
            reached = row["seconds_to"][f"{GOALS[-1]:g}"]
            took = reached[1] if reached else float("nan")
            rows.append(
                gate_row(name, read_recipe(QUICK)["layers"], "seconds of training to the goal", took, GOAL_SECONDS)
            )
    return rows


def summarize_runs(runs: list[dict[str, Any]], goals: Sequence[float] = GOALS) -> dict[str, Any] | None:
    if not runs:
        return None
    last = [run["accuracy"][-1] for run in runs]
    spread = statistics.stdev(last) if len(last) > 1 else 0.0
    times = {f"{goal:g}": [seconds_to(run, goal) for run in runs] for goal in goals}
    return {
        "accuracy": [statistics.mean(last), spread, min(last), max(last)],
        "seconds_to": {g: None if None in each else list(verdicts.quartiles(each)) for g, each in times.items()},
        "n": len(runs),
    }


def seconds_to(run: dict[str, Any], goal: float) -> float | None:
    """Of training until the first epoch with the goal."""
    pairs = zip(run["seconds"], run["accuracy"], strict=True)
    return next((seconds for seconds, reached in pairs if reaches(reached, goal)), None)


# ---- start-up -------------------------------------------------------------------------------------------------------


def start_up(setting: Setting, end: float) -> list[dict[str, Any]]:
    """Medians of what it takes until the first mini-batch is trained."""
    rows = []
    for name, entry in setting.field.of("backend").items():
        assert entry.backend is not None
        once = functools.partial(startup.measure, entry.backend, entry.precision, setting.threads)
        setting.tick("start-up")
        warm = [once() for _ in range(setting.level.startups)]
        with tempfile.TemporaryDirectory() as folder:
            cold = once(cache=folder) if setting.level.cold else None
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
