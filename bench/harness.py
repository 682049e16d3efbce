"""``fastnn bench``: all sections in the time that its level allows, and what came of them."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn.backends import available_backends
from fastnn.bench import device, prediction, sections
from fastnn.bench.contenders import AGAIN, Field
from fastnn.bench.levels import SECTIONS, Level
from fastnn.bench.machine import environment
from fastnn.bench.report.results import KIND, SCHEMA_VERSION
from fastnn.console import is_terminal, progress_bar
from fastnn.datasets import Dataset

__all__ = ["has_failed", "measure"]

MEASURE: dict[str, Callable[[sections.Setting, float], Any]] = {
    "startup": sections.start_up,
    "curves": sections.curves,
    "accuracy": sections.accuracy,
    "roofline": sections.time_kernels,
    "throughput": sections.throughput,
    "crossover": sections.crossover,
    "prediction": prediction.prediction,
    "agreement": device.agreement,
    "many": device.many,
}


def measure(
    results: dict[str, Any],
    name: str,
    level: Level,
    field: Field,
    data: Dataset,
    dataset: str,
    threads: int,
    command: str,
    save: Callable[[], None] = lambda: None,
) -> None:
    """Fill `results` section by section; after Ctrl-C, as far as it came.

    A backend that fails the gate takes no further part: nothing of it is timed.

    Parameters
    ----------
    results : dict
    name : str
        The level's.
    level : Level
    field : Field
    data : Dataset
    dataset : str
        What other processes find it by.
    threads : int
    command : str
        What the user typed.
    save : callable
        Called after each section: what there is would outlive this process.
    """
    begin = time.monotonic()
    results |= header(name, level, field, data, threads) | {"command": command}
    try:
        with progress(level.budget) as tick:
            generator, peak = np.random.default_rng(), (lambda: None) if level.device else find_peak(threads)
            setting = sections.Setting(level, field, data, dataset, threads, generator, tick, peak)
            _fill(results, setting, begin, save)
    except KeyboardInterrupt:
        results["interrupted"] = True
    results["seconds"] = time.monotonic() - begin


def _fill(results: dict[str, Any], setting: sections.Setting, begin: float, save: Callable[[], None]) -> None:
    results["gate"] = sections.gate(setting)
    wrong = {row["contender"] for row in results["gate"] if not row["passed"]}
    results["skipped"] |= dict.fromkeys(wrong, "failed the correctness gate")
    copies = {name for name in setting.field.of("control") if name.removesuffix(AGAIN) in wrong}
    setting = setting._replace(field=setting.field.without(wrong | copies))
    results["reference"], results["control"] = setting.field.reference, setting.field.control
    left = dict(setting.level.sections) if setting.field.of("backend") else {}
    for name in list(left):
        save()
        now, shares = time.monotonic(), sum(left.values())
        share = left.pop(name)
        end = now + max(0.0, begin + setting.level.budget - now) * (share / shares if shares else 0)
        result = results[name] = MEASURE[name](setting, end)
        if isinstance(result, dict):  # what it has judged, and left out
            results["gate"] += result.pop("checks", [])
            results["skipped"] |= result.pop("skipped", {})
        if name == "throughput":
            results["skipped"] |= sections.skipped_cases(result, setting.level)


def has_failed(results: dict[str, Any]) -> bool:
    """Whether anything was found wrong."""
    curves = results["curves"]
    return any(not row["passed"] for row in results["gate"] or []) or bool(curves and not curves["passed"])


def header(name: str, level: Level, field: Field, data: Dataset, threads: int) -> dict[str, Any]:
    """What is known before anything is measured."""
    infos = available_backends()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "level": name,
        "budget": level.budget,
        "seconds": math.nan,
        "interrupted": False,
        "environment": environment(threads),
        "dataset": {
            "name": data.name,
            "source": data.name if data.note else "the published files",
            "note": data.note or "",
            "training_samples": len(data.x_train),
            "test_samples": len(data.x_test),
        },
        "backends": {
            name: {key: getattr(info, key) for key in ("state", "reason", "remedy", "versions")}
            for name, info in infos.items()
        },
        "contenders": {name: entry.to_dict() for name, entry in (field.predictors | field.entries).items()},
        "reference": field.reference,
        "control": field.control,
        "skipped": dict(field.skipped),
        **dict.fromkeys(("gate", *SECTIONS)),
    }


def find_peak(threads: int) -> Callable[[], float | None]:
    """A measurement of the machine's peak; of None where vector kernels do not know the CPU."""
    from fastnn.kernels.numba_simd import find_isa

    if find_isa() is None:
        return lambda: None
    from fastnn.bench.peak import Peak

    return Peak(threads)


@contextmanager
def progress(budget: float) -> Iterator[Callable[[str], None]]:
    """A function that shows what is going on, and how much time is left, where somebody looks."""
    if not is_terminal(sys.stderr):
        yield lambda what: None
        return
    form = "{desc:<32} {percentage:3.0f}% |{bar}| {elapsed}, {remaining} left"
    begin = time.monotonic()
    with progress_bar(total=budget, bar_format=form, leave=False) as bar:

        def tick(what: str) -> None:
            bar.set_description_str(what, refresh=False)
            bar.update(min(time.monotonic() - begin, budget) - bar.n)
            bar.refresh()

        yield tick
