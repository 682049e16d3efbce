"""What this machine can do at most: floating-point operations in a second, on so many threads at once."""

import threading
import time

import numba
import numpy as np
from fastnn.kernels import memory, numba_simd

_DEPTH, _REPEATS = 128, 20_000


@numba.njit(nogil=True)
def _multiply_add(repeats, a, b, c):
    """One register tile over and over; its operands stay in the first-level cache."""
    lanes = numba_simd.VECTOR_BYTES // 4 * numba_simd.VECTORS
    one, zero = np.float32(1), np.float32(0)
    for _ in range(repeats):
        numba_simd.wide_tile(
            _DEPTH,
            a.ctypes.data,
            _DEPTH,
            1,
            b.ctypes.data,
            lanes,
            c.ctypes.data,
            lanes,
            one,
            zero,
            numba_simd.ROWS,
            lanes,
        )


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
        threads = [threading.Thread(target=_multiply_add, args=(_REPEATS, *arrays)) for arrays in self._operands]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return self._flops / (time.perf_counter() - start)
