"""The user's cache folder, and files that appear in it whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "atomic_path", "cache_dir"]

CACHE_VARIABLE = "FASTNN_CACHE_DIR"


def cache_dir() -> Path:
    """Return the folder for downloads and generated data: ``FASTNN_CACHE_DIR``, else the platform's user cache.

    The folder need not exist yet.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(os.path.expanduser(chosen))
    import platformdirs

    return Path(platformdirs.user_cache_dir("fastnn"))


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the place of `path` when the block ends without an error.

    After an error or an interrupt the temporary file is removed; a killed process leaves at most a hidden file with
    the suffix ``.part``, a name that no reader looks for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}.part"
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
