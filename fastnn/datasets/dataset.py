"""What a loaded dataset is, and the one place where its arrays are checked against each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.errors import FileFormatError

__all__ = ["ARRAY_NAMES", "Dataset", "assemble"]

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images with their labels, split into training and test.

    Attributes
    ----------
    x_train, x_test : numpy.ndarray
        Images, (n, 28, 28) uint8, C-contiguous, white (255) on black (0), for the named datasets; for files of
        your own (n, ...) in the dtype that they hold.
    y_train, y_test : numpy.ndarray
        Labels, (n,) int32, from 0 on.
    name : str
        ``"mnist"``, ``"fashion-mnist"``, ``"digits"`` or the name of the file or folder.
    source : str
        Where the data came from, in words.
    note : str
        Why ``"auto"`` did not get MNIST; else empty.
    """

    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[np.int32]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[np.int32]
    name: str
    source: str
    note: str = ""

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.x_train.shape[1:]))
        return (
            f"<Dataset {self.name}: {len(self.x_train):,} training and {len(self.x_test):,} test samples, "
            f"{shape} {self.x_train.dtype}>"
        )

    def describe(self) -> str:
        """Return a few lines for a person: the sizes, how many samples of each label, the source."""
        lines = [repr(self)[1:-1]]
        for split, labels in (("training", self.y_train), ("test", self.y_test)):
            values, counts = np.unique(labels, return_counts=True)
            shown = ", ".join(f"{value}: {count:,}" for value, count in zip(values[:20], counts[:20], strict=True))
            lines.append(f"{split} labels  {shown}{', ...' if len(values) > 20 else ''}")
        lines.append(f"source  {self.source}")
        return "\n".join(lines)


def assemble(name: str, arrays: Mapping[str, npt.NDArray[Any]], source: str, where: object) -> Dataset:
    """Check the four arrays of `ARRAY_NAMES` against each other and make them a Dataset.

    `where` names the file or folder in errors. Raises FileFormatError for arrays that do not belong together.
    """
    x_train, y_train, x_test, y_test = (arrays[key] for key in ARRAY_NAMES)
    for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        if x.ndim < 2 or x.size == 0 or x.dtype.kind not in "uif":
            _refuse(where, f"x_{split} to be numbers of shape (samples, ...), not empty", f"{x.shape} {x.dtype}")
        if y.ndim != 1 or len(y) != len(x):
            _refuse(where, f"y_{split} of shape ({len(x)},), a label for each image", f"shape {y.shape}")
    if x_train.shape[1:] != x_test.shape[1:] or x_train.dtype != x_test.dtype:
        found = f"{x_train.shape[1:]} {x_train.dtype} and {x_test.shape[1:]} {x_test.dtype}"
        _refuse(where, "training and test images of one shape and dtype", found)
    y_train, y_test = _as_labels(where, "y_train", y_train), _as_labels(where, "y_test", y_test)
    return Dataset(x_train, y_train, x_test, y_test, name, source)


def _as_labels(where: object, key: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.rint(labels)):  # NaN differs from itself
        _refuse(where, f"{key} to hold whole numbers", "fractions or NaN")
    if labels.dtype.kind not in "uif":
        _refuse(where, f"{key} to hold whole numbers", f"dtype {labels.dtype}")
    low, high = labels.min(), labels.max()
    if low < 0 or high > np.iinfo(np.int32).max:
        _refuse(where, f"{key} to hold labels from 0 on", f"values from {low} to {high}")
    return labels.astype(np.int32)


def _refuse(where: object, expected: str, found: str) -> None:
    raise FileFormatError(
        f"{where}: expected {expected}; found {found}; check that the training and test files belong together"
    )
