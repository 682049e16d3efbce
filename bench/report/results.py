"""The results of `fastnn bench`: their file, and what is looked up in them.

Any part may be missing: a run can be interrupted, and a level need not measure all.
"""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastnn.errors import FileFormatError

KIND, SCHEMA_VERSION = "fastnn bench", 1

Results = Mapping[str, Any]


# ---- the file -------------------------------------------------------------------------------------------------------


def read_results(file: str | Path) -> dict[str, Any]:
    """Read results.json.

    Raises
    ------
    fastnn.FileFormatError
        If it is damaged, of something else, or of a newer version.
    OSError
        If it cannot be read.
    """
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise FileFormatError(f"{file} is no JSON ({error}): give the results.json of a `fastnn bench`") from error
    kind = results.get("kind") if isinstance(results, dict) else None
    if kind != KIND:
        came = f"kind {kind!r}" if isinstance(results, dict) else f"a {type(results).__name__}"
        raise FileFormatError(f"{file} has {came}, expected kind {KIND!r}: give the results.json of a `fastnn bench`")
    version = results.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        remedy = "update fastnn to read it" if newer else "measure again"
        raise FileFormatError(f"{file} has schema_version {version!r}, this fastnn reads {SCHEMA_VERSION}: {remedy}")
    return results


def clean(value: Any) -> Any:
    """What JSON can hold: None for NaN and infinity, lists for arrays and tuples, text for keys."""
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


# ---- look-up --------------------------------------------------------------------------------------------------------


def comparable(results: Results) -> dict[str, Any]:
    """The results without comparisons that have no interval: too little was measured when the run was interrupted."""

    def whole(entry: Mapping[str, Any] | None) -> bool:
        return entry is not None and None not in (entry.get("ratio"), entry.get("low"), entry.get("high"))

    rows = []
    for row in results.get("throughput") or []:
        found = {name: entry for name, entry in (row.get("comparisons") or {}).items() if whole(entry)}
        rows.append({**row, "comparisons": found, "control": row.get("control") if whole(row.get("control")) else None})
    return {**results, "throughput": rows}


def cases(results: Results) -> list[Mapping[str, Any]]:
    """The networks and mini-batches of which there is a summary."""
    return [row for row in results.get("throughput") or [] if row.get("summary")]


def main_case(results: Results) -> Mapping[str, Any] | None:
    """The case that stands for all where there is room for one only: the network that accuracy was measured with."""
    rows = cases(results)
    layers = ((results.get("accuracy") or {}).get("recipe") or {}).get("layers") or [784, 128, 10]
    return next((row for row in rows if list(row["sizes"]) == list(layers)), rows[0] if rows else None)


def measured(results: Results) -> list[str]:
    """All contenders of which there is a time or an accuracy."""
    names = [name for row in cases(results) for name in row["summary"]]
    return ordered(results, names + list((results.get("accuracy") or {}).get("summary") or {}))


def ordered(results: Results, names: Iterable[str]) -> list[str]:
    """Names as `results` lists its contenders; those it does not list come last."""
    listed = list(results.get("contenders") or {})
    return sorted(dict.fromkeys(names), key=lambda name: listed.index(name) if name in listed else len(listed))


def overall(results: Results, name: str) -> float | None:
    """Geometric mean of a contender's ratios to the reference over all cases; None where one is missing."""
    if name == results.get("reference"):
        return 1.0
    ratios = [(row.get("comparisons") or {}).get(name) for row in cases(results)]
    known = [entry["ratio"] for entry in ratios if entry]
    return statistics.geometric_mean(known) if known and len(known) == len(ratios) else None


def plain_backends(results: Results) -> list[str]:
    """The backends in their own precision: bf16 and tf32 compute something else."""
    contenders = results.get("contenders") or {}
    entries = {name: contenders.get(name) or {} for name in measured(results)}
    return [name for name, entry in entries.items() if entry.get("kind") == "backend" and not entry.get("precision")]


def controls(results: Results) -> list[Mapping[str, Any]]:
    return [row["control"] for row in results.get("throughput") or [] if row.get("control")]


def measured_peaks(row: Mapping[str, Any]) -> list[float]:
    """The machine's peaks in all launches of a case, beside whichever contender they were measured."""
    found: list[float | None] = []
    for launch in row.get("launches") or []:
        peaks = launch.get("peaks") or []
        found += [peak for each in peaks.values() for peak in each] if isinstance(peaks, Mapping) else peaks
    return [peak for peak in found if peak]
