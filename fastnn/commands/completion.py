"""``fastnn completion``: what a shell needs to complete the options of ``fastnn``."""

import argparse
from collections.abc import Iterator

from fastnn.commands.options import known_names
from fastnn.optional import require

__all__ = ["add_options", "run"]

_PATHS = ("FILE", "FOLDER", "IMAGE", "IN", "MODEL", "OUT", "PATH", "SOURCE")  # metavars


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.description = 'Print the completion for a shell: eval "$(fastnn completion bash)" in one\'s start-up file.'
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="whose completion is wanted")


def run(options: argparse.Namespace) -> int:
    """``fastnn completion``."""
    shtab = require("shtab", "completion")
    for action in _actions(options.parser):
        names = known_names(action.dest)
        if names and not action.choices:
            action.choices = names
        elif action.metavar in _PATHS:
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    print(shtab.complete(options.parser, options.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """All options and arguments, those of the commands too."""
    for action in parser._actions:  # argparse has no public name for them; shtab reads them there too
        yield action
        if isinstance(action.choices, dict):
            for command in action.choices.values():
                yield from _actions(command)
