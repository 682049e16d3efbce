"""What this machine can do at most: operations, and bytes, in a second, on so many threads at once."""

import threading
import time
from collections.abc import Callable, Sequence

import numba
import numpy as np

from fastnn.kernels import memory, numba_simd

_DEPTH, _REPEATS = 128, 20_000
_TRIAD = 16 << 20  # elements of each array: 64 MiB


@numba.njit(nogil=True)
def _multiply_add(repeats, a, b, c):
    """One register tile over and over; its operands stay in the first-level cache."""
    lanes = numba_simd.VECTOR_BYTES // 4 * numba_simd.VECTORS
    one, zero = np.float32(1), np.float32(0)
    for _ in range(repeats):
        left, right, result = (a.ctypes.data, _DEPTH, 1), (b.ctypes.data, lanes), (c.ctypes.data, lanes)
        numba_simd.tile(numba_simd.VECTORS, _DEPTH, *left, *right, *result, one, zero, numba_simd.ROWS, lanes)


@numba.njit(nogil=True)
def _triad(a, b, c):
    for i in range(len(a)):
        a[i] = b[i] + np.float32(3) * c[i]


class Peak:
    """A measurement that can be repeated; the first call compiles.

    Multiply-adds of float32, two operations each, by the tile that `fastnn.kernels.numba_simd` multiplies with.
    """

    def __init__(self, threads: int) -> None:
        lanes = numba_simd.VECTOR_BYTES // 4 * numba_simd.VECTORS
        shapes = (numba_simd.ROWS, _DEPTH), (_DEPTH, lanes), (numba_simd.ROWS, lanes)
        self._operands = [[memory.zeros(shape, np.float32) for shape in shapes] for _ in range(threads)]
        self._flops = threads * _REPEATS * 2 * numba_simd.ROWS * lanes * _DEPTH
        _multiply_add(1, *self._operands[0])

    def __call__(self) -> float:
        """FLOP/s of all threads together."""
        return self._flops / seconds(_multiply_add, [(_REPEATS, *arrays) for arrays in self._operands])


class Bandwidth:
    """The same for memory: the triad of STREAM over arrays far larger than caches; the first call compiles.

    Counted as there: two arrays read and one written, without the reading of what is about to be written.

    References
    ----------
    McCalpin, "Memory bandwidth and machine balance in current high performance computers", IEEE TCCA, 1995.
    """

    def __init__(self, threads: int) -> None:
        self._arrays = [[memory.zeros((_TRIAD,), np.float32) for _ in range(3)] for _ in range(threads)]
        for arrays in self._arrays:
            for array in arrays:
                array[...] = 1  # pages that were never written are all the same one
        self._bytes = threads * 3 * 4 * _TRIAD
        _triad(*(array[:1] for array in self._arrays[0]))

    def __call__(self) -> float:
        """Bytes a second of all threads together."""
        return self._bytes / seconds(_triad, self._arrays)


def seconds(function: Callable, calls: Sequence[Sequence]) -> float:
    """Of all calls, each in a thread of its own."""
    threads = [threading.Thread(target=function, args=tuple(arguments)) for arguments in calls]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start
