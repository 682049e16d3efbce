"""Ink on paper: which pixels of a picture are the strokes of a digit, whatever the colours and the light are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from fastnn.errors import DataError

__all__ = ["POLARITIES", "Ink", "find_ink"]

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

POLARITIES = ("dark", "light")

_BLACK = 0.1  # added to what one divides by: there is noise in black, too
_NOISY = 0.03  # standard deviation of the paper, as a share of it, from which on a picture is smoothed
_LEAST_CONTRAST = 0.08  # of ink with its paper; less is a blank page
_FAINT = 0.3  # of the greatest contrast on a picture: less is no ink
_ELONGATED = 1.5  # length of a stroke, at least, in windows that it is narrower than
_MOST = 0.55  # of the picture: so much is no ink, but paper on something else
_DOUBT = 0.3  # factor on the likeness to ink of what is that much
_SPECK = 0.04  # of the largest stroke's area: less is no stroke
_LINE_WIDTH = 1 / 50  # of the picture's longer side, at most: a ruled line, or that of a box
_LINE_LENGTH = 0.6  # of the picture, at least
_NEIGHBOURS = np.ones((3, 3))
_CROP_PIXELS = 128 * 128  # in a smaller picture, strokes may be broad, and lie along the border


@dataclass(frozen=True, eq=False)
class Ink:
    """The ink of a picture.

    Attributes
    ----------
    levels : numpy.ndarray
        (height, width) float32, cropped to the ink: 0 paper, 1 ink, between them the grey levels of the edges.
    polarity : {"dark", "light"}
        Of the ink against its paper.
    digits : int
        How many seem to stand side by side.
    """

    levels: Floats
    polarity: str
    digits: int


def find_ink(colours: Floats, polarities: Sequence[str] = POLARITIES) -> Ink:
    """Find the strokes of a picture, in the channel where they are sharpest.

    Strokes are narrow and long. A closing removes dark structures that are narrower than its window, an opening light
    ones; what it removes is their top-hat [1]_. The window grows until something in the top-hat, told from paper and
    noise by Otsu's threshold [2]_, is clearly longer than the window is wide: that is a stroke, and no corner of a
    shadow or of a table beyond the paper. A window several times as wide then shows all strokes, the broad ones too.
    If both polarities have strokes, ink are those that differ more from a frame around them: around the paper between
    the strokes of a digit there is other paper.

    Parameters
    ----------
    colours : numpy.ndarray
        (height, width, 1 or 3) float32 from 0 to 1.
    polarities : sequence of {"dark", "light"}
        What the ink may be.

    Raises
    ------
    DataError
        If nothing looks like ink.

    References
    ----------
    .. [1] P. Soille, "Morphological Image Analysis", 2nd edition, 2003, chapter 4.
    .. [2] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
       Cybernetics 9 (1), 1979.

    Examples
    --------
    >>> import numpy as np
    >>> page = np.ones((300, 200, 1), np.float32)
    >>> page[60:160, 50:62] = 0.2
    >>> found = find_ink(page)
    >>> found.levels.shape, found.polarity, found.digits
    ((100, 12), 'dark', 1)
    """
    grey = _without_lines(_denoise(_sharpest_channel(colours)))
    found = [strokes for polarity in polarities if (strokes := _find_strokes(grey, polarity))]
    if not found:
        raise DataError("nothing on it looks like ink: is it blank, or too faint?")
    return _take(grey, max(found, key=lambda strokes: strokes.likeness))


@dataclass(frozen=True, eq=False)
class _Strokes:
    """What would be ink if ink were of that polarity: where, (height, width) bool, and narrower than the window."""

    polarity: str
    where: Mask
    window: int
    noise: float
    likeness: float


def _sharpest_channel(colours: Floats) -> Floats:
    """(height, width): of red, green, blue and their mean the one with the greatest differences at edges."""
    if colours.shape[2] == 1:
        return colours[..., 0]
    colours = np.concatenate([colours, colours.mean(axis=2, keepdims=True)], axis=2)
    coarse = colours[::2, ::2]
    edges = sum((np.diff(coarse, axis=axis) ** 2).sum(axis=(0, 1)) for axis in (0, 1))
    return colours[..., int(np.argmax(edges))]


def _denoise(grey: Floats) -> Floats:
    return ndimage.gaussian_filter(grey, 1) if _noise(grey, "dark") > _NOISY else grey


def _without_lines(grey: Floats) -> Floats:
    """The same without ruled lines, squares and boxes: what is straight, thin, and long compared with the picture.

    A line is filled with what is on both sides of it, paper or the stroke that it crosses. A single one that does not
    run from border to border may be a digit 1, and stays.
    """
    if grey.size < _CROP_PIXELS:
        return grey
    window = max(3, round(_LINE_WIDTH * max(grey.shape)))
    for polarity in POLARITIES:
        floor = max(8 * _noise(grey, polarity), _LEAST_CONTRAST)
        across = [(window, 1), (1, window)]
        found = [_long_runs(_top_hat(grey, polarity, across[1 - axis]) > floor, axis) for axis in (1, 0)]
        lengths = np.concatenate([lengths for _, lengths in found])
        if len(lengths) < 2 and not (lengths > 0.95).any():
            continue
        fill = ndimage.grey_opening if polarity == "light" else ndimage.grey_closing
        for (lines, _), (height, width) in zip(found, across, strict=True):
            edges = ndimage.binary_dilation(lines, np.ones((min(height, 3), min(width, 3))))
            grey = np.where(edges, fill(grey, (height + 2 * (height > 1), width + 2 * (width > 1))), grey)
    return grey


def _long_runs(thin: Mask, axis: int) -> tuple[Mask, Floats]:
    """Straight runs along an axis, bridged where strokes cross them: where, and the share of the picture of each."""

    def size(length: int) -> tuple[int, int]:
        return (length | 1, 1) if axis == 0 else (1, length | 1)

    side = thin.shape[axis]
    runs = ndimage.grey_opening(thin.astype(np.uint8), size(side // 16), mode="nearest")
    labels, _ = ndimage.label(ndimage.grey_closing(runs, size(side // 2), mode="nearest"), _NEIGHBOURS)
    lengths = _extents(labels * runs)[:, axis] / side
    return np.isin(labels, np.flatnonzero(lengths >= _LINE_LENGTH)) & thin, lengths[lengths >= _LINE_LENGTH]


def _noise(grey: Floats, polarity: str) -> float:
    """Standard deviation of the paper's contrast with itself, from the part of the picture that varies least."""
    paper = ndimage.uniform_filter(grey, 5)
    contrast = np.abs(grey - paper) / (1 if polarity == "light" else paper + _BLACK)
    return float(np.quantile(contrast, 0.2)) / 0.253


