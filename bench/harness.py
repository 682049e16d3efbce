"""``fastnn bench``: all sections in the time that its level allows, and what came of them."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fastnn.bench import sections
from fastnn.bench.contenders import Field
from fastnn.bench.levels import LEVELS
from fastnn.bench.machine import environment
from fastnn.bench.report.results import KIND, SCHEMA_VERSION

from fastnn.backends import available_backends
from fastnn.console import is_terminal, progress_bar
from fastnn.datasets import Dataset

__all__ = ["measure"]

SHARES = {"kernels": 0.12, "throughput": 0.66, "crossover": 0.22}  # of the time that is left for them


def measure(
    results: dict[str, Any], level: str, field: Field, data: Dataset, dataset: str, threads: int, command: str
) -> None:
    """Fill `results` section by section; after Ctrl-C, as far as it came. `command` is what the user typed.

    A backend that fails the gate takes no further part: nothing of it is timed.
    """
    begin = time.monotonic()
    results |= header(level, field, data, threads) | {"command": command}
    try:
        with progress(LEVELS[level].budget) as tick:
            setting = sections.Setting(
                LEVELS[level], field, data, threads, np.random.default_rng(), tick, find_peak(threads)
            )
            _fill(results, setting, dataset, begin)
    except KeyboardInterrupt:
        results["interrupted"] = True
    results["seconds"] = time.monotonic() - begin


def _fill(results: dict[str, Any], setting: sections.Setting, dataset: str, begin: float) -> None:
    results["gate"] = sections.gate(setting)
    wrong = {row["contender"] for row in results["gate"] if not row["passed"]}
    for name in wrong:
        results["skipped"][name] = "failed the correctness gate"
    copies = {name for name in setting.field.of("control") if name.removesuffix(", again") in wrong}
    setting = setting._replace(field=setting.field.without(wrong | copies))
    results["reference"], results["control"] = setting.field.reference, setting.field.control
    if not setting.field.of("backend"):
        return
    results["startup"] = sections.start_up(setting)
    results["curves"] = sections.curves(setting)
    results["accuracy"] = sections.accuracy(setting, dataset)
    # What compiles has been compiled by now; the rest has a share each of the time that is left.
    left = SHARES | {}

    def until(name: str) -> float:
        now = time.monotonic()
        end = now + max(0.0, begin + setting.level.budget - now) * left[name] / sum(left.values())
        del left[name]
        return end

    results["roofline"] = sections.time_kernels(setting, until("kernels"))
    cases, skipped = sections.throughput(setting, until("throughput"))
    results["throughput"] = cases
    results["skipped"] |= skipped
    results["crossover"] = sections.crossover(setting, until("crossover"))


def header(level: str, field: Field, data: Dataset, threads: int) -> dict[str, Any]:
    """What is known before anything is measured."""
    infos = available_backends()
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "level": level,
        "budget": LEVELS[level].budget,
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
        "contenders": {name: entry.to_dict() for name, entry in field.entries.items()},
        "reference": field.reference,
        "control": field.control,
        "skipped": dict(field.skipped),
        **dict.fromkeys(("gate", "throughput", "roofline", "accuracy", "curves", "crossover", "startup")),
    }


def find_peak(threads: int) -> Callable[[], float | None]:
    """A measurement of the machine's peak; of None where vector kernels do not know the CPU."""
    from fastnn.kernels.numba_simd import find_host

    if find_host() is None:
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
