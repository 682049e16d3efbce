"""``load``: from a name or a path to a Dataset, and the order in which places are searched."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from fastnn.choices import check_choice
from fastnn.datasets.catalogue import DATASETS, FILES, TITLES
from fastnn.datasets.dataset import ARRAY_NAMES, Dataset, assemble
from fastnn.datasets.digits import load_digits
from fastnn.datasets.download import obtain
from fastnn.datasets.folders import find_files, is_published, missing_files, other_dataset, read_arrays
from fastnn.datasets.npz import read_npz
from fastnn.datasets.streams import open_regular
from fastnn.errors import DatasetUnavailableError, FileFormatError
from fastnn.files import cache_dir

__all__ = ["DATA_VARIABLE", "load"]

DATA_VARIABLE = "FASTNN_DATA_DIR"


def load(name: str | os.PathLike[str] = "auto") -> Dataset:
    """Load a dataset by name or from files of your own.

    MNIST and Fashion-MNIST are searched for in the folder that the environment variable ``FASTNN_DATA_DIR`` names
    (the IDX files in it or in its sub-folder ``mnist`` or ``fashion-mnist``), then in the user's cache
    (``FASTNN_CACHE_DIR`` moves it), then downloaded to the cache. Their files have the same names and are told apart
    by digest.

    Parameters
    ----------
    name : str or path, optional
        ``"mnist"``, ``"fashion-mnist"``, ``"digits"`` (needs no network) or ``"auto"``: MNIST where it can be had,
        else digits, and then ``note`` says why. Or the path of a folder with the four IDX files, gzipped or not,
        or of an ``.npz`` file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``.

    Returns
    -------
    Dataset

    Raises
    ------
    ValueError
        Unknown name.
    DatasetUnavailableError
        Neither found nor downloaded, or a path that does not exist.
    FileFormatError
        A file is damaged or is not what it should be.
    """
    if isinstance(name, os.PathLike) or _looks_like_path(name):
        return _load_path(Path(os.path.expanduser(name)))
    name = check_choice("dataset", name, DATASETS)
    if name == "auto":
        return _load_auto()
    return load_digits() if name == "digits" else _load_published(name)


def _looks_like_path(name: object) -> bool:
    if not isinstance(name, str) or name in DATASETS or not name:
        return False
    separators = {os.sep, os.altsep or os.sep, "/"}
    return name[0] in ".~" or name.endswith(".npz") or any(s in name for s in separators) or os.path.exists(name)


def _load_auto() -> Dataset:
    try:
        return _load_published("mnist")
    except (DatasetUnavailableError, FileFormatError) as error:
        return dataclasses.replace(load_digits(), note=str(error))


def _load_published(name: str) -> Dataset:
    notes: list[str] = []
    data = _search_data_dir(name, notes)
    if data is not None:
        return data
    try:
        folder = cache_dir() / name
    except OSError as error:
        raise DatasetUnavailableError(f"{TITLES[name]} is not on this machine: {error}") from error
    try:
        arrays, mirrors = obtain(name, folder)
    except DatasetUnavailableError as error:
        tried = "; ".join([*notes, f"no complete copy in the cache {folder}", f"download failed: {error}"])
        raise DatasetUnavailableError(
            f"{TITLES[name]} is not on this machine and cannot be downloaded. Tried: {tried}. "
            f"Set {DATA_VARIABLE} to a folder with its four IDX files, or use the dataset 'digits', "
            "which needs no network."
        ) from error
    source = f"downloaded from {' and '.join(mirrors)} to {folder}" if mirrors else f"cache: {folder}"
    return assemble(name, arrays, source, folder)


def _search_data_dir(name: str, notes: list[str]) -> Dataset | None:
    """Look where ``FASTNN_DATA_DIR`` points; what speaks against a place goes to `notes`.

    A file that is damaged is an error, not a note: the user chose the folder and would want to know.
    """
    chosen = os.environ.get(DATA_VARIABLE)
    if not chosen:
        notes.append(f"{DATA_VARIABLE} is not set")
        return None
    root = Path(os.path.expanduser(chosen))
    if not os.path.isdir(root):
        notes.append(f"{DATA_VARIABLE}={chosen} is not a folder")
        return None
    for folder in (root / name, root):
        files = find_files(folder, FILES[name])
        missing = missing_files(files, FILES[name])
        if missing:
            if folder == root or files:
                notes.append(f"{DATA_VARIABLE}: {folder} lacks {', '.join(missing)}")
            continue
        arrays = read_arrays(files)
        if _is_right(name, files, arrays, by_digest=folder == root):
            return assemble(name, arrays, f"{DATA_VARIABLE}: {folder}", folder)
        notes.append(f"{DATA_VARIABLE}: the files in {folder} are not the published {TITLES[name]} (digests differ)")
    return None


def _is_right(name: str, files: dict[str, Path], arrays: dict[str, np.ndarray], by_digest: bool) -> bool:
    """Tell whether files from the user's folder are dataset `name`.

    MNIST always has to match by content. Fashion-MNIST's digests are of the gzip files as published, so a sub-folder
    of its name may also hold them packed anew, as long as they are not another dataset.
    """
    if by_digest or all(entry.digest_of == "content" for entry in FILES[name]):
        return all(is_published(files[entry.array], arrays[entry.array], entry) for entry in FILES[name])
    return other_dataset(name, arrays) is None


def _load_path(path: Path) -> Dataset:
    if os.path.isdir(path):  # unlike Path.is_dir, it raises nothing for a name that no file can have
        files = find_files(path, FILES["mnist"])
        missing = missing_files(files, FILES["mnist"])
        if missing:
            raise DatasetUnavailableError(
                f"{path}: expected the four IDX files of MNIST's names (with or without .gz), "
                f"{', '.join(missing)} missing; add them or give another folder"
            )
        return assemble(path.resolve().name, read_arrays(files), f"folder: {path}", path)
    file, _ = open_regular(path)
    with file:
        start = file.read(4)
    if not start.startswith(b"PK") and path.suffix != ".npz":
        raise FileFormatError(
            f"{path}: expected a folder of IDX files or an .npz file, found a file that begins with {start!r}; "
            "give the folder that holds the four files"
        )
    return assemble(path.stem, read_npz(path, ARRAY_NAMES), f"file: {path}", path)
