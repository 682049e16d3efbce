"""Reading files of unknown origin: only regular ones, and never more memory than the file itself can justify."""

import contextlib
import errno
import gzip
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastnn.errors import DatasetUnavailableError, FastnnError, FileFormatError

__all__ = ["DEFAULT_LIMIT_BYTES", "Stream", "check_unpacked_size", "fill", "opened"]

DEFAULT_LIMIT_BYTES = 2 << 30

# Deflate codes at most 258 bytes in 2 bits (RFC 1951: a 1-bit length code and a 1-bit distance code), about 1032:1.
_DEFLATE_RATIO = 1032

# gzip and zipfile build a bytes object per read and copy it out, so the pieces are kept small against a 47 MB file.
_PIECE_BYTES = 1 << 18


class Stream(Protocol):
    """What a file, a gzip stream and a member of a zip file have in common."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, none at the end."""


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], expected: str, remedy: str = "fetch it anew"
) -> Iterator[tuple[gzip.GzipFile | BufferedReader, int]]:
    """Open a regular file for reading, unpacked if it is gzip; yields it, and how many bytes the file itself has.

    Raises
    ------
    FileFormatError
        `path` is a folder, a pipe or a device; or the block raised whatever libraries raise over damaged bytes. Then
        `expected` says what the file should be, and `remedy` what to do.
    DatasetUnavailableError
        The file does not exist, may not be read, or the disk fails.
    """
    try:
        found = os.stat(path)  # before opening: opening a named pipe would wait for a writer for ever
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or device"
            raise FileFormatError(f"{path}: expected a regular file, found {kind}; give the path of the data file")
        with Path(path).open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=file) if packed else contextlib.nullcontext(file) as stream:
                yield stream, found.st_size
    except (FastnnError, MemoryError):
        raise
    except Exception as error:  # no list is complete of what parsers raise over damaged bytes
        # A damaged zip directory can send zipfile to before the file's beginning, and gzip's own have no number.
        of_system = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
        if of_system or "\0" in os.fspath(path):
            reason = getattr(error, "strerror", None) or error
            raise DatasetUnavailableError(
                f"cannot read {os.fspath(path)!r}: {reason}; give the path of a file that exists and that you may read"
            ) from error
        words = f"{type(error).__name__}: {str(error)[:200]}"
        raise FileFormatError(
            f"{path}: expected {expected}, found a foreign or damaged one ({words}); {remedy}"
        ) from error


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


def fill(stream: Stream, array: npt.NDArray[Any]) -> int:
    """Read from `stream` into the C-contiguous `array` until it is full or the stream ends.

    Returns the bytes read, and one more if there are more. Reading that one makes gzip and zip check their digest.
    """
    target = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(target):
        piece = stream.read(min(_PIECE_BYTES, len(target) - done))
        if not piece:
            return done
        target[done : done + len(piece)] = piece
        done += len(piece)
    return done + len(stream.read(1))
