"""What ``fastnn doctor`` checks in folders: the caches, and MNIST."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import fastnn
from fastnn.bench.checks import NOTE, OK, PROBLEM, Finding, one_line
from fastnn.errors import FastnnError
from fastnn.files import CACHE_VARIABLE, cache_dir


def check_caches() -> Iterator[Finding]:
    """Where compiled code and downloads are kept, and whether they can be."""
    remedy = f"set {CACHE_VARIABLE} to a folder that can be written"
    try:
        folder = cache_dir()
        for each in (folder, folder / "numba"):
            _check_writable(each)
    except OSError as error:
        text = f"{one_line(error)}: numba's code is compiled anew in each process, and nothing can be downloaded"
        yield Finding("cache", PROBLEM, text, remedy)
        return
    yield Finding("cache", OK, f"{folder}, can be written")
    compiled = [path for path in (folder / "numba").rglob("*") if path.is_file()]
    versions = len({path.relative_to(folder / "numba").parts[0] for path in compiled})
    what = f"{sum(path.suffix == '.nbc' for path in compiled)} functions of {versions} versions of the sources"
    yield Finding("compiled code", OK, f"{folder / 'numba'}: {what}, {_size(compiled)}")
    names = [name for name in fastnn.datasets.DATASETS if any((folder / name).glob("*"))] if folder.is_dir() else []
    data = [path for name in names for path in (folder / name).iterdir() if path.is_file()]
    data += [path for path in folder.glob("*.npz") if path.is_file()]
    yield Finding("data", OK, f"{folder}: {len(data)} files, {_size(data)}")


def _check_writable(folder: Path) -> None:
    """In the nearest folder that exists; the others will be made in it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written")
    with tempfile.TemporaryFile(dir=folder):
        pass


def _size(paths: Sequence[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def check_mnist() -> Iterator[Finding]:
    """Where `fastnn.datasets.load` would find MNIST without downloading it."""
    chosen = os.environ.get(fastnn.datasets.DATA_VARIABLE)
    if chosen:
        root = Path(os.path.expanduser(chosen))
        finding = _find_mnist([root / "mnist", root], f"in {fastnn.datasets.DATA_VARIABLE}={chosen}")
        yield finding
        if finding.state == OK:
            return
    try:
        cached = _find_mnist([cache_dir() / "mnist"], "in the cache")
    except OSError:  # `check_caches` says so
        cached = Finding("MNIST", NOTE, "there is no cache")
    get = "fastnn data mnist (downloads 11 MB), or name a folder with its four IDX files in FASTNN_DATA_DIR"
    yield cached if cached.state == OK else cached._replace(state=NOTE, remedy=get)


def _find_mnist(folders: Sequence[Path], where: str) -> Finding:
    from fastnn.datasets.catalogue import FILES
    from fastnn.datasets.folders import find_files, is_published, missing_files, read_arrays

    if not any(map(os.path.isdir, folders)):
        return Finding("MNIST", PROBLEM, f"{where}: there is no such folder", "correct or unset FASTNN_DATA_DIR")
    for folder in folders:
        files = find_files(folder)
        if missing_files(files):
            continue
        try:
            arrays = read_arrays(files)
        except FastnnError as error:
            return Finding("MNIST", PROBLEM, one_line(error), "replace that file")
        if all(is_published(arrays[entry.array], entry) for entry in FILES["mnist"]):
            return Finding("MNIST", OK, f"{where}: {folder}, its digests are right")
        return Finding("MNIST", NOTE, f"{where}: {folder} holds something else, by its digests")
    return Finding("MNIST", NOTE, f"{where}: not all of its four files are there")
