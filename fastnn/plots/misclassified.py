"""The samples that a network got wrong, as pictures."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import check_count
from fastnn.plots.figures import SMALL, ThemeName, dress_tile, find_theme, headline, new_figure
from fastnn.plots.predictions import mistakes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.network import Network

__all__ = ["as_pictures", "misclassified"]


def misclassified(network: "Network", x: Any, y: Any, n: int = 25, *, theme: ThemeName = "light") -> "Figure":
    """The images that a network got wrong, those of the largest confidence in the wrong prediction first.

    Samples that are no pictures are drawn too, as a strip with a field for each feature: what the network takes them
    for, and how sure it is of it, tells as much there.

    Parameters
    ----------
    network, x, y, theme
        As for `prediction_matrix`, which raises the same errors.
    n : int
        Mistakes to draw, at most.

    Returns
    -------
    matplotlib.figure.Figure

    See Also
    --------
    mistakes : the same as arrays.

    Examples
    --------
    >>> import fastnn.plots
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 10], backend="numpy")
    >>> figure = fastnn.plots.misclassified(net, data.x_test, data.y_test, n=4)
    >>> len(figure.axes)
    4
    """
    look, n = find_theme(theme), check_count("n", n)
    found = mistakes(network, x, y)
    images = as_pictures(np.asarray(x)[found.indices[:n]])
    columns = max(4, math.ceil(math.sqrt(len(images))))
    rows = max(1, math.ceil(len(images) / columns))
    figure = new_figure(look, 1.35 * columns + 0.2, 1.72 * rows + 0.4)
    low, high = (float(images.min()), float(images.max())) if len(images) else (0.0, 1.0)
    colours = "gray_r" if theme == "light" else "gray"  # as ink on paper, as chalk on a board
    for i, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, i + 1)
        axes.imshow(image, cmap=colours, aspect="equal" if len(image) > 1 else "auto", vmin=low, vmax=high)
        dress_tile(axes, look)
        confidence = found.confidences[i]
        is_probability = network.output != "identity"
        sure = f"{100 * confidence:.1f} % sure" if is_probability else f"output {confidence:.2f}"
        axes.set_title(f"is {found.targets[i]}, says {found.predictions[i]}\n{sure}", fontsize=SMALL, color=look.text)
    title = f"{len(found.indices):,} of {len(x):,} samples are misclassified"
    if len(images):
        shown = "all of them" if len(images) == len(found.indices) else f"the {len(images)} it is surest of"
        title += f"; {shown}"
    headline(figure, title, look)
    return figure


def as_pictures(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Samples as ``(n, height, width)``: as they are, as squares where they are flat and it fits, else as strips."""
    if samples.ndim == 3:
        return samples
    n_features = math.prod(samples.shape[1:])
    side = math.isqrt(n_features)
    return samples.reshape(len(samples), *((side, side) if side * side == n_features > 4 else (1, n_features)))
