"""How many threads a network uses."""

import os

__all__ = ["resolve_threads"]

_VARIABLE = "FASTNN_NUM_THREADS"


def resolve_threads(threads: int | None) -> int:
    """The argument, else FASTNN_NUM_THREADS, else the cores this process may use, at most OMP_NUM_THREADS.

    Raises
    ------
    ValueError
        If it is not a whole number of at least 1.
    """
    origin, value = ("threads", threads) if threads is not None else (_VARIABLE, os.environ.get(_VARIABLE))
    if value is None or value == "":
        from joblib import cpu_count  # knows affinity and the limits of containers

        share = os.environ.get("OMP_NUM_THREADS", "")  # by which joblib and others divide cores between processes
        return min(cpu_count(), int(share)) if share.isdecimal() and int(share) > 0 else cpu_count()
    try:
        number = int(value)
        if isinstance(value, bool) or number < 1 or number != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{origin} must be a whole number of at least 1, got {value!r}") from None
    return number
