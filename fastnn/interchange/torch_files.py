"""PyTorch's files of weights: a ``state_dict`` as ``torch.save`` or safetensors write it, read without running code."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy.typing as npt

from fastnn.errors import FileFormatError
from fastnn.files import atomic_path, reading
from fastnn.interchange.layers import Estimator
from fastnn.interchange.torch_models import from_torch, to_torch
from fastnn.network import Network
from fastnn.optional import require

__all__ = ["load_torch", "save_torch"]


def save_torch(network: Network | Estimator, path: str | Path) -> None:
    """Write the ``state_dict`` of `to_torch`, atomically; activations are not in it.

    Raises
    ------
    MissingLibraryError
        If torch is not installed.
    OSError
        If the file cannot be written.
    """
    torch = require("torch", "torch")
    state = to_torch(network).state_dict()
    with atomic_path(Path(os.path.realpath(path))) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)


def load_torch(
    path: str | Path,
    *,
    hidden: str | Sequence[str] | None = None,
    output: str | None = None,
    order: Sequence[str] | None = None,
    **options: Any,
) -> Network:
    """The network of a ``state_dict`` in a file of ``torch.save``, alone or in a checkpoint, or in a safetensors file.

    Parameters
    ----------
    path : str or Path
        Read without running code. A safetensors file keeps no order of its layers: unless their shapes and the numbers
        in their names allow one order alone, `order` is needed.
    hidden, output, order, **options
        As for `from_torch`.

    Raises
    ------
    FileFormatError
        If the file is neither, damaged, or would need code to be run.
    DataError, ValueError
        As for `from_torch`.
    OSError
        If it cannot be read.

    Examples
    --------
    >>> import pathlib, tempfile, torch
    >>> from fastnn.interchange import load_torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(784, 30), torch.nn.ReLU(), torch.nn.Linear(30, 10))
    >>> path = pathlib.Path(tempfile.mkdtemp(), "weights.pt")
    >>> torch.save(module.state_dict(), path)
    >>> load_torch(path, hidden="relu", output="softmax", backend="numpy")
    Network(784-30-10: relu, softmax; 23,860 parameters, float32, numpy)
    """
    with open(path, "rb") as file:
        start = file.read(9)
    state = _read_safetensors(path) if start[8:] == b"{" else _read_pickle(path)
    if not isinstance(state, Mapping):
        raise FileFormatError(f"{path}: expected a state_dict, got {type(state).__name__}: save model.state_dict()")
    return from_torch(state, hidden=hidden, output=output, order=order, **options)


def _read_safetensors(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors.numpy import load_file

    with reading(path, "whole safetensors file of numpy's dtypes"):
        return load_file(path)


def _read_pickle(path: str | Path) -> object:
    torch = require("torch", "torch")
    with reading(path, "whole file of torch.save's"):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise FileFormatError(
                f"{path} is no file of tensors alone, and others can run code{f' (here {found[1]})' if found else ''}: "
                "save the weights in PyTorch with torch.save(model.state_dict(), path)"
            ) from error
