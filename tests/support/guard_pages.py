"""Program: matrix products whose operands lie next to pages of memory that nobody may touch.

    python guard_pages.py {simd,blas,bf16} {end,begin} [fault]

All operands end (or begin) where the memory that is theirs does: to read or write one element beyond is a segmentation
fault, which is why this is a program and not a test. `test_simd` runs it; with a fault it must not survive.

It prints the vector instructions that are used and the number of products that were right.
"""

import ctypes
import itertools
import math
import mmap
import os
import resource
import sys

import numpy as np
from numba.core import types

from fastnn.kernels import numba_products, numba_simd

DIMENSIONS = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63]
SAMPLE = 150  # of all combinations of three
FAULTS = {
    "depth": "depth one larger than there is",
    "start": "A begins one element earlier than it does",
    "scratch": "one element of scratch too few",
    "share": "one column more than this member's share",
    "result": "alpha a millionth too large",
}

_libc = ctypes.CDLL(None, use_errno=True)


# ---- memory ---------------------------------------------------------------------------------------------------------


def _forbid(address):
    """Neither read nor write the page there (PROT_NONE is 0)."""
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), ctypes.c_int(0)) != 0:
        raise OSError(ctypes.get_errno(), "mprotect failed")


def allocate(shape, dtype, at_end):
    """An array that ends where a forbidden page begins, or begins where one ends."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    inner = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, inner + 2 * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    for page in (0, mmap.PAGESIZE + inner):
        _forbid(whole.ctypes.data + page)
    start = mmap.PAGESIZE + (inner - size if at_end else 0)
    return whole[start : start + size].view(dtype).reshape(shape)


def place(values, at_end):
    """A copy of an array in such memory."""
    array = allocate(values.shape, values.dtype, at_end)
    array[...] = values
    return array


# ---- one product ----------------------------------------------------------------------------------------------------


def function_at(address):
    """The C function there, with the signature that all products have."""
    c_types = {types.float64: ctypes.c_double, types.intp: ctypes.c_ssize_t}
    return ctypes.CFUNCTYPE(None, *[c_types[type_] for type_ in numba_products._SIGNATURE.args])(address)


def check(products, form, dtype, shape, alpha, beta, share, at_end, fault, rng):
    """One product of ``(m, depth) @ (depth, n)``, of which `share` (row, last_row, column, last_column) is written.

    Forms: NN; TN, where A is stored transposed; NT, where B is, and which knows neither alpha nor beta.
    """
    m, depth, n = shape
    A, B, C = (rng.standard_normal(size).astype(dtype) for size in ((m, depth), (depth, n), (m, n)))
    row, last_row, column, last_column = share
    inside = np.zeros((m, n), bool)
    inside[row:last_row, column:last_column] = True
    expected = alpha * (A.astype(np.float64) @ B.astype(np.float64)) + beta * C.astype(np.float64)
    # Each of the products is rounded, and each of the sums, at no more than the sum of all that is added.
    roundings = (depth + 4) * np.finfo(dtype).eps + products.rounding
    limit = roundings * (abs(alpha) * np.abs(A).astype(np.float64) @ np.abs(B) + np.abs(beta * C))
    if beta == 0:
        C[inside] = np.nan  # not to be read

    a = place(A.T if form == "TN" else A, at_end)
    b = place(B.T if form == "NT" else B, at_end)
    c = place(C, at_end)
    scratch = place(np.full(products.scratch(dtype, max(shape)) - (fault == "scratch"), np.nan, dtype), at_end)
    a_row, a_step = (1, m) if form == "TN" else (depth, 1)
    start = a.ctypes.data - (a.itemsize if fault == "start" else 0)
    products.function(dtype, form)(
        *(alpha * (1 + 1e-6 * (fault == "result")), start, a_row, a_step),
        *(b.ctypes.data, b.shape[1], depth + (fault == "depth"), beta, c.ctypes.data, n),
        *(row, last_row, column, last_column + (fault == "share"), scratch.ctypes.data),
    )
    what = f"{form} {np.dtype(dtype)} {shape}, alpha {alpha}, beta {beta}, share {share}"
    assert c[~inside].tobytes() == C[~inside].tobytes(), f"{what}: wrote outside its share"
    error = np.abs(c.astype(np.float64) - expected)[inside]
    assert (error <= limit[inside]).all(), f"{what}: off by {error.max()}"


class Products:
    """The functions of one kind of products, as Python can call them."""

    def __init__(self, kind):
        self.kind = kind
        self.dtypes = [np.float32] if kind == "bf16" else [np.float32, np.float64]
        self.rounding = 2.0**-7 if kind == "bf16" else 0.0  # of the operands themselves: half a unit of 8 bits, each
        self._functions = {}
        if kind != "bf16":
            os.environ["FASTNN_GEMM"] = kind

    def _load(self, dtype, longest):
        return numba_products.load(np.dtype(dtype), longest, "bf16" if self.kind == "bf16" else None)

    def scratch(self, dtype, longest):
        return self._load(dtype, longest).scratch

    def function(self, dtype, form):
        if (dtype, form) not in self._functions:
            loaded = self._load(dtype, 1)
            address = loaded.multiply_transposed if form == "NT" else loaded.multiply
            self._functions[dtype, form] = function_at(address)
        return self._functions[dtype, form]

    def draw_share(self, rng, m, n):
        """All of C half of the time, else a part that may be empty; the BLAS shares with nobody."""
        if self.kind == "blas" or rng.random() < 0.5:
            return 0, m, 0, n
        return *sorted(rng.integers(0, m + 1, 2).tolist()), *sorted(rng.integers(0, n + 1, 2).tolist())


# ---- all of them ----------------------------------------------------------------------------------------------------


def draw_cases(products, rng):
    """(form, alpha, beta, shape, share)"""
    shapes = list(itertools.product(DIMENSIONS, repeat=3))
    factors = [("NN", 1.0, 0.0), ("NT", 1.0, 0.0), ("TN", 1.0, 0.0), ("TN", -0.3, 1.0), ("TN", 0.7, 0.5)]
    factors += [("NN", -0.3, 1.0), ("NN", 0.7, 0.5)]
    for i in rng.choice(len(shapes), SAMPLE, replace=False):
        m, _, n = shapes[i]
        for form, alpha, beta in factors:
            yield form, alpha, beta, shapes[i], products.draw_share(rng, m, n)


def main(kind, side, fault=None):
    assert kind in ("simd", "blas", "bf16")
    assert side in ("end", "begin")
    assert fault is None or fault in FAULTS
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a fault is expected to crash: nobody wants its memory on disk
    products, rng, count = Products(kind), np.random.default_rng(0), 0
    for dtype in products.dtypes:
        for form, alpha, beta, shape, share in draw_cases(products, rng):
            if fault == "share":
                share = (0, shape[0], 0, shape[2] - 1)
            check(products, form, dtype, shape, alpha, beta, share, side == "end", fault, rng)
            count += 1
    print(numba_simd.ISA.name, count)


if __name__ == "__main__":
    main(*sys.argv[1:])
