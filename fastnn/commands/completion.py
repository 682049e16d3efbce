"""``fastnn completion``: what a shell needs to complete the options of ``fastnn``."""

import argparse
from collections.abc import Iterable

from fastnn.backends import backend_names
from fastnn.datasets import DATASETS
from fastnn.kernels.codes import PRECISIONS
from fastnn.operations import LOSSES, OPTIMIZERS, hidden_activations, output_activations
from fastnn.optional import require
from fastnn.presets import PRESETS
from fastnn.schedules import SCHEDULES

__all__ = ["add_options", "run"]

_NAMES: dict[str, Iterable[str]] = {  # that may follow an option
    "backend": backend_names(),
    "dataset": DATASETS,
    "dtype": ("float32", "float64"),
    "hidden": hidden_activations(),
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "output": output_activations(),
    "precision": PRECISIONS,
    "preset": PRESETS,
    "schedule": SCHEDULES,
}
_PATHS = ("FILE", "FOLDER", "IMAGE", "IN", "MODEL", "OUT", "SOURCE")  # metavars


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.description = 'Print the completion for a shell: eval "$(fastnn completion bash)" in one\'s start-up file.'
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="whose completion is wanted")


def run(options: argparse.Namespace) -> int:
    """``fastnn completion``."""
    from fastnn.cli import make_parser

    shtab, parser = require("shtab", "completion"), make_parser()
    for action in _actions(parser):
        if action.dest in _NAMES and not action.choices:
            action.choices = list(_NAMES[action.dest])
        elif action.metavar in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    print(shtab.complete(parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    """All options and arguments, those of the commands too."""
    for action in parser._actions:  # argparse has no public name for them; shtab reads them there too
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _actions(command)