def _top_hat(grey: Floats, polarity: str, window: int | tuple[int, int]) -> Floats:
    """(height, width): contrast of what is narrower than the window, and 0 elsewhere.

    Of light ink with its paper as it is, of dark ink as a share of the paper: a shadow dims both. At most 1.
    """
    windows = (window, window) if isinstance(window, int) else window
    size = tuple(min(wanted, 2 * side) for wanted, side in zip(windows, grey.shape, strict=True))
    if polarity == "light":
        return np.asarray(ndimage.white_tophat(grey, size))
    hat = ndimage.black_tophat(grey, size)
    return np.asarray(hat / (grey + hat + _BLACK))


def _find_strokes(grey: Floats, polarity: str) -> _Strokes | None:
    """The narrowest strokes there are."""
    longest, is_crop = max(grey.shape), grey.size < _CROP_PIXELS
    widest = _top_hat(grey, polarity, longest)
    greatest = float(widest.max())
    noise = 8 * _noise(grey, polarity)
    if is_crop:  # there may be no part without ink
        noise = min(noise, greatest / 3)
    faintest = max(noise, _LEAST_CONTRAST, _FAINT * greatest)
    window = max(3, round(grey.size**0.5 / 64))
    while window <= (longest if is_crop else longest // 4):
        where = _long_components(_top_hat(grey, polarity, window), faintest, _ELONGATED * window)
        if where.any():
            is_paper = not is_crop and (widest > faintest).mean() > _MOST
            likeness = _likeness(grey, where, window) * (_DOUBT if is_paper else 1)
            return _Strokes(polarity, where, window, noise, likeness)
        window += window // 2
    return None


def _likeness(grey: Floats, where: Mask, window: int) -> float:
    """How much like ink: how much they differ from a frame around them, and how long they are for their width."""
    box = _box(where)
    part = grey[tuple(slice(max(0, side.start - 4 * window), side.stop + 4 * window) for side in box)]
    length = max(side.stop - side.start for side in box)
    frame = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    return float(abs(np.median(frame) - np.median(grey[where])) * min(1, length / (4 * window)))


def _take(grey: Floats, found: _Strokes) -> Ink:
    """The ink, with strokes that hang together with the narrowest, or are as long for their width."""
    where, floor = found.where, max(found.noise, _LEAST_CONTRAST)
    for wider in (2, 4, 8):
        window = wider * found.window
        where = where | _long_components(_top_hat(grey, found.polarity, window), floor, _ELONGATED * window, where)
    window = max(window, *((side.stop - side.start) // 2 for side in _box(where)))
    contrast = _top_hat(grey, found.polarity, window)
    where = _without_specks(where | _long_components(contrast, floor, np.inf, where))
    return Ink(_grey_levels(contrast, where, found.noise), found.polarity, _count_digits(where))


def _long_components(contrast: Floats, floor: float, length: float, known: Mask | None = None) -> Mask:
    """(height, width) bool: what has half of the ink's contrast or more and is that long, or touches known strokes."""
    candidates = contrast[contrast > floor]
    level = np.median(candidates[candidates >= _otsu(candidates)]) if candidates.size else floor
    labels, _ = ndimage.label(contrast > max(level / 2, floor), _NEIGHBOURS)
    lengths = _extents(labels).max(axis=1).astype(float)
    if labels.size >= _CROP_PIXELS:  # what lies along the border is beyond the paper
        border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
        lengths[np.bincount(border, minlength=len(lengths)) > lengths / 3] = 0
    if known is not None:
        lengths[labels[known]] = length
    lengths[0] = 0
    return np.isin(labels, np.flatnonzero(lengths >= length))


def _without_specks(strokes: Mask) -> Mask:
    labels, _ = ndimage.label(strokes, _NEIGHBOURS)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return np.isin(labels, np.flatnonzero(areas >= _SPECK * areas.max()))


def _box(where: Mask) -> tuple[slice, ...]:
    """The part of the picture that holds all of it."""
    return tuple(ndimage.find_objects(where.astype(np.int8))[0])


def _extents(labels: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """(n + 1, 2): height and width of what has each label, 0 of label 0 and of those that are nowhere."""
    boxes = [box or (slice(0, 0),) * 2 for box in ndimage.find_objects(labels)]
    return np.array([(0, 0), *([side.stop - side.start for side in box] for box in boxes)])


def _otsu(values: Floats) -> float:
    """The threshold that makes the variance between the two classes greatest."""
    counts, edges = np.histogram(values, 256, (0, 1))
    below, sums = np.cumsum(counts), np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    variances = (sums * below[-1] - sums[-1] * below) ** 2 / np.maximum(below * (below[-1] - below), 1)
    return float(edges[1 + np.argmax(variances[:-1])])


def _grey_levels(contrast: Floats, strokes: Mask, noise: float) -> Floats:
    """Levels from 0 for paper to 1 for ink, cropped to the ink; 0 where no stroke is near."""
    full = float(np.quantile(contrast[strokes], 0.8))
    noise = min(noise, full / 2)
    edge = max(1, round(0.05 * float(strokes.sum()) ** 0.5))
    near = ndimage.binary_dilation(strokes, _NEIGHBOURS, iterations=edge)
    levels = np.clip((contrast - noise) / (full - noise), 0, 1) * near
    return np.asarray(levels[_box(levels > 0.25)], np.float32)


def _count_digits(strokes: Mask) -> int:
    """Tall strokes with a gap between them from top to bottom; what nearly touches is taken together."""
    gap = max(1, np.count_nonzero(strokes.any(axis=1)) // 16)
    labels, _ = ndimage.label(ndimage.binary_dilation(strokes, _NEIGHBOURS, iterations=gap))
    heights, boxes = _extents(labels)[1:, 0], ndimage.find_objects(labels)
    tall = [boxes[i][1] for i in np.flatnonzero(2 * heights > heights.max())]
    digits, end = 0, -1
    for part in sorted(tall, key=lambda part: part.start):
        digits += part.start >= end
        end = max(end, part.stop)
    return digits
