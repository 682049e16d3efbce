"""Folders of IDX files: which of the four are there, reading them, and telling one dataset from another by content."""

import hashlib
import os
from pathlib import Path

import numpy as np

from fastnn.datasets.catalogue import FILES, FileEntry
from fastnn.datasets.idx import content_sha256, read_idx
from fastnn.datasets.streams import open_regular

__all__ = ["find_files", "is_published", "missing_files", "other_dataset", "read_arrays"]


def find_files(folder: Path, entries: tuple[FileEntry, ...]) -> dict[str, Path]:
    """Return the path of each entry's file in `folder`, by array name; absent ones are left out.

    ``train-images-idx3-ubyte`` is also found as ``train-images.idx3-ubyte``, each with or without ``.gz``.
    """
    found = {}
    for entry in entries:
        stem, _, rest = entry.name.partition("-idx")
        for name in (entry.name, f"{entry.name}.gz", f"{stem}.idx{rest}", f"{stem}.idx{rest}.gz"):
            if os.path.isfile(folder / name):
                found[entry.array] = folder / name
                break
    return found


def missing_files(found: dict[str, Path], entries: tuple[FileEntry, ...]) -> list[str]:
    """Return the standard names of the entries that `found` lacks."""
    return [entry.name for entry in entries if entry.array not in found]


def read_arrays(files: dict[str, Path]) -> dict[str, np.ndarray]:
    """Read every file of `files`; raises FileFormatError or DatasetUnavailableError."""
    return {key: read_idx(path) for key, path in files.items()}


def is_published(path: Path, array: np.ndarray, entry: FileEntry) -> bool:
    """Return whether `array`, read from `path`, is the published file `entry`, by digest."""
    if entry.digest_of == "content":
        return array.dtype == np.uint8 and content_sha256(array) == entry.sha256
    file, _ = open_regular(path)
    with file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256


def other_dataset(name: str, arrays: dict[str, np.ndarray]) -> str | None:
    """Return which other dataset than `name` the training images are known to be, or None.

    The datasets share their file names, so only the content tells them apart.
    """
    images = arrays["x_train"]
    if images.dtype != np.uint8:
        return None
    for other, entries in FILES.items():
        known = [entry.sha256 for entry in entries if entry.digest_of == "content" and entry.array == "x_train"]
        if other != name and known and content_sha256(images) in known:
            return other
    return None
