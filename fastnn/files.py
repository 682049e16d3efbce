"""The user's cache folder, and files that appear whole or not at all."""

import contextlib
import glob
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from fastnn.errors import FastnnError, FileFormatError

__all__ = ["CACHE_VARIABLE", "atomic_path", "cache_dir", "reading"]

CACHE_VARIABLE = "FASTNN_CACHE_DIR"
_DAY = 86_400  # seconds


def cache_dir() -> Path:
    """Folder for downloads, generated data and compiled code: ``FASTNN_CACHE_DIR``, else the platform's user cache.

    The folder need not exist yet.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen))
    import platformdirs

    try:
        folder = Path(platformdirs.user_cache_dir("fastnn", appauthor=False))
    except RuntimeError as error:
        raise OSError(f"{error}; or name a folder in {CACHE_VARIABLE}") from error
    if not folder.is_absolute():  # older platformdirs leave "~" where there is no home
        raise OSError(f"there is no home directory for a cache: name a folder in {CACHE_VARIABLE}")
    return folder


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the place of `path` when the block ends without an error.

    The content reaches the disk before the name does, so even a power cut leaves the old file or the new one. After an
    error or an interrupt the temporary file is removed; a killed process leaves at most a hidden file with the suffix
    ``.part``, a name that no reader looks for, and that the next to write `path` removes.
    """
    _remove_abandoned(path)
    temporary = path.parent / f".{path.name}.{_host()}-{os.getpid()}.{secrets.token_hex(6)}.part"
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders, and keeps their entries itself
        _to_disk(path.parent)


@contextlib.contextmanager
def reading(path: object, what: str) -> Iterator[None]:
    """Turn whatever the library of a format raises over damaged bytes into a FileFormatError.

    No list of its errors is complete: over damaged bytes parsers raise what nobody meant to raise. Errors of the system
    (OSError) and of this package pass.

    Parameters
    ----------
    path : object
        Named in the message.
    what : str
        What the file is not, with what to do: "whole .npy file of numbers: save it again".
    """
    try:
        yield
    except (OSError, MemoryError, FastnnError):
        raise
    except Exception as error:
        kind, _, remedy = what.partition(": ")
        words = f"{type(error).__name__}: {str(error)[:200]}"
        raise FileFormatError(f"{path} is no {kind} ({words}){': ' if remedy else ''}{remedy}") from error


def _host() -> str:
    return "".join(c for c in socket.gethostname() if c.isalnum())[:32]


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes have left of this file; another machine's, or an older version's, after a day."""
    for entry in list(path.parent.glob(f".{glob.escape(path.name)}.*.part")):
        writer, _, number = entry.name.removeprefix(f".{path.name}.").partition(".")[0].rpartition("-")
        with contextlib.suppress(OSError):  # another process was faster, or may not
            if writer == _host() and os.name == "posix":
                abandoned = not _is_alive(int(number))
            else:
                abandoned = time.time() - entry.stat().st_mtime > _DAY
            if abandoned:
                entry.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
