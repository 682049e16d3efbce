"""What ``fastnn plot`` draws from: a model, the JSON of ``fastnn train`` or of a sweep, the CSV of `fastnn.CSVLog`."""

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.errors import FileFormatError
from fastnn.files import reading
from fastnn.history import QUANTITIES, History
from fastnn.network import Network, load
from fastnn.sweeps.ranking import Sweep

__all__ = ["Source", "read_source"]

_EXPECTED = "a saved model, the JSON of fastnn train --json or fastnn sweep --out, or the CSV of the callback CSVLog"


class Source(NamedTuple):
    """A run as far as a file has it, or a sweep; `name` is that of the file, without folder and suffix."""

    path: str
    name: str
    history: History | None = None
    network: Network | None = None
    sweep: Sweep | None = None


def read_source(path: str, backend: str | None = None, threads: int | None = None) -> Source:
    """Read a run, or a record of it from stdin (``-``); its content says what a file is.

    A FileFormatError says that it is none of those that are known, or damaged.
    """
    name = Path(path).stem
    if path == "-":
        name = path = "stdin"
        content = sys.stdin.buffer.read()
    else:
        content = Path(path).read_bytes()
        is_record = content.startswith((b"{", b"epoch"))  # a model begins with the length of its header
        if not is_record and (content[8:9] == b"{" or content.startswith((b"PK", b"\x80"))):
            network = load(path, backend, threads)
            return Source(path, name, network.history, network)
    try:
        text = content.decode("utf-8-sig").lstrip()
    except UnicodeDecodeError:
        text = "not text"
    if text.startswith("epoch,"):
        return Source(path, name, _read_csv(path, text))
    if not text.startswith("{"):
        raise FileFormatError(f"{path} is {'none of what can be drawn' if text else 'empty'}: expected {_EXPECTED}")
    with reading(path, "whole JSON of fastnn: write it again"):
        record = json.loads(text)
        if str(record.get("format")).startswith("fastnn sweep"):
            return Source(path, name, sweep=Sweep.from_dict(record, path))
        if "history" not in record:
            kind = f"that of fastnn {record['command']}" if "command" in record else "another one"
            raise FileFormatError(f"{path} is JSON without a history, {kind}: expected {_EXPECTED}")
        return Source(path, name, History.from_dict(record["history"]))


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
