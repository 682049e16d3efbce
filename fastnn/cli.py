"""The command ``fastnn``: its options, and what its exit code says.

0 done, 1 failed, 2 wrong usage, 3 backend or data not to be had, 130 interrupted. Results go to stdout, progress and
errors to stderr; nobody sees a traceback for what he can mend himself.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

import fastnn
from fastnn.bench import command, doctor, which
from fastnn.commands import backends, completion, convert, data, evaluate, plot, predict, sweep, train
from fastnn.commands.options import INTERRUPTED, UsageError
from fastnn.console import say
from fastnn.errors import BackendError, DatasetUnavailableError, FastnnError

__all__ = ["exit_code", "main", "make_parser"]

FAILED, USAGE, UNAVAILABLE = 1, 2, 3

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
        code: int = options.run(options)
        return code

    return exit_code(run)


def exit_code(run: Callable[[], int]) -> int:
    """What `run` returns, or the code of its error, which is told on stderr."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may not be of the encoding of a pipe
    try:
        code = run()
        print(end="", flush=True)  # a command without a console has no stdout
        return code
    except SystemExit as error:  # argparse: 0 after --help, 2 for wrong usage
        return int(error.code or 0)
    except UsageError as error:
        return _fail(error, USAGE)
    except (BackendError, DatasetUnavailableError) as error:
        return _fail(error, UNAVAILABLE)
    except BrokenPipeError:  # the reader of a pipe has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (FastnnError, OSError) as error:
        return _fail(error, FAILED)
    except MemoryError:
        return _fail("out of memory: a smaller network or data set is needed", FAILED)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _fail(error: object, code: int) -> int:
    say(error)
    return code


def make_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="fastnn",
        description="Feed-forward networks on numpy, numba or CuPy.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 3 backend or data not to be had, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"fastnn {fastnn.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (module, words) in _COMMANDS.items():
        module.add_options(commands.add_parser(name, help=words))
    return parser


if __name__ == "__main__":
    sys.exit(main())
