"""The user's cache folder, and files that appear whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "atomic_path", "cache_dir"]

CACHE_VARIABLE = "FASTNN_CACHE_DIR"


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
    ``.part``, a name that no reader looks for.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.part"
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders, and keeps their entries itself
        _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
