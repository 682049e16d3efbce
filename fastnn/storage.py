"""Model files: safetensors, with the configuration and a digest of the whole in the header; written atomically."""

import hashlib
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import FileFormatError
from fastnn.files import atomic_path
from fastnn.kernels.codes import TASKS
from fastnn.network import Network
from fastnn.threads import resolve_threads

__all__ = ["check_writable", "load", "save"]

_FORMAT_VERSION = 1
_CONFIGURATION = ("sizes", "hidden", "output", "bias", "dropout", "seed", "scale", "shift", "epochs_trained")


def save(network: Network, path: str | Path) -> None:
    """Write a network to `path`; at any moment the old file or the new one is there, whole.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    tensors = {}
    for i, (W, b) in enumerate(network.get_weights(), start=1):
        tensors[f"W{i}"] = W
        if b is not None:
            tensors[f"b{i}"] = b
    configuration = {name: getattr(network, name) for name in _CONFIGURATION}
    configuration["dtype"] = network.dtype.name
    configuration["task"] = next(name for name, code in TASKS.items() if code == network.task)
    text = json.dumps(configuration, sort_keys=True)
    metadata = {"fastnn": str(_FORMAT_VERSION), "network": text, "sha256": _digest(text, tensors)}
    with atomic_path(Path(os.path.realpath(path))) as temporary:  # a link stays one: its target is renewed
        temporary.write_bytes(to_bytes(tensors, metadata))


def load(
    path: str | Path, backend: str | None = None, threads: int | None = None, precision: str | None = None
) -> Network:
    """Read a network that `Network.save` wrote.

    Parameters
    ----------
    path : str or Path
    backend, threads, precision
        As for `Network`; a file does not say on which backend, and how, it was trained.

    Raises
    ------
    FileFormatError
        If the file is damaged, of another kind, or of a newer format.
    OSError
        If it cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    with open(path, "rb"):  # a missing or forbidden file is an OSError, with its own words
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] = file.metadata() or {}
            version = metadata.get("fastnn")
            tensors = {} if version is None else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (SafetensorError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise FileFormatError(
            f"{path} is no whole safetensors file ({error}): save the network again, or fetch the file again"
        ) from error
    if version is None:
        raise FileFormatError(f"{path} is a safetensors file, but not one of fastnn's: Network.save writes those")
    _check_version(path, version)
    network = _build(path, metadata, tensors, backend, threads)
    network.precision = precision
    return network


def _check_version(path: str | Path, version: str) -> None:
    if version != str(_FORMAT_VERSION):
        newer = version.isdecimal() and int(version) > _FORMAT_VERSION
        remedy = "update fastnn to read it" if newer else "the header is damaged: save the network again"
        raise FileFormatError(f"{path} has format {version!r}, this fastnn reads {_FORMAT_VERSION}: {remedy}")


def _build(
    path: str | Path,
    metadata: dict[str, str],
    tensors: dict[str, np.ndarray],
    backend: str | None,
    threads: int | None,
) -> Network:
    threads = resolve_threads(threads)  # here, where a mistake in it is not taken for one in the file
    text = metadata.get("network", "")
    if metadata.get("sha256") != _digest(text, tensors):
        raise FileFormatError(f"{path} is damaged: its content does not match its own digest; save it again")
    try:
        configuration: dict[str, Any] = json.loads(text)
        _check_tensors(configuration, tensors)
        options = {name: configuration[name] for name in _CONFIGURATION if name not in ("sizes", "epochs_trained")}
        network = Network(
            configuration["sizes"],
            init="uniform(0, 0)",
            dtype=configuration["dtype"],
            backend=backend,
            threads=threads,
            **options,
        )
        n_layers = len(network.sizes) - 1
        network.set_weights([(tensors[f"W{i}"], tensors.get(f"b{i}")) for i in range(1, n_layers + 1)])
        network.epochs_trained = configuration["epochs_trained"]
        network.task = TASKS[configuration["task"]]
        if type(network.epochs_trained) is not int or network.epochs_trained < 0:
            raise ValueError(f"epochs_trained is {network.epochs_trained!r}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} describes no network that fastnn can build: {error}") from error
    return network


def _check_tensors(configuration: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Before a network is made: a file that says it is huge must not take the memory for it."""
    sizes, dtype = configuration["sizes"], configuration["dtype"]
    needed: dict[str, Any] = {f"W{i}": (dtype, pair) for i, pair in enumerate(itertools.pairwise(sizes), start=1)}
    if configuration["bias"]:
        needed |= {f"b{i}": (dtype, (n,)) for i, n in enumerate(sizes[1:], start=1)}
    found = {name: (array.dtype.name, array.shape) for name, array in tensors.items()}
    if found != needed:
        raise ValueError(f"its tensors are {found}, its configuration needs {needed}")


def _digest(text: str, tensors: dict[str, np.ndarray]) -> str:
    """Over everything that makes the network, so that no flipped bit goes unseen."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def check_writable(path: str | Path) -> None:
    """Raise an OSError if a file at `path` could not be written; creates nothing."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a file to write")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to write {path.name} to")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the name of the trial file
