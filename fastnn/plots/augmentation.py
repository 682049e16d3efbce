"""What a network is trained on: images beside deformed ones."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arguments import check_count
from fastnn.augmentation import Deform, as_augment
from fastnn.plots.figures import SMALL, ThemeName, dress_tile, find_theme, headline, new_figure
from fastnn.plots.misclassified import as_pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.augmentation import Augment

__all__ = ["augmented"]


def augmented(
    augment: "str | Augment", x: Any, n: int = 8, versions: int = 5, *, theme: ThemeName = "light"
) -> "Figure":
    """Images in the first row, and below them what an augmentation makes of them in some epochs.

    Parameters
    ----------
    augment : fastnn.Deform, str or callable
        As for `fastnn.Network.fit`.
    x : array_like, (n_samples, n_features) or (n_samples, height, width)
    n : int
        Images: the first of `x`.
    versions : int
        Rows of changed images.
    theme : {"light", "dark"}

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import fastnn.plots
    >>> data = fastnn.datasets.load("digits")
    >>> figure = fastnn.plots.augmented("deform(rotate=15, elastic=(36, 6))", data.x_train, n=4, versions=2)
    >>> len(figure.axes)
    12
    """
    look, n, versions = find_theme(theme), check_count("n", n), check_count("versions", versions)
    change = as_augment(augment)
    if change is None:
        raise ValueError("there is nothing to draw without an augmentation: 'deform(rotate=15)', for example")
    given = np.asarray(x)[:n]
    flat = given.reshape(len(given), -1)
    rows = [as_pictures(given)]
    for epoch in range(versions):
        if isinstance(change, Deform):
            changed = change(flat, epoch=epoch)
        else:
            changed = change(flat.copy(), np.random.default_rng(epoch))
        rows.append(as_pictures(np.asarray(changed).reshape(given.shape)))
    figure = new_figure(look, 1.0 * len(given) + 0.9, 1.0 * len(rows) + 0.4)
    low, high = float(rows[0].min()), float(rows[0].max())
    colours = "gray_r" if theme == "light" else "gray"
    for i, pictures in enumerate(rows):
        for j, picture in enumerate(pictures):
            axes = figure.add_subplot(len(rows), len(given), i * len(given) + j + 1)
            axes.imshow(picture, cmap=colours, vmin=low, vmax=high)
            dress_tile(axes, look)
            if j == 0:
                axes.set_ylabel("as given" if i == 0 else f"epoch {i}", fontsize=SMALL, color=look.text)
    headline(figure, "Images and what they become in training", look)
    return figure
