"""The results of `fastnn bench`: how their file is read, and what is looked up in them.

Any part may be missing from a file: a run can be interrupted, and a level need not measure all. `complete` fills in
what is missing, once, so that the report need not ask for it everywhere.
"""

import contextlib
import functools
import json
import math
import statistics
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from fastnn.bench.report.schema import Case, Comparison, Results
from fastnn.errors import FileFormatError

KIND, SCHEMA_VERSION = "fastnn bench", 1

# ---- the file -------------------------------------------------------------------------------------------------------


def read_results(file: str | Path) -> Results:
    """Read results.json; see `complete`.

    Raises
    ------
    fastnn.FileFormatError
        If it is damaged, of something else, or of a newer version.
    OSError
        If it cannot be read.
    """
    content = load_results(file)
    try:
        return complete(content)
    except FileFormatError as error:
        raise FileFormatError(f"{file}: {error}") from error


def load_results(file: str | Path) -> dict[str, object]:
    """The content of results.json as it is there; errors are those of `read_results`."""
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise FileFormatError(f"{file} is no JSON ({error}): give the results.json of a `fastnn bench`") from error
    if not isinstance(results, dict) or results.get("kind") != KIND:
        came = f"kind {results.get('kind')!r}" if isinstance(results, dict) else f"a {type(results).__name__}"
        raise FileFormatError(f"{file} has {came}, expected kind {KIND!r}: give the results.json of a `fastnn bench`")
    version = results.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        remedy = "update fastnn to read it" if newer else "measure again"
        raise FileFormatError(f"{file} has schema_version {version!r}, this fastnn reads {SCHEMA_VERSION}: {remedy}")
    return results


def clean(value: object) -> object:
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


def complete(results: Mapping[str, object]) -> Results:
    """Results with all parts of the schema: those that are missing are empty or None.

    An entry of a list or dictionary that has None for a number it needs is left out: too little was measured for it.

    Raises
    ------
    fastnn.FileFormatError
        If something has another type than the schema says.
    """
    try:
        return cast(Results, _completed(clean(results), Results, ""))
    except _NoValueError as error:
        raise FileFormatError(f"the results have no{error}") from error


class _NoValueError(Exception):
    """None where the schema has no None."""


def _completed(value: object, schema: object, where: str) -> object:
    kind, arguments = get_origin(schema) or schema, get_args(schema)
    if kind is object or (value is None and type(None) in arguments):
        return value
    if kind in (types.UnionType, Union):  # of None and something else: without the latter it is None
        return next(iter(_entries({"": value}, arguments[0], where).values()), None)
    if is_typeddict(schema):
        found, hints = _typed({} if value is None else value, dict, where), _hints(schema)
        if needed := [key for key, hint in hints.items() if key not in found and hint in (bool, int, float, str)]:
            raise FileFormatError(f"{where.lstrip() or 'the file'} has no {needed[0]}")
        return found | {key: _completed(found.get(key), hint, f"{where} {key}") for key, hint in hints.items()}
    if kind is dict:
        return _entries(_typed({} if value is None else value, dict, where), arguments[1], where)
    if kind is list:
        items = dict(enumerate(_typed([] if value is None else value, list, where)))
        return list(_entries(items, arguments[0], where).values())
    if value is None:
        raise _NoValueError(where)
    return _typed(value, (int, float) if kind is float else cast(type, kind), where)


_hints = functools.cache(get_type_hints)


def _entries(values: Mapping[Any, object], schema: object, where: str) -> dict[Any, object]:
    found = {}
    for key, value in values.items():
        with contextlib.suppress(_NoValueError):
            found[key] = _completed(value, schema, f"{where} {key}".rstrip())
    return found


def _typed(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(value, kind):
        came = f"{type(value).__name__} {value!r:.40}"
        raise FileFormatError(
            f"{where.lstrip() or 'the file'} has {came}, expected {getattr(kind, '__name__', 'number')}"
        )
    return value


# ---- look-up --------------------------------------------------------------------------------------------------------


def cases(results: Results) -> list[Case]:
    """The networks and mini-batches of which there is a summary."""
    return [row for row in results["throughput"] if row["summary"]]


def main_case(results: Results) -> Case | None:
    """The case that stands for all where there is room for one only: the network that accuracy was measured with."""
    rows, layers = cases(results), results["accuracy"]["recipe"].get("layers")
    return next((row for row in rows if row["sizes"] == layers), rows[0] if rows else None)


def measured(results: Results) -> list[str]:
    """All contenders of which there is a time or an accuracy."""
    return ordered(
        results, [*(name for row in cases(results) for name in row["summary"]), *results["accuracy"]["summary"]]
    )


def ordered(results: Results, names: Iterable[str]) -> list[str]:
    """Names as `results` lists its contenders; those it does not list come last."""
    listed = list(results["contenders"])
    return sorted(dict.fromkeys(names), key=lambda name: listed.index(name) if name in listed else len(listed))


def overall(results: Results, name: str) -> float | None:
    """Geometric mean of a contender's ratios to the reference over all cases; None where one is missing."""
    if name == results["reference"]:
        return 1.0
    found = [row["comparisons"].get(name) for row in cases(results)]
    ratios = [entry["ratio"] for entry in found if entry]
    return statistics.geometric_mean(ratios) if ratios and len(ratios) == len(found) else None


def backends(results: Results, *, precisions: bool) -> list[str]:
    """The measured backends; those whose products have another precision compute something else, and are optional."""
    found = {name: results["contenders"].get(name) for name in measured(results)}
    return [
        name
        for name, entry in found.items()
        if entry and entry["kind"] == "backend" and (precisions or not entry["precision"])
    ]


def controls(results: Results) -> list[Comparison]:
    return [row["control"] for row in results["throughput"] if row["control"]]


def measured_peaks(row: Case) -> list[float]:
    """The machine's peaks in all launches of a case, beside whichever contender they were measured."""
    return [peak for launch in row["launches"] for peaks in launch["peaks"].values() for peak in peaks]
