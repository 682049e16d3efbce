"""Model files: safetensors, with the configuration and a digest of the whole in the header; written atomically."""

import hashlib
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fastnn.checks import check_count, check_finite
from fastnn.datasets.npz import read_npz
from fastnn.errors import FileFormatError
from fastnn.files import atomic_path, reading
from fastnn.history import History
from fastnn.kernels.codes import TASKS
from fastnn.model import Model
from fastnn.operations import check_loss
from fastnn.parameters import count_biases, count_weights, split_parameters
from fastnn.threads import resolve_threads
from fastnn.training_state import TrainingState

__all__ = ["build", "check_writable", "describe", "load_state", "read_network", "read_npz_network", "save", "save_npz"]

M = TypeVar("M", bound=Model)

_FORMAT_VERSION = 3  # 1 knew neither history nor training, 2 not what training decided on data; both are read too
_TEXTS = ("network", "history", "training")  # of the metadata; the digest is over all of them
_OF_OTHERS = (".onnx", ".pt", ".pth", ".npy")
_NPZ_FORMAT_VERSION = 2  # 1 knew not what training decided on data; it is read too
_DESCRIPTION = "fastnn"  # name of the array with the JSON in an .npz file
_TRAINING = "training."  # before the names of tensors that a model does without


def save(network: Model, path: str | Path, state: TrainingState | None = None) -> None:
    """Write a network to `path`; at any moment the old file or the new one is there, whole.

    Parameters
    ----------
    network : Model
    path : str or Path
        Safetensors, unless it ends with ``.npz``.
    state : TrainingState or None
        Of the run that trains it: makes the file a checkpoint.

    Raises
    ------
    ValueError
        If `path` ends as files of other formats do.
    OSError
        If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".npz" and state is None:
        return save_npz(network, path)
    if suffix in _OF_OTHERS:
        raise ValueError(
            f"{path} would be no {suffix} file: save the network as .safetensors, then `fastnn convert` it"
        )
    from safetensors.numpy import save as to_bytes

    texts, tensors = describe(network)
    if state:
        texts["training"], arrays = _pack(state)
        if not np.array_equal(state.arrays["parameters"], network.kernels.to_numpy(network.parameters)):
            arrays[_TRAINING + "parameters"] = state.arrays["parameters"]  # a callback has given it other weights since
        tensors |= {name: _as_tensor(name, array) for name, array in arrays.items()}
    metadata = {name: json.dumps(text, sort_keys=True) for name, text in texts.items()}
    metadata |= {"fastnn": str(_FORMAT_VERSION), "sha256": _digest(metadata, tensors)}
    with atomic_path(Path(os.path.realpath(path))) as temporary:  # a link stays one: its target is renewed
        temporary.write_bytes(to_bytes(tensors, metadata))


def describe(network: Model) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All that makes a network, as plain values and arrays; `build` makes one of it."""
    tensors = {}
    for i, (W, b) in enumerate(network.get_weights(), start=1):
        tensors[f"W{i}"] = W
        if b is not None:
            tensors[f"b{i}"] = b
    task = next((name for name, code in TASKS.items() if code == network.decided_task), None)
    learned = {name: getattr(network, name) for name in ("epochs_trained", "loss", "pixels", "largest_input")}
    texts = {"network": network.configuration() | learned | {"task": task}}
    if network.history:
        texts["history"] = network.history.to_dict()
    return texts, tensors


