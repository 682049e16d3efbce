"""Folders of IDX files: which of the four are there, reading them, and telling one dataset from another by content."""

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.datasets.catalogue import FILES, FileEntry
from fastnn.datasets.idx import content_sha256, read_idx
from fastnn.errors import DatasetUnavailableError

__all__ = ["IDX_NAME", "as_published", "find_files", "find_set", "is_published", "missing_files", "read_arrays"]

# As MNIST's names, with what a data set may put before them: emnist-letters-train-images-idx3-ubyte.gz.
IDX_NAME = re.compile(
    r"(?P<set>.*?)(?P<split>train|test|t10k)[-_.](?P<kind>images|labels)[-_.]idx\d?(-ubyte)?(\.gz)?", re.IGNORECASE
)


def find_files(folder: Path) -> dict[str, Path]:
    """Return MNIST's files in a folder by array name; absent ones are left out.

    ``train-images-idx3-ubyte`` is also found as ``train-images.idx3-ubyte``, each with or without ``.gz``.
    """
    with contextlib.suppress(OSError):  # no folder, or one that may not be looked into
        return _find_sets(folder).get("", {})
    return {}


def _find_sets(folder: Path) -> dict[str, dict[str, Path]]:
    """The IDX files of a folder by array name, by what stands before MNIST's names; unpacked ones come first."""
    sets: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.name.lower().endswith(".gz"), ".idx" in path.name)):
        match = IDX_NAME.fullmatch(path.name)
        if match and path.is_file():
            split = "train" if match["split"].lower() == "train" else "test"
            array = f"{'x' if match['kind'].lower() == 'images' else 'y'}_{split}"
            sets.setdefault(match["set"], {}).setdefault(array, path)
    return sets


def find_set(folder: Path, wanted: str | None = None) -> tuple[str, dict[str, Path]]:
    """Return the four IDX files of a folder by array name, and what their names begin with.

    Where a folder holds several data sets, `wanted` says what the names begin with; MNIST's own names come first.

    Raises
    ------
    DatasetUnavailableError
        If no data set is complete, or several are.
    """
    sets = {name: files for name, files in _find_sets(folder).items() if wanted in (None, name)}
    complete = {name: files for name, files in sets.items() if len(files) == len(FILES["mnist"])}
    if "" in complete or len(complete) == 1:
        return ("", complete[""]) if "" in complete else complete.popitem()
    if complete:
        raise DatasetUnavailableError(
            f"{folder}: expected one data set, found {', '.join(sorted(complete))}; give the path of the training "
            "images of the one that you want"
        )
    name, files = max(sets.items(), key=lambda item: len(item[1]), default=("", {}))
    missing = ", ".join(name + standard for standard in missing_files(files))
    raise DatasetUnavailableError(
        f"{folder}: expected the four IDX files of MNIST's names (with or without .gz), {missing} missing; "
        "add them or give another folder"
    )


def as_published(name: str, arrays: dict[str, npt.NDArray[Any]]) -> tuple[dict[str, npt.NDArray[Any]], str]:
    """Bring what a file name tells to be EMNIST into MNIST's form, and say so.

    Its pictures are stored column by column, and the labels of its letters begin at 1 [1]_.

    References
    ----------
    .. [1] G. Cohen, S. Afshar, J. Tapson, A. van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017.
    """
    if "emnist" not in re.split(r"[^a-z]+", name.lower()):
        return arrays, ""
    arrays, note = dict(arrays), ", EMNIST's pictures turned upright"
    for key in ("x_train", "x_test"):
        if arrays[key].ndim == 3:
            arrays[key] = np.ascontiguousarray(arrays[key].transpose(0, 2, 1))
    if "letters" in name.lower() and min(arrays["y_train"].min(), arrays["y_test"].min()) == 1:
        arrays |= {key: arrays[key] - 1 for key in ("y_train", "y_test")}
        note += ", its labels from 1 on counted from 0 on"
    return arrays, note


def missing_files(found: dict[str, Path]) -> list[str]:
    """Return MNIST's names of the files that `found` lacks."""
    return [entry.name for entry in FILES["mnist"] if entry.array not in found]


def read_arrays(files: dict[str, Path]) -> dict[str, npt.NDArray[Any]]:
    """Read every file of `files`; raises FileFormatError or DatasetUnavailableError."""
    return {key: read_idx(path) for key, path in files.items()}


def is_published(array: npt.NDArray[Any], entry: FileEntry) -> bool:
    """Return whether `array` is the content of the published file `entry`, by digest."""
    return array.dtype == np.uint8 and content_sha256(array) == entry.sha256
