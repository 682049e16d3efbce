"""Samples and targets as a caller has them, checked and brought to the form that the kernels read.

What is right as it is, is not copied: uint8, float32 and float64 arrays in C order go to the kernels as they lie, also
those of other libraries (by DLPack), and also on a device, if the backend computes there. The checks use methods of
arrays and numpy's ufuncs alone: the ufuncs of device arrays are their library's own (NEP 13), and run on the device.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.kernels import memory, numpy_kernels
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL, REGRESSION
from fastnn.operations import LOSSES

__all__ = [
    "UNKNOWN",
    "Targets",
    "as_sample_weight",
    "as_samples",
    "as_targets",
    "is_of_other_library",
    "is_on_device",
    "read_samples",
]

UNKNOWN = object()  # targets where only outputs are wanted; None is what a caller forgot to fill in

_CHUNK = 4096  # rows looked at a time, so that a check needs no second copy of the data
_BRIGHT = 128  # integers from 0 to at least this, and at most 255, are taken for the pixels of images


def as_samples(x: Any, n_in: int, dtype: np.dtype, kernels: Any = numpy_kernels) -> Any:
    """The array of `read_samples` alone."""
    return read_samples(x, n_in, dtype, kernels)[0]


def read_samples(
    x: Any, n_in: int, dtype: np.dtype, kernels: Any = numpy_kernels, pixels: bool = False
) -> tuple[Any, float]:
    """Samples as a C-ordered ``(n, n_in)`` array of uint8, float32 or float64: read-only on the host, or on the device.

    Parameters
    ----------
    x : array_like, (n, n_in) or (n, ...) with as many values a sample
        uint8, float32 and float64 stay what they are. Other integers become uint8 where they are pixels, from 0 to 255
        and not all dark (one is at least 128); other numbers are converted to `dtype`.
    n_in : int
    dtype : numpy.dtype
        The network's.
    kernels : module
        The backend's.
    pixels : bool
        Integers from 0 to 255 are pixels also where all are dark: the network was trained on pixels.

    Returns
    -------
    samples : array, (n, n_in)
    largest : float
        The largest magnitude among them; 255 for uint8.

    Raises
    ------
    DataError
        If the shape is wrong, there are no samples, a value is not a finite number, or the samples lie on a device
        where the backend does not compute.
    """
    array = _as_numbers(x, "samples", kernels)
    if array.ndim < 2 or array.size != array.shape[0] * n_in or array.shape[0] == 0:
        _reject_shape(array, n_in)
    largest = 255.0
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        low, high = int(array.min()), int(array.max())
        largest = float(max(-low, high))
        if low >= 0 and (0 if pixels else _BRIGHT) <= high <= 255:
            array, largest = array.astype(np.uint8), 255.0
    elif array.dtype != np.uint8:
        largest = _check_finite(array, dtype, "samples")
    if array.dtype not in (np.uint8, np.float32, np.float64):
        array = array.astype(dtype)
    return _ready(array, array.dtype.newbyteorder("=")).reshape(len(array), n_in), largest


def _ready(array: Any, dtype: Any) -> Any:
    """Contiguous, aligned and read-only, a copy only where it must be: one type for compiled kernels, whatever came."""
    if is_on_device(array):
        return array.astype(dtype, order="C", copy=False)
    if array.dtype != dtype or not (array.flags.c_contiguous and array.flags.aligned):
        array = np.require(array, dtype, ["C", "A"])
    array = array.view()
    array.flags.writeable = False
    return array


def is_on_device(array: Any) -> bool:
    """Whether an array lies in a device's memory."""
    return hasattr(array, "__cuda_array_interface__")


def _reject_shape(array: Any, n_in: int) -> None:
    if array.shape[:1] == (0,):
        raise DataError(f"no samples: got an empty array of shape {array.shape}")
    hint = "; a single sample is x[None]" if array.size == n_in else ""
    raise DataError(f"expected samples of {n_in} features, shape (n, {n_in}), got shape {array.shape}{hint}")


