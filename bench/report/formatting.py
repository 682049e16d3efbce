"""Numbers and names of results as text; a dash stands for what is not there."""

import math
from collections.abc import Sequence

from fastnn.bench.report.schema import Case, Comparison, Curves, Reached
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


def si(value: float | None, unit: str = "") -> str:
    """612 k, 1.23 GB/s: three figures and a prefix."""
    if value is None:
        return "-"
    value = float(f"{value:.3g}")
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}".rstrip()
    power = max(-3, min(4, math.floor(math.log10(abs(value)) / 3 + 1e-9)))
    scaled = value / 1000.0**power
    figures = max(0, 3 - len(str(int(abs(scaled)))))
    return f"{scaled:.{figures}f} {['', 'k', 'M', 'G', 'T', 'n', 'µ', 'm'][power]}{unit}".rstrip()


def mebibytes(value: float | None) -> str:
    return "-" if value is None else f"{value / 2**20:,.0f} MiB"


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def error(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def spread(quartiles: Sequence[float] | None, scale: float = 1) -> str:
    """Median [lower quartile, upper quartile]."""
    if not quartiles:
        return "-"
    low, median, high = (number(value * scale) for value in quartiles)
    return f"{median} [{low}, {high}]"


def ratio(entry: Comparison | None, digits: int = 2) -> str:
    """Ratio [its interval]."""
    if not entry:
        return "-"
    return f"{entry['ratio']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"


def deviation(entry: Reached, after: str = "") -> str:
    """The standard deviation of accuracies in points of a percent; a single run has none."""
    value = entry["accuracy"][1]
    return f"± {100 * value:.2f}{after}" if value is not None and entry["n"] > 1 else ""


# ---- names and whatever else ----------------------------------------------------------------------------------------


def network(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def case(row: Case | Curves, between: str = ", ") -> str:
    return between.join([network(row["sizes"]), f"batch {row['batch_size']}", *filter(None, [row.get("precision")])])


def several(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def plain(value: object, key: str = "") -> str:
    """A value as a reader writes it, in bytes if its key says memory."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {plain(item, key)}" for key, item in value.items())
    if isinstance(value, list):
        whole = len(value) > 1 and all(isinstance(item, int) for item in value)
        nested = any(isinstance(item, dict) for item in value)
        return ("-" if whole else "\n" if nested else ", ").join(map(plain, value))
    if key == "memory" and isinstance(value, int):
        return mebibytes(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
