"""Image files as samples for a network: pictures that Pillow reads, .npy arrays and IDX files."""

import importlib
import io
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastnn.choices import check_choice
from fastnn.errors import DataError, FileFormatError
from fastnn.files import reading
from fastnn.images.preparation import INKS, WORKING_PIXELS, as_colours, as_is, find_picture_ink, normalize
from fastnn.optional import require

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Sample", "iterate_images", "read_images"]

_THUMBNAIL = (256, 256)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image as a network takes it.

    Attributes
    ----------
    name : str
        The file's, with the number in brackets where a file holds several.
    pixels : numpy.ndarray
        (n_features,); uint8 from a picture, otherwise as the file has it.
    ink : {"dark", "light"} or None
        What the ink was taken for; None where it was not sought.
    digits : int
        How many digits seem to stand side by side.
    thumbnail : PIL.Image.Image or None
        Of the picture, if it was asked for.
    """

    name: str
    pixels: npt.NDArray[Any]
    ink: str | None = None
    digits: int = 1
    thumbnail: "Image.Image | None" = None


def read_images(path: str | Path, n_features: int, ink: str = "auto", *, prepare: bool = True) -> npt.NDArray[Any]:
    """Images of a file, for a network of so many features.

    A ``.npy`` array or IDX file may hold one image or many, in the network's form already; they are not changed.
    Anything else is a picture for Pillow (the extra ``plot``), and is brought into MNIST's form; see
    `fastnn.images.preparation.prepare`.

    Parameters
    ----------
    path : str or path
    n_features : int
        A square number, for pictures.
    ink : {"auto", "dark", "light"}
        Which the ink is on pictures, compared with its paper.
    prepare : bool
        False: pictures are only made grey and scaled, for networks that learned something else than digits.

    Returns
    -------
    numpy.ndarray
        ``(n, n_features)``; uint8 from pictures, the file's own dtype from arrays.

    Raises
    ------
    FileFormatError
        If the file cannot be read as images.
    DataError
        If a picture shows no ink, the network takes no square pictures, or an array's images are of another size.
    MissingLibraryError
        If a picture needs Pillow, which is not installed.
    OSError
        If there is no such file, or it may not be read.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(os.path.join(folder, "five.npy"), np.zeros((5, 28, 28), np.uint8))
    ...     read_images(os.path.join(folder, "five.npy"), 784).shape
    (5, 784)
    """
    return np.stack([sample.pixels for sample in iterate_images(path, n_features, ink, prepare=prepare)])


def iterate_images(
    path: str | Path, n_features: int, ink: str = "auto", *, prepare: bool = True, thumbnail: bool = False
) -> Iterator[Sample]:
    """The same, one image after another, with what was found out about each."""
    path = Path(path)
    check_choice("ink", ink, INKS)
    with open(path, "rb") as file:
        start = file.peek(12)[:12]
        if start.startswith(b"\x93NUMPY"):
            with reading(path, "whole .npy file of numbers: save it again"):
                images = np.lib.format.open_memmap(path, mode="r")
            yield from _split(path, images, n_features)
        elif start[:2] == b"\x1f\x8b" or (start[:2] == b"\0\0" and start[2:3] in b"\x08\x09\x0b\x0c\x0d\x0e"):
            from fastnn.datasets import read_idx

            yield from _split(path, read_idx(path), n_features)
        else:
            yield _read_picture(path, file, start, n_features, ink, prepare, thumbnail)


def _split(path: Path, images: npt.NDArray[Any], n_features: int) -> Iterator[Sample]:
    """An array is one image, or has one a row, as (n, n_features) or (n, height, width)."""
    is_one = images.size == n_features and images.ndim < 3
    if not is_one and (images.ndim < 2 or images.size == 0 or math.prod(images.shape[1:]) != n_features):
        raise DataError(f"{path}: expected images of {n_features} values, got an array of shape {images.shape}")
    rows = images.reshape(-1, n_features)
    for i, row in enumerate(rows):
        yield Sample(str(path) if len(rows) == 1 else f"{path}[{i}]", row)


def _read_picture(
    path: Path, file: BinaryIO, start: bytes, n_features: int, ink: str, prepare: bool, thumbnail: bool
) -> Sample:
    side = math.isqrt(n_features)
    if side * side != n_features:
        raise DataError(f"{path}: a network of {n_features} features takes no square pictures: give it .npy arrays")
    if not start:
        raise FileFormatError(f"{path} is empty")
    if not file.seekable():  # a pipe
        file = io.BytesIO(file.read())
    with _open(path, file, start) as picture:
        small = _thumbnail(picture) if thumbnail else None
        try:
            if not prepare:
                return Sample(str(path), as_is(picture, side).ravel(), thumbnail=small)
            found = find_picture_ink(picture, ink)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
        return Sample(str(path), normalize(found.levels, side).ravel(), found.polarity, found.digits, small)


@contextmanager
def _open(path: Path, file: BinaryIO, start: bytes) -> Iterator["Image.Image"]:
    """A picture, decoded; all that Pillow raises for damaged and dangerous files becomes an error of one line."""
    Image = require("PIL.Image", "plot")
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        _register_heif(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata, which nobody asked for
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            picture = Image.open(file)
            if picture.width * picture.height > WORKING_PIXELS:  # JPEG can be decoded at a half, a quarter, an eighth
                shrink = math.sqrt(WORKING_PIXELS / (picture.width * picture.height))
                picture.draft(None, (math.ceil(shrink * picture.width), math.ceil(shrink * picture.height)))
            picture.load()
        except Image.UnidentifiedImageError as error:
            raise FileFormatError(f"{path} is no picture that Pillow knows, no .npy array and no IDX file") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            limit = f"{Image.MAX_IMAGE_PIXELS or 0:,}"
            raise FileFormatError(f"{path} has more than {limit} pixels: make the picture smaller") from error
        except _DAMAGED as error:
            raise FileFormatError(f"{path} is a damaged or truncated picture ({error})") from error
        with picture:
            yield picture


def _register_heif(path: Path) -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        remedy = "pip install pillow-heif, or save it as JPEG"
        raise FileFormatError(f"{path} is a HEIC picture, which Pillow does not read by itself: {remedy}") from error


def _thumbnail(picture: "Image.Image") -> "Image.Image":
    """As the ink is sought on it: upright and opaque."""
    from PIL import Image

    values = (255 * as_colours(picture)).astype(np.uint8)
    small = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    small.thumbnail(_THUMBNAIL)
    return small.convert("RGB")
