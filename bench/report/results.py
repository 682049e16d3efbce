"""The results of `fastnn bench`: the schema of their file, how it is read, and what is looked up in them.

Any part may be missing from a file: a run can be interrupted, and a level need not measure all. `complete` fills in
what is missing, once, so that the report need not ask for it everywhere.
"""

import contextlib
import json
import math
import statistics
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from fastnn.errors import FileFormatError

KIND, SCHEMA_VERSION = "fastnn bench", 1

# ---- schema: seconds, bytes, samples/s and FLOP/s everywhere --------------------------------------------------------


class Dataset(TypedDict):
    name: str | None
    note: str | None


class Backend(TypedDict):
    state: str | None
    reason: str | None
    remedy: str | None


class Contender(TypedDict):
    kind: str  # backend, control, yardstick, peer
    backend: str | None
    precision: str | None  # of its products, where that is not the network's


class Check(TypedDict):
    contender: str
    sizes: list[int]  # empty where nothing could be checked; `quantity` says why
    quantity: str  # of a network, or a kernel with its shape
    error: float | None  # relative to the largest value; None: not finite
    tolerance: float
    passed: bool


class Launch(TypedDict):
    seconds: dict[str, list[float]]  # of an epoch, by contender and round
    peaks: dict[str, list[float]]  # FLOP/s that the machine reaches, measured beside each contender


class Memory(TypedDict):
    host_peak: float | None
    device_peak: float | None


class Summary(TypedDict):
    seconds: list[float]  # of an epoch: lower quartile, median, upper quartile
    samples_per_second: float
    flops_per_second: float
    share_of_peak: float | None
    n: int


class Comparison(TypedDict):
    ratio: float  # how many times as fast
    low: float
    high: float
    verdict: str


class Case(TypedDict):
    sizes: list[int]
    batch_size: int
    precision: str | None
    samples: int  # of an epoch
    steps: int  # of an epoch
    flops: float  # of an epoch
    launches: list[Launch]
    memory: dict[str, Memory]
    summary: dict[str, Summary]
    comparisons: dict[str, Comparison]  # with the reference
    control: Comparison | None
    fastest: str | None


class Kernel(TypedDict):
    contender: str
    kernel: str
    shape: str
    flops: float
    bytes: float
    seconds: list[float]  # of a call
    launches: list[list[float]]  # the same by launch and round
    error: float | None
    tolerance: float | None


class Roofline(TypedDict):
    threads: int | None
    peaks: list[float]
    launch_peaks: list[list[float]]
    bandwidths: list[float]
    kernels: list[Kernel]


class Run(TypedDict):
    contender: str
    seconds: list[float]  # of training until the end of each epoch
    accuracy: list[float]


class Reached(TypedDict):
    accuracy: list[float | None]  # mean, standard deviation, least, most
    seconds_to: dict[str, list[float] | None]  # by goal: lower quartile, median, upper quartile
    n: int


class Accuracy(TypedDict):
    recipe: dict[str, object]
    goals: list[float]
    runs: list[Run]
    summary: dict[str, Reached]


class Distance(TypedDict):
    largest: float | None
    step: int


class Curves(TypedDict):
    sizes: list[int]
    batch_size: int | None
    precision: str | None
    seed: int | None
    optimizer: str | None
    losses: dict[str, list[float | None]]  # of each mini-batch
    reference: str | None
    divergence: dict[str, Distance]
    tolerance: float | None
    divergence_float64: dict[str, Distance]
    tolerance_float64: float | None
    passed: bool | None


class Cell(TypedDict):
    width: int
    batch_size: int
    fastest: str | None
    ahead: Comparison | None  # of the second


class Crossover(TypedDict):
    hidden_layers: int | None
    widths: list[int]
    batch_sizes: list[int]
    cells: list[Cell]


class Startup(TypedDict):
    contender: str
    import_seconds: float | None
    compile_cold_seconds: float | None
    compile_warm_seconds: float | None
    first_batch_seconds: float | None


class Results(TypedDict):
    schema_version: int
    kind: str
    level: str | None
    command: str | None
    seconds: float | None
    budget: float | None
    interrupted: bool | None
    environment: dict[str, object]
    dataset: Dataset
    backends: dict[str, Backend]
    contenders: dict[str, Contender]
    reference: str | None
    control: list[str]  # a contender, and its second process; or nothing
    skipped: dict[str, str]
    gate: list[Check]
    throughput: list[Case]
    roofline: Roofline
    accuracy: Accuracy
    curves: Curves
    crossover: Crossover
    startup: list[Startup]


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
        found, hints = _typed({} if value is None else value, dict, where), get_type_hints(schema)
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
