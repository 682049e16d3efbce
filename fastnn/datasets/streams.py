"""Reading files of unknown origin: only regular ones, and never more memory than the file itself can justify."""

import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Protocol

import numpy as np

from fastnn.errors import DatasetUnavailableError, FileFormatError

__all__ = ["DEFAULT_LIMIT_BYTES", "Readable", "check_unpacked_size", "fill", "open_regular", "shape_bytes"]

DEFAULT_LIMIT_BYTES = 2 << 30

# Deflate codes at most 258 bytes in 2 bits (RFC 1951: a 1-bit length code and a 1-bit distance code), about 1032:1.
_DEFLATE_RATIO = 1032

# gzip and zipfile build a bytes object per read and copy it out, so the pieces are kept small against a 47 MB file.
_PIECE_BYTES = 1 << 18


class Readable(Protocol):
    """What a file, a gzip stream and a member of a zip file have in common."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


def open_regular(path: str | os.PathLike[str]) -> tuple[BufferedReader, int]:
    """Open a regular file for reading.

    Returns
    -------
    file : binary file
        Open at its beginning; the caller closes it.
    size : int
        Bytes in the file.

    Raises
    ------
    FileFormatError
        `path` is a folder, a pipe or a device.
    DatasetUnavailableError
        The file does not exist or may not be read.
    """
    try:
        # The kind is asked before opening: opening a named pipe would wait for a writer for ever.
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            return Path(path).open("rb"), found.st_size
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        reason = getattr(error, "strerror", None) or error
        raise DatasetUnavailableError(
            f"cannot read {os.fspath(path)!r}: {reason}; give the path of a file that exists and that you may read"
        ) from error
    kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
    raise FileFormatError(f"{path}: expected a regular file, found {kind}; give the path of the data file itself")


def shape_bytes(shape: tuple[int, ...], itemsize: int) -> int:
    """Bytes of an array of `shape`, in Python integers so that no header can make the product overflow."""
    total = itemsize
    for length in shape:
        total *= length
    return total


def check_unpacked_size(path: object, claimed: int, packed: int, limit: int) -> None:
    """Refuse a claim of `claimed` bytes that is over `limit` or that `packed` deflated bytes cannot unpack to.

    This runs before anything is allocated, so a small file with a huge claim costs nothing.
    """
    if claimed > limit:
        raise FileFormatError(
            f"{path}: the header claims {claimed:,} bytes, over the limit of {limit:,}; "
            "if the file is meant to be that large, raise limit_bytes, else fetch it anew"
        )
    if claimed > packed * _DEFLATE_RATIO:
        raise FileFormatError(
            f"{path}: the header claims {claimed:,} bytes, more than {packed:,} compressed bytes can hold; "
            "the file is truncated or forged: fetch it anew"
        )


def fill(stream: Readable, array: np.ndarray) -> int:
    """Read from `stream` into the C-contiguous `array` until it is full or the stream ends; return the bytes read."""
    target = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(target):
        piece = stream.read(min(_PIECE_BYTES, len(target) - done))
        if not piece:
            break
        target[done : done + len(piece)] = piece
        done += len(piece)
    return done
