"""Curves that grow while a network is trained."""

import os
import sys
import time
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from fastnn.callbacks import Callback
from fastnn.console import Notices, is_terminal
from fastnn.history import History
from fastnn.optional import require, require_matplotlib
from fastnn.plots.curves import curves
from fastnn.plots.figures import ThemeName, find_theme
from fastnn.plots.terminal import plain_line, text_curves

if TYPE_CHECKING:
    from fastnn.callbacks import Run
    from fastnn.model import Model

__all__ = ["Live"]

_PAUSE = 0.2  # seconds from one drawing to the next, at least
_SHARE = 0.05  # of the time, at most, is spent drawing


class Live(Callback):
    """Draw loss and accuracy while the network is trained: a callback for ``fit(..., callbacks=[Live()])``.

    In a notebook one figure is renewed in place. In a terminal the curves are drawn as text on stderr, above the
    progress of the epoch, and renewed in place too. Anywhere else, as in a pipe or a file, each epoch is one line.
    Drawing takes at most a twentieth of the time; the last epoch is always drawn. In a terminal, what else is printed
    meanwhile, by another callback say, may be drawn over: write that to a file.

    Parameters
    ----------
    theme : {"light", "dark"}
        Of the figure in a notebook.
    stream : text file or None
        Where text goes; None: stderr.

    Raises
    ------
    MissingLibraryError
        When training begins, if matplotlib (in a notebook) or plotille (in a terminal) is not installed.

    Examples
    --------
    >>> import sys, fastnn.plots
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 16, 10], backend="numpy")
    >>> live = fastnn.plots.Live(stream=sys.stdout)
    >>> history = net.fit(data.x_train[:500], data.y_train[:500], epochs=2, callbacks=[live])  # doctest: +ELLIPSIS
    epoch 1  loss ...  accuracy ...
    epoch 2  loss ...  accuracy ...
    """

    def __init__(self, *, theme: ThemeName = "light", stream: TextIO | None = None) -> None:
        self.theme = find_theme(theme).name
        self.stream = stream
        self._view: _View = _Lines(sys.stderr)
        self._drawn, self._again = 0, 0.0

    def begin(self, run: "Run") -> None:
        stream = self.stream or sys.stderr
        if self.stream is None and _in_notebook():
            require_matplotlib()
            self._view = _Notebook(self.theme)
        elif is_terminal(stream) and os.environ.get("TERM") != "dumb":
            require("plotille", "plot")
            self._view = _Terminal(stream, bars=run.verbose and stream is sys.stderr)
        else:
            self._view = _Lines(stream)
        self._drawn, self._again = run.history.epochs, 0.0

    def __call__(self, network: "Model", history: History) -> None:
        if isinstance(self._view, _Lines) or time.perf_counter() >= self._again:
            self._draw(history)

    def end(self, run: "Run") -> None:
        if run.history.epochs > self._drawn:
            self._draw(run.history)

    def _draw(self, history: History) -> None:
        start = time.perf_counter()
        self._view.draw(history, history.epochs - self._drawn)
        self._drawn, now = history.epochs, time.perf_counter()
        self._again = now + max(_PAUSE, (now - start) / _SHARE)


class _View(Protocol):
    """Where curves are drawn."""

    def draw(self, history: History, new: int) -> None:
        """Show a history that has so many epochs more than when it was last drawn."""


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, not a terminal's IPython."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class _Lines:
    """One line an epoch, for files and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._notices = Notices(stream)

    def draw(self, history: History, new: int) -> None:
        print(plain_line(history), file=self._notices, flush=True)


class _Terminal:
    """Text that takes the place of what was drawn before, and of the epochs' progress bars below it.

    The cursor is never hidden and no mode is set, so the terminal is as it was whenever the run ends.
    """

    def __init__(self, stream: TextIO, bars: bool) -> None:
        self._stream, self._bars, self._height = stream, bars, 0

    def draw(self, history: History, new: int) -> None:
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (AttributeError, OSError, ValueError):  # a stream that says it is a terminal, but has no size
            columns, lines = 80, 24
        text = text_curves(history, columns or 80, max(3, min(10, (lines or 24) - 7)))
        above = self._height + new * self._bars
        whole = not history.interrupted  # else it is unknown what is below the last drawing: leave it as it is
        back = f"\r\x1b[{above}A\x1b[J" if above and whole else ""
        print(f"{back}{text}", file=Notices(self._stream), flush=True)
        self._height = text.count("\n") + 1


class _Notebook:
    """One figure of the cell's output, renewed in place."""

    def __init__(self, theme: ThemeName) -> None:
        self._theme = theme
        self._handle: Any = None

    def draw(self, history: History, new: int) -> None:
        from IPython.display import display

        figure = curves(history, theme=self._theme)
        if self._handle is None:
            self._handle = display(figure, display_id=True)
        else:
            self._handle.update(figure)
