"""``fastnn data``."""

import argparse

from fastnn import datasets
from fastnn.commands.options import load_dataset

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help=f"{', '.join(datasets.DATASETS)}, a folder or an .npz file"
    )


def run(options: argparse.Namespace) -> int:
    """``fastnn data``."""
    if options.name is None:
        for name, description in datasets.DATASETS.items():
            print(f"{name:14s} {description}")
    else:
        print(load_dataset(options.name).describe())
    return 0
