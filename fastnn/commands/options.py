"""Options that several commands have, the names that may follow them, and what is made of them."""

import argparse
import warnings
from typing import Any

from fastnn import datasets
from fastnn.backends import backend_names
from fastnn.choices import check_choice
from fastnn.commands.exits import INTERRUPTED, UsageError, usage
from fastnn.console import say
from fastnn.initializers import INITIALIZERS
from fastnn.kernels.codes import PRECISIONS
from fastnn.operations import LOSSES, OPTIMIZERS, hidden_activations, output_activations
from fastnn.presets import DEFAULTS, PRESETS
from fastnn.schedules import SCHEDULES

__all__ = [
    "HYPERPARAMETERS",
    "INTERRUPTED",
    "UsageError",
    "add_backend",
    "add_common",
    "add_dataset",
    "add_hyperparameters",
    "known_names",
    "load_dataset",
    "parse_layers",
    "read_preset",
    "usage",
]

HYPERPARAMETERS: dict[str, tuple[type[int] | type[float] | type[str], str]] = {  # name: (type of a value, help)
    "epochs": (int, "passes over the training data"),
    "batch_size": (int, "samples of a mini-batch"),
    "optimizer": (str, "{names}"),
    "learning_rate": (float, "default: {rates}"),
    "momentum": (float, "of sgd; default: 0"),
    "weight_decay": (float, "L2, of weights but not of biases; default: 0"),
    "clip_norm": (float, "scale a gradient of larger norm down to this"),
    "dropout": (float, "share of hidden units; default: 0"),
    "hidden": (str, "activation of the hidden layers: {names}"),
    "output": (str, "activation of the output: {names}"),
    "loss": (str, "{names}; default: the one that belongs to the output"),
    "init": (str, "{names}; with arguments as 'uniform(-0.1, 0.1)'"),
    "schedule": (str, "of the learning rate: {names}; with arguments as 'step(10, 0.1)'"),
    "augment": (str, "change the images at random: 'deform(rotate=15, scale=0.15, elastic=(36, 6))'"),
    "dtype": (str, "{names}"),
}


def known_names(option: str) -> list[str]:
    """The names that may follow an option, from the registries; none where it takes something else."""
    tables = {
        "backend": backend_names(),
        "dataset": datasets.DATASETS,
        "dtype": ("float32", "float64"),
        "hidden": hidden_activations(),
        "init": INITIALIZERS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "output": output_activations(),
        "precision": PRECISIONS,
        "preset": PRESETS,
        "schedule": SCHEDULES,
    }
    return list(tables.get(option, ()))


def add_hyperparameters(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Options for `HYPERPARAMETERS`, of one value each or, as text, of several."""
    names = ", ".join(known_names("preset"))
    parser.add_argument("--preset", help=f"a recipe whose settings the other options change: {names}")
    rates = ", ".join(f"{kind().learning_rate} for {name}" for name, kind in OPTIMIZERS.items())
    for name, (kind, words) in HYPERPARAMETERS.items():
        words = words.format(names=", ".join(known_names(name)), rates=rates)
        if DEFAULTS.get(name):
            words = f"{words}; default: {DEFAULTS[name]}"
        settings: dict[str, Any] = {"type": kind, "metavar": {int: "N", float: "X"}.get(kind)}
        parser.add_argument("--" + name.replace("_", "-"), help=words, **{"metavar": "V,..."} if several else settings)
    parser.add_argument("--nesterov", action="store_true", default=None, help="with momentum, look ahead")


def read_preset(name: str | None) -> dict[str, Any]:
    """The settings of a preset; none of them without a name."""
    return dict(PRESETS[check_choice("preset", name, PRESETS)]) if name else {}


def add_backend(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(known_names("backend"))
    parser.add_argument("--backend", help=f"{names}; default: FASTNN_BACKEND, or auto")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: FASTNN_NUM_THREADS, or all")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_common(parser: argparse.ArgumentParser) -> None:
    add_backend(parser)
    names = " or ".join(known_names("precision"))
    parser.add_argument("--precision", help=f"of matrix products: {names}, where the backend has it; default: dtype's")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(known_names("dataset"))
    words = f"{names}, a folder of IDX files, an .npz file or a .csv table; default: auto"
    parser.add_argument("--dataset", default="auto", help=words)


def parse_layers(text: str) -> list[int]:
    """Layer sizes from an option's text."""
    try:
        return [int(n) for n in text.split(",")]
    except ValueError:
        raise ValueError(f"--layers must be whole numbers separated by commas, as 784,128,10, got {text!r}") from None


def load_dataset(name: str) -> datasets.Dataset:
    with usage(), warnings.catch_warnings(action="ignore"):  # the line below says it
        dataset = datasets.load(name)
    if dataset.note:
        say(f"NOT MNIST but {dataset.name!r}, because: {dataset.note}")
    return dataset
