"""Numbers and names of results as text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastnn.bench.verdicts import LEVEL

INTERVAL = f"{100 * LEVEL:g} % interval"


# ---- numbers --------------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Three figures without an exponent, more only before the point."""
    if value is None:
        return "-"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2g}"
    return f"{value:.{max(0, min(4, 2 - math.floor(math.log10(abs(value) or 1))))}f}"


def si(value: float, unit: str = "", *, plain: bool = False) -> str:
    """612 k, 1.23 GB/s: a prefix, and three figures, or as few as they need where `plain`."""
    value = float(f"{value:.3g}")
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}".rstrip()
    power = max(-9, min(12, math.floor(math.log10(abs(value)) / 3 + 1e-9) * 3))
    prefix = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}[power]
    scaled = value / 10**power
    figures = f"{scaled:g}" if plain else f"{scaled:.{max(0, 3 - len(str(int(abs(scaled)))))}f}"
    return f"{figures} {prefix}{unit}".rstrip()


def unit(value: float | None, name: str) -> str:
    return "-" if value is None else si(value, name)


def bytes_text(value: float | None) -> str:
    return "-" if value is None else f"{value / 2**20:,.0f} MiB"


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def spread(quartiles: Sequence[float] | None, scale: float = 1) -> str:
    """Median [lower quartile, upper quartile]."""
    if not quartiles:
        return "-"
    low, median, high = (number(None if value is None else value * scale) for value in quartiles)
    return f"{median} [{low}, {high}]"


def ratio(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Ratio [its interval]."""
    if not entry:
        return "-"
    value, low, high = (f"{entry[key]:.{digits}f}" for key in ("ratio", "low", "high"))
    return f"{value} [{low}, {high}]"


def deviation_text(entry: Mapping[str, Any], after: str = "") -> str:
    """The standard deviation of accuracies in points of a percent; a single run has none."""
    deviation = entry["accuracy"][1]
    return f"± {100 * deviation:.2f}{after}" if deviation is not None and entry["n"] > 1 else ""


# ---- names and whatever else ----------------------------------------------------------------------------------------


def network(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def case(row: Mapping[str, Any]) -> str:
    return f"{network(row['sizes'])}, batch {row['batch_size']}"


def several(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def plain(value: Any) -> str:
    """A value as a reader writes it."""
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        whole = len(value) > 1 and all(isinstance(item, int) for item in value)
        return ("-" if whole else ", ").join(plain(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of each value in nested dictionaries; the short ones of a list side by side."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}, {key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value):
            yield path + (f" {i + 1}" if len(value) > 1 else ""), plain(item)
    else:
        isbytes = isinstance(value, int) and not isinstance(value, bool) and value >= 2**20
        yield path, f"{value / 2**20:,.0f} MiB" if isbytes and "memory" in path else plain(value)
