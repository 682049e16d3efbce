"""How many threads a network uses, and how many cores there are for them."""

import math
import os
from pathlib import Path

__all__ = ["cpu_quota", "resolve_threads", "usable_cores"]

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
        quota = cpu_quota()
        cores = usable_cores() if quota is None else min(usable_cores(), max(1, math.ceil(quota)))
        share = os.environ.get("OMP_NUM_THREADS", "")  # by which joblib and others divide cores between processes
        return min(cores, int(share)) if share.isdecimal() and int(share) > 0 else cores
    try:
        number = int(value)
        if isinstance(value, bool) or number < 1 or number != float(value):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{origin} must be a whole number of at least 1, got {value!r}") from None
    return number


def usable_cores() -> int:
    """Logical cores that this process may run on, its quota of time aside."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores' worth of time that the container grants, by its control groups and those above; None: no limit."""
    found = [quota for folder in _control_groups(root, membership) if (quota := _quota(folder)) is not None]
    return min(found, default=None)


def _control_groups(root: Path, membership: Path) -> list[Path]:
    """Folders that may hold a limit: a container often sees its own group as the root, whatever its path says."""
    folders = {root, root / "cpu"}
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = root / ("cpu" if controllers else "") / path.lstrip("/")
        folders |= {group, *group.parents}
    return [folder for folder in folders if folder.is_relative_to(root)]


def _quota(folder: Path) -> float | None:
    """Of version 2, or else of version 1."""
    try:
        limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        try:
            limit, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    return None if limit in ("max", "-1") else int(limit) / int(period)
