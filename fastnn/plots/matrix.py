"""Which class is taken for which: the confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import check_count
from fastnn.errors import DataError
from fastnn.optional import require_matplotlib
from fastnn.plots import figures
from fastnn.plots.figures import SMALL, TEXT
from fastnn.plots.predictions import check_names, predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["confusion_matrix", "prediction_matrix"]

_WITH_TEXT = 15  # classes: with more, numbers in the cells could not be read
_LEAST_SCALE = 0.05  # share at the end of the colours of what is wrong, or more: a good network is not to look bad


def prediction_matrix(
    network: "Network", x: Any, y: Any, *, names: Sequence[str] | None = None, theme: figures.ThemeName = "light"
) -> "Figure":
    """The confusion matrix of a network: a row for each target, a column for each prediction.

    Parameters
    ----------
    network : Network
    x, y
        Samples and labels, as for `Network.evaluate`.
    names : sequence of str or None
        Of the classes; None: their numbers.
    theme : {"light", "dark"}

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If the data do not fit the network, or are no classification.
    MissingLibraryError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn.plots
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 10], backend="numpy")
    >>> figure = fastnn.plots.prediction_matrix(net, data.x_test, data.y_test)
    """
    found = predictions(network, x, y)
    return confusion_matrix(found.targets, found.predictions, found.n_classes, names=names, theme=theme)


def confusion_matrix(
    targets: npt.ArrayLike,
    predictions: npt.ArrayLike,
    n_classes: int,
    *,
    names: Sequence[str] | None = None,
    theme: figures.ThemeName = "light",
) -> "Figure":
    """The same of labels that are at hand.

    A cell has the number of samples and its share of the row: of the samples that are of that class. What is right is
    blue, and what is wrong orange, on a scale of its own, by the square root, so that a few mistakes are seen beside
    many hits.

    Parameters
    ----------
    targets, predictions : array_like of int, (n,)
        Labels from 0 to ``n_classes - 1``.
    n_classes : int
    names, theme
        As for `prediction_matrix`.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import fastnn.plots
    >>> figure = fastnn.plots.confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1], 2, names=["cat", "dog"])
    >>> figure.axes[0].get_title(loc="left")
    '3 of 4 right: 75.00 %'
    """
    look = figures.find_theme(theme)
    require_matplotlib()
    from matplotlib.colors import Normalize, PowerNorm

    counts = _count(targets, predictions, check_count("n_classes", n_classes))
    names = check_names(names, n_classes)
    side = min(10.0, max(4.0, 0.72 * n_classes)) if n_classes <= _WITH_TEXT else 8.0
    figure = figures.new_figure(look, side + 1.6, side + 0.8)
    grid = figure.add_gridspec(2, 2, width_ratios=[30, 1])
    axes = figure.add_subplot(grid[:, 0])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.eye(n_classes, dtype=bool)
    worst = max(_LEAST_SCALE, float(np.max(shares, where=~right, initial=0)))
    kinds = {"right": (~right, Normalize(0, 1)), "wrong": (right, PowerNorm(0.5, 0, worst))}
    for row, (kind, (hidden, norm)) in enumerate(kinds.items()):
        colours = figures.shades(look.background, look.colours[row])
        drawn = axes.imshow(np.ma.array(shares, mask=hidden), cmap=colours, norm=norm)
        if n_classes <= _WITH_TEXT:
            for place in zip(*np.nonzero(counts * ~hidden), strict=True):
                _write_cell(axes, place, counts[place], shares[place], figures.ink_on(colours(norm(shares[place]))))
        bar = {"cax": figure.add_subplot(grid[row, 1]), "format": lambda share, _: f"{100 * share:g} %"}
        figures.colour_bar(drawn, f"{kind}: share of the target's samples", look, figure, **bar)
    _label(axes, counts, [figures.plain(name, 16) for name in names], look)
    return figure


def _count(targets: npt.ArrayLike, predictions: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.int64]:
    """(n_classes, n_classes) int64: samples of each target and prediction."""
    pair = [np.asarray(targets), np.asarray(predictions)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 1 or not pair[0].size:
        raise DataError(f"expected as many targets as predictions, (n,), got {pair[0].shape} and {pair[1].shape}")
    for name, labels in zip(("targets", "predictions"), pair, strict=True):
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= n_classes:
            raise DataError(f"{name} must be whole numbers from 0 to {n_classes - 1}")
    counts = np.zeros((n_classes, n_classes), np.int64)
    np.add.at(counts, tuple(pair), 1)
    return counts


def _write_cell(axes: "Axes", place: tuple[int, ...], count: int, share: float, ink: str) -> None:
    row, column = place
    axes.text(column, row - 0.04, f"{count:,}", ha="center", va="bottom", fontsize=TEXT, color=ink)
    axes.text(column, row + 0.08, f"{100 * share:.1f} %", ha="center", va="top", fontsize=SMALL - 1.5, color=ink)


def _label(axes: "Axes", counts: npt.NDArray[np.int64], names: Sequence[str], theme: figures.Theme) -> None:
    right, total, n = int(np.trace(counts)), int(counts.sum()), len(names)
    figures.dress(axes, theme, f"{right:,} of {total:,} right: {100 * right / total:.2f} %", grid=None)
    axes.set(xlabel="predicted", ylabel="target")
    axes.set_xticks(range(n), names, rotation=90 if max(map(len, names)) > 40 / n else 0)
    axes.set_yticks(range(n), names)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=theme.grid, linewidth=0.6)
    axes.tick_params(which="both", length=0)
    for row in np.flatnonzero(counts.sum(axis=1) == 0):
        axes.text((n - 1) / 2, float(row), "no samples", ha="center", va="center", fontsize=SMALL, color=theme.muted)
