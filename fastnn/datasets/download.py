"""Downloading the published files into the cache: several mirrors, every file checked before it gets its name."""

import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import numpy as np

from fastnn.console import is_terminal
from fastnn.datasets.catalogue import FILES, MIRRORS, FileEntry
from fastnn.datasets.folders import is_published
from fastnn.datasets.idx import read_idx
from fastnn.errors import DatasetUnavailableError, FileFormatError
from fastnn.files import CACHE_VARIABLE, atomic_path

__all__ = ["obtain"]

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
# The connect timeout holds for each address of a host and not for the name look-up, so without a network the sum can
# reach a minute; this one holds for everything up to the first byte.
ANSWER_SECONDS = 10.0
TRANSFER_SECONDS = 900.0
# After this many hosts that did not answer, with none that did, the network is taken to be absent.
HOSTS_BEFORE_GIVING_UP = 2


def obtain(name: str, folder: Path) -> tuple[dict[str, np.ndarray], list[str]]:
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
    """
    search = _Search(list(MIRRORS[name]))
    arrays = {}
    for entry in FILES[name]:
        path = folder / f"{entry.name}.gz"
        cached = _read_published(path, entry)
        arrays[entry.array] = search.download(entry, path) if cached is None else cached
    return arrays, search.used


@dataclass
class _Search:
    """The mirrors of one dataset, best first, and what became of each attempt."""

    mirrors: list[str]
    used: list[str] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    silent_hosts: set[str] = field(default_factory=set)

    def download(self, entry: FileEntry, path: Path) -> np.ndarray:
        _check_writable(path.parent)
        for mirror in list(self.mirrors):
            try:
                array = _download(f"{mirror}{entry.name}.gz", path, entry)
            except _TransferError as error:
                self._note(mirror, entry, error)
                if not self.used and len(self.silent_hosts) >= HOSTS_BEFORE_GIVING_UP:
                    break
                continue
            if mirror not in self.used:
                self.used.append(mirror)
            return array
        raise DatasetUnavailableError("; ".join(self.attempts))

    def _note(self, mirror: str, entry: FileEntry, error: "_TransferError") -> None:
        self.attempts.append(f"{mirror}{entry.name}.gz: {error}")
        if not error.answered:
            self.silent_hosts.add(urlsplit(mirror).netloc)
        # The others come first for the files that follow.
        self.mirrors.remove(mirror)
        self.mirrors.append(mirror)


class _TransferError(Exception):
    """One file from one mirror failed; `answered` tells a mirror that spoke from one that was not reached."""

    def __init__(self, message: str, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


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


def _read_published(path: Path, entry: FileEntry) -> np.ndarray | None:
    """Read `path` if it is there and is the published file, else return None."""
    try:
        array = read_idx(path, limit_bytes=entry.nbytes)
        return array if is_published(path, array, entry) else None
    except (FileFormatError, DatasetUnavailableError):
        return None


def _download(url: str, path: Path, entry: FileEntry) -> np.ndarray:
    """Download `url` to `path` and return its array; `path` is touched only by a file that passed the check."""
    # A gzip file is larger than its content by headers only: a mirror that sends more sends something else.
    most = entry.nbytes + entry.nbytes // 100 + (1 << 16)
    with atomic_path(path) as temporary:
        with temporary.open("xb") as file:
            _transfer(url, _Sink(file, most))
        array = _read_published(temporary, entry)
        if array is None:
            raise _TransferError("sent something else than the published file (its digest differs)", answered=True)
    return array


class _Sink:
    """Where the transfer writes: it bounds the size, and it refuses writes after the transfer was given up."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self.file = file
        self.most = most
        self.count = 0
        self.answered = False
        self.stopped = False

    def write(self, data: bytes) -> int:
        self.count += len(data)
        if self.stopped or self.count > self.most:
            raise _TransferError(f"sent more than the {self.most:,} bytes expected", answered=True)
        return self.file.write(data)

    def flush(self) -> None:
        """Do nothing: pooch flushes after every piece, closing the file flushes once."""


def _transfer(url: str, sink: _Sink) -> None:
    """Run the transfer in a thread and give it up when no answer comes in time.

    A name look-up or a chain of connection attempts cannot be interrupted from outside; the thread that is stuck in
    one is left behind, as a daemon, with a sink that takes nothing more.
    """
    outcome: list[BaseException] = []
    thread = threading.Thread(target=_run_transfer, args=(url, sink, outcome), daemon=True)
    started = time.monotonic()
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            elapsed = time.monotonic() - started
            if thread.is_alive() and elapsed > (TRANSFER_SECONDS if sink.count else ANSWER_SECONDS):
                words = "not finished" if sink.count else "no answer"
                raise _TransferError(f"{words} within {elapsed:.0f} s", sink.answered)
    finally:
        sink.stopped = True
    if outcome:
        raise _TransferError(_few_words(outcome[0]), sink.answered) from outcome[0]


def _run_transfer(url: str, sink: _Sink, outcome: list[BaseException]) -> None:
    responses: list[Any] = []

    def note_response(response: Any, **_: object) -> None:
        sink.answered = True
        responses.append(response)

    try:
        import pooch

        downloader = pooch.HTTPDownloader(
            progressbar=is_terminal(sys.stderr),
            chunk_size=1 << 16,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
            headers={"Accept-Encoding": "identity"},  # else a server may gzip the gzip file once more
            hooks={"response": note_response},
        )
        downloader(url, sink, None)
    except BaseException as error:  # whatever it is, it is raised again where the transfer was asked for
        outcome.append(error)
    finally:
        for response in responses:  # pooch leaves the connection open when it raises
            response.close()


_REASONS = {
    "proxy": "the proxy did not let it through",
    "resol": "host name not found",
    "getaddrinfo": "host name not found",
    "refused": "connection refused",
    "unreachable": "network unreachable",
    "timed out": "no answer in time",
    "certificate": "TLS certificate not accepted",
    "incompleteread": "the connection broke off",
    "reset": "the connection broke off",
    "remotedisconnected": "the connection broke off",
}


def _few_words(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"HTTP status {response.status_code}"
    text = str(error)
    lower = text.lower()
    for mark, words in _REASONS.items():
        if mark in lower:
            return words
    return text[:100] or type(error).__name__
