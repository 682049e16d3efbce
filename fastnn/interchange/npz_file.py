"""Networks in ``.npz`` files, which numpy opens anywhere: an array for each matrix, and one with the configuration.

Nothing is pickled. A zip archive has a checksum of every member, so that no damage goes unseen.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.datasets import read_npz
from fastnn.errors import FileFormatError
from fastnn.files import atomic_path
from fastnn.interchange.layers import Estimator, as_network
from fastnn.network import Network
from fastnn.storage import build, describe

__all__ = ["load_npz", "save_npz"]

_FORMAT_VERSION = 2  # 1 knew not what training decided on data; it is read too
_DESCRIPTION = "fastnn"  # name of the array with the JSON


def save_npz(network: Network | Estimator, path: str | Path) -> None:
    """Write weights, configuration and history to an ``.npz`` file, atomically; `load_npz` reads it.

    ``np.load(path)`` has ``W1``, ``b1``, ``W2``, ...: weights ``(n_in, n_out)``, biases ``(n_out,)``, of the network's
    dtype. The bytes of its array ``fastnn`` are JSON, with sizes, activations and all else.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, fastnn
    >>> from fastnn.interchange import load_npz, save_npz
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.npz")
    >>> save_npz(fastnn.Network([784, 30, 10], backend="numpy"), path)
    >>> with np.load(path) as arrays:
    ...     arrays["W2"].shape
    (30, 10)
    >>> load_npz(path, backend="numpy")
    Network(784-30-10: relu, softmax; 23,860 parameters, float32, numpy)
    """
    texts, tensors = describe(as_network(network))
    content = json.dumps({"format": _FORMAT_VERSION, **texts}).encode()
    arrays: dict[str, Any] = {**tensors, _DESCRIPTION: np.frombuffer(content, np.uint8)}
    with atomic_path(Path(os.path.realpath(path))) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)


def load_npz(
    path: str | Path, backend: str | None = None, threads: int | None = None, precision: str | None = None
) -> Network:
    """Read a network that `save_npz` wrote.

    Parameters
    ----------
    path, backend, threads, precision
        As for `fastnn.load`, which reads such files too and raises the same errors.
    """
    with open(path, "rb"):  # a missing or forbidden file is an OSError, with its own words
        pass
    description = _read_description(path)
    try:
        sizes, bias = description["network"]["sizes"], description["network"]["bias"]
        names = [f"{kind}{i}" for i in range(1, len(sizes)) for kind in ("Wb" if bias else "W")]
        texts = {name: json.dumps(value) for name, value in description.items()}
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{path} describes no network that fastnn can build: {error}") from error
    network = build(path, texts, read_npz(path, names, limit_bytes=sys.maxsize), backend, threads)
    network.precision = precision
    return network


def _read_description(path: str | Path) -> dict[str, Any]:
    """The JSON of a file of a version that is known."""
    content = read_npz(path, [_DESCRIPTION])[_DESCRIPTION].tobytes()
    try:
        description = json.loads(content)
        version = description["format"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileFormatError(f"{path}: its array {_DESCRIPTION!r} is no network's description ({error})") from error
    if version not in range(1, _FORMAT_VERSION + 1):
        raise FileFormatError(f"{path} has format {version!r}, this fastnn reads 1 to {_FORMAT_VERSION}: update fastnn")
    return description
