"""Sparse samples: made dense a group of mini-batches at a time, since the kernels read dense rows."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.samples import Targets, is_on_device, read_samples
from fastnn.step import Data

__all__ = ["SparseSamples", "is_sparse", "read_sparse"]

_GROUP = 1 << 23  # bytes that a group of mini-batches may take, if it is more than one


def is_sparse(x: Any) -> bool:
    """Whether `x` is a matrix or array of scipy.sparse."""
    return hasattr(x, "tocsr") and hasattr(x, "nnz")


def read_sparse(x: Any, n_in: int, dtype: np.dtype, pixels: bool = False) -> tuple[Any, float]:
    """Sparse samples ``(n, n_in)`` by rows, of uint8, float32 or float64, and the largest magnitude among them.

    Parameters
    ----------
    x : scipy.sparse matrix or array
    n_in, dtype, pixels
        As for `read_samples`, by whose rules the values are read.

    Raises
    ------
    DataError
        If the shape is wrong, there are no samples, or a value is not a finite number.
    """
    if x.ndim != 2 or x.shape[1] != n_in or x.shape[0] == 0:
        raise DataError(f"expected sparse samples of shape (n, {n_in}), got shape {x.shape}")
    rows = x.tocsr()
    values = rows.data if rows.nnz else np.zeros(1, rows.dtype)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        place = int(np.isfinite(values).argmin())
        row = int(np.searchsorted(rows.indptr, place, side="right")) - 1
        raise DataError(f"samples must be finite: row {row} holds {values[place]}")
    values, largest = read_samples(values[:, None], 1, dtype, pixels=pixels)
    return type(rows)((values[: rows.nnz, 0], rows.indices, rows.indptr), rows.shape), largest


class SparseSamples:
    """What the kernels read of a sparse data set: the samples of some mini-batches, in their order, and their targets.

    Parameters
    ----------
    rows : scipy.sparse CSR
    targets : Targets
    weights : (n,) real, or empty
    batch_size : int
    kernels : module
        The backend's.
    """

    def __init__(self, rows: Any, targets: Targets, weights: np.ndarray, batch_size: int, kernels: Any) -> None:
        self._rows, self._kernels, self._batch_size = rows, kernels, batch_size
        columns = (targets.labels, targets.rows, weights)
        self._columns = [kernels.to_numpy(array) if is_on_device(array) else array for array in columns]
        self._steps = max(1, _GROUP // (batch_size * rows.shape[1] * rows.dtype.itemsize))
        size = min(self._steps * batch_size, rows.shape[0])
        shapes = [(size, *column.shape[1:]) if len(column) else column.shape for column in self._columns]
        types = [column.dtype for column in self._columns]
        self._x = kernels.zeros((size, rows.shape[1]), rows.dtype)
        self._dense = np.zeros(self._x.shape, rows.dtype) if is_on_device(self._x) else self._x
        self._parts = [kernels.zeros(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
        self.order = np.arange(rows.shape[0])

    def data(self, scale: float, shift: float) -> Data:
        """The arrays that `load` fills, which kernels only read."""
        x, labels, targets, weights = map(_read_only, (self._x, *self._parts))
        order = self._kernels.asarray(np.arange(len(self.order), dtype=np.int64))
        return Data(x, labels, targets, weights, order, self._batch_size, scale, shift)

    def load(self, data: Data, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Go through mini-batches `first` to ``last - 1`` in groups; each is loaded when it is asked for."""
        asarray, batch = self._kernels.asarray, self._batch_size
        for start in range(first, last, self._steps):
            stop = min(start + self._steps, last)
            places = slice(start * batch, min(stop * batch, len(self.order)))
            chosen = self.order[places]
            n = len(chosen)
            self._kernels.synchronize()  # nothing reads the group before any more
            self._rows[chosen].toarray(out=self._dense[:n])
            if self._x is not self._dense:
                self._x[:n] = asarray(self._dense[:n])
            for part, column in zip(self._parts, self._columns, strict=True):
                if len(column):
                    part[:n] = asarray(column[chosen])
            data.order[places] = asarray(np.arange(n))
            yield start, stop


def _read_only(array: Any) -> Any:
    """As `read_samples` gives arrays of the host: compiled code has one type for them."""
    if is_on_device(array):
        return array
    view = array.view()
    view.flags.writeable = False
    return view
