"""How well each class is found."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.plots.figures import SMALL, Theme, ThemeName, dress, find_theme, legend, new_figure, plain
from fastnn.plots.predictions import ClassReport, class_report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["precision_recall"]


def precision_recall(
    network: "Network", x: Any, y: Any, *, names: Sequence[str] | None = None, theme: ThemeName = "light"
) -> "Figure":
    """Precision and recall of each class as dots, F1 and the number of samples beside them.

    Parameters
    ----------
    network, x, y, names, theme
        As for `prediction_matrix`, which raises the same errors.

    Returns
    -------
    matplotlib.figure.Figure

    See Also
    --------
    class_report : the same as numbers.

    Examples
    --------
    >>> import fastnn.plots
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 10], backend="numpy")
    >>> figure = fastnn.plots.precision_recall(net, data.x_test, data.y_test)
    """
    look, report = find_theme(theme), class_report(network, x, y, names)
    n = len(report.names)
    figure = new_figure(look, 7.0, 1.6 + 0.3 * max(n, 3))
    axes = figure.add_subplot()
    dress(axes, look, grid="x")
    axes.set_yticks(range(n), [plain(name, 20) for name in report.names])
    axes.set_ylim(n - 0.4, -0.6)
    _dots(axes, report, look)
    _columns(axes, report, look)
    axes.set(xlabel="precision and recall in %", ylabel="class")
    legend(figure, look)
    return figure


def _dots(axes: "Axes", report: ClassReport, theme: Theme) -> None:
    rows = np.arange(len(report.names))
    precision, recall = 100 * report.precision, 100 * report.recall
    axes.hlines(rows, np.fmin(precision, recall), np.fmax(precision, recall), color=theme.muted, linewidth=1.2)
    blue, orange, *_ = theme.colours
    label = "precision: share of its predictions that are right"
    axes.plot(precision, rows, "o", color=blue, markersize=8, label=label)
    label = "recall: share of its samples that are found"
    axes.plot(recall, rows, "D", mfc="none", mec=orange, markersize=7, mew=1.6, label=label)
    known = np.concatenate([precision, recall])
    known = known[np.isfinite(known)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 100.0)
    margin = 0.06 * (high - low) + 0.1
    axes.set_xlim(max(low - margin, -2), min(high + margin, 102))


def _columns(axes: "Axes", report: ClassReport, theme: Theme) -> None:
    """F1 and the number of samples, right of the frame."""
    lines: list[tuple[float, str, str, str]] = [(-0.85, "F1", "samples", theme.muted)]
    for i, (f1, support) in enumerate(zip(report.f1, report.support, strict=True)):
        lines.append((i, "-" if np.isnan(f1) else f"{100 * f1:.2f} %", f"{support:,}", theme.text))
    look: dict[str, Any] = {"va": "center", "ha": "right", "fontsize": SMALL, "annotation_clip": False}
    look |= {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    for row, *words, colour in lines:
        for text, points in zip(words, (55, 105), strict=True):
            axes.annotate(text, (1, row), (points, 0), color=colour, **look)
