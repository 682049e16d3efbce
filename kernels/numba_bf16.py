"""Matrix products in bfloat16: the operands are rounded to it as they are packed, sums and results are float32.

AVX512-BF16's ``vdpbf16ps`` multiplies pairs: each 32-bit lane of an operand holds elements k and k + 1, and their two
products are added to the accumulator. So the tile of `numba_simd` serves as it is, over half as many steps, with that
instruction in place of multiply-add; a pair travels as the bits of a float32. It runs at twice float32's rate (Zen 4:
230 and 115 GFLOP/s a core), of which packing takes a part: everything is packed, each time.

What training in bfloat16 with float32 master weights does to accuracy: D. Kalamkar et al., "A study of BFLOAT16 for
deep learning training", arXiv:1905.12322 (2019), section 3.
"""

import numpy as np
from llvmlite import binding, ir
from numba.core import types

from fastnn.kernels.numba_cache import inline
from fastnn.kernels.numba_intrinsics import emits
from fastnn.kernels.numba_simd import ISA, ROWS, VECTORS, Vectors, has_features, make_tile, transpose_block

LANES = 16
_CHUNK = 256  # rows of A that are packed at a time

real, size = np.float32, 4
"""The matrices' type and its bytes; see `numba_simd`. There is no other here."""


def is_available() -> bool:
    """Whether this CPU has the instructions."""
    return ISA.name == "AVX-512" and has_features("avx512bf16", "avx512bw")


def scratch_size(longest: int, itemsize: int) -> int:
    """Elements of scratch that products with no dimension above `longest` need."""
    pairs = -(-longest // (2 * LANES)) * LANES
    return pairs * (_CHUNK + 2 * VECTORS * LANES + ROWS)


# ---- the loops around the tile --------------------------------------------------------------------------------------


def multiply(alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch):
    alpha, beta = real(alpha), real(beta)
    pairs = (depth + 2 * LANES - 1) // (2 * LANES) * LANES
    panel = scratch + _CHUNK * pairs * size
    while row < last_row:
        stop = min(last_row, row + _CHUNK)
        by_columns = a_step > 1  # A is a transposed matrix: its pairs lie in two rows of that
        for i in range(row, stop, ROWS):
            target = scratch + (i - row) * pairs * size
            if by_columns:
                _pack_transposed_rows(a + i * size, a_step, depth, min(ROWS, stop - i), target)
            else:
                for j in range(i, min(i + ROWS, stop)):
                    _pack_row(a + j * a_row * size, depth, target + (j - i) * pairs * size)
        strides = (1, ROWS) if by_columns else (pairs, 1)
        for j in range(column, last_column, VECTORS * LANES):
            width = min(VECTORS * LANES, last_column - j)
            vectors = VECTORS if width > LANES else 1
            _pack_columns(b + j * size, b_row, depth, width, panel, vectors)
            for i in range(row, stop, ROWS):
                left, c_tile = scratch + (i - row) * pairs * size, c + (i * c_row + j) * size
                right = panel, vectors * LANES
                _tile(vectors, (depth + 1) // 2, left, *strides, *right, c_tile, c_row, alpha, beta, stop - i, width)
        row = stop


def multiply_transposed(
    alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch
):
    """As in `numba_simd`: computed as the transpose."""
    alpha, beta = real(alpha), real(beta)
    pairs = (depth + 2 * LANES - 1) // (2 * LANES) * LANES
    panel = scratch + VECTORS * LANES * pairs * size
    block = panel + VECTORS * LANES * pairs * size
    while row < last_row:
        width = min(VECTORS * LANES, last_row - row)
        vectors = VECTORS if width > LANES else 1
        for i in range(vectors * LANES):
            _pack_row(a + (row + min(i, width - 1)) * a_row * size, depth, scratch + i * pairs * size)
        for i in range(0, vectors * LANES, ROWS):
            for k in range(0, pairs, LANES):
                source = scratch + (i * pairs + k) * size
                transpose_block(source, pairs, panel + (k * vectors * LANES + i) * size, vectors * LANES, alpha)
        for j in range(column, last_column, ROWS):
            rows = min(ROWS, last_column - j)
            for i in range(ROWS):
                _pack_row(b + (j + min(i, rows - 1)) * b_row * size, depth, block + i * pairs * size)
            operands, c_tile = (block, pairs, 1, panel, vectors * LANES), c + (row * c_row + j) * size
            _transposed_tile(vectors, (depth + 1) // 2, *operands, c_tile, c_row, alpha, beta, rows, width)
        row += width


@inline
def _pack_row(source, depth, target):
    """`depth` neighbours as pairs, filled up with zeros to whole vectors."""
    for k in range(0, depth, 2 * LANES):
        first = source + k * size
        _pair_neighbours(first, first + LANES * size, depth - k, depth - k - LANES, target + k // 2 * size)


@inline
def _pack_columns(b, b_row, depth, width, panel, vectors):
    """Rows k and k + 1 of B as pairs, filled up with zeros to whole vectors."""
    for k in range(0, depth, 2):
        for j in range(0, vectors * LANES, LANES):
            source, target = b + (k * b_row + j) * size, panel + (k // 2 * vectors * LANES + j) * size
            _pair_rows(source, source + b_row * size, width - j, width - j if k + 1 < depth else 0, target)


@inline
def _pack_transposed_rows(a, a_row, depth, count, target):
    """Up to ROWS columns of A, its rows k and k + 1 as pairs."""
    for k in range(0, depth, 2):
        source = a + k * a_row * size
        second_count = count if k + 1 < depth else 0
        _pair_short_rows(source, source + a_row * size, count, second_count, target + k // 2 * ROWS * size)


# ---- LLVM code ------------------------------------------------------------------------------------------------------

binding.initialize_native_asmparser()  # the instructions are written as assembly: LLVM's names for them change


def _assemble(builder, instruction, places, result, *arguments):
    type_ = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(ir.InlineAsm(type_, instruction, places), arguments)


def _multiply_pairs(builder, x, y, z):
    return _assemble(builder, "vdpbf16ps $2, $1, $0", "=v,v,v,0", z.type, x, y, z)


_tile, _transposed_tile = make_tile(False, _multiply_pairs), make_tile(True, _multiply_pairs)


def _make_pairing(interleaved, kept):
    """Loads `count` floats at one address and `second_count` at another, and stores `kept` pairs of them rounded.

    A pair is two neighbours, or if `interleaved` an element of each.
    """

    @emits(types.void)
    def pair(builder, first, second, count, second_count, target):
        v = Vectors(builder, ir.FloatType())
        low, high = (v.load_some(at, v.mask(LANES, n), v.zeros) for at, n in ((first, count), (second, second_count)))
        halves = ir.VectorType(ir.IntType(16), 2 * LANES)
        rounded = _assemble(builder, "vcvtne2ps2bf16 $1, $2, $0", "=v,v,v", halves, low, high)
        if interleaved:
            rounded = v.pick(rounded, rounded, [i for lane in range(LANES) for i in (lane, LANES + lane)])
        v.store(v.pick(builder.bitcast(rounded, v.type), v.undefined, list(range(kept))), target)

    return pair


_pair_neighbours, _pair_rows, _pair_short_rows = (
    _make_pairing(interleaved, kept) for interleaved, kept in ((False, LANES), (True, LANES), (True, ROWS))
)
