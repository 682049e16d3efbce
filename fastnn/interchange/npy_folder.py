"""Networks in folders with a ``.npy`` file for each matrix: ``W1.npy``, ``b1.npy``, ``W2.npy``, ...

A file's name has one number, that of its layer, counted from 0 or 1, and one of the words w, weight, weights, b, bias,
biases. Case, other words and separators do not matter: ``weights_0.npy``, ``layer1_W.npy``, ``fc1.bias.npy``.
"""

import os
import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import DataError, FileFormatError
from fastnn.files import reading
from fastnn.interchange.layers import Estimator, Layer, as_network, build_network, plain_layers
from fastnn.network import Network

__all__ = ["load_npy_folder", "save_npy_folder"]

_WORDS = {"w": "W", "weight": "W", "weights": "W", "b": "b", "bias": "b", "biases": "b"}


def save_npy_folder(network: Network | Estimator, folder: str | Path) -> None:
    """Write ``W1.npy`` ``(n_in, n_out)``, ``b1.npy`` ``(n_out,)``, ... to a new folder; it appears whole or not at all.

    The network's scale and shift are folded into the first layer. Activations are not in the files: who reads them has
    to know.

    Raises
    ------
    FileExistsError
        If there is such a file, or such a folder that is not empty.
    OSError
        If the folder cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, fastnn
    >>> from fastnn.interchange import load_npy_folder, save_npy_folder
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "weights")
    >>> save_npy_folder(fastnn.Network([784, 30, 10], hidden="tanh", backend="numpy"), folder)
    >>> sorted(path.name for path in folder.iterdir())
    ['W1.npy', 'W2.npy', 'b1.npy', 'b2.npy']
    >>> load_npy_folder(folder, hidden="tanh", output="softmax", backend="numpy")
    Network(784-30-10: tanh, softmax; 23,860 parameters, float32, numpy)
    """
    layers = plain_layers(as_network(network))
    folder = Path(os.path.realpath(folder))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is no empty folder: name a new one, or remove it")
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(6)}.part"
    temporary.mkdir()
    try:
        for i, (W, b) in enumerate(layers, start=1):
            np.save(temporary / f"W{i}.npy", W)
            if b is not None:
                np.save(temporary / f"b{i}.npy", b)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_npy_folder(
    folder: str | Path, *, hidden: str | Sequence[str] | None = None, output: str | None = None, **options: Any
) -> Network:
    """Read a network from a folder of ``.npy`` files; see `fastnn.interchange.npy_folder` for their names.

    Parameters
    ----------
    folder : str or Path
        Weights are ``(n_in, n_out)``. If the shapes fit each other only when all are transposed, they are
        ``(n_out, n_in)``. Biases are ``(n_out,)``, ``(n_out, 1)`` or ``(1, n_out)``.
    hidden, output
        Activations as for `Network`. The files do not tell them, so they must be given; `hidden` only if there are
        hidden layers.
    **options
        Other arguments of `Network`: backend, threads, scale, ...

    Raises
    ------
    FileFormatError
        If a file's name does not say what it holds, or its content is no array of numbers.
    DataError
        If the shapes do not fit each other.
    OSError
        If the folder cannot be read.
    """
    weights, biases = _read(Path(folder))
    numbers = sorted(weights)
    if not weights or numbers != list(range(numbers[0], numbers[0] + len(numbers))) or numbers[0] > 1:
        raise FileFormatError(f"{folder}: expected weights of layers 1, 2, ... (or from 0), as W1.npy; found {numbers}")
    alone = sorted(biases.keys() - weights.keys())
    if alone:
        raise FileFormatError(f"{folder}: there are biases without weights for layer {alone[0]}")
    return build_network(_orient([(weights[n], biases.get(n)) for n in numbers]), hidden, output, **options)


def _read(folder: Path) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Weights and biases by the number in their files' names."""
    found: dict[str, dict[int, np.ndarray]] = {"W": {}, "b": {}}
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".npy"):
        parts = re.findall(r"[a-z]+|\d+", path.stem.lower())
        kinds, numbers = [_WORDS[part] for part in parts if part in _WORDS], [int(p) for p in parts if p.isdecimal()]
        if len(kinds) != 1 or len(numbers) != 1:
            raise FileFormatError(
                f"{path}: expected a name with the number of a layer and one of {', '.join(_WORDS)}, as W1.npy"
            )
        if numbers[0] in found[kinds[0]]:
            raise FileFormatError(f"{path}: there is another file for {kinds[0]} of layer {numbers[0]}")
        found[kinds[0]][numbers[0]] = _read_array(path)
    return found["W"], found["b"]


def _read_array(path: Path) -> np.ndarray:
    with reading(path, "whole .npy file of numbers: save it again"):
        array = np.lib.format.open_memmap(path, mode="r")
    if array.dtype.kind not in "buif":
        raise FileFormatError(f"{path}: expected real numbers, got dtype {array.dtype}")
    return array


def _orient(layers: list[Layer]) -> list[Layer]:
    """All weights as ``(n_in, n_out)``, all biases as ``(n_out,)``."""
    layers = [(W, b if b is None or b.size != max(b.shape, default=1) else b.reshape(-1)) for W, b in layers]
    for W, _ in layers:
        if W.ndim != 2:
            raise DataError(f"expected weights of two dimensions, got shape {W.shape}")
    turned = [(W.T, b) for W, b in layers]
    return turned if not _fits(layers) and _fits(turned) else layers


def _fits(layers: list[Layer]) -> bool:
    widths = [len(layers[0][0]), *(W.shape[1] for W, _ in layers)]
    return all(len(W) == n and (b is None or b.shape == W.shape[1:]) for (W, b), n in zip(layers, widths, strict=False))
