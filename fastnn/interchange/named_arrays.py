"""Networks as arrays by name: a folder of ``.npy`` files, or an ``.npz`` file that is not fastnn's own.

A name has one number, that of its layer, counted from 0 or 1, and one of the words w, weight, kernel, coef, b, bias,
intercept, or their plurals. Case, other words and separators do not matter: ``W1``, ``weights_0``, ``layer1_W``,
``fc1.bias``, ``coefs_0`` and ``intercepts_0`` as scikit-learn's. Or all names are alike but for their numbers,
``layer_0``, ``layer_1``, ... or ``arr_0``, ``arr_1``, ... as ``numpy.savez(path, *model.get_weights())`` of Keras:
matrices, each followed by its biases if it has any.
"""

import os
import re
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.datasets import read_npz
from fastnn.errors import DataError, FileFormatError
from fastnn.files import reading
from fastnn.interchange.layers import Array, Estimator, Layer, as_network, build_network, plain_layers
from fastnn.network import Network

__all__ = ["load_arrays", "load_npy_folder", "read_layers", "save_npy_folder"]

_WORDS = dict.fromkeys(("w", "weight", "weights", "kernel", "kernels", "coef", "coefs"), "W")
_WORDS |= dict.fromkeys(("b", "bias", "biases", "intercept", "intercepts"), "b")
_EXPECTED = f"expected a name with the number of a layer and one of {', '.join(_WORDS)}"


def load_arrays(
    path: str | Path,
    *,
    hidden: str | Sequence[str] | None = None,
    output: str | None = None,
    transposed: bool | None = None,
    **options: Any,
) -> Network:
    """Read a network from arrays by name; see `fastnn.interchange.named_arrays` for the names.

    Parameters
    ----------
    path : str or Path
        A folder of ``.npy`` files, or an ``.npz`` file. Biases are ``(n_out,)``, ``(n_out, 1)`` or ``(1, n_out)``.
    hidden, output
        Activations as for `Network`. The files do not tell them, so they must be given; `hidden` only if there are
        hidden layers.
    transposed : bool or None
        Whether weights are ``(n_out, n_in)``. None: as their shapes fit each other; where they do both ways, weights
        named w, kernel or coef are ``(n_in, n_out)``, and for others it has to be said.
    **options
        Other arguments of `Network`: backend, threads, scale, ...

    Raises
    ------
    FileFormatError
        If a name does not say what it is of, or an array holds no numbers.
    DataError
        If the shapes do not fit each other, or do so both ways.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np
    >>> from fastnn.interchange import load_arrays
    >>> path = pathlib.Path(tempfile.mkdtemp(), "weights.npz")
    >>> np.savez(path, layer_0=np.ones((30, 784)), layer_1=np.ones((10, 30)))
    >>> load_arrays(path, hidden="sigmoid", output="sigmoid", backend="numpy")
    Network(784-30-10: sigmoid, sigmoid; 23,820 parameters, float64, numpy)
    """
    return build_network(read_layers(path, transposed)[0], hidden, output, **options)


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


def load_npy_folder(folder: str | Path, **options: Any) -> Network:
    """Read a network from a folder of ``.npy`` files: `load_arrays`, which takes ``.npz`` files too."""
    return load_arrays(folder, **options)


def read_layers(path: str | Path, transposed: bool | None = None) -> tuple[list[Layer], bool]:
    """The layers, and whether their weights were ``(n_out, n_in)``; as `load_arrays`."""
    path = Path(path)
    path.stat()  # for the system's own error
    arrays = _read_folder(path) if path.is_dir() else read_npz(path, limit_bytes=sys.maxsize)
    words = {word for name in arrays for word in _split(name)[0] if word in _WORDS}
    layers = _by_kind(path, arrays) if words else _in_turn(path, arrays)
    return _orient(path, layers, transposed, is_known=bool(words) and words.isdisjoint({"weight", "weights"}))


# ---- arrays by the names of their files -----------------------------------------------------------------------------


