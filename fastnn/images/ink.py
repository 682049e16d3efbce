"""Ink on paper: which pixels of a picture are the strokes of a digit, whatever the colours and the light are."""

from dataclasses import dataclass

import numpy as np

from fastnn.choices import check_choice
from fastnn.errors import DataError

__all__ = ["INKS", "Ink", "find_ink"]

INKS = ("auto", "dark", "light")

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

    levels: np.ndarray
    polarity: str
    digits: int


def find_ink(colours: np.ndarray, ink: str = "auto") -> Ink:
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
    ink : {"auto", "dark", "light"}

    Raises
    ------
    DataError
        If nothing looks like ink.
    ValueError
        If `ink` is none of the three.

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
    check_choice("ink", ink, INKS)
    grey = _without_lines(_denoise(_sharpest_channel(colours)))
    polarities = INKS[1:] if ink == "auto" else (ink,)
    found = [strokes for polarity in polarities if (strokes := _find_strokes(grey, polarity))]
    if not found:
        raise DataError("nothing on it looks like ink: is it blank, or too faint?")
    return _take(grey, max(found, key=lambda strokes: strokes.likeness))


@dataclass(frozen=True, eq=False)
class _Strokes:
    """What would be ink if ink were of that polarity: where, (height, width) bool, and narrower than the window."""

    polarity: str
    where: np.ndarray
    window: int
    noise: float
    likeness: float


def _sharpest_channel(colours: np.ndarray) -> np.ndarray:
    """(height, width): of red, green, blue and their mean the one with the greatest differences at edges."""
    if colours.shape[2] == 1:
        return colours[..., 0]
    colours = np.concatenate([colours, colours.mean(axis=2, keepdims=True)], axis=2)
    coarse = colours[::2, ::2]
    edges = sum((np.diff(coarse, axis=axis) ** 2).sum(axis=(0, 1)) for axis in (0, 1))
    return colours[..., int(np.argmax(edges))]


