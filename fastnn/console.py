"""What is only said: progress and notices on stderr, none of which may end a run.

A program may have no stderr (``pythonw``, a service: it is None), a closed one, or a logger in its place that has a
method `write` and nothing else.
"""

import contextlib
import sys
from typing import Any

__all__ = ["Notices", "is_terminal", "progress_bar", "say", "wants_progress"]


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal, whatever else it may be."""
    try:
        return bool(stream.isatty())
    except Exception:  # None, a closed stream, one without that method
        return False


class Notices:
    """A stream for text that may be lost: what its own stream cannot take is left unsaid."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "ascii"

    def write(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(Exception):
            self._stream.flush()


def say(words: object) -> None:
    """Write a line to stderr, as far as there is one."""
    print(f"fastnn: {words}", file=Notices(sys.stderr), flush=True)


def wants_progress(verbose: bool | str) -> bool:
    """What ``verbose="auto"`` means: progress is drawn where somebody looks."""
    return is_terminal(sys.stderr) if verbose == "auto" else bool(verbose)


def progress_bar(**options: Any) -> Any:
    """A bar of tqdm on stderr."""
    from tqdm import tqdm

    return tqdm(file=sys.stderr if is_terminal(sys.stderr) else Notices(sys.stderr), **options)
