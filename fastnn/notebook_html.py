"""Histories as notebooks show them, in small tables that take the notebook's own colours and fonts."""

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Protocol

__all__ = ["history_html", "plural", "table"]

_ROWS = 12  # of a history's table, at most
_WIDTH, _HEIGHT = 260, 64  # pixels of a sparkline
_VALIDATION = "#e07b28"  # is seen on white and on black


class Record(Protocol):
    """What is shown of a `fastnn.History`."""

    loss: list[float]
    val_loss: list[float]
    seconds: list[float]
    backend: str
    diverged: bool

    @property
    def epochs(self) -> int: ...

    @property
    def finished_epochs(self) -> int: ...

    def value(self, quantity: str, epoch: int) -> float: ...

    def best_epoch(self, quantity: str) -> tuple[int, float, str] | None: ...


def history_html(history: Record) -> str:
    """A table of a run's epochs, twelve rows at most, with the first, the last and the best; and its loss as a line.

    Examples
    --------
    >>> import fastnn
    >>> "0.2500" in history_html(fastnn.History(loss=[0.5, 0.25], accuracy=[0.8, 0.9], seconds=[1.0, 1.0]))
    True
    """
    best = history.best_epoch("loss")
    quantities = [
        name
        for name in ("loss", "accuracy", "val_loss", "val_accuracy")
        if any(map(math.isfinite, getattr(history, name)))
    ]
    rows = []
    for i in _shown(history.epochs, best[0] - 1 if best else 0):
        notes = ["best"] * (best is not None and best[0] == i + 1 and history.epochs > 1)
        notes += ["interrupted"] * (i >= history.finished_epochs)
        values = (history.value(name, i) for name in quantities)
        rows.append([f"{i + 1}", *(f"{value:.4f}" if math.isfinite(value) else "" for value in values), *notes])
    width = max(map(len, rows), default=0)
    head = ["epoch", *quantities]
    head += [""] * (width - len(head))
    rows = [row + [""] * (len(head) - len(row)) for row in rows]
    end = "; diverged in the epoch after these" if history.diverged else ""
    epochs = plural(history.epochs, "epoch")
    seconds = f"{sum(history.seconds):.3g} s of training"
    title = f"<b>History</b> of {epochs}, {seconds}{f' on {escape(history.backend)}' if history.backend else ''}"
    return f"<div>{title}{end}{_sparkline(history)}{table(head, rows) if rows else ''}</div>"


def plural(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _shown(epochs: int, best: int) -> list[int]:
    """Which epochs, counted from 0, have a row: all, or some at even distances and the best."""
    if epochs <= _ROWS:
        return list(range(epochs))
    steps = _ROWS - 2
    return sorted({round(i * (epochs - 1) / steps) for i in range(steps + 1)} | {best})


def table(head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] = ()) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f'<{tag} style="text-align:right">{escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    end = f"<tfoot>{line(foot, 'th')}</tfoot>" if foot else ""
    return f"<table><thead>{line(head, 'th')}</thead><tbody>{body}</tbody>{end}</table>"


def _sparkline(history: Record) -> str:
    """The loss of training and validation as lines in one inline SVG; nothing for less than two epochs."""
    losses = [value for value in history.loss + history.val_loss if math.isfinite(value)]
    if history.epochs < 2 or not losses:
        return ""
    low, high = min(0.0, *losses), max(losses)
    lines = ""
    for values, look in (
        (history.loss, 'stroke="currentColor"'),
        (history.val_loss, f'stroke="{_VALIDATION}" stroke-dasharray="5 3"'),
    ):
        points = " ".join(
            f"{3 + i * (_WIDTH - 6) / (history.epochs - 1):.1f},"
            f"{3 + (high - value) / (high - low or 1) * (_HEIGHT - 6):.1f}"
            for i, value in enumerate(values)
            if math.isfinite(value)
        )
        lines += f'<polyline points="{points}" fill="none" stroke-width="1.8" {look}/>' if points else ""
    dashed = ", dashed that of validation" if history.val_loss else ""
    words = f"loss of training from {history.loss[0]:.4g} to {history.loss[-1]:.4g}{dashed}"
    picture = f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{words}">{lines}</svg>'
    return f'<div>{picture}<br><small style="opacity:0.75">{words}</small></div>'
