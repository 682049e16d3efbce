"""Which files of a folder are images, and what digit they show if its sub-folders say so."""

import re
from pathlib import Path

from fastnn.errors import DataError
from fastnn.optional import require

__all__ = ["find_images"]

_ARRAYS = re.compile(r"\.npy$|\.idx$|-ubyte$|\.idx\d-ubyte$|-ubyte\.gz$|\.idx\.gz$", re.IGNORECASE)
_HEIF = (".heic", ".heif")  # pictures, if not for Pillow alone: to be answered, or complained of


def find_images(folder: Path, n_labels: int) -> tuple[list[tuple[Path, int | None]], int]:
    """Images of a folder with their targets, sorted as people do: 2 before 10; and how many other files there are.

    Sub-folders named by a label, from 0 to below `n_labels`, are searched, too, and name the target of what they hold.
    By its name a file is an image if Pillow reads such files, or if it is an array or an IDX file.

    Raises
    ------
    DataError
        If there is no image.
    OSError
        If a folder may not be read.
    """
    suffixes = _picture_suffixes()
    images: list[tuple[Path, int | None]] = []
    passed_over = 0
    for path in _sorted(folder):
        if path.is_dir():
            if not (path.name.isdecimal() and path.name.isascii() and int(path.name) < n_labels):
                passed_over += 1
                continue
            files, target = _sorted(path), int(path.name)
        else:
            files, target = [path], None
        wanted = [file for file in files if _is_image(file, suffixes)]
        images += [(file, target) for file in wanted]
        passed_over += len(files) - len(wanted)
    if not images:
        raise DataError(f"{folder}: there is no picture, .npy array or IDX file in this folder")
    return images, passed_over


def _sorted(folder: Path) -> list[Path]:
    def parts(path: Path) -> list[tuple[int, str]]:
        words = re.split(r"(\d+)", path.name)
        return [(int(word), "") if word.isdecimal() else (-1, word.lower()) for word in words] + [(-1, path.name)]

    return sorted(folder.iterdir(), key=parts)


def _is_image(path: Path, suffixes: set[str]) -> bool:
    if path.name.startswith(".") or path.is_dir():
        return False
    return path.suffix.lower() in suffixes or bool(_ARRAYS.search(path.name))


def _picture_suffixes() -> set[str]:
    Image = require("PIL.Image", "plot")
    readable = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    return readable | set(_HEIF)