def _read_folder(folder: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for path in sorted(path for path in folder.iterdir() if path.suffix == ".npy"):
        with reading(path, "whole .npy file of numbers: save it again"):
            array = np.lib.format.open_memmap(path, mode="r")
        if array.dtype.kind not in "buif":
            raise FileFormatError(f"{path}: expected real numbers, got dtype {array.dtype}")
        arrays[path.stem] = array
    return arrays


# ---- layers from them -----------------------------------------------------------------------------------------------


def _split(name: str) -> tuple[list[str], list[int]]:
    """Words and numbers of an array's name."""
    return re.findall(r"[a-z]+", name.lower()), [int(number) for number in re.findall(r"\d+", name)]


def _by_kind(path: Path, arrays: dict[str, Array]) -> list[Layer]:
    """Of names that say what an array is."""
    found: dict[str, dict[int, Array]] = {"W": {}, "b": {}}
    for name, array in arrays.items():
        words, numbers = _split(name)
        kinds = [_WORDS[word] for word in words if word in _WORDS]
        if len(kinds) != 1 or len(numbers) != 1:
            raise FileFormatError(f"{path / name}.npy: {_EXPECTED}, as W1.npy")
        if numbers[0] in found[kinds[0]]:
            raise FileFormatError(f"{path / name}.npy: there is another file for {kinds[0]} of layer {numbers[0]}")
        found[kinds[0]][numbers[0]] = array
    weights, biases = found.values()
    _check_numbers(path, weights)
    alone = sorted(biases.keys() - weights.keys())
    if alone:
        raise FileFormatError(f"{path}: there are biases without weights for layer {alone[0]}")
    return [(weights[n], biases.get(n)) for n in sorted(weights)]


def _in_turn(path: Path, arrays: dict[str, Array]) -> list[Layer]:
    """Of names that differ in their numbers alone: weights, and after each its biases if there are any."""
    numbered: dict[int, Array] = {}
    for name, array in arrays.items():
        words, numbers = _split(name)
        if len(numbers) != 1 or words != _split(next(iter(arrays)))[0] or numbers[0] in numbered:
            raise FileFormatError(
                f"{path / name}.npy: {_EXPECTED}, as W1.npy; or all names alike but for one number, as layer_0.npy"
            )
        numbered[numbers[0]] = array
    _check_numbers(path, numbered)
    layers: list[Layer] = []
    for n in sorted(numbered):
        if numbered[n].ndim == 1 and layers and layers[-1][1] is None:
            layers[-1] = (layers[-1][0], numbered[n])
        else:
            layers.append((numbered[n], None))
    return layers


def _check_numbers(path: Path, arrays: dict[int, Array]) -> None:
    numbers = sorted(arrays)
    if numbers not in (list(range(len(numbers))), list(range(1, len(numbers) + 1))) or not numbers:
        raise FileFormatError(f"{path}: expected weights of layers 1, 2, ... (or from 0), as W1.npy; found {numbers}")


def _orient(path: Path, layers: list[Layer], transposed: bool | None, is_known: bool) -> tuple[list[Layer], bool]:
    """All weights as ``(n_in, n_out)``, all biases as ``(n_out,)``; and whether the weights have been transposed.

    Where the names are of those who write ``(n_in, n_out)``, `is_known`, both ways possible are no question.
    """
    layers = [(W, b if b is None or b.size != max(b.shape, default=1) else b.reshape(-1)) for W, b in layers]
    for W, _ in layers:
        if W.ndim != 2:
            raise DataError(f"expected weights of two dimensions, got shape {W.shape}")
    turned = [(W.T, b) for W, b in layers]
    if transposed is None:
        transposed = _fits(turned) and not (_fits(layers) and is_known)
        if transposed and _fits(layers):
            raise DataError(
                f"{path}: the weights, {', '.join(str(W.shape) for W, _ in layers)}, can be (n_in, n_out) and "
                "(n_out, n_in): say transposed=False or True, in fastnn convert --no-transposed or --transposed"
            )
    return (turned if transposed else layers), transposed


def _fits(layers: list[Layer]) -> bool:
    widths = [len(layers[0][0]), *(W.shape[1] for W, _ in layers)]
    return all(len(W) == n and (b is None or b.shape == W.shape[1:]) for (W, b), n in zip(layers, widths, strict=False))
