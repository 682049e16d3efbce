"""Which class is taken for which: the confusion matrix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arguments import check_count
from fastnn.errors import DataError
from fastnn.plots.answers import answers, check_names
from fastnn.plots.figures import SMALL, TEXT, Theme, dress, find_theme, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["confusion_matrix", "prediction_matrix"]

_WITH_TEXT = 15  # classes: with more, numbers in the cells could not be read
_LEAST_SCALE = 0.05  # share at the end of the colours of what is wrong, or more: a good network is not to look bad


def prediction_matrix(
    network: "Network", x: Any, y: Any, *, names: Sequence[str] | None = None, theme: str = "light"
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
    found = answers(network, x, y)
    return confusion_matrix(found.targets, found.predictions, found.n_classes, names=names, theme=theme)


def confusion_matrix(
    targets: Any, predictions: Any, n_classes: int, *, names: Sequence[str] | None = None, theme: str = "light"
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
    look = find_theme(theme)
    counts = _count(targets, predictions, check_count("n_classes", n_classes))
    names = check_names(names, n_classes)
    side = min(10.0, max(4.0, 0.72 * n_classes)) if n_classes <= _WITH_TEXT else 8.0
    figure = new_figure(look, side + 1.6, side + 0.8)
    grid = figure.add_gridspec(2, 2, width_ratios=[30, 1])
    axes = figure.add_subplot(grid[:, 0])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    drawn = _draw_cells(axes, shares, look)
    if n_classes <= _WITH_TEXT:
        _write_cells(axes, counts, shares, drawn)
    _label(axes, counts, names, look)
    for row, (kind, mappable) in enumerate(drawn.items()):
        _scale(figure.add_subplot(grid[row, 1]), mappable, f"{kind}: share of the target's samples", look)
    return figure


def _count(targets: Any, predictions: Any, n_classes: int) -> np.ndarray:
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


def _draw_cells(axes: Any, shares: np.ndarray, theme: Theme) -> dict[str, Any]:
    """The diagonal in one hue, the rest in another."""
    from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm

    hits = np.eye(len(shares), dtype=bool)
    worst = max(_LEAST_SCALE, float(np.max(shares, where=~hits, initial=0)))
    kinds = {"right": (~hits, Normalize(0, 1)), "wrong": (hits, PowerNorm(0.5, 0, worst))}
    drawn = {}
    for (kind, (hidden, norm)), colour in zip(kinds.items(), theme.colours, strict=False):
        colours = LinearSegmentedColormap.from_list(kind, [theme.background, colour])
        drawn[kind] = axes.imshow(np.ma.array(shares, mask=hidden), cmap=colours, norm=norm)
    return drawn


def _write_cells(axes: Any, counts: np.ndarray, shares: np.ndarray, drawn: dict[str, Any]) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        image = drawn["right" if row == column else "wrong"]
        place: dict[str, Any] = {"ha": "center", "color": _ink(image, shares[row, column])}
        axes.text(column, row - 0.04, f"{counts[row, column]:,}", va="bottom", fontsize=TEXT, **place)
        axes.text(column, row + 0.08, f"{100 * shares[row, column]:.1f} %", va="top", fontsize=SMALL - 1.5, **place)


def _ink(image: Any, share: float) -> str:
    """Light on dark colours, dark on light ones."""
    red, green, blue, _ = image.cmap(image.norm(share))
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.52 else "#101214"


def _label(axes: Any, counts: np.ndarray, names: Sequence[str], theme: Theme) -> None:
    right, all_of_them = int(np.trace(counts)), int(counts.sum())
    dress(axes, theme, f"{right:,} of {all_of_them:,} right: {100 * right / all_of_them:.2f} %", grid="x")
    axes.grid(False)
    axes.tick_params(length=0)
    n = len(names)
    upright = max(map(len, names)) > 40 / n
    rotation = {"rotation": 90 if upright else 0}
    axes.set_xticks(range(n), [plain(name, 16) for name in names], **rotation)
    axes.set_yticks(range(n), [plain(name, 16) for name in names])
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color=theme.grid, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("target")
    for row in np.flatnonzero(counts.sum(axis=1) == 0):
        axes.text((n - 1) / 2, row, "no samples", ha="center", va="center", fontsize=SMALL, color=theme.muted)


def _scale(axes: Any, drawn: Any, title: str, theme: Theme) -> None:
    bar = axes.figure.colorbar(drawn, cax=axes, format=lambda share, _: f"{100 * share:g} %")
    bar.outline.set_edgecolor(theme.grid)
    bar.minorticks_off()
    axes.tick_params(colors=theme.muted, labelcolor=theme.text, labelsize=SMALL, length=3)
    axes.set_ylabel(title, color=theme.text, fontsize=SMALL)
