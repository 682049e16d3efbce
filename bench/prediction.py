"""The section ``prediction``: how long a call takes that labels some samples, on backends and by other libraries.

`fastnn.bench.predictors` says how each of them predicts. Whose labels are wrong is not timed.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.bench import predictors, reference, verdicts
from fastnn.bench.levels import Case
from fastnn.bench.predictors import SAMPLES
from fastnn.bench.sections import LEAST_ROUNDS, Setting, gate_row, gather, versus
from fastnn.bench.workers import Crew, WorkerError

__all__ = ["prediction"]

MARGIN = 1e-5  # in probability: two classes that are closer may be ranked either way in float32


def prediction(setting: Setting, end: float) -> dict[str, Any]:
    """Seconds of a call with each number of samples, launch after launch.

    Ratios are to the first other library, or without one to the reference of the other sections.
    """
    entries, sizes = dict(setting.field.predictors), setting.level.kernel_networks[0]
    task = setting.task(Case(sizes, 1, SAMPLES[-1]))
    x = predictors.take_samples(task).astype(np.float64)
    outputs = reference.forward(reference.copy_weights(task.weights), x)[-1]
    checks: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    launches: list[dict[str, list[list[float]]]] = []
    for number in range(setting.level.launches):
        setting.tick("predictions")
        with setting.crew(entries) as workers:
            asked = {name: (predictors.prepare, entry.make, task) for name, entry in entries.items()}
            answers, failures = workers.call_all(asked, setting.level.patience)
            skipped |= {name: str(why) for name, why in failures.items()}
            for name, labels in answers.items():
                checks[name] = gate_row(name, sizes, "predictions", wrong_share(labels, outputs), 0.0)
                if not checks[name]["passed"]:
                    skipped[name] = "failed the correctness gate"
            entries = {name: entry for name, entry in entries.items() if name not in skipped}
            slice_end = time.monotonic() + max(0.0, end - time.monotonic()) / (setting.level.launches - number)
            launches.append(launch(setting, workers, list(entries), skipped, slice_end))
            entries = {name: entry for name, entry in entries.items() if name not in skipped}
    peers = [name for name in entries if entries[name].kind == "peer"]
    against = next(iter([*peers, *(name for name in (setting.field.reference, *entries) if name in entries)]), None)
    rows = [summarize(setting, launches, i, list(entries), against) for i in range(len(SAMPLES))]
    found = {"sizes": list(sizes), "threads": setting.threads, "reference": against, "rows": rows}
    return found | {"checks": list(checks.values()), "skipped": skipped}


def wrong_share(found: list[NDArray[np.int64]], outputs: NDArray[np.float64]) -> float:
    """The largest share of wrong labels of any call; NaN where there are not as many labels as samples."""
    shares = []
    for labels, count in zip(found, SAMPLES, strict=True):
        if labels.shape != (count,):
            return float("nan")
        best = outputs[:count] >= outputs[:count].max(axis=1, keepdims=True) - MARGIN
        right = (best & (labels[:, None] == np.arange(outputs.shape[1]))).any(axis=1)
        shares.append(1 - right.mean())
    return float(max(shares))


def launch(
    setting: Setting, workers: Crew, names: list[str], skipped: dict[str, str], end: float
) -> dict[str, list[list[float]]]:
    """Seconds of a call by contender, round and number of samples; who fails is added to `skipped`."""
    seconds: dict[str, list[list[float]]] = {name: [] for name in names}
    rounds = 0
    while seconds and (rounds < LEAST_ROUNDS or time.monotonic() < end):
        for name in setting.shuffled(seconds):
            try:
                seconds[name].append(workers.call(name, predictors.time_predictions, patience=setting.level.patience))
            except WorkerError as error:
                skipped[name] = str(error)
                del seconds[name]
        rounds += 1
        setting.tick("predictions")
    return seconds


def summarize(
    setting: Setting, launches: list[dict[str, list[list[float]]]], i: int, names: list[str], against: str | None
) -> dict[str, Any]:
    """Quartiles and ratios of one number of samples."""
    found = [{"seconds": {name: [each[i] for each in launch[name]] for name in names}} for launch in launches]
    return {
        "samples": SAMPLES[i],
        "launches": found,
        "seconds": {name: list(verdicts.quartiles(gather(found, name))) for name in names},
        "comparisons": {
            name: versus(setting, found, against, name).to_dict() for name in names if against and name != against
        },
    }
