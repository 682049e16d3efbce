"""What ``fastnn plot`` draws from: a model, the JSON of ``fastnn train`` or of a sweep, the CSV of `fastnn.CSVLog`."""

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.errors import FileFormatError
from fastnn.history import QUANTITIES, History
from fastnn.network import Network

if TYPE_CHECKING:
    from fastnn.sweeps import Sweep

__all__ = ["Source", "read_source"]

_EXPECTED = "a saved model, the JSON of fastnn train --json or fastnn sweep --out, or the CSV of the callback CSVLog"


class Source(NamedTuple):
    """A run as far as a file has it, or a sweep.

    Attributes
    ----------
    path : str
        As it was given.
    name : str
        Of the file, without folder and suffix.
    history : History or None
        None for a sweep, and where a model was saved before it was trained.
    network : Network or None
        None where the file is a record without weights.
    sweep : Sweep or None
        None for a single run.
    """

    path: str
    name: str
    history: History | None
    network: Network | None
    sweep: "Sweep | None" = None


def read_source(path: str, backend: str | None = None, threads: int | None = None) -> Source:
    """Read a run; what the file is, its content says. ``-`` reads a record from stdin.

    Parameters
    ----------
    path : str
    backend, threads
        Of the network, as for `fastnn.load`.

    Raises
    ------
    FileFormatError
        If the file is none of those that are known, or damaged.
    OSError
        If it cannot be read.
    """
    if path == "-":
        return _read_record("stdin", path, sys.stdin.buffer.read())
    name = Path(path).stem
    with open(path, "rb") as file:
        start = file.read(9)
        is_text = start.startswith((b"{", b"epoch"))  # a model begins with the length of its header
        if is_text or not (start[8:] == b"{" or start.startswith((b"PK", b"\x80"))):
            return _read_record(name, path, start + file.read())
    from fastnn.network import load

    network = load(path, backend, threads)
    return Source(path, name, network.history, network)


def _read_record(name: str, path: str, content: bytes) -> Source:
    path = "stdin" if path == "-" else path
    try:
        text = content.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is none of what can be drawn: expected {_EXPECTED}") from error
    if not text:
        raise FileFormatError(f"{path} is empty: expected {_EXPECTED}")
    if text.startswith("{"):
        return _read_json(name, path, text)
    if text.startswith("epoch,"):
        return Source(path, name, _read_csv(path, text), None)
    raise FileFormatError(f"{path} is none of what can be drawn: expected {_EXPECTED}")


def _read_json(name: str, path: str, text: str) -> Source:
    try:
        content = json.loads(text)
        if str(content.get("format")).startswith("fastnn sweep"):
            from fastnn.sweeps import Sweep

            return Source(path, name, None, None, Sweep.from_dict(content, path))
        return Source(path, name, History.from_dict(content["history"]), None)
    except KeyError as error:
        command = content.get("command")
        kind = f"that of fastnn {command}" if command else "another one"
        raise FileFormatError(f"{path} is JSON without a history, {kind}: expected {_EXPECTED}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"{path} is no whole JSON of fastnn ({error}): write it again") from error


def _read_csv(path: str, text: str) -> History:
    """Every column but the number of the epoch is a list of the history; an empty field is a value there is not."""
    rows = list(csv.DictReader(io.StringIO(text)))
    history = History()
    for name in (*QUANTITIES, "seconds", "learning_rate"):
        values = [_number(path, line, name, row) for line, row in enumerate(rows, start=2)]
        missing = name.startswith("val_") and all(map(math.isnan, values))
        setattr(history, name, [] if missing else values)
    return history


def _number(path: str, line: int, name: str, row: dict[str, Any]) -> float:
    try:
        return math.nan if row[name] == "" else float(row[name])
    except KeyError as error:
        raise FileFormatError(f"{path} has no column {name}: expected {_EXPECTED}") from error
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}, line {line}: expected a number as {name}, got {row[name]!r}") from error
