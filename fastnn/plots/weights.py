"""What the units of the first layer look at."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastnn.arguments import check_count
from fastnn.plots import figures
from fastnn.plots.figures import SMALL
from fastnn.plots.misclassified import as_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["unit_importance", "weights"]


def weights(network: "Network", n: int = 64, *, theme: figures.ThemeName = "light") -> "Figure":
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
    look, n = figures.find_theme(theme), check_count("n", n)
    W = network.get_weights()[0][0]
    hidden = len(network.sizes) > 2
    order = np.argsort(-unit_importance(network), kind="stable")[:n] if hidden else np.arange(W.shape[1])[:n]
    rows = W.T[order]
    limit = float(np.quantile(np.abs(rows), 0.995)) or 1.0  # a few outliers would leave all others pale
    colours = figures.shades(look.colours[0], look.background, look.colours[1])
    pictures = as_pictures(rows)
    if pictures.shape[1] > 1:
        columns = max(4, math.ceil(math.sqrt(len(order))))
        lines = math.ceil(len(order) / columns)
        figure = figures.new_figure(look, 0.95 * columns + 1.2, 1.1 * lines + 0.5)
        for i, (unit, picture) in enumerate(zip(order, pictures, strict=True)):
            axes = figure.add_subplot(lines, columns, i + 1)
            drawn = axes.imshow(picture, cmap=colours, vmin=-limit, vmax=limit)
            figures.dress_tile(axes, look)
            axes.set_title(str(unit), fontsize=SMALL - 1, color=look.muted, pad=2)
    else:
        figure = figures.new_figure(look, 7.5, max(3.4, 1.6 + min(6.0, 0.3 * len(order))))
        axes = figure.add_subplot(xlabel="feature", ylabel="unit")
        figures.dress(axes, look, grid=None)
        drawn = axes.imshow(rows, cmap=colours, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(order)), list(map(str, order)))
        axes.tick_params(length=0)
    label = "weight: orange excites the unit, blue inhibits it"
    figures.colour_bar(drawn, label, look, figure, ax=figure.axes, fraction=0.04, aspect=30, extend="both")
    kind = "hidden units" if hidden else "outputs"
    title = f"weights of the first layer into {len(order)} of {W.shape[1]} {kind}"
    figures.headline(figure, title + ", the most important first" * hidden, look)
    return figure


def unit_importance(network: "Network") -> npt.NDArray[np.float64]:
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
    importance: npt.NDArray[np.float64] = np.linalg.norm(incoming.astype(np.float64), axis=0)
    if others:
        importance *= np.linalg.norm(others[0][0].astype(np.float64), axis=1)
    return importance
