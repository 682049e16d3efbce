"""Loss and accuracy as text, for terminals."""

import math
from itertools import zip_longest

from fastnn.history import History
from fastnn.optional import require

__all__ = ["plain_line", "text_curves"]

_LABEL = 8  # characters left of a frame
_BLUE, _ORANGE = 33, 208  # of the 256 colours of terminals


def plain_line(history: History) -> str:
    """The last epoch of a history in one line.

    Examples
    --------
    >>> import fastnn
    >>> plain_line(fastnn.History(loss=[0.5, 0.25], accuracy=[0.8, 0.9], seconds=[1, 1]))
    'epoch 2  loss 0.25000  accuracy 0.9000'
    """
    i = history.epochs - 1
    values = {
        "loss": f"{history.loss[i]:.5f}",
        "accuracy": f"{history.accuracy[i]:.4f}",
        "val_loss": f"{history.value('val_loss', i):.5f}",
        "val_accuracy": f"{history.value('val_accuracy', i):.4f}",
    }
    return f"epoch {i + 1}  " + "  ".join(f"{name} {value}" for name, value in values.items() if value != "nan")


def text_curves(history: History, columns: int = 80, height: int = 10) -> str:
    """Loss and accuracy of a run of at least one epoch, side by side, drawn with braille dots by plotille.

    Training is a line, validation a line with an x at each epoch, as far as they fit; a terminal of less than 60
    columns shows the loss alone. A frame has `height` lines and four more around it; no end of line is after the last.
    Colours are left out where stdout is no terminal, or the variable NO_COLOR says so.
    """
    quantities = ["loss", "accuracy"] if columns >= 60 and any(map(math.isfinite, history.accuracy)) else ["loss"]
    width = min(60, columns // len(quantities) - _LABEL - 4)
    panels = [_panel(history, quantity, max(width, 10), height) for quantity in quantities]
    validated = any(map(math.isfinite, history.val_loss))
    legend = "training: line" + ", validation: line with x" * validated
    lines = ["  ".join(row) for row in zip_longest(*panels, fillvalue="")]
    lines += [f"{'':{_LABEL}}  {words}"[: columns - 1] for words in (legend, plain_line(history))]
    return "\n".join(lines)


def _panel(history: History, quantity: str, width: int, height: int) -> list[str]:
    """Lines of one visible width: the title, the frame with the smallest and largest value, the axis of epochs."""
    training, validation = _points(getattr(history, quantity)), _points(getattr(history, f"val_{quantity}"))
    values = [value for _, value in training + validation] or [0.0]
    low, high = min(values), max(values)
    rows = _draw(training, validation, history.epochs, (low, high), width, height)
    labels = [""] * height
    labels[0], labels[-1] = f"{high:.4g}", f"{low:.4g}" if high > low else ""
    last = "" if history.epochs == 1 else str(history.epochs)
    return [
        f"{'':{_LABEL}}  {quantity:{width}s}",
        *(f"{label:>{_LABEL}} │{row}" for label, row in zip(labels, rows, strict=True)),
        f"{'epoch':>{_LABEL}} └1{last:─>{width - 1}s}",
    ]


def _points(values: list[float]) -> list[tuple[int, float]]:
    return [(epoch, value) for epoch, value in enumerate(values, start=1) if math.isfinite(value)]


def _draw(
    training: list[tuple[int, float]],
    validation: list[tuple[int, float]],
    epochs: int,
    limits: tuple[float, float],
    width: int,
    height: int,
) -> list[str]:
    """The frame's lines, each `width` characters wide; what lies on its edge is kept inside."""
    canvas = require("plotille", "plot").Figure()
    canvas.width, canvas.height, canvas.color_mode, canvas.linesep = width, height, "byte", "\n"
    canvas.with_x_axis = canvas.with_y_axis = canvas.origin = False
    margin = max(epochs - 1, 1) / width
    canvas.set_x_limits(1 - margin, epochs + margin)
    low, high = limits
    margin = (high - low or abs(high) or 1.0) / (2 * height)
    canvas.set_y_limits(low - margin, high + margin)
    sparse = 3 * epochs <= width
    for points, colour, marker in ((training, _BLUE, "o" if epochs == 1 else None), (validation, _ORANGE, "x")):
        if points:
            canvas.plot(*zip(*points, strict=True), lc=colour, marker=marker if sparse or epochs == 1 else None)
    return str(canvas.show()).split("\n")
