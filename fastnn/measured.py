"""The results of ``fastnn which --save``: the fastest backend for networks of certain layers, which `auto` chooses.

They lie in a file of the cache folder. A result is valid on the machine and with the version it was measured with only.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastnn.files import atomic_path, cache_dir
from fastnn.version import __version__

__all__ = ["find_fastest", "save_fastest"]

SCHEMA_VERSION = 1


def save_fastest(sizes: Sequence[int], batch_size: int, threads: int, backend: str) -> Path:
    """Save a result, in place of an earlier one for the same layers; returns the file."""
    file = _file()
    results = _read()
    results[_key(sizes)] = {
        "backend": backend,
        "batch_size": batch_size,
        "threads": threads,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "here": _here(),
    }
    content = json.dumps({"schema_version": SCHEMA_VERSION, "answers": results}, indent=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return file


def find_fastest(sizes: Sequence[int] | None) -> tuple[str, str] | None:
    """The backend measured to be fastest for these layers, and how it was measured; None if there is no result."""
    result = _read().get(_key(sizes)) if sizes else None
    if not isinstance(result, Mapping) or result.get("here") != _here():
        return None
    measurement = f"measured by `fastnn which` on {result['date']} at batch size {result['batch_size']}"
    return str(result["backend"]), f"{measurement}, {result['threads']} threads"


def _file() -> Path:
    return cache_dir() / "which.json"


def _key(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def _here() -> list[Any]:
    return [__version__, platform.machine(), platform.processor(), os.cpu_count()]


def _read() -> dict[str, Any]:
    """The saved results; none if the file is missing, damaged or of another version, as they can be measured again."""
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
        return dict(content["answers"]) if content["schema_version"] == SCHEMA_VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
