"""Downloading the published files into the cache, by pooch: from several mirrors, each file checked by its digest."""

import io
import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from fastnn.console import is_terminal
from fastnn.datasets.catalogue import FILES, MIRRORS, FileEntry
from fastnn.datasets.folders import find_files, is_published
from fastnn.datasets.idx import read_idx
from fastnn.errors import DatasetUnavailableError, FileFormatError
from fastnn.files import CACHE_VARIABLE
from fastnn.optional import require

if TYPE_CHECKING:
    import pooch

__all__ = ["obtain"]

CONNECT_SECONDS = 4.0  # a little more than the three seconds after which TCP sends a lost packet again
READ_SECONDS = 10.0  # between one packet and the next
RETRIES = 1  # of a mirror that answered, if not with the file
UNREACHABLE_MIRRORS = 2  # so many, and none before that had a file: there is no network


def obtain(name: str, folder: Path) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
    """Read the files of dataset `name` from the cache `folder`, downloading those that are absent or damaged.

    Returns
    -------
    arrays : dict of str to numpy.ndarray
        By array name, each verified against the published digest.
    mirrors : list of str
        The mirrors that a file was downloaded from; empty if the cache had all.

    Raises
    ------
    DatasetUnavailableError
        No mirror had a file, or the folder cannot be written; the message says what was tried.
    MissingLibraryError
        If pooch is needed and not installed.
    """
    entries = FILES[name]
    paths = {entry.array: folder / f"{entry.name}.gz" for entry in entries} | find_files(folder)
    arrays = {entry.array: _read_published(paths[entry.array], entry) for entry in entries}
    missing = [entry for entry in entries if arrays[entry.array] is None]
    mirrors = _download(missing, MIRRORS[name], folder) if missing else []
    fetched = {entry.array: read_idx(folder / f"{entry.name}.gz", limit_bytes=entry.nbytes) for entry in missing}
    return {key: fetched[key] if array is None else array for key, array in arrays.items()}, mirrors


def _read_published(path: Path, entry: FileEntry) -> npt.NDArray[Any] | None:
    """Read `path` if it is there and is the published file, else return None."""
    try:
        array = read_idx(path, limit_bytes=entry.nbytes)
    except (FileFormatError, DatasetUnavailableError):
        return None
    return array if is_published(array, entry) else None


def _download(entries: Sequence[FileEntry], mirrors: Sequence[str], folder: Path) -> list[str]:
    """Download files; where one mirror fails, the next goes on. Returns the mirrors that had any."""
    pooch = require("pooch", "data")
    _check_writable(folder)
    registry = {f"{entry.name}.gz": entry.gzip_sha256 for entry in entries}
    most = {f"{entry.name}.gz": entry.nbytes + entry.nbytes // 100 + (1 << 16) for entry in entries}
    wanted, used, failures, unreachable = list(registry), [], [], 0
    for mirror in mirrors:
        source = pooch.create(folder, mirror, registry=registry, retry_if_failed=RETRIES)
        try:
            while wanted:
                source.fetch(wanted[0], downloader=partial(_transfer, most=most[wanted[0]]))
                del wanted[0]
                used += [mirror] if mirror not in used else []
            return used
        except (OSError, ValueError) as error:  # of requests all are OSError; pooch's for another digest is ValueError
            failures.append(f"{source.get_url(wanted[0])}: {_words(error)}")
            unreachable += isinstance(error, ConnectionError)
        if unreachable >= UNREACHABLE_MIRRORS and not used:
            break
    raise DatasetUnavailableError("; ".join(failures))


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DatasetUnavailableError(
            f"the cache folder {folder} cannot be written ({error.strerror or error}); "
            f"set {CACHE_VARIABLE} to one that can"
        ) from error


def _transfer(url: str, path: str, source: "pooch.Pooch", *, most: int) -> None:
    """Download a file of at most so many bytes, in the place of pooch's own downloader."""
    import pooch
    import requests

    os.remove(path)  # pooch made it for its owner alone, and a cache may be shared
    download = pooch.HTTPDownloader(
        progressbar=is_terminal(sys.stderr),
        chunk_size=1 << 16,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
        headers={"Accept-Encoding": "identity"},  # else a server may gzip the gzip file once more
    )
    try:
        with _Bounded(path, most) as file:
            download(url, file, source)
    except (requests.ConnectionError, requests.Timeout) as error:  # which pooch would retry, with nobody to answer
        raise ConnectionError(_words(error)) from error


class _Bounded(io.FileIO):
    """A new file that takes no more than so many bytes, however long a server goes on sending."""

    def __init__(self, path: str, most: int) -> None:
        super().__init__(path, "xb")
        self._most = most

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of any buffer: here it is bytes
        if self.tell() + len(data) > self._most:
            raise ValueError(f"sent more than the {self._most:,} bytes expected")
        return super().write(data)


def _words(error: BaseException) -> str:
    """What an error was at first, before libraries wrapped it."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
