"""What the units of the first layer look at."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arguments import check_count
from fastnn.plots.figures import SMALL, TEXT, Theme, dress, find_theme, new_figure
from fastnn.plots.misclassified import as_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["unit_importance", "weights"]


def weights(network: "Network", n: int = 64, *, theme: str = "light") -> "Figure":
    """The weights of the first layer, a picture for each unit; the most important units first.

    All pictures have one scale of colours around 0, which is the background: one hue where a bright pixel excites the
    unit, another where it inhibits it. Where the inputs are no square, one heat map has a row for each unit. Without
    hidden layers the units are the outputs, and stay in their order.

    Parameters
    ----------
    network : Network
    n : int
        Units to draw, at most.
    theme : {"light", "dark"}

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    MissingLibraryError
        If matplotlib is not installed.

    See Also
    --------
    unit_importance : the measure.

    Examples
    --------
    >>> import fastnn.plots
    >>> figure = fastnn.plots.weights(fastnn.Network([784, 32, 10], backend="numpy"), n=16)
    >>> len(figure.axes)  # and the scale
    17
    """
    look, n = find_theme(theme), check_count("n", n)
    W = network.get_weights()[0][0]
    hidden = len(network.sizes) > 2
    order = np.argsort(-unit_importance(network), kind="stable")[:n] if hidden else np.arange(W.shape[1])[:n]
    rows = W.T[order]
    pictures = as_pictures(rows)
    limit = float(np.quantile(np.abs(rows), 0.995)) or 1.0  # a few outliers would leave all others pale
    scale = {"cmap": _diverging(look), "vmin": -limit, "vmax": limit}
    kind = "hidden units" if hidden else "outputs"
    title = (
        f"weights of the first layer into {len(order)} of {W.shape[1]} {kind}" + ", the most important first" * hidden
    )
    figure = _tiles(pictures, order, scale, look) if pictures.shape[1] > 1 else _heat_map(rows, order, scale, look)
    figure.suptitle(title, x=0.01, ha="left", fontsize=TEXT, fontweight="bold", color=look.text)
    return figure


def unit_importance(network: "Network") -> np.ndarray:
    """How much the units of the first layer matter, (n_units,): the norm of a unit's incoming weights times that of
    its outgoing ones.

    The product is the same when a unit of relu is scaled up and what follows it down, which leaves the network as it
    is; see Neyshabur, Tomioka, Srebro, "Norm-based capacity control in neural networks" (2015), on path norms. Of a
    network without hidden layers it is the norm of the incoming weights.

    Examples
    --------
    >>> import numpy as np, fastnn.plots
    >>> net = fastnn.Network([2, 2, 1], output="sigmoid", bias=False, backend="numpy")
    >>> net.set_weights([(np.array([[3.0, 1], [4, 0]]), None), (np.array([[1.0], [2]]), None)])
    >>> fastnn.plots.unit_importance(net)
    array([5., 2.])
    """
    (incoming, _), *others = network.get_weights()
    importance = np.linalg.norm(incoming.astype(np.float64), axis=0)
    return importance * np.linalg.norm(others[0][0].astype(np.float64), axis=1) if others else importance


def _diverging(theme: Theme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weight", [theme.colours[0], theme.background, theme.colours[1]])


def _tiles(pictures: np.ndarray, order: np.ndarray, scale: dict[str, Any], theme: Theme) -> "Figure":
    columns = max(4, math.ceil(math.sqrt(len(order))))
    rows = math.ceil(len(order) / columns)
    figure = new_figure(theme, 0.95 * columns + 1.2, 1.1 * rows + 0.5)
    panels = []
    for i, (unit, picture) in enumerate(zip(order, pictures, strict=True)):
        axes = figure.add_subplot(rows, columns, i + 1)
        drawn = axes.imshow(picture, **scale)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(theme.grid)
        axes.set_title(str(unit), fontsize=SMALL - 1, color=theme.muted, pad=2)
        panels.append(axes)
    _scale(figure, drawn, panels, theme)
    return figure


def _heat_map(rows: np.ndarray, order: np.ndarray, scale: dict[str, Any], theme: Theme) -> "Figure":
    figure = new_figure(theme, 7.5, 1.6 + min(6.0, 0.3 * len(order)))
    axes = figure.add_subplot()
    dress(axes, theme)
    axes.grid(False)
    drawn = axes.imshow(rows, aspect="auto", interpolation="nearest", **scale)
    axes.set_yticks(range(len(order)), list(map(str, order)))
    axes.tick_params(length=0)
    axes.set_xlabel("feature")
    axes.set_ylabel("unit")
    _scale(figure, drawn, [axes], theme)
    return figure


def _scale(figure: "Figure", drawn: Any, panels: list[Any], theme: Theme) -> None:
    bar = figure.colorbar(drawn, ax=panels, fraction=0.04, aspect=30, extend="both")
    bar.outline.set_edgecolor(theme.grid)
    bar.ax.tick_params(colors=theme.muted, labelcolor=theme.text, labelsize=SMALL, length=3)
    bar.set_label("weight: orange excites the unit, blue inhibits it", color=theme.text, fontsize=SMALL)
