"""Pictures of handwritten digits in MNIST's form: the ink alone, size-normalised and centred."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastnn.choices import check_choice
from fastnn.errors import DataError
from fastnn.optional import require

if TYPE_CHECKING:
    from PIL import Image

    from fastnn.images.ink import Floats, Ink

__all__ = ["INKS", "WORKING_PIXELS", "as_colours", "as_is", "find_picture_ink", "normalize", "prepare"]

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]
INKS = ("auto", "dark", "light")
WORKING_PIXELS = 512 * 512  # larger pictures are averaged down to so many


def prepare(picture: "Image.Image | Array", side: int = 28, ink: str = "auto") -> Pixels:
    """Bring a picture of one digit into MNIST's form.

    MNIST's digits were scaled, with their aspect ratio, to fit a box of 20 x 20 pixels, which made grey levels of
    black and white, and then put into 28 x 28 pixels by their centre of mass ([1]_, section III.A). That is done here,
    with a box of the same proportion for other sides. In MNIST's files the centre of mass is nearest to pixel 14,
    counted from 0, and so it is here: MNIST's own pictures stay where they are. What comes before is not
    MNIST's, whose originals were black and white: colour, transparency, light and noise are taken away, see
    `fastnn.images.ink.find_ink`. Slant and width of the strokes stay as they are.

    Parameters
    ----------
    picture : PIL.Image.Image or numpy.ndarray
        Of any size and mode, upright once its EXIF orientation is obeyed; or an array, (height, width) or
        (height, width, channels) with 1 to 4 channels, bool, uint8, uint16, or float from 0 to 1.
    side : int
        Of the square that the network takes, in pixels.
    ink : {"auto", "dark", "light"}
        Which the ink is, compared with its paper.

    Returns
    -------
    numpy.ndarray
        (side, side) uint8, ink 255 on 0.

    Raises
    ------
    DataError
        If nothing on the picture looks like ink, or the array is no picture.
    ValueError
        If `ink` is none of the three.
    MissingLibraryError
        If Pillow is not installed.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
       Proceedings of the IEEE 86 (11), 1998.

    Examples
    --------
    >>> import numpy as np
    >>> page = np.full((300, 200, 3), 240, np.uint8)  # a blue stroke on grey paper
    >>> page[60:160, 50:62] = 20, 40, 160
    >>> image = prepare(page)
    >>> image.shape, int(image.max()), int(image.any(axis=1).sum())
    ((28, 28), 255, 20)
    """
    return normalize(find_picture_ink(picture, ink).levels, side)


def find_picture_ink(picture: "Image.Image | Array", ink: str = "auto") -> "Ink":
    """The first half of `prepare`: the ink of a picture, cropped to it."""
    from fastnn.images.ink import POLARITIES, find_ink  # loads scipy.ndimage, which no other command needs

    check_choice("ink", ink, INKS)
    return find_ink(as_colours(picture), POLARITIES if ink == "auto" else (ink,))


def normalize(levels: "Floats", side: int = 28) -> Pixels:
    """The second half of `prepare`: ink (height, width), float32 from 0 to 1 and cropped, as (side, side) uint8."""
    Image = require("PIL.Image", "plot")
    box = max(1, round(side * 20 / 28))
    zoom = box / max(levels.shape)
    height, width = (max(1, round(size * zoom)) for size in levels.shape)
    if (height, width) != levels.shape:  # Pillow's filters widen with the reduction: that is the anti-aliasing
        scaled = Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)
        levels = np.clip(np.asarray(scaled), 0, 1)
    mass = levels.sum()
    image = np.zeros((side, side))
    corner = []
    for axis, size in enumerate((height, width)):
        centre = levels.sum(axis=1 - axis) @ np.arange(size) / mass
        corner.append(min(max(0, round(side // 2 - centre)), side - size))
    image[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = levels / levels.max()
    return _to_bytes(image)


def as_is(picture: "Image.Image | Array", side: int = 28) -> Pixels:
    """Scale a whole picture to (side, side) uint8 grey, for networks that learned other things than MNIST's digits."""
    Image = require("PIL.Image", "plot")
    grey = as_colours(picture).mean(axis=2)
    scaled = Image.fromarray(grey).resize((side, side), Image.Resampling.LANCZOS)
    return _to_bytes(np.clip(np.asarray(scaled), 0, 1))


def as_colours(picture: "Image.Image | Array") -> "Floats":
    """(height, width, 1 or 3) float32 from 0 to 1, upright, opaque, and of a size that is quick to work on."""
    require("PIL.Image", "plot")
    from PIL import Image, ImageOps

    if isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    picture = _simple_mode(picture)
    shrink = math.sqrt(WORKING_PIXELS / (picture.width * picture.height))
    if shrink < 1:
        width, height = (max(1, round(shrink * side)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BOX)
    values = np.asarray(ImageOps.exif_transpose(picture), np.float32)
    if picture.mode == "F":
        return np.clip(values, 0, 1)[..., None]
    values = values / np.float32(255)
    if picture.mode == "RGBA":
        return _on_paper(values[..., :3], values[..., 3:])
    return values if values.ndim == 3 else values[..., None]


def _from_array(array: Array) -> "Image.Image":
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise DataError(f"expected a picture of (height, width) or (height, width, 1 to 4 channels), got {array.shape}")
    if array.dtype == np.uint16:
        array = array / 65535
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):  # so that NaN is refused, too
            raise DataError("expected a picture of floats from 0 to 1: divide by the value of white, or make it uint8")
        array = _to_bytes(array)
    if array.dtype == bool:
        array = np.uint8(255) * array
    if array.dtype != np.uint8:
        raise DataError(f"expected a picture of bool, uint8, uint16 or float, got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array))


def _simple_mode(picture: "Image.Image") -> "Image.Image":
    """The same picture as L, RGB, RGBA, or F from 0 to 1."""
    from PIL import Image

    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        values = np.asarray(picture, np.float32)
        top = values.max(initial=0)
        white = next((white for white in (1, 255, 65535) if top <= white), top)
        simple = Image.fromarray(values / (65535 if picture.mode.startswith("I;16") else white))
        simple.info = picture.info
        return simple
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        return picture.convert("RGBA")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def _on_paper(colour: "Floats", opacity: "Floats") -> "Floats":
    """Put something behind what is transparent: paper of the colour there is, or of the shade that the ink is not.

    Where all that can be seen has one shade, that is the ink; where it has several, most of it is the paper.
    """
    seen = colour[opacity[..., 0] > 0.5]
    if not len(seen):
        raise DataError("it is transparent all over: there is no ink")
    shades = seen.mean(axis=1)
    if np.std(shades) < 0.1 and (opacity < 0.5).any():
        paper = np.full(3, 1.0 if shades.mean() < 0.5 else 0.0, np.float32)
    else:
        paper = np.median(seen, axis=0)
    return opacity * colour + (1 - opacity) * paper


def _to_bytes(levels: "Floats") -> Pixels:
    return np.rint(255 * levels).astype(np.uint8)
