"""Pictures as people have them, rendered from 28 x 28 digits: other sizes, colours, places, light, and file formats."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

__all__ = ["UNDONE_BY", "photograph", "write_picture"]

_CONTRAST = 100  # least difference of ink and paper in their most different channel, of 255

# What was done to a picture that needs EXIF's orientation 2 to 8 to be seen upright.
UNDONE_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def write_picture(digit: np.ndarray, stem: Path, rng: np.random.Generator) -> Path:
    """Render `digit` (28, 28) uint8 at random and write it to a file whose name begins with `stem`.

    The canvas has 60 to 1,500 px a side and is not square; the digit's tile takes from three tenths of the shorter side
    to all of it, 28 px at least, and is turned by up to 8 degrees. Ink and paper have any colours that differ enough,
    light falls off across the paper, and there is noise. One file in four is a PNG with transparent paper, the others
    are PNG and JPEG; half of the JPEGs have an EXIF orientation to be obeyed.
    """
    coverage = _draw(digit, rng)
    ink, paper = _colours(rng)
    if rng.random() < 0.25:
        colour = np.broadcast_to(ink, (*coverage.shape, 3))
        picture = Image.fromarray(_to_bytes(np.dstack([colour, 255 * coverage])), "RGBA")
        return _save(picture, stem.with_suffix(".png"), compress_level=1)
    pixels = photograph(coverage, ink, paper, rng, light=rng.uniform(0.5, 1), noise=rng.uniform(0, 8))
    picture = Image.fromarray(pixels)
    if rng.random() < 0.5:
        return _save(picture, stem.with_suffix(".png"), compress_level=1)
    if rng.random() < 0.5:
        return _save(picture, stem.with_suffix(".jpg"), quality=int(rng.integers(60, 96)))
    orientation = int(rng.integers(2, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = picture.transpose(UNDONE_BY[orientation])
    return _save(turned, stem.with_suffix(".jpg"), quality=int(rng.integers(60, 96)), exif=exif)


def photograph(
    coverage: np.ndarray, ink: np.ndarray, paper: np.ndarray, rng: np.random.Generator, *, light: float, noise: float
) -> np.ndarray:
    """Ink where `coverage` (height, width) is 1 and paper where it is 0, as (height, width, 3) uint8.

    The light falls from 1 to `light` from one side to the other, in any direction; `noise` is the standard deviation
    of a pixel, of 255.
    """
    height, width = coverage.shape
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.sin(angle) * np.linspace(0, 1, height)[:, None] + np.cos(angle) * np.linspace(0, 1, width)
    ramp = (ramp - ramp.min()) / np.ptp(ramp)
    colours = (paper + coverage[..., None] * (ink - paper)) * (light + (1 - light) * ramp)[..., None]
    return _to_bytes(colours + noise * rng.standard_normal(colours.shape, np.float32))


def _draw(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The share of ink of every pixel of a canvas of random size."""
    width, height = (int(np.exp(rng.uniform(np.log(60), np.log(1500)))) for _ in range(2))
    tile = int(rng.uniform(max(28, 0.3 * min(width, height)), min(width, height)))
    left, top = (int(rng.integers(0, side - tile, endpoint=True)) for side in (width, height))
    turn = np.deg2rad(rng.uniform(-8, 8))
    zoom = 28 / tile
    matrix = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.full(2, (tile - 1) / 2)
    drawn = ndimage.affine_transform(digit / 255, matrix, 13.5 - matrix @ middle, (tile, tile), order=3)
    coverage = np.zeros((height, width), np.float32)
    coverage[top : top + tile, left : left + tile] = np.clip(drawn, 0, 1)
    return coverage


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    while True:
        ink, paper = rng.uniform(0, 255, (2, 3))
        if np.abs(ink - paper).max() >= _CONTRAST:
            return ink, paper


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _save(picture: Image.Image, path: Path, **how: object) -> Path:
    picture.save(path, **how)
    return path