def _as_numbers(values: Any, what: str, kernels: Any) -> Any:
    """An array of numpy's, or of the backend's where `values` lie on its device."""
    if np.ma.is_masked(values):
        raise DataError(f"{what} must not be masked: fill or leave out what is masked")
    try:
        array = _adopt(values, what, kernels) if is_of_other_library(values) else np.asarray(values)
        if array.dtype == object:
            array = array.astype(np.float64)
    except DataError:
        raise
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{what} must be numbers of one shape, got {type(values).__name__} ({error})") from None
    if array.dtype.kind not in "buif":
        raise DataError(f"{what} must be real numbers, got dtype {array.dtype}")
    return array


def is_of_other_library(values: Any) -> bool:
    """Whether `values` is an array that is not numpy's: PyTorch's, JAX's, CuPy's, or another's of the array API."""
    if isinstance(values, np.ndarray) or not hasattr(values, "__dlpack__"):
        return False
    from array_api_compat import is_array_api_obj

    return is_array_api_obj(values)


def _adopt(values: Any, what: str, kernels: Any) -> Any:
    """The same memory as an array of the backend's, or of numpy's where it is the host's."""
    if getattr(values, "requires_grad", False):
        raise DataError(f"{what} require a gradient, and none is passed on through fastnn: give it x.detach()")
    if str(values.dtype).endswith("bfloat16"):  # numpy has no such dtype
        from array_api_compat import array_namespace

        namespace = array_namespace(values)
        values = namespace.astype(values, namespace.float32)
    for from_dlpack in (kernels.from_dlpack, memory.from_dlpack):
        array = from_dlpack(values)
        if array is not None:
            return array
    raise DataError(
        f"{what} lie on {values.device}, where the network does not compute: move them to the host (PyTorch: x.cpu(), "
        "CuPy: x.get(), JAX: jax.device_get(x)), or the network to a CUDA device, net.to('cupy')"
    )


def _check_finite(array: Any, dtype: np.dtype, what: str) -> float:
    """Every number must be finite, also when it is rounded to `dtype`; returns the largest magnitude."""
    if array.size == 0:
        return 0.0
    if array.dtype.kind in "biu":
        return max(-float(array.min()), float(array.max()))
    limit = float(np.finfo(dtype if array.dtype.itemsize > dtype.itemsize else array.dtype).max)
    largest = 0.0
    for start in range(0, len(array), _CHUNK):
        chunk = array[start : start + _CHUNK]
        chunk = chunk.reshape(len(chunk), -1)
        with np.errstate(invalid="ignore"):
            low, high = float(chunk.min()), float(chunk.max())
        magnitude = high if high >= -low else -low  # NaN where there is one
        if not magnitude <= limit:
            finite = (chunk >= -limit) & (chunk <= limit)
            row = int(finite.all(axis=1).argmin())
            value = chunk[row, int(finite[row].argmin())]
            found = f"{value}, too large for {dtype}" if np.isfinite(value) else "NaN or infinity"
            raise DataError(f"{what} must be finite: row {start + row} holds {found}")
        largest = max(largest, magnitude)
    return largest


@dataclass(frozen=True)
class Targets:
    """What the outputs ought to be: labels or rows of targets, the other one empty; and what a hit is."""

    labels: Any  # (n,) int32, or empty
    rows: Any  # (n, n_out) real, or (0, n_out)
    task: int


