"""Options that several commands have, and what is made of them."""

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fastnn import datasets
from fastnn.console import say
from fastnn.errors import DataError

__all__ = ["INTERRUPTED", "UsageError", "add_common", "add_dataset", "load_dataset", "parse_layers", "usage"]

INTERRUPTED = 130


class UsageError(Exception):
    """An option's value is not one that it can have."""


@contextmanager
def usage() -> Iterator[None]:
    """While options are turned into objects, a wrong value is the caller's; what is wrong in a file is the file's."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        raise UsageError(error) from error


def add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", help="numpy, numba, cupy or auto; default: FASTNN_BACKEND, or auto")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: FASTNN_NUM_THREADS, or all")
    parser.add_argument("--precision", help="of matrix products: bf16, where the backend has it; default: the dtype's")
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_dataset(parser: argparse.ArgumentParser) -> None:
    choices = f"{', '.join(datasets.DATASETS)}, a folder of IDX files, an .npz file or a .csv table; default: auto"
    parser.add_argument("--dataset", default="auto", help=choices)


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
