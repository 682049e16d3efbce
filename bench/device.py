"""Sections of the level for a device: its training against the CPU's, and many networks at once against one.

What they judge are rows of the gate, as are those of correctness: see `fastnn.bench.sections.gate_row`.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import fastnn
from fastnn.backends import READY
from fastnn.bench import jobs, verdicts
from fastnn.bench.levels import SMALL, Case
from fastnn.bench.sections import NO_TIME, TIMED, Setting, failure, gate_row
from fastnn.bench.workers import LateError, RefusalError, WorkerError

EPOCHS, CURVE_LIMIT, ACCURACY_LIMIT = 5, 1e-3, 0.1  # relative, and in percentage points
MANY_LIMIT = 2.0  # times as long as one alone
LEAST_ROUNDS, MOST_ROUNDS = 3, 15


def agreement(setting: Setting, end: float) -> dict[str, Any]:
    """Training runs of one seed on each backend in each precision, against the same on the CPU in float32.

    Test accuracies have to be within `ACCURACY_LIMIT` points, and losses in float32 within `CURVE_LIMIT`.
    """
    case = setting.level.cases[0]._replace(precision=None)
    asked: list[tuple[str, str | None, dict[str, str]]] = [(reference_backend(), None, {})]
    for entry in setting.field.backends().values():
        assert entry.backend is not None
        asked += [(entry.backend, precision, entry.environment) for precision in (None, "tf32", "bf16")]
    runs: list[dict[str, Any]] = []
    limits = {"loss_difference": CURVE_LIMIT, "accuracy_difference": ACCURACY_LIMIT}
    result: dict[str, Any] = {"epochs": EPOCHS, "case": str(case), "limits": limits, "reference": None, "runs": runs}
    result |= {"skipped": {}, "checks": []}
    for backend, precision, environment in asked:
        setting.tick("agreement with the CPU")
        name = f"{backend} {precision or 'float32'}"
        try:
            with setting.crew({}) as workers:
                workers.start(name, environment)
                job = backend, precision, case, EPOCHS, setting.threads, setting.dataset
                answer = workers.call(name, jobs.train_epochs, *job, patience=max(0.0, end - time.monotonic()))
            run = {"backend": backend, "precision": precision or "float32", **answer}
            if result["reference"] is None:
                result["reference"] = run
                continue
            checks = agreement_checks(name, case, run, result["reference"])
            result["checks"] += checks
            runs.append(run | {"passed": all(row["passed"] for row in checks)})
        except (LateError, RefusalError) as error:
            result["skipped"][name] = str(error)
        except WorkerError as error:  # it diverges, or a kernel does not compile
            result["checks"].append(failure(name, str(error)))
        if result["reference"] is None:  # without the CPU's there is nothing to compare with
            break
    return result


def reference_backend() -> str:
    """The CPU's, whose results count as right."""
    return "numba" if fastnn.available_backends()["numba"].state == READY else "numpy"


def agreement_checks(name: str, case: Case, run: dict[str, Any], expected: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of the gate; the run keeps its differences."""
    run["loss_difference"] = largest_difference(run["loss"], expected["loss"])
    run["accuracy_difference"] = points = abs(run["accuracy"] - expected["accuracy"]) * 100
    rows = [gate_row(name, case.sizes, "test accuracy after some epochs, in points", points, ACCURACY_LIMIT + 1e-9)]
    if run["precision"] == "float32":
        rows.append(gate_row(name, case.sizes, "losses of some epochs", run["loss_difference"], CURVE_LIMIT))
    return rows


def largest_difference(losses: Sequence[float], expected: Sequence[float]) -> float:
    """Of two curves, relative to the second; NaN if there is one, unlike Python's max."""
    return float(np.max(np.abs(np.array(losses) - expected) / expected))


def many(setting: Setting, end: float) -> dict[str, Any]:
    """An epoch of as many networks at once as the device has multiprocessors, against that of one alone.

    It takes at most `MANY_LIMIT` times as long, by the clock around the whole training and by `History.seconds`: each
    leaves out what the other shows. Two of the networks have the losses of those trained alone.
    """
    case, rounds = Case(SMALL, 64, setting.level.cases[0].samples), []
    name, entry = next(iter(setting.field.backends().items()))
    n = count_networks(entry.backend, setting.threads)
    result: dict[str, Any] = {"contender": name, "networks": n, "case": str(case), "epochs": EPOCHS, "rounds": rounds}
    timed = entry.backend == TIMED
    limits = {"ratio": MANY_LIMIT if timed else None, "loss_difference": CURVE_LIMIT}
    result |= {"limits": limits, "plans": {}, "passed": None, "skipped": {}, "checks": []}

    def train(seeds: list[int]) -> dict[str, Any]:
        setting.tick("many networks at once")
        job = entry.backend, case, seeds, EPOCHS, setting.threads, setting.dataset
        answer: dict[str, Any] = workers.call(name, jobs.train_some, *job, patience=max(0.0, end - time.monotonic()))
        return answer

    with setting.crew({name: entry}) as workers:
        try:
            for number in range(-1, MOST_ROUNDS):  # the one before the first is for compilation
                seed = (0, n - 1)[number % 2]  # so that there are two whose losses are compared
                one, every = train([seed]), train(list(range(n)))
                difference = largest_difference(every.pop("losses")[seed], one.pop("losses")[0])
                result["plans"] = {"one": one.pop("plan"), "many": every.pop("plan")}
                if number >= 0:
                    rounds.append({"seed": seed, "one": one, "many": every, "loss_difference": difference})
        except LateError:
            if len(rounds) < LEAST_ROUNDS:
                return result | {"skipped": {f"{n} networks at once": NO_TIME}}
        except WorkerError as error:
            return result | {"error": str(error), "passed": False, "checks": [failure(name, str(error))]}
    return result | judge(result, name, case, timed, setting.generator)


def count_networks(backend: str | None, threads: int) -> int:
    """One for each multiprocessor; on a CPU a few, just so that there are more than cores."""
    if backend == TIMED:
        from fastnn.kernels.cuda_device import multiprocessors

        return multiprocessors()
    return min(4, 2 * threads)


def judge(result: dict[str, Any], name: str, case: Case, timed: bool, generator: np.random.Generator) -> dict[str, Any]:
    """Medians of the rounds, how many times as long many take as one, and what has to be within its limit."""
    rounds, medians, ratios = result["rounds"], {}, {}
    difference = float(np.max([row["loss_difference"] for row in rounds]))
    checks = [gate_row(name, case.sizes, "losses of networks trained at once", difference, CURVE_LIMIT)]
    for measure in ("clock", "history"):
        seconds = {who: [row[who][measure] for row in rounds] for who in ("one", "many")}
        ratio, *interval = verdicts.compare(seconds["many"], seconds["one"], generator)
        medians[measure] = {who: statistics.median(values) for who, values in seconds.items()}
        ratios[measure] = {"median": ratio, "interval": interval}
        if timed:
            what = f"times as long as one, many at once by the {measure}"
            checks.append(gate_row(name, case.sizes, what, ratio, MANY_LIMIT))
    found = {"medians": medians, "ratios": ratios, "loss_difference": difference, "checks": checks}
    return found | {"passed": all(row["passed"] for row in checks)}
