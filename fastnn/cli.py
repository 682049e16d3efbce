"""The command ``fastnn``: its options, and what its exit code says.

0 done, 1 failed, 2 wrong usage, 3 backend or data not to be had, 130 interrupted. Results go to stdout, progress and
errors to stderr; nobody sees a traceback for what he can mend himself.
"""

import argparse
import sys
from collections.abc import Sequence

import fastnn
from fastnn.bench import command, doctor, which
from fastnn.commands import backends, completion, convert, data, evaluate, plot, predict, sweep, train
from fastnn.commands.exits import exit_code

__all__ = ["exit_code", "main", "make_parser"]

_COMMANDS = {
    "train": (train, "train a network and print its test accuracy"),
    "sweep": (sweep, "compare settings of the hyperparameters, and test the best"),
    "evaluate": (evaluate, "loss and accuracy of a saved network"),
    "predict": (predict, "what a saved network says of images"),
    "convert": (convert, "turn a network's file into one of another format"),
    "plot": (plot, "draw what a run or a saved network learned"),
    "backends": (backends, "which backends are ready, and which one is chosen"),
    "bench": (command, "compare the backends on this machine, and write a report"),
    "which": (which, "the fastest backend here for a network, and where the time goes"),
    "doctor": (doctor, "what is wrong with this installation, and what to do about it"),
    "completion": (completion, "what a shell needs to complete these commands and their options"),
    "data": (data, "the datasets; with a name, get that one and describe it"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""

    def run() -> int:
        options = make_parser().parse_args(arguments)
        return int(options.run(options))

    return exit_code(run)


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="fastnn",
        description="Feed-forward networks on numpy, numba or CuPy.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 3 backend or data not to be had, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    parser.set_defaults(parser=parser)  # for `fastnn completion`
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, words) in _COMMANDS.items():
        module.add_options(commands.add_parser(name, help=words))
    return parser


if __name__ == "__main__":
    sys.exit(main())
