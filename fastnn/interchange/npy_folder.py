"""Networks in folders with a ``.npy`` file for each matrix: ``W1.npy``, ``b1.npy``, ``W2.npy``, ..."""

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.interchange.layers import Estimator, as_network, plain_layers
from fastnn.interchange.named_arrays import load_arrays
from fastnn.network import Network

__all__ = ["load_npy_folder", "save_npy_folder"]


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
