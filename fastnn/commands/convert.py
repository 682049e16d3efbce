"""``fastnn convert``."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastnn import interchange
from fastnn.commands.exits import UsageError, usage
from fastnn.commands.options import known_names
from fastnn.commands.printing import print_json
from fastnn.errors import FileFormatError
from fastnn.file_kinds import file_kind
from fastnn.interchange.layers import build_network
from fastnn.interchange.named_arrays import read_layers
from fastnn.network import Network, load
from fastnn.storage import check_writable, save

__all__ = ["add_options", "run"]

_WITHOUT_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "folder": interchange.save_npy_folder,
    ".pt": interchange.save_torch,
    ".pth": interchange.save_torch,
}
_WRITERS = _WITHOUT_ACTIVATIONS | {
    ".safetensors": save,
    ".npz": interchange.save_npz,
    ".onnx": interchange.export_onnx,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    read = (
        "fastnn's .safetensors or .npz; arrays by name, a folder of .npy files or an .npz; PyTorch's state_dict or "
        "checkpoint (.pt, .safetensors)"
    )
    parser.add_argument("source", metavar="IN", help=read)
    written = ".safetensors, .npz, .onnx, .pt or .pth (a state_dict), or without suffix a folder of .npy files"
    parser.add_argument("target", metavar="OUT", help=f"by its suffix: {written}")
    parser.add_argument("--hidden", metavar="NAME[,NAME...]", help="activations of hidden layers, where IN has none")
    parser.add_argument("--output", metavar="NAME", help=f"{', '.join(known_names('output'))}, where IN does not say")
    parser.add_argument(
        "--order", metavar="NAME,...", help="layers from first to last, where a state_dict has no order"
    )
    parser.add_argument(
        "--transposed",
        action=argparse.BooleanOptionalAction,
        help="whether the weights among arrays are (n_out, n_in); default: as they fit each other",
    )
    parser.add_argument(
        "--samples", metavar="TYPE", help="input of an .onnx: float32, float64, uint8; default: float32"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """``fastnn convert``."""
    kind = _kind_to_write(options.target)
    arguments = {"samples": options.samples} if options.samples else {}
    if arguments and kind != ".onnx":
        raise UsageError("--samples is the type of an ONNX model's input: OUT has to end with .onnx")
    if kind != "folder":
        check_writable(options.target)
    with usage():
        network, transposed = _read(Path(options.source), options)
        _WRITERS[kind](network, options.target, **arguments)
    remark = ""
    if kind in _WITHOUT_ACTIVATIONS:
        hidden = f"--hidden {','.join(network.hidden)} " if network.hidden else ""
        remark = f"{hidden}--output {network.output}"
    if options.json:
        layers = {"sizes": network.sizes, "hidden": network.hidden, "output": network.output}
        files = {"source": options.source, "target": options.target, "transposed": transposed}
        print_json("convert", files | layers)
    else:
        if transposed is not None:
            shape, biases = "(n_out, n_in)" if transposed else "(n_in, n_out)", "with" if network.bias else "without"
            print(f"weights   taken as {shape}, {biases} biases")
        print(f"network   {network!r}\nsaved to  {options.target}")
        if remark:
            print(f"          without activations: who reads it needs {remark}")
    return 0


def _kind_to_write(target: str) -> str:
    """A suffix, or "folder"."""
    if target.endswith(os.sep) or os.path.isdir(target) or not Path(target).suffix:
        return "folder"
    suffix = Path(target).suffix.lower()
    if suffix not in _WRITERS:
        known = ", ".join(name for name in _WRITERS if name != "folder")
        raise UsageError(f"OUT must end with {known}, or have no suffix for a folder of .npy files; got {target!r}")
    return suffix


def _read(path: Path, options: argparse.Namespace) -> tuple[Network, bool | None]:
    """The network; and of arrays, whether their weights were (n_out, n_in)."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UsageError(f"{path} is no file: a pipe cannot be read, write it to a file first")
    kind = "arrays" if path.is_dir() else file_kind(path)
    if kind == "pickle":
        raise FileFormatError(
            f"{path} is a pickle, which can run code and is not read; for a model of scikit-learn's there is "
            "fastnn.interchange.from_sklearn(estimator) in Python"
        )
    if kind == "onnx":
        raise FileFormatError(f"{path}: ONNX models are written, not read")
    if options.order is not None and kind != "torch":
        raise UsageError(f"--order names the layers of a state_dict of PyTorch's, and {path} is none: leave it out")
    if options.transposed is not None and kind != "arrays":
        raise UsageError(f"--transposed is said of arrays by name, and {path} holds none: leave it out")
    hidden, output = options.hidden, options.output
    if kind in ("npz", "fastnn"):
        if hidden or output:
            raise UsageError(f"{path} says itself which activations it has: leave out --hidden and --output")
        return interchange.load_npz(path, "numpy") if kind == "npz" else load(path, "numpy"), None
    hidden = hidden.split(",") if hidden and "," in hidden else hidden
    if kind == "arrays":
        layers, transposed = read_layers(path, options.transposed)
        return build_network(layers, hidden, output, backend="numpy"), transposed
    order = options.order and options.order.split(",")
    return interchange.load_torch(path, hidden=hidden, output=output, order=order, backend="numpy"), None
