"""What ``fastnn which --save`` found: the fastest backend here for networks of certain layers; `auto` asks for it.

A file in the cache folder. An answer counts for the machine and the versions that it was measured with, and no others.
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

__all__ = ["recall", "remember"]

SCHEMA_VERSION = 1


def remember(sizes: Sequence[int], batch_size: int, threads: int, backend: str) -> Path:
    """Enter an answer, in place of an earlier one for the same layers; returns the file."""
    file = _file()
    answers = _read()
    answers[_key(sizes)] = {
        "backend": backend,
        "batch_size": batch_size,
        "threads": threads,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "here": _here(),
    }
    content = json.dumps({"schema_version": SCHEMA_VERSION, "answers": answers}, indent=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(content, encoding="utf-8")
    return file


def recall(sizes: Sequence[int] | None) -> tuple[str, str] | None:
    """The backend for networks of these layers and where the answer comes from, if there is one."""
    answer = _read().get(_key(sizes)) if sizes else None
    if not isinstance(answer, Mapping) or answer.get("here") != _here():
        return None
    words = f"measured by `fastnn which` on {answer['date']} at batch size {answer['batch_size']}"
    return str(answer["backend"]), f"{words}, {answer['threads']} threads"


def _file() -> Path:
    return cache_dir() / "which.json"


def _key(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def _here() -> list[Any]:
    return [__version__, platform.machine(), platform.processor(), os.cpu_count()]


def _read() -> dict[str, Any]:
    """The answers; none without a cache, or where its file is damaged or of another version: they can be had again."""
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
        return dict(content["answers"]) if content["schema_version"] == SCHEMA_VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
