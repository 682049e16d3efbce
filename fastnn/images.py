"""Image files as samples for a network: arrays, IDX files, and what Pillow reads."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.errors import DataError, FileFormatError

__all__ = ["read_images"]


def read_images(path: str | Path, n_features: int) -> np.ndarray:
    """Images of a file as ``(n, n_features)``, for a network that takes square pictures of so many pixels.

    A ``.npy`` or IDX file may hold one image or many, of the network's size. Anything else is read by Pillow (the
    extra ``plot``), made grey, inverted if it is dark on light, as MNIST is light on dark, and scaled to the size.

    Raises
    ------
    FileFormatError
        If the file cannot be read as images.
    DataError
        If the network takes no square pictures, or the images of an array are of another size.
    OSError
        If there is no such file.
    """
    path = Path(path)
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(b"\x93NUMPY"):
        images = _read_npy(path)
    elif start[:2] in (b"\0\0", b"\x1f\x8b"):
        from fastnn.datasets import read_idx

        images = read_idx(path)
    else:
        images = _read_picture(path, n_features)
    if images.ndim < 2 and images.size == n_features:
        images = images[None]
    images = images.reshape(-1, n_features) if images.size and images.size % n_features == 0 else images
    if images.shape[1:] != (n_features,):
        raise DataError(f"{path}: expected images of {n_features} values, got an array of shape {images.shape}")
    return images


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise FileFormatError(f"{path} is no whole .npy file of numbers ({error}): save it again") from error


def _read_picture(path: Path, n_features: int) -> np.ndarray:
    side = math.isqrt(n_features)
    if side * side != n_features:
        raise DataError(f"a network of {n_features} features takes no square pictures: give it .npy arrays")
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise FileFormatError(
            f"{path}: reading pictures needs Pillow: pip install 'fastnn-mlp[plot]' (.npy and IDX files need nothing)"
        ) from error
    try:
        with Image.open(path) as picture:
            grey: Any = picture.convert("L").resize((side, side), Image.Resampling.LANCZOS)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError) as error:
        raise FileFormatError(f"{path} is no picture that can be read ({error})") from error
    pixels = np.asarray(grey, np.uint8)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return 255 - pixels if np.median(border) > 127 else pixels
