"""``fastnn bench compare``: what became slower or faster from one file of results to another.

A machine is not the same from one hour to the next. So where both files have a yardstick, a loop of plain numpy which
no change of fastnn touches, seconds are taken relative to it, launch by launch: a host that was busy slowed both.
Kernels are taken relative to the machine's peak in the same round, which knows nothing of the caches that others fill:
of kernels only large changes count. The interval is that of the ratio of the two, each resampled by itself
(`fastnn.bench.verdicts`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

import fastnn
from fastnn.bench import verdicts
from fastnn.bench.machine import identity
from fastnn.bench.report import formatting
from fastnn.bench.report.results import read_results
from fastnn.bench.report.schema import Results
from fastnn.bench.verdicts import Launches

__all__ = ["Change", "changes", "run"]

REGRESSION, GAIN = "regression", "gain"
LEAST_CHANGE = {"case": verdicts.LEAST_DIFFERENCE, "kernel": 0.10}  # two runs of equal code differed by 6 % in kernels
Timed: TypeAlias = tuple[str, str, str, int]  # kind (of LEAST_CHANGE), where, contender, samples of an epoch


class Change(NamedTuple):
    """How many times as fast a contender is after as before."""

    kind: str
    where: str
    contender: str
    comparison: verdicts.Comparison
    relative: bool  # to what was measured beside it, which no change of fastnn touches

    @property
    def verdict(self) -> str:
        names = {verdicts.SLOWER: REGRESSION, verdicts.FASTER: GAIN}
        return names.get(self.comparison.judge(LEAST_CHANGE[self.kind]), verdicts.SAME)

    def to_dict(self) -> dict[str, object]:
        row = {"kind": self.kind, "where": self.where, "contender": self.contender, **self.comparison._asdict()}
        return {**row, "relative": self.relative, "verdict": self.verdict}


def run(before: str | Path, after: str | Path, *, other_machine: bool = False, as_json: bool = False) -> int:
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
    return int(any(change.verdict == REGRESSION for change in found))


def check_machines(a: Results, b: Results) -> None:
    one, other = ({**identity(each["environment"]), "dataset": each["dataset"].get("name")} for each in (a, b))
    differing = [f"{key}: {one.get(key)} and {other.get(key)}" for key in one | other if one.get(key) != other.get(key)]
    if differing:
        raise fastnn.FastnnError(
            f"these results are not of the same machine and data: {'; '.join(differing)}. --other-machine compares them"
        )


def changes(a: Results, b: Results, generator: np.random.Generator) -> Iterator[Change]:
    """Each contender of each case, then each kernel, that both files have."""
    before, after = timings(a), timings(b)
    for timed in after:
        if timed in before:
            pairs = before[timed], after[timed]
            relative = all(beside for _, beside in pairs)
            logs = [
                verdicts.pair(seconds, beside if relative and beside else [[1.0] * len(each) for each in seconds])
                for seconds, beside in pairs
            ]
            draws = [verdicts.resample(values, generator) for values in logs]
            median = np.nanmedian(logs[0]) - np.nanmedian(logs[1])
            yield Change(*timed[:3], verdicts.summarize(median, draws[0] - draws[1]), relative)


def timings(results: Results) -> dict[Timed, tuple[Launches, Launches | None]]:
    """Seconds of all that was timed, by launch and round; and those of what was measured beside it."""
    found: dict[Timed, tuple[Launches, Launches | None]] = {}
    yardsticks = {name for name, entry in results["contenders"].items() if entry["kind"] == "yardstick"}
    for case in results["throughput"]:
        seconds = {name: [launch["seconds"][name] for launch in case["launches"]] for name in case["summary"]}
        beside = next((seconds[name] for name in seconds if name in yardsticks), None)
        for name in [name for name in seconds if name not in yardsticks]:
            found["case", formatting.case(case), name, case["samples"]] = seconds[name], beside
    peaks = results["roofline"]["launch_peaks"]
    at_peak = [[1 / peak for peak in launch] for launch in peaks] if all(peaks) else None
    for row in results["roofline"]["kernels"]:
        found["kernel", f"kernel {row['kernel']} {row['shape']}", row["contender"], 0] = row["launches"], at_peak
    return found


def show(found: list[Change]) -> None:
    """A line for each change, and one for all that did not change."""
    changed = [change for change in found if change.verdict != verdicts.SAME]
    for change in sorted(changed, key=lambda change: change.comparison.ratio):
        how = f"{change.comparison.ratio:.2f} times as fast [{change.comparison.low:.2f}, {change.comparison.high:.2f}]"
        print(f"{change.verdict:10s}  {change.where:34s}  {change.contender:20s}  {how}")
    counts = [sum(change.verdict == verdict for change in found) for verdict in (REGRESSION, GAIN, verdicts.SAME)]
    print(f"{counts[0]} regressions, {counts[1]} gains, {counts[2]} without a difference; 99 % intervals")
    if all(change.relative for change in found):
        print("cases are relative to the plain numpy loop of the same run, kernels to the peak measured beside them")
    else:
        print("compared as timed, where a run has no yardstick: another load of the machine shows there, too")
