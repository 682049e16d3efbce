"""``fastnn bench compare``: what became slower or faster from one file of results to another.

A machine is not the same from one hour to the next. So where both files have the plain numpy loop, which no change of
fastnn touches, seconds are taken relative to it, launch by launch: a host that was busy slowed both. Kernels are taken
relative to the machine's peak in the same round, which knows nothing of the caches that others fill: of kernels only
large changes count. The interval is that of the ratio of the two, each resampled by itself (`fastnn.bench.verdicts`).
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from fastnn.bench import verdicts
from fastnn.bench.contenders import YARDSTICK
from fastnn.bench.machine import identity
from fastnn.bench.report import formatting
from fastnn.bench.report.results import read_results

import fastnn

__all__ = ["Change", "changes", "run"]

REGRESSION, GAIN = "regression", "gain"
LEAST_CHANGE = {
    "case": verdicts.LEAST_DIFFERENCE,
    "kernel": 0.10,
}  # two runs of the same code differed by 6 % in kernels


class Change(NamedTuple):
    """How many times as fast a contender is after as before."""

    kind: str  # case or kernel
    where: str
    contender: str
    comparison: verdicts.Comparison
    relative: bool  # to what was measured beside it, which no change of fastnn touches

    @property
    def verdict(self) -> str:
        names = {verdicts.SLOWER: REGRESSION, verdicts.FASTER: GAIN}
        return names.get(self.comparison.judge(LEAST_CHANGE[self.kind]), verdicts.SAME)

    def to_dict(self) -> dict[str, Any]:
        row = {"kind": self.kind, "where": self.where, "contender": self.contender, **self.comparison._asdict()}
        return row | {"relative": self.relative, "verdict": self.verdict}


def run(before: str, after: str, *, other_machine: bool = False, as_json: bool = False) -> int:
    """Print what changed; 1 if anything became slower.

    Raises
    ------
    fastnn.FileFormatError
        If a file is not one of results.
    fastnn.FastnnError
        If they are of different machines, or have nothing in common.
    """
    a, b = read_results(before), read_results(after)
    if not other_machine:
        check_machines(a, b)
    found = list(changes(a, b, np.random.default_rng(0)))
    if not found:
        raise fastnn.FastnnError(f"{before} and {after} have no case and no kernel in common that both measured")
    if as_json:
        print(json.dumps({"schema_version": 1, "command": "bench compare", "changes": [c.to_dict() for c in found]}))
    else:
        show(found)
    return 1 if any(change.verdict == REGRESSION for change in found) else 0


def check_machines(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, other = (identity(results["environment"]) for results in (a, b))
    differing = [f"{key}: {one.get(key)} and {other.get(key)}" for key in one | other if one.get(key) != other.get(key)]
    if a["dataset"]["name"] != b["dataset"]["name"]:
        differing.append(f"dataset: {a['dataset']['name']} and {b['dataset']['name']}")
    if differing:
        raise fastnn.FastnnError(
            f"these results are not of the same machine and data: {'; '.join(differing)}. --other-machine compares them"
        )


def changes(a: dict[str, Any], b: dict[str, Any], generator: np.random.Generator) -> Iterator[Change]:
    """Each contender of each case, then each kernel, that both files have."""
    cases = {case_key(case): case for case in a["throughput"] or []}
    for case in b["throughput"] or []:
        if (before := cases.get(case_key(case))) is not None:
            yield from case_changes(before, case, generator)
    kernels = {kernel_key(row): row for row in (a["roofline"] or {}).get("kernels", [])}
    for row in (b["roofline"] or {}).get("kernels", []):
        if (old := kernels.get(kernel_key(row))) is not None:
            peaks = [results["roofline"]["launch_peaks"] for results in (a, b)]
            relative = all(all(launch) for launch in peaks)
            pairs = zip((old, row), peaks, strict=True)
            logs = [per_peak(kernel, peak) if relative else log_samples(kernel["launches"]) for kernel, peak in pairs]
            where = f"kernel {row['kernel']} {row['shape']}"
            yield Change("kernel", where, row["contender"], ratio(*logs, generator), relative)


def per_peak(kernel: dict[str, Any], peaks: list[list[float]]) -> np.ndarray:
    """Logarithms of the kernel's seconds, each in those that the machine's peak of the same round would take."""
    return verdicts.pair(kernel["launches"], [[1 / peak for peak in launch] for launch in peaks])


def case_changes(before: dict[str, Any], after: dict[str, Any], generator: np.random.Generator) -> Iterator[Change]:
    both = [{name: seconds(case, name) for name in case["summary"]} for case in (before, after)]
    relative = all(YARDSTICK in case for case in both)
    for name in both[0]:
        if name in both[1] and name != YARDSTICK:
            logs = [
                verdicts.pair(case[name], case[YARDSTICK]) if relative else log_samples(case[name]) for case in both
            ]
            yield Change("case", formatting.case(after), name, ratio(*logs, generator), relative)


def case_key(case: dict[str, Any]) -> tuple:
    return tuple(case["sizes"]), case["batch_size"], case["samples"]


def kernel_key(row: dict[str, Any]) -> tuple:
    return row["contender"], row["kernel"], row["shape"]


def seconds(case: dict[str, Any], name: str) -> list[list[float]]:
    return [launch["seconds"][name] for launch in case["launches"]]


def log_samples(launches: list[list[float]]) -> np.ndarray:
    return verdicts.pair(launches, [[1.0] * len(launch) for launch in launches])


def ratio(before: np.ndarray, after: np.ndarray, generator: np.random.Generator) -> verdicts.Comparison:
    """Of two independent sets of logarithms of seconds: how many times as fast the second is."""
    draws = verdicts.resample(before, generator) - verdicts.resample(after, generator)
    low, high = np.quantile(draws, [(1 - verdicts.LEVEL) / 2, (1 + verdicts.LEVEL) / 2])
    middle = np.nanmedian(before) - np.nanmedian(after)
    return verdicts.Comparison(*(float(np.exp(value)) for value in (middle, low, high)))


def show(found: list[Change]) -> None:
    """A line for each change, and one for all that did not change."""
    told = [change for change in found if change.verdict != verdicts.SAME]
    for change in sorted(told, key=lambda change: change.comparison.ratio):
        c = change.comparison
        how = f"{c.ratio:.2f} times as fast [{c.low:.2f}, {c.high:.2f}]"
        print(f"{change.verdict:10s}  {change.where:34s}  {change.contender:20s}  {how}")
    counts = [sum(change.verdict == verdict for change in found) for verdict in (REGRESSION, GAIN, verdicts.SAME)]
    print(f"{counts[0]} regressions, {counts[1]} gains, {counts[2]} without a difference; 99 % intervals")
    if all(change.relative for change in found):
        print("cases are relative to the plain numpy loop of the same run, kernels to the peak measured beside them")
    else:
        print("compared as timed, where a run has no yardstick: another load of the machine shows there, too")
