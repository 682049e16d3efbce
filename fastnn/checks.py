"""Checks of single numbers that a user gave: what is right comes back in one form, for what is not a ValueError.

The error says what was expected and what came.
"""

import math
import numbers
from typing import Any

__all__ = ["check_count", "check_finite", "is_finite"]


def check_count(what: str, n: Any, least: int = 1) -> int:
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < least:
        raise ValueError(f"{what} must be a whole number of at least {least}, got {n!r}")
    return int(n)


def is_finite(value: Any) -> bool:
    """Whether it is a finite number, which True and "0.1" are not."""
    return not isinstance(value, bool) and isinstance(value, numbers.Real) and math.isfinite(value)


def check_finite(what: str, value: Any, *, least: float = -math.inf) -> float:
    if not is_finite(value) or value < least:
        limit = f" >= {least:g}" if least > -math.inf else ""
        raise ValueError(f"{what} must be a finite number{limit}, got {value!r}")
    return float(value)
