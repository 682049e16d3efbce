"""What a network saw of one's own images: its input as pictures, and an overview of originals, inputs and outputs."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn.errors import DataError
from fastnn.images.reading import Sample
from fastnn.optional import require

if TYPE_CHECKING:
    from fastnn.network import Network
    from fastnn.plots.figures import Theme

__all__ = ["OVERVIEW", "Explanation"]

OVERVIEW = "fastnn-overview.png"

_SHOWN = 24  # images on the overview
_COLUMNS = 3
_BARS = 20  # outputs that bars are drawn of


class Explanation:
    """A folder with a PNG of each image as the network saw it, one pixel a feature, and an overview of the first 24.

    Parameters
    ----------
    folder : path
        Made if it is not there. One that holds other things than an earlier explanation is refused, so that nobody's
        pictures are overwritten.
    network : Network
        Of a square number of features.

    Raises
    ------
    DataError
        If the folder is refused, or the network takes no square pictures.
    OSError
        If the folder cannot be made.
    MissingLibraryError
        If Pillow or matplotlib, for the overview, is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import numpy as np, fastnn
    >>> net = fastnn.Network([784, 10], backend="numpy")
    >>> pixels = fastnn.datasets.load("digits").x_test[0].reshape(784)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     explanation = Explanation(pathlib.Path(folder), net)
    ...     explanation.add(Sample("seven", pixels), 7, net.predict_proba(pixels[None])[0])
    ...     overview = explanation.finish()
    ...     sorted(path.name for path in overview.parent.iterdir())
    ['fastnn-overview.png', 'seven.png']
    """

    def __init__(self, folder: Path, network: "Network") -> None:
        self._side = math.isqrt(network.sizes[0])
        if self._side**2 != network.sizes[0]:
            raise DataError(f"a network of {network.sizes[0]} features takes no square pictures: none to explain")
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / OVERVIEW).exists() and any(folder.iterdir()):
            raise DataError(f"{folder} holds other files: name a new or empty folder to write the explanation to")
        self._folder, self._network = folder, network
        self._names = {OVERVIEW}
        self._first: list[tuple[Sample, Any, npt.NDArray[Any]]] = []

    def add(self, sample: Sample, prediction: Any, outputs: npt.NDArray[Any]) -> None:
        """Write what the network saw of one image."""
        Image = require("PIL.Image", "plot")
        Image.fromarray(_as_grey(sample.pixels).reshape(self._side, self._side)).save(self._new_path(sample.name))
        if len(self._first) < _SHOWN:
            self._first.append((sample, prediction, outputs))

    def finish(self) -> Path:
        """Draw the overview; returns its path."""
        from fastnn.plots.figures import TEXT, find_theme, new_figure, save_figure

        theme = find_theme("light")
        rows = max(1, math.ceil(len(self._first) / _COLUMNS))
        figure = new_figure(theme, 4.6 * _COLUMNS, 1.55 * rows + 0.4)
        parts = figure.subfigures(rows, _COLUMNS, squeeze=False)
        for part, shown in zip(parts.ravel(), self._first, strict=False):
            part.set_facecolor(theme.background)
            self._draw(part, theme, *shown)
        title = "original, what the network saw, outputs"
        figure.suptitle(title, x=0.01, ha="left", fontsize=TEXT, fontweight="bold", color=theme.text)
        save_figure(figure, self._folder / OVERVIEW)
        return self._folder / OVERVIEW

    def _draw(self, part: Any, theme: "Theme", sample: Sample, prediction: Any, outputs: npt.NDArray[Any]) -> None:
        from fastnn.plots.figures import SMALL, dress, plain

        original, seen, bars = part.subplots(1, 3, width_ratios=(1, 1, 1.5))
        for axes in (original, seen):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_color(theme.grid)
        image = _as_grey(sample.pixels).reshape(self._side, self._side)
        seen.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        if sample.thumbnail:
            original.imshow(np.asarray(sample.thumbnail))
        else:
            original.set_visible(False)
        dress(bars, theme, grid="y")
        colours = [theme.colours[0] if i in _chosen(prediction, outputs) else theme.muted for i in range(len(outputs))]
        if len(outputs) <= _BARS:
            bars.bar(range(len(outputs)), outputs, color=colours)
            bars.set_xticks(range(len(outputs)))
        else:
            bars.plot(outputs, color=theme.colours[0], linewidth=1)
        if self._network.output != "identity":
            bars.set_ylim(0, 1)
        part.suptitle(plain(Path(sample.name).name, 44), x=0.02, ha="left", fontsize=SMALL, color=theme.text)

    def _new_path(self, name: str) -> Path:
        """A name of its own for each, also for images of the same name from several folders."""
        stem = Path(name).stem if "[" not in name else Path(name).name
        numbers = ("", *(f"-{i}" for i in range(2, len(self._names) + 3)))
        free = next(one for i in numbers if (one := f"{stem}{i}.png").lower() not in self._names)
        self._names.add(free.lower())  # some file systems take upper and lower case for the same
        return self._folder / free


def _chosen(prediction: Any, outputs: npt.NDArray[Any]) -> list[int]:
    """Which outputs make the prediction."""
    if np.ndim(prediction):
        return [int(i) for i in np.flatnonzero(prediction)]
    return [int(prediction)] if len(outputs) > 1 else [0]


def _as_grey(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Features as grey levels: bytes as they are, floats from 0 to 1 likewise, and others from least to greatest."""
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float64)
    low, high = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (values.min(), values.max())
    return np.rint(255 * (values - low) / ((high - low) or 1)).astype(np.uint8)
