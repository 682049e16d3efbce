"""How a command ends: its exit code, and the error it tells on stderr."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastnn.console import say
from fastnn.errors import BackendError, DataError, DatasetUnavailableError, FastnnError

__all__ = ["INTERRUPTED", "UsageError", "exit_code", "usage"]

FAILED, USAGE, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 130


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
    except BrokenPipeError:  # the reader of a pipe has left: nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UsageError as error:
        words, code = str(error), USAGE
    except (BackendError, DatasetUnavailableError) as error:
        words, code = str(error), UNAVAILABLE
    except (FastnnError, OSError) as error:
        words, code = str(error), FAILED
    except MemoryError:
        words, code = "out of memory: a smaller network or data set is needed", FAILED
    except KeyboardInterrupt:
        words, code = "interrupted", INTERRUPTED
    say(words)
    return code