def as_targets(
    y: Any,
    n: int,
    n_out: int,
    dtype: np.dtype,
    output: str,
    loss: str,
    kernels: Any = numpy_kernels,
    task: int | None = None,
) -> Targets:
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
    kernels : module
        The backend's.
    task : int or None
        What the targets mean, where training has decided on it; None: what these targets look like.

    Raises
    ------
    DataError
        If lengths differ, or a value is not finite, not a label, out of range, or no target of `task`; the message
        names the row.
    """
    no_labels, no_rows = _ready(np.empty(0), np.int32), _ready(np.empty((0, n_out)), dtype)
    if y is UNKNOWN:
        return Targets(no_labels, no_rows, CLASSIFICATION)
    array = _as_numbers(y, "labels", kernels)
    if array.ndim == 2 and array.shape[1] == 1 and n_out > 1:
        array = array[:, 0]
    if array.shape[:1] != (n,):
        raise DataError(f"expected labels for {n} samples, got shape {array.shape}")
    if array.ndim == 1 and n_out > 1:
        if task not in (None, CLASSIFICATION):
            raise DataError(
                f"expected {_MEANING[task]}, as in training, shape ({n}, {n_out}); got labels, shape ({n},)"
            )
        return Targets(_labels(array, n_out), no_rows, CLASSIFICATION)
    if array.shape not in ((n, n_out), (n,)):
        raise DataError(f"expected labels of shape ({n},) or targets of shape ({n}, {n_out}), got {array.shape}")
    _check_finite(array, dtype, "targets")
    rows = _ready(array.reshape(n, n_out), dtype)
    admitted = LOSSES[loss].targets
    if admitted != "any":
        largest = math.inf if admitted == "non-negative" else 1
        if rows.min() < 0 or rows.max() > largest:
            row = int(((rows < 0) | (rows > largest)).any(axis=1).argmax())
            limits = "be at least 0" if admitted == "non-negative" else "lie between 0 and 1"
            raise DataError(f"targets of {loss} must {limits}: row {row} holds {rows[row].tolist()}")
    sums = rows.sum(axis=1)
    if admitted == "distribution" and np.abs(sums - 1).max() > 1e-3:
        row = int(np.abs(sums - 1).argmax())
        raise DataError(f"targets of {loss} must add up to 1: row {row} adds up to {sums[row]}")
    if task is None or output == "softmax":  # which always chooses a class, whatever the rows add up to
        return Targets(no_labels, rows, _task(rows, output))
    return Targets(no_labels, rows, _check_task(rows, sums, task))


def _labels(array: Any, n_out: int) -> Any:
    if array.dtype.kind == "f":
        _check_finite(array, array.dtype, "labels")
        fractional = array != np.floor(array)
        if fractional.any():
            row = int(fractional.argmax())
            raise DataError(f"labels must be whole numbers: row {row} holds {array[row]}")
    wrong = (array < 0) | (array >= n_out)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"labels must lie between 0 and {n_out - 1}: row {row} holds {array[row]}")
    return _ready(array, np.int32)


def _task(rows: Any, output: str) -> int:
    binary = bool(((rows == 0) | (rows == 1)).all())
    if output == "softmax" or (rows.shape[1] > 1 and binary and bool((rows.sum(axis=1) == 1).all())):
        return CLASSIFICATION
    return MULTILABEL if output == "sigmoid" and binary else REGRESSION


_MEANING = {
    CLASSIFICATION: "one class a sample",
    MULTILABEL: "several labels a sample, each from 0 to 1",
    REGRESSION: "values",
}


def _check_task(rows: Any, sums: Any, task: int) -> int:
    """The task that training has decided on, if the rows are targets of it."""
    if task == REGRESSION:
        return task
    fits = ((rows >= 0) & (rows <= 1)).all(axis=1)
    if task == CLASSIFICATION:
        fits &= abs(sums - 1) <= 1e-3
    if not fits.all():
        row = int(fits.argmin())
        raise DataError(
            f"expected {_MEANING[task]}, which is what the targets were in training: row {row} holds "
            f"{rows[row].tolist()}. For targets of another meaning make a new network, if need be with task="
        )
    return task


def as_sample_weight(sample_weight: Any, n: int, dtype: np.dtype, kernels: Any = numpy_kernels) -> np.ndarray:
    """Weights ``(n,)`` >= 0 of the samples, not all zero; empty for None. On the host, which sums them in each epoch.

    Raises
    ------
    DataError
        If the length differs, or a weight is negative or not finite.
    """
    if sample_weight is None:
        return _ready(np.empty(0), dtype)
    array = _as_numbers(sample_weight, "sample weights", kernels)
    if is_on_device(array):
        array = kernels.to_numpy(array)
    if array.shape != (n,):
        raise DataError(f"expected {n} sample weights, shape ({n},), got shape {array.shape}")
    _check_finite(array, dtype, "sample weights")
    weights = _ready(array, dtype)
    if weights.min() < 0:
        raise DataError(f"sample weights must not be negative: row {int(weights.argmin())} holds {weights.min()}")
    if not weights.any():
        raise DataError("sample weights must not all be zero")
    return weights
