"""The digits that scikit-learn ships, brought to MNIST's size and look: real handwriting without a network.

The 1,797 originals (E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998, CC BY 4.0) are
8x8 pixels of 0 to 16, in ``digits.npz`` beside this file. They are split into training and test before anything else,
so no original is in both; then each is drawn about 13 times with a small random rotation, scale, shear and shift. The
same writers are in both halves, as the originals do not say who wrote what, so accuracies are a little kinder than on
new writers.
"""

import contextlib
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn.datasets.dataset import ARRAY_NAMES, Dataset, assemble
from fastnn.datasets.npz import read_npz
from fastnn.errors import DatasetUnavailableError, FileFormatError
from fastnn.files import atomic_path, cache_dir

__all__ = ["load_digits"]

Bytes = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TRAIN_COUNT, TEST_COUNT = 20_000, 4_000
SOURCE = "scikit-learn's digits: 1,797 scans of 8x8, split by scan, then drawn at 28x28 with small variations"

_SEED = 1797
# Part of the name of the cache file: raise it whenever the pictures change.
_VERSION = 1
_SIZE = 28
_PIXELS_PER_CELL = 20 / 8  # MNIST's digits fill a box of 20 pixels
_PAD = 4  # empty cells around an original, so that splines die out inside
# Fractions of full ink that become black and white: the edge that makes a stroke out of blurred cells, MNIST's width.
_INK_LOW, _INK_HIGH = 0.25, 0.85


class Generated(NamedTuple):
    """The four arrays by name, and the number of the original behind each training and test image."""

    arrays: dict[str, Bytes]
    train_origins: Rows
    test_origins: Rows


def load_digits() -> Dataset:
    """Return the digits, from the user's cache if they were generated before, else generated (some 2 s)."""
    try:
        path = cache_dir() / f"digits-v{_VERSION}.npz"
    except OSError:  # nowhere to keep them
        return assemble("digits", generate().arrays, SOURCE, "digits")
    with contextlib.suppress(DatasetUnavailableError, FileFormatError):  # absent, or damaged: zip's CRC tells
        return assemble("digits", read_npz(path, ARRAY_NAMES), SOURCE, path)
    arrays = generate().arrays
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the next load its seconds, nothing more
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("xb") as file:
            x_train, y_train, x_test, y_test = (arrays[key] for key in ARRAY_NAMES)
            np.savez_compressed(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return assemble("digits", arrays, SOURCE, path)


def generate() -> Generated:
    """Draw the dataset anew; the same bits every time."""
    from importlib import resources  # loads much, and is needed once

    with resources.files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as originals:
        pixels, labels = originals["images"], originals["labels"]
    rng = np.random.Generator(np.random.PCG64(_SEED))
    train_rows, test_rows = _split(labels, rng)
    train = _spread(train_rows, TRAIN_COUNT, rng)
    test = _spread(test_rows, TEST_COUNT, rng)
    images = _draw(pixels / 16, np.concatenate([train, test]), rng)
    arrays = (images[:TRAIN_COUNT], labels[train], images[TRAIN_COUNT:], labels[test])
    return Generated(dict(zip(ARRAY_NAMES, arrays, strict=True)), train, test)


def _split(labels: Bytes, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Split the originals, a sixth of each digit to the test set as in TEST_COUNT to all."""
    train, test = [], []
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        count = round(len(rows) * TEST_COUNT / (TRAIN_COUNT + TEST_COUNT))
        test.append(rows[:count])
        train.append(rows[count:])
    return np.concatenate(train), np.concatenate(test)


def _spread(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Repeat `rows` to `count`, each as often as any other give or take one, in random order."""
    rounds = -(-count // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(rounds)])[:count]


def _draw(originals: Floats, origins: Rows, rng: np.random.Generator) -> Bytes:
    """Draw ``originals[origins]``, each with its own variation, by one cubic interpolation from 8x8 to 28x28."""
    from scipy import ndimage

    matrices, shifts = _variations(len(origins), rng)
    padded = np.pad(originals, ((0, 0), (_PAD, _PAD), (_PAD, _PAD)))
    # The centre of the ink comes to the centre of the picture, as in MNIST.
    ink = originals.sum(axis=(1, 2))
    cells = np.arange(originals.shape[1])
    centres = np.stack([originals.sum(axis=2) @ cells / ink, originals.sum(axis=1) @ cells / ink], axis=1) + _PAD
    offsets = centres[origins] - np.einsum("nij,nj->ni", matrices, (_SIZE - 1) / 2 + shifts)
    # The spline coefficients are found once an original, not once a picture.
    splines = [ndimage.spline_filter(original, order=3, output=np.float32) * np.float32(255) for original in padded]
    # scipy rounds and clips to uint8, which spares a float copy of 75 MB.
    images = np.empty((len(origins), _SIZE, _SIZE), np.uint8)
    for image, origin, matrix, offset in zip(images, origins, matrices, offsets, strict=True):
        ndimage.affine_transform(
            splines[origin], matrix, offset, output=image, order=3, mode="constant", prefilter=False
        )
    return _ink_curve()[images]


def _variations(count: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw for each picture the matrix from its pixels to the cells of its original, and a shift in pixels."""
    angles = np.deg2rad(rng.uniform(-12, 12, count))
    scales = _PIXELS_PER_CELL * rng.uniform(0.9, 1.1, (count, 2))
    slants = rng.uniform(-0.2, 0.2, count)
    shifts = rng.uniform(-1.5, 1.5, (count, 2))
    cosines, sines = np.cos(angles), np.sin(angles)
    rotations = np.stack([cosines, -sines, sines, cosines], axis=1).reshape(count, 2, 2)
    shears = np.zeros((count, 2, 2))
    shears[:, 0, 0] = 1 / scales[:, 0]
    shears[:, 1, 0] = slants / scales[:, 1]
    shears[:, 1, 1] = 1 / scales[:, 1]
    return shears @ rotations, shifts


def _ink_curve() -> Bytes:
    """Return the smoothstep from interpolated ink to grey, as a table of 256."""
    ink = np.clip((np.arange(256) / 255 - _INK_LOW) / (_INK_HIGH - _INK_LOW), 0, 1)
    return np.rint(255 * ink * ink * (3 - 2 * ink)).astype(np.uint8)
