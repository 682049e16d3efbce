"""A part of the training samples kept back, to look at while a network learns from the others."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from fastnn.errors import DataError
from fastnn.optional import require

__all__ = ["hold_out"]


def hold_out(
    arrays: Sequence[Any], fraction: float, seed: int, labels: Any = None
) -> tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]:
    """Split arrays of as many samples at random into those to learn from and those to validate with.

    Parameters
    ----------
    arrays : sequence of array_like, (n, ...)
    fraction : float
        Share of the samples that is held out.
    seed : int
    labels : (n,) array_like or None
        Classes of which each loses the same share.

    Raises
    ------
    DataError
        If there are too few samples for that.
    MissingLibraryError
        If scikit-learn is not installed.
    """
    split = require("sklearn.model_selection", "sklearn").train_test_split
    try:
        parts = split(*arrays, test_size=float(fraction), random_state=seed, stratify=labels)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"cannot hold out a share of {fraction!r} of {len(arrays[0])} samples, of each class as much: {error} "
            "Choose another share, or give validation data."
        ) from None
    return parts[::2], parts[1::2]
