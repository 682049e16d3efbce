"""Which matrix products the numba kernels call, and how: as C functions, by their addresses.

So they are compiled once instead of into every kernel and step that calls them (a network's first step takes 11 to 12 s
instead of 21), and the same compiled step runs with any of them. A member of a team holds the addresses.

All have one signature. Sizes and strides are in elements, addresses in bytes. The rows of C are `c_row` apart; of them
``row`` to ``last_row - 1``, and columns ``column`` to ``last_column - 1``, are computed::

    multiply             C = alpha * A @ B + beta * C    A (m, depth) at strides (a_row, a_step), B (depth, n)
    multiply_transposed  C = A @ B.T                     A (m, depth), B (n, depth)
"""

import os
from typing import Any, NamedTuple

import numpy as np
from numba.core import types

from fastnn.errors import SettingError
from fastnn.kernels import numba_bf16, numba_blas, numba_simd
from fastnn.kernels.numba_cache import compile_for_c, inline
from fastnn.kernels.numba_intrinsics import address_of, call

_SIGNATURE = types.void(*[types.float64] + [types.intp] * 6 + [types.float64] + [types.intp] * 7)
_MODULES = {"simd": numba_simd, "blas": numba_blas}
PRECISE_PRODUCTS = {"bf16": numba_bf16} if numba_bf16.is_available() else {}


class Products(NamedTuple):
    """What a network's steps multiply with."""

    multiply: int  # addresses
    multiply_transposed: int
    partitioned: bool  # whether they compute a part of C; otherwise the team has to be of one
    scratch: int  # elements that a member needs


def choose(precision: str | None = None) -> str:
    """``simd`` or ``blas``, the environment variable FASTNN_GEMM, else what suits the CPU; or the reduced precision.

    Raises
    ------
    SettingError
        If the variable holds anything else, or ``simd`` on a CPU that `numba_simd` does not know.
    """
    if precision is not None:
        return precision
    known, choice = numba_simd.find_isa() is not None, os.environ.get("FASTNN_GEMM", "")
    if choice not in ("", *_MODULES):
        raise SettingError(f"FASTNN_GEMM must be simd or blas, got {choice!r}")
    if choice == "simd" and not known:
        raise SettingError("FASTNN_GEMM=simd: fastnn has no vector instructions for this CPU; use blas")
    return choice or ("simd" if known else "blas")


def load(dtype: np.dtype[Any], longest: int, precision: str | None = None) -> Products:
    """Compile the products for matrices of `dtype` with no dimension above `longest`."""
    choice = choose(precision)
    module = (_MODULES | PRECISE_PRODUCTS)[choice]
    functions = module.multiply, module.multiply_transposed
    multiply, transposed = (compile_for_c(function, _SIGNATURE, dtype).address for function in functions)
    return Products(multiply, transposed, choice != "blas", module.scratch_size(longest, dtype.itemsize))


@inline
def product(function, alpha, A, transpose_a, B, depth, beta, C, rows, columns, scratch):
    """Call a product by its address; A transposed if so flagged."""
    a_row, a_step = (1, A.shape[1]) if transpose_a else (A.shape[1], 1)
    left, right = (address_of(A), a_row, a_step), (address_of(B), B.shape[1])
    result = (address_of(C), C.shape[1], *rows, *columns)
    call(function, (np.float64(alpha), *left, *right, depth, np.float64(beta), *result, address_of(scratch)))