def read_network(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """What `build` needs of a safetensors file, which may be a checkpoint; see `fastnn.load` for errors."""
    return _read(path)


def save_npz(network: Model, path: str | Path) -> None:
    """Nothing is pickled. A zip archive has a checksum of every member, so that no damage goes unseen."""
    texts, tensors = describe(network)
    content = json.dumps({"format": _NPZ_FORMAT_VERSION, **texts}).encode()
    arrays: dict[str, Any] = {**tensors, _DESCRIPTION: np.frombuffer(content, np.uint8)}
    with atomic_path(Path(os.path.realpath(path))) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def read_npz_network(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """What `build` needs of an ``.npz`` file; see `fastnn.load` for errors."""
    with open(path, "rb"):  # a missing or forbidden file is an OSError, with its own words
        pass
    content = read_npz(path, [_DESCRIPTION])[_DESCRIPTION].tobytes()
    try:
        description = json.loads(content)
        version = description["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileFormatError(f"{path}: its array {_DESCRIPTION!r} is no network's description ({error})") from error
    if version not in range(1, _NPZ_FORMAT_VERSION + 1):
        newest = f"this fastnn reads 1 to {_NPZ_FORMAT_VERSION}: update fastnn"
        raise FileFormatError(f"{path} has format {version!r}, {newest}")
    try:
        sizes, bias = description["network"]["sizes"], description["network"]["bias"]
        names = [f"{kind}{i}" for i in range(1, len(sizes)) for kind in ("Wb" if bias else "W")]
        texts = {name: json.dumps(value) for name, value in description.items()}
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{path} describes no network that fastnn can build: {error}") from error
    return texts, read_npz(path, names, limit_bytes=sys.maxsize)


def load_state(path: str | Path) -> TrainingState:
    """Read where a run was when a `Checkpoint` wrote `path`.

    Raises
    ------
    FileFormatError
        As `load`; also if the file is a model without the state of a run.
    OSError
        If it cannot be read.
    """
    metadata, tensors = _read(path)
    if "training" not in metadata:
        raise FileFormatError(f"{path} is a network, not a checkpoint: there is no run in it to go on with")
    try:
        history = History.from_dict(json.loads(metadata["history"]))
        return _unpack(json.loads(metadata["training"]), history, tensors)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} describes no run that fastnn can go on with: {error}") from error


def _read(path: str | Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a file that is whole."""
    from safetensors import safe_open

    with open(path, "rb"):  # a missing or forbidden file is an OSError, with its own words
        pass
    with (
        reading(path, "whole safetensors file: save the network again, or fetch the file again"),
        safe_open(path, framework="numpy") as file,
    ):
        metadata: dict[str, str] = file.metadata() or {}
        version = metadata.get("fastnn")
        tensors = {} if version is None else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    if version is None:
        raise FileFormatError(f"{path} is a safetensors file, but not one of fastnn's: Network.save writes those")
    _check_version(path, version)
    if metadata.get("sha256") != _digest(metadata, tensors):
        raise FileFormatError(f"{path} is damaged: its content does not match its own digest; save it again")
    return metadata, tensors


def _pack(state: TrainingState) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A run's state as plain values and tensors; parameters and history are in the file as the network's."""
    arrays = {_TRAINING + name: array for name, array in state.arrays.items() if name != "parameters"}
    callbacks = []
    for i, (name, kept) in enumerate(state.callbacks):
        own = {key: value for key, value in kept.items() if isinstance(value, np.ndarray)}
        arrays |= {f"{_TRAINING}callback{i}.{key}": value for key, value in own.items()}
        callbacks.append([name, {key: value for key, value in kept.items() if key not in own}])
    names = ("settings", "updates", "epochs_trained", "rate_factor", "stopped", "notes")
    return {name: getattr(state, name) for name in names} | {"callbacks": callbacks}, arrays


def _as_tensor(name: str, array: np.ndarray) -> np.ndarray:
    """In C order and native bytes, as the file holds it, whatever order and strides a callback's own array has."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise ValueError(f"a checkpoint holds arrays of numbers of at most 8 bytes, got {name} of dtype {array.dtype}")
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def _unpack(text: dict[str, Any], history: History, tensors: dict[str, np.ndarray]) -> TrainingState:
    arrays = {name.removeprefix(_TRAINING): array for name, array in tensors.items() if name.startswith(_TRAINING)}
    callbacks = []
    for i, (name, kept) in enumerate(text.pop("callbacks")):
        own = {key: arrays.pop(key) for key in list(arrays) if key.startswith(f"callback{i}.")}
        callbacks.append((name, kept | {key.partition(".")[2]: array for key, array in own.items()}))
    _check_tensors(text["settings"], {name: array for name, array in tensors.items() if not name.startswith(_TRAINING)})
    sizes, bias = text["settings"]["sizes"], text["settings"]["bias"]
    flat = np.empty(count_weights(sizes) + (count_biases(sizes) if bias else 0), text["settings"]["dtype"])
    for i, (W, b) in enumerate(zip(*split_parameters(flat, sizes, bias), strict=True), start=1):
        W[...] = tensors[f"W{i}"]
        b[...] = tensors[f"b{i}"] if bias else b
    return TrainingState(**text, history=history, callbacks=callbacks, arrays={"parameters": flat, **arrays})


def _check_version(path: str | Path, version: str) -> None:
    if version not in map(str, range(1, _FORMAT_VERSION + 1)):
        newer = version.isdecimal() and int(version) > _FORMAT_VERSION
        remedy = "update fastnn to read it" if newer else "the header is damaged: save the network again"
        raise FileFormatError(f"{path} has format {version!r}, this fastnn reads 1 to {_FORMAT_VERSION}: {remedy}")


def build(
    make: Callable[..., M],
    path: str | Path,
    metadata: dict[str, str],
    tensors: dict[str, np.ndarray],
    backend: str | None,
    threads: int | None,
) -> M:
    """What `make`, a class of networks, makes of JSON texts "network" and maybe "history", and arrays W1, b1, ..."""
    threads = resolve_threads(threads)  # here, where a mistake in it is not taken for one in the file
    tensors = {name: array for name, array in tensors.items() if not name.startswith(_TRAINING)}
    try:
        configuration: dict[str, Any] = json.loads(metadata["network"])
        _check_tensors(configuration, tensors)
        learned = {name: configuration.pop(name, None) for name in ("loss", "pixels", "largest_input")}
        epochs_trained, task = configuration.pop("epochs_trained"), configuration.pop("task")
        network = make(**configuration, task=task, init="uniform(0, 0)", backend=backend, threads=threads)
        if network.configuration() != configuration:
            raise ValueError(f"it says {configuration}, which is not all that makes a network")
        n_layers = len(network.sizes) - 1
        network.set_weights([(tensors[f"W{i}"], tensors.get(f"b{i}")) for i in range(1, n_layers + 1)])
        network.epochs_trained = check_count("epochs_trained", epochs_trained, least=0)
        if learned["pixels"] is None and not epochs_trained:
            network.decided_task = None  # older files name a task also where no training has decided on it
        network.loss = learned["loss"] and check_loss(learned["loss"], network.output)
        network.pixels = bool(learned["pixels"])
        network.largest_input = check_finite("largest_input", learned["largest_input"] or 0)
        if "history" in metadata:
            network.history = History.from_dict(json.loads(metadata["history"]))
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


def _digest(metadata: dict[str, str], tensors: dict[str, np.ndarray]) -> str:
    """Over everything that is read, so that no flipped bit goes unseen."""
    digest = hashlib.sha256("".join(metadata.get(name, "") for name in _TEXTS).encode())
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
