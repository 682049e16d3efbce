"""Arrays aligned for CPU kernels, and those of other libraries as numpy's."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HOST = (1, 3, 11, 13)  # DLPack's kDLCPU, kDLCUDAHost, kDLROCMHost, kDLCUDAManaged
_LINE = 64  # bytes of a cache line on x86-64 and most of ARM; the longest vector of both


def zeros(shape: Sequence[int] | int, dtype: Any) -> NDArray[Any]:
    """An array of zeros that begins with a cache line.

    Where rows are whole lines too, no vector straddles two of them, and two threads that write neighbouring columns
    never write the same one.
    """
    dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else tuple(shape)
    size = math.prod(shape) * dtype.itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    aligned: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return aligned


def from_dlpack(values: Any) -> NDArray[Any] | None:
    """An array of another library as numpy's, in the same memory; None if that is not the host's memory."""
    kind, _ = values.__dlpack_device__()
    return np.from_dlpack(values) if kind in _HOST else None
