"""Sparse samples; `fastnn.loaded_samples` makes them dense, a group of mini-batches at a time."""

from typing import Any

import numpy as np

from fastnn.errors import DataError
from fastnn.samples import read_samples

__all__ = ["is_sparse", "read_sparse"]


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
