"""Matrix products through scipy's BLAS, with threads of its own: so for a team of one."""

import numpy as np
from numba.core import types
from numba.np.linalg import ensure_blas

from fastnn.kernels.numba_cache import inline

ensure_blas()
# numba's own entry to scipy's BLAS: unlike a ctypes pointer, compiled code that calls it can be cached on disk.
_xxgemm = types.ExternalFunction(
    "numba_xxgemm",
    types.intc(
        *(types.char, types.char, types.char),  # kind, transpose first, transpose second
        *(types.intp, types.intp, types.intp),  # m, n, k
        *(types.voidptr, types.intp, types.intp, types.intp, types.intp),  # alpha, first, ld, second, ld
        *(types.voidptr, types.intp, types.intp),  # beta, result, ld
    ),
)
real, size = np.float32, 4
"""The matrices' type and its bytes: `multiply` and `multiply_transposed` are compiled for each, with those in place."""

_S, _D, _N, _T = ord("s"), ord("d"), ord("n"), ord("t")


def scratch_size(longest: int, itemsize: int) -> int:
    return longest


@inline
def _gemm(factors, size, kinds, m, n, k, first, first_row, second, second_row, c, c_row):
    operands = (factors.ctypes, first, first_row, second, second_row, factors[1:].ctypes, c, c_row)
    _xxgemm(_S if size == 4 else _D, kinds[0], kinds[1], m, n, k, *operands)


def multiply(alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch):
    """The transposed problem, because BLAS reads by columns; row and column are 0."""
    factors = np.array([real(alpha), real(beta)])
    transposed = a_row == 1 and (a_step > 1 or depth > 1)
    kinds, left_row = (_N, _T if transposed else _N), a_step if transposed else a_row
    _gemm(factors, size, kinds, last_column, last_row, depth, b, b_row, a, left_row, c, c_row)


def multiply_transposed(
    alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch
):
    factors, rows, start = np.array([real(alpha), real(beta)]), last_row - row, row * size
    left, result = a + start * a_row, c + start * c_row
    _gemm(factors, size, (_T, _N), last_column, rows, depth, b, b_row, left, a_row, result, c_row)
