"""Tables of comma-separated values: an image a row, its label and then its pixels, as pjreddie's and Kaggle's MNIST."""

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.datasets.dataset import ARRAY_NAMES
from fastnn.datasets.holding_out import hold_out
from fastnn.datasets.streams import DEFAULT_LIMIT_BYTES, opened
from fastnn.errors import FileFormatError

__all__ = ["is_table", "read_tables"]

_LABEL_NAMES = ("label", "labels", "class", "target", "digit", "y")
_HELD_OUT = 1 / 7  # of the samples, as MNIST's own 10,000 of 70,000
_EXPECTED = "a table of two or more images, a row each of a label and pixels, all numbers and separated by commas"
_REMEDY = "mend it, or give a folder of IDX files or an .npz file"


def is_table(path: Path) -> bool:
    """Whether the name says that a file is a table."""
    return re.search(r"\.csv(\.gz)?$", path.name, re.IGNORECASE) is not None


def read_tables(path: Path) -> tuple[dict[str, npt.NDArray[Any]], str]:
    """Read a table and its counterpart: the arrays by name, and in words where the test samples come from.

    The counterpart of ``mnist_train.csv`` is ``mnist_test.csv`` in the same folder. Where it is missing or has no
    labels, as Kaggle's, one sample in seven is held out for testing, always the same ones.
    """
    train = path.with_name(re.sub("test", "train", path.name))
    train = train if train.exists() else path
    test = train.with_name(re.sub("train", "test", train.name))
    x, y, width = _read_table(train)
    if y is None:
        raise FileFormatError(
            f"{train}: expected a column named {' or '.join(map(repr, _LABEL_NAMES[:3]))}, found none in its header; "
            "give the table that has the labels"
        )
    if test != train and test.exists():
        x_test, y_test, test_width = _read_table(test)
        if y_test is not None and test_width == width:
            return dict(zip(ARRAY_NAMES, (x, y, x_test, y_test), strict=True)), f"test samples of {test.name}"
        why = f"{test.name} has no labels"
    else:
        why = "no table of test samples beside it"
    (x, y), (x_test, y_test) = hold_out((x, y), _HELD_OUT, seed=0)
    arrays = dict(zip(ARRAY_NAMES, (x, y, x_test, y_test), strict=True))
    return arrays, f"{why}: one training sample in seven is held out for testing"


def _read_table(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None, int]:
    """The images, the labels if there are any, and the number of columns."""
    with opened(path, _EXPECTED, _REMEDY) as (lines, _):
        header = [
            cell.strip(' "\r\n\ufeff').lower() for cell in lines.readline(1 << 20).decode(errors="replace").split(",")
        ]
        named = not all(map(_is_number, header))
        if not named:
            lines.seek(0)
        with warnings.catch_warnings(action="ignore"):  # of a table without rows, which is refused below
            values = np.loadtxt(lines, np.float32, delimiter=",", quotechar='"', ndmin=2, encoding="utf-8-sig")
    if len(values) < 2 or values.shape[1] < 2 or values.nbytes > DEFAULT_LIMIT_BYTES:
        raise FileFormatError(f"{path}: expected {_EXPECTED}; found one of shape {values.shape}; {_REMEDY}")
    labels = next((i for i, name in enumerate(header) if name in _LABEL_NAMES), None) if named else 0
    pixels: npt.NDArray[Any] = values if labels is None else np.delete(values, labels, axis=1)
    as_bytes = pixels.clip(0, 255).astype(np.uint8)
    if np.array_equal(as_bytes, pixels):
        pixels = as_bytes
    side = round(pixels.shape[1] ** 0.5)
    if side**2 == pixels.shape[1]:
        pixels = pixels.reshape(-1, side, side)
    return pixels, None if labels is None else values[:, labels], values.shape[1]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
