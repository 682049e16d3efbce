"""``load``: from a name or a path to a Dataset, and the order in which places are searched."""

import dataclasses
import os
import warnings
from pathlib import Path

from fastnn.choices import check_choice
from fastnn.datasets.catalogue import DATASETS, FILES, TITLES
from fastnn.datasets.dataset import ARRAY_NAMES, Dataset, assemble
from fastnn.datasets.digits import load_digits
from fastnn.datasets.download import obtain
from fastnn.datasets.folders import (
    IDX_NAME,
    as_published,
    find_files,
    find_set,
    is_published,
    missing_files,
    read_arrays,
)
from fastnn.datasets.npz import read_npz
from fastnn.datasets.streams import opened
from fastnn.datasets.tables import is_table, read_tables
from fastnn.errors import DatasetUnavailableError, FileFormatError, MissingLibraryError
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
        else digits, and then a UserWarning and ``note`` say why. Or the path of a folder with four IDX files, gzipped
        or not, whose names end as MNIST's do (KMNIST's, EMNIST's); of the training images of one of several data sets
        in a folder; of an ``.npz`` file with ``x_train``, ``y_train``, ``x_test`` and ``y_test``; or of a ``.csv``
        table, gzipped or not, of labels and pixels, with or without a header. ``train`` in the table's name is paired
        with ``test`` beside it; without such a table one sample in seven is held out for testing.

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
    return (
        name[0] in ".~"
        or name.endswith((".npz", ".csv", ".csv.gz"))
        or any(s in name for s in separators)
        or os.path.exists(name)
    )


def _load_auto() -> Dataset:
    try:
        return _load_published("mnist")
    except (DatasetUnavailableError, FileFormatError) as error:
        digits = dataclasses.replace(load_digits(), note=str(error))
    warnings.warn(f"NOT MNIST but {digits.name!r}, because: {digits.note}", stacklevel=3)
    return digits


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
    except (DatasetUnavailableError, MissingLibraryError) as error:
        tried = "; ".join([*notes, f"no complete copy in the cache {folder}", f"download failed: {error}"])
        raise DatasetUnavailableError(
            f"{TITLES[name]} is not on this machine and cannot be downloaded. Tried: {tried}. "
            f"Put its four IDX files into {folder}, or set {DATA_VARIABLE} to a folder that has them, "
            "or use the dataset 'digits', which needs no network."
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
        files = find_files(folder)
        missing = missing_files(files)
        if missing:
            if folder == root or files:
                notes.append(f"{DATA_VARIABLE}: {folder} lacks {', '.join(missing)}")
            continue
        arrays = read_arrays(files)
        if all(is_published(arrays[entry.array], entry) for entry in FILES[name]):
            return assemble(name, arrays, f"{DATA_VARIABLE}: {folder}", folder)
        notes.append(f"{DATA_VARIABLE}: the files in {folder} are not the published {TITLES[name]} (digests differ)")
    return None


def _load_path(path: Path) -> Dataset:
    idx = IDX_NAME.fullmatch(path.name)
    if os.path.isdir(path) or (idx and os.path.isfile(path)):  # Path.is_dir raises for a name that no file can have
        name, files = find_set(path, None) if os.path.isdir(path) else find_set(path.parent, idx and idx["set"])
        arrays, note = as_published(name, read_arrays(files))
        folder = files["x_train"].parent
        return assemble(name.strip("-_. ") or folder.resolve().name, arrays, f"folder: {folder}{note}", folder)
    if is_table(path):
        arrays, test_samples = read_tables(path)
        arrays, note = as_published(path.name, arrays)
        return assemble(path.name.split(".")[0], arrays, f"file: {path}, {test_samples}{note}", path)
    with opened(path, "a data file") as (file, _):
        start = file.read(4)
    if not start.startswith(b"PK") and path.suffix != ".npz":
        raise FileFormatError(
            f"{path}: expected a folder of IDX files, an .npz file or a .csv table, found a file that begins with "
            f"{start!r}; give the folder that holds the four files"
        )
    return assemble(path.stem, read_npz(path, ARRAY_NAMES), f"file: {path}", path)
