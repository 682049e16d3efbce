"""Samples and targets as a caller has them, checked and brought to the form that the kernels read.

What is right as it is, is not copied: uint8, float32 and float64 arrays in C order go to the kernels as they lie.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL, REGRESSION

__all__ = ["UNKNOWN", "Targets", "as_sample_weight", "as_samples", "as_targets"]

UNKNOWN = object()  # targets where only outputs are wanted; None is what a caller forgot to fill in

_CHUNK = 4096  # rows looked at a time, so that a check needs no second copy of the data


def as_samples(x: Any, n_in: int, dtype: np.dtype) -> np.ndarray:
    """Samples as a read-only C-ordered ``(n, n_in)`` array of uint8, float32 or float64.

    Parameters
    ----------
    x : array_like, (n, n_in) or (n, ...) with as many values a sample
        uint8, float32 and float64 stay what they are; other numbers are converted to `dtype`.
    n_in : int
    dtype : numpy.dtype
        The network's.

    Raises
    ------
    DataError
        If the shape is wrong, there are no samples, or a value is not a finite number.
    """
    array = _as_numbers(x, "samples")
    if array.ndim < 2 or array.size != array.shape[0] * n_in or array.shape[0] == 0:
        _reject_shape(array, n_in)
    if array.dtype.kind == "f":
        _check_finite(array, dtype, "samples")
    if array.dtype not in (np.uint8, np.float32, np.float64):
        array = array.astype(dtype)
    return _ready(array, array.dtype.newbyteorder("=")).reshape(len(array), n_in)


def _ready(array: np.ndarray, dtype: Any) -> np.ndarray:
    """Contiguous, aligned and read-only, a copy only where it must be: one type for compiled kernels, whatever came."""
    array = np.require(array, dtype, ["C", "A"]).view()
    array.flags.writeable = False
    return array


def _reject_shape(array: np.ndarray, n_in: int) -> None:
    if array.shape[:1] == (0,):
        raise DataError(f"no samples: got an empty array of shape {array.shape}")
    hint = "; a single sample is x[None]" if array.size == n_in else ""
    raise DataError(f"expected samples of {n_in} features, shape (n, {n_in}), got shape {array.shape}{hint}")


def _as_numbers(values: Any, what: str) -> np.ndarray:
    if np.ma.is_masked(values):
        raise DataError(f"{what} must not be masked: fill or leave out what is masked")
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers of one shape, got {type(values).__name__} ({error})") from None
    if array.dtype.kind not in "buif":
        raise DataError(f"{what} must be real numbers, got dtype {array.dtype}")
    return array


def _check_finite(array: np.ndarray, dtype: np.dtype, what: str) -> None:
    """Every number must be finite, also when it is rounded to `dtype`."""
    wide, largest = array.dtype.itemsize > dtype.itemsize, np.finfo(dtype).max
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK]
        chunk = chunk.reshape(len(chunk), -1)
        finite = (chunk >= -largest) & (chunk <= largest) if wide else np.isfinite(chunk)
        if not finite.all():
            row = int(np.argmin(finite.all(axis=1)))
            value = chunk[row, int(np.argmin(finite[row]))]
            found = f"{value}, too large for {dtype}" if np.isfinite(value) else "NaN or infinity"
            raise DataError(f"{what} must be finite: row {start + row} holds {found}")


@dataclass(frozen=True)
class Targets:
    """What the outputs ought to be: labels or rows of targets, the other one empty; and what a hit is."""

    labels: np.ndarray  # (n,) int32, or empty
    rows: np.ndarray  # (n, n_out) real, or (0, n_out)
    task: int


def as_targets(y: Any, n: int, n_out: int, dtype: np.dtype, output: str, loss: str) -> Targets:
    """Labels or targets for `n` samples, and the task they make.

    Parameters
    ----------
    y : array_like
        ``(n,)`` labels from 0 to ``n_out - 1``; or ``(n, n_out)`` one-hot or real targets; with one output ``(n,)``
        targets.
    n, n_out : int
    dtype : numpy.dtype
    output, loss : str
        Names; they limit the targets and tell a multi-label task from a regression.

    Raises
    ------
    DataError
        If lengths differ, or a value is not finite, not a label, or out of range; the message names the row.
    """
    no_labels, no_rows = _ready(np.empty(0), np.int32), _ready(np.empty((0, n_out)), dtype)
    if y is UNKNOWN:
        return Targets(no_labels, no_rows, CLASSIFICATION)
    array = _as_numbers(y, "labels")
    if array.ndim == 2 and array.shape[1] == 1 and n_out > 1:
        array = array[:, 0]
    if array.shape[:1] != (n,):
        raise DataError(f"expected labels for {n} samples, got shape {array.shape}")
    if array.ndim == 1 and n_out > 1:
        return Targets(_labels(array, n_out), no_rows, CLASSIFICATION)
    if array.shape not in ((n, n_out), (n,)):
        raise DataError(f"expected labels of shape ({n},) or targets of shape ({n}, {n_out}), got {array.shape}")
    _check_finite(array, dtype, "targets")
    rows = _ready(array.reshape(n, n_out), dtype)
    if loss != "quadratic" and (rows.min() < 0 or rows.max() > 1):
        row = int(np.argmax(((rows < 0) | (rows > 1)).any(axis=1)))
        raise DataError(f"targets of {loss} must lie between 0 and 1: row {row} holds {rows[row].tolist()}")
    sums = rows.sum(axis=1)
    if loss == "cross_entropy" and not np.allclose(sums, 1, atol=1e-3):
        row = int(np.argmax(np.abs(sums - 1)))
        raise DataError(f"targets of cross_entropy must add up to 1: row {row} adds up to {sums[row]}")
    return Targets(no_labels, rows, _task(rows, output))


def _labels(array: np.ndarray, n_out: int) -> np.ndarray:
    if array.dtype.kind == "f":
        _check_finite(array, array.dtype, "labels")
        fractional = array != np.floor(array)
        if fractional.any():
            row = int(np.argmax(fractional))
            raise DataError(f"labels must be whole numbers: row {row} holds {array[row]}")
    wrong = (array < 0) | (array >= n_out)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"labels must lie between 0 and {n_out - 1}: row {row} holds {array[row]}")
    return _ready(array, np.int32)


def _task(rows: np.ndarray, output: str) -> int:
    binary = bool(((rows == 0) | (rows == 1)).all())
    if output == "softmax" or (rows.shape[1] > 1 and binary and bool((rows.sum(axis=1) == 1).all())):
        return CLASSIFICATION
    return MULTILABEL if output == "sigmoid" and binary else REGRESSION


def as_sample_weight(sample_weight: Any, n: int, dtype: np.dtype) -> np.ndarray:
    """Weights ``(n,)`` >= 0 of the samples, not all zero; empty for None.

    Raises
    ------
    DataError
        If the length differs, or a weight is negative or not finite.
    """
    if sample_weight is None:
        return _ready(np.empty(0), dtype)
    array = _as_numbers(sample_weight, "sample weights")
    if array.shape != (n,):
        raise DataError(f"expected {n} sample weights, shape ({n},), got shape {array.shape}")
    _check_finite(array, dtype, "sample weights")
    weights = _ready(array, dtype)
    if weights.min() < 0:
        raise DataError(f"sample weights must not be negative: row {int(np.argmin(weights))} holds {weights.min()}")
    if not weights.any():
        raise DataError("sample weights must not all be zero")
    return weights
