"""Samples that the host makes ready a group of mini-batches at a time: sparse ones, and those a function changes."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import DataError
from fastnn.samples import Targets, is_on_device
from fastnn.sparse import is_sparse
from fastnn.step import Data

__all__ = ["LoadedSamples"]

_GROUP = 1 << 23  # bytes that a group of mini-batches may take, if it is more than one


class LoadedSamples:
    """What the kernels read of such a data set: the samples of some mini-batches, in their order, and their targets.

    Parameters
    ----------
    rows : (n, n_in) array, or scipy.sparse CSR
    targets : Targets
    weights : (n,) real, or empty
    batch_size : int
    kernels : module
        The backend's.
    change : callable or None
        ``change(x, generator)`` is what becomes of the samples (B, n_in) of a mini-batch: an array of that shape.
    """

    def __init__(
        self,
        rows: Any,
        targets: Targets,
        weights: NDArray[Any],
        batch_size: int,
        kernels: Any,
        change: Callable[[NDArray[Any], np.random.Generator], Any] | None = None,
    ) -> None:
        self._rows, self._kernels, self._batch_size, self._change = rows, kernels, batch_size, change
        columns = (targets.labels, targets.rows, weights)
        self._columns = [kernels.to_numpy(array) if is_on_device(array) else array for array in columns]
        self._steps = max(1, _GROUP // (batch_size * rows.shape[1] * rows.dtype.itemsize))
        size = min(self._steps * batch_size, rows.shape[0])
        shapes = [(size, *column.shape[1:]) if len(column) else column.shape for column in self._columns]
        types = [column.dtype for column in self._columns]
        self._x = kernels.zeros((size, rows.shape[1]), rows.dtype)
        self._dense = np.zeros(self._x.shape, rows.dtype) if is_on_device(self._x) else self._x
        self._parts = [kernels.zeros(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
        self.begin_epoch(np.arange(rows.shape[0]), np.random.default_rng(0))

    def begin_epoch(self, order: NDArray[np.int64], generator: np.random.Generator) -> None:
        """Choose the order (n,) of the samples, and what random numbers `change` gets."""
        self._order, self._generator = order, generator

    def data(self, scale: float, shift: float) -> Data:
        """The arrays that `load` fills, which kernels only read."""
        x, labels, targets, weights = map(_read_only, (self._x, *self._parts))
        order = self._kernels.asarray(np.arange(len(self._order), dtype=np.int64))
        return Data(x, labels, targets, weights, order, self._batch_size, scale, shift)

    def load(self, data: Data, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Go through mini-batches `first` to ``last - 1`` in groups; each is loaded when it is asked for."""
        asarray, batch = self._kernels.asarray, self._batch_size
        for start in range(first, last, self._steps):
            stop = min(start + self._steps, last)
            places = slice(start * batch, min(stop * batch, len(self._order)))
            chosen = self._order[places]
            n = len(chosen)
            self._kernels.synchronize()  # nothing reads the group before any more
            self._read(chosen, self._dense[:n])
            if self._x is not self._dense:
                self._x[:n] = asarray(self._dense[:n])
            for part, column in zip(self._parts, self._columns, strict=True):
                if len(column):
                    part[:n] = asarray(column[chosen])
            data.order[places] = asarray(np.arange(n))
            yield start, stop

    def _read(self, chosen: NDArray[np.int64], out: NDArray[Any]) -> None:
        if is_sparse(self._rows):
            self._rows[chosen].toarray(out=out)
        else:
            on_device = is_on_device(self._rows)
            rows = self._rows[self._kernels.asarray(chosen) if on_device else chosen]
            out[...] = self._kernels.to_numpy(rows) if on_device else rows
        if self._change is None:
            return
        for start in range(0, len(out), self._batch_size):
            part = out[start : start + self._batch_size]
            changed = np.asarray(self._change(part.copy(), self._generator))
            if changed.shape != part.shape:
                raise DataError(f"augment must return samples of shape {part.shape}, got {changed.shape}")
            if part.dtype == np.uint8 and changed.dtype != np.uint8:
                changed = np.clip(np.rint(changed), 0, 255)
            if not np.isfinite(changed).all():
                raise DataError("augment returned samples that are not finite")
            part[...] = changed


def _read_only(array: Any) -> Any:
    """As `read_samples` gives arrays of the host: compiled code has one type for them."""
    if is_on_device(array):
        return array
    view = array.view()
    view.flags.writeable = False
    return view