def _denoise(grey: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(grey, 1) if _noise(grey, "dark") > _NOISY else grey


def _without_lines(grey: np.ndarray) -> np.ndarray:
    """The same without ruled lines, squares and boxes: what is straight, thin, and long compared with the picture.

    A line is filled with what is on both sides of it, paper or the stroke that it crosses. A single one that does not
    run from border to border may be a digit 1, and stays.
    """
    from scipy import ndimage

    if grey.size < _CROP_PIXELS:
        return grey
    window = max(3, round(_LINE_WIDTH * max(grey.shape)))
    for polarity in INKS[1:]:
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


def _long_runs(thin: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Straight runs along an axis, bridged where strokes cross them: where, and the share of the picture of each."""
    from scipy import ndimage

    def spread(runs: np.ndarray, length: int, *, closing: bool) -> np.ndarray:
        length += 1 - length % 2
        for filtered in (ndimage.maximum_filter1d, ndimage.minimum_filter1d)[:: 1 if closing else -1]:
            runs = filtered(runs, length, axis=axis, mode="nearest")
        return runs

    side = thin.shape[axis]
    runs = spread(thin.astype(np.uint8), side // 16, closing=False)
    labels, _ = ndimage.label(spread(runs, side // 2, closing=True), np.ones((3, 3)))
    boxes = ndimage.find_objects(labels * runs)
    lengths = np.array([0, *((box[axis].stop - box[axis].start) / side if box else 0 for box in boxes)])
    return np.isin(labels, np.flatnonzero(lengths >= _LINE_LENGTH)) & thin, lengths[lengths >= _LINE_LENGTH]


def _noise(grey: np.ndarray, polarity: str) -> float:
    """Standard deviation of the paper's contrast with itself, from the part of the picture that varies least."""
    from scipy import ndimage

    return float(np.quantile(np.abs(_contrast(grey, ndimage.uniform_filter(grey, 5), polarity)), 0.2)) / 0.253


def _contrast(grey: np.ndarray, paper: np.ndarray, polarity: str) -> np.ndarray:
    """Of light ink with its paper as it is, of dark ink as a share of the paper: a shadow dims both. At most 1."""
    return grey - paper if polarity == "light" else (paper - grey) / (paper + _BLACK)


def _top_hat(grey: np.ndarray, polarity: str, window: int | tuple[int, int]) -> np.ndarray:
    """(height, width): contrast of what is narrower than the window, and 0 elsewhere."""
    from scipy import ndimage

    windows = (window, window) if isinstance(window, int) else window
    size = tuple(min(wanted, 2 * side) for wanted, side in zip(windows, grey.shape, strict=True))
    paper = ndimage.grey_opening(grey, size) if polarity == "light" else ndimage.grey_closing(grey, size)
    return _contrast(grey, paper, polarity)


def _find_strokes(grey: np.ndarray, polarity: str) -> _Strokes | None:
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


def _likeness(grey: np.ndarray, where: np.ndarray, window: int) -> float:
    """How much like ink: how much they differ from a frame around them, and how long they are for their width."""
    spans, lengths = [], []
    for axis in (1, 0):
        places = np.flatnonzero(where.any(axis=axis))
        spans.append(slice(max(0, places[0] - 4 * window), places[-1] + 4 * window + 1))
        lengths.append(int(places[-1] - places[0]) + 1)
    part = grey[tuple(spans)]
    frame = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
    return abs(float(np.median(frame) - np.median(grey[where]))) * min(1, max(lengths) / (4 * window))


def _take(grey: np.ndarray, found: _Strokes) -> Ink:
    """The ink, with strokes that hang together with the narrowest, or are as long for their width."""
    from scipy import ndimage

    where, floor = found.where, max(found.noise, _LEAST_CONTRAST)
    for wider in (2, 4, 8):
        window = wider * found.window
        where = where | _long_components(_top_hat(grey, found.polarity, window), floor, _ELONGATED * window, where)
    box = ndimage.find_objects(where.astype(np.int8))[0]
    window = max(window, *((part.stop - part.start) // 2 for part in box))  # none is broader than half of the digit
    contrast = _top_hat(grey, found.polarity, window)
    where = _without_specks(where | _long_components(contrast, floor, np.inf, where))
    return Ink(_grey_levels(contrast, where, found.noise), found.polarity, _count_digits(where))


def _long_components(contrast: np.ndarray, floor: float, length: float, known: np.ndarray | None = None) -> np.ndarray:
    """(height, width) bool: what has half of the ink's contrast or more and is that long, or touches known strokes."""
    from scipy import ndimage

    candidates = contrast[contrast > floor]
    level = np.median(candidates[candidates >= _otsu(candidates)]) if candidates.size else floor
    labels, _ = ndimage.label(contrast > max(level / 2, floor), np.ones((3, 3)))
    boxes = ndimage.find_objects(labels)
    lengths = np.array([0, *(max(part.stop - part.start for part in box) for box in boxes)], float)
    if labels.size >= _CROP_PIXELS:  # what lies along the border is beyond the paper
        border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
        lengths[np.bincount(border, minlength=len(lengths)) > lengths / 3] = 0
    if known is not None:
        lengths[labels[known]] = length
    lengths[0] = 0
    return np.isin(labels, np.flatnonzero(lengths >= length))


def _without_specks(strokes: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    labels, _ = ndimage.label(strokes, np.ones((3, 3)))
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return np.isin(labels, np.flatnonzero(areas >= _SPECK * areas.max()))


def _otsu(values: np.ndarray) -> float:
    """The threshold that makes the variance between the two classes greatest."""
    counts, edges = np.histogram(values, 256, (0, 1))
    middles = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    sums = np.cumsum(counts * middles)
    above = counts.sum() - below
    means = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + np.argmax(below * above * (means[0] - means[1]) ** 2)])


def _grey_levels(contrast: np.ndarray, strokes: np.ndarray, noise: float) -> np.ndarray:
    """Levels from 0 for paper to 1 for ink, cropped to the ink; 0 where no stroke is near."""
    from scipy import ndimage

    full = np.quantile(contrast[strokes], 0.8)
    noise = min(noise, full / 2)
    edge = max(1, round(0.05 * float(strokes.sum()) ** 0.5))
    near = ndimage.binary_dilation(strokes, np.ones((3, 3)), iterations=edge)
    levels = np.clip((contrast - noise) / (full - noise), 0, 1) * near
    rows, columns = (np.flatnonzero((levels > 0.25).any(axis=axis)) for axis in (1, 0))
    return levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)


def _count_digits(strokes: np.ndarray) -> int:
    """Tall strokes with a gap between them from top to bottom; what nearly touches is taken together."""
    from scipy import ndimage

    rows = np.flatnonzero(strokes.any(axis=1))
    gap = max(1, len(rows) // 16)
    labels, _ = ndimage.label(ndimage.binary_dilation(strokes, np.ones((3, 3)), iterations=gap))
    boxes = ndimage.find_objects(labels)
    tallest = max(box[0].stop - box[0].start for box in boxes)
    tall = sorted((box[1] for box in boxes if box[0].stop - box[0].start > tallest / 2), key=lambda part: part.start)
    digits, end = 0, -1
    for part in tall:
        digits += part.start >= end
        end = max(end, part.stop)
    return digits
