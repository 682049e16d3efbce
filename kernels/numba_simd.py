"""Matrix products of vector instructions: a register tile written as LLVM code, and the loops around it.

The tile keeps ROWS x VECTORS accumulators in registers. For each k it loads VECTORS vectors of B, broadcasts ROWS
elements of A and multiplies them into the accumulators; so both operands are read straight from where they lie, A at
any strides, B by rows. Then it writes ``C = alpha * A @ B + beta * C``, or ``C = (A @ B).T``, transposed in registers.
Each element of C is one sum in the order of k, whichever tile and thread computes it: the result does not depend on the
number of threads.

After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008), and F. Van
Zee and R. van de Geijn, "BLIS", ACM TOMS 41 (2015); their packing of whole operands is left out, because at the sizes
of these networks it cost more than it gained: B is packed only where it does not fill its last vector.
"""

import contextlib
import functools
import platform
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target

from fastnn.kernels.numba_cache import inline
from fastnn.kernels.numba_intrinsics import ARM, I32, I64, X86, call_llvm, emit_prefetch, emits, prefetch


class CpuIsa(NamedTuple):
    """The vector instructions of a CPU, and the tile that suits them."""

    name: str
    machines: tuple[str, ...]  # as `platform.machine` has them
    features: tuple[str, ...]  # as LLVM names them
    vector_bytes: int
    rows: int  # a power of two: the tile is transposed by interleaving
    vectors: int
    fma: bool  # has a fused multiply-add


CPU_ISAS = (
    # The accumulators have to hide the latency of a multiply-add (4 cycles, 2 units: 8 chains) and to fit the registers
    # together with a row of B and one element of A. The first that the CPU has is taken.
    CpuIsa("AVX-512", X86, ("avx512f",), 64, 8, 2, True),  # 16 of 32 registers; 8 x 3, 12 x 2, 16 x 1 were no faster
    CpuIsa("AVX2", X86, ("avx2", "fma"), 32, 4, 3, True),  # 12 of 16; 103 GFLOP/s, 6 x 2 98, 4 x 2 88, 2 x 4 84
    CpuIsa("SSE2", X86, ("sse2",), 16, 4, 2, False),  # 8 of 16 registers
    CpuIsa("NEON", ARM, ("neon",), 16, 8, 2, True),  # 16 of 32 registers: up to 4 units
)


def has_features(*names: str) -> bool:
    """Whether the CPU that numba compiles for has all of these, by LLVM's names."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    has = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    has |= {"neon"} if platform.machine().lower() in ARM else set()  # every 64-bit ARM has it
    return has.issuperset(names)


def find_isa() -> CpuIsa | None:
    """The table's entry for the CPU that numba compiles for; None if there is none."""
    machine = platform.machine().lower()
    return next((isa for isa in CPU_ISAS if machine in isa.machines and has_features(*isa.features)), None)


ISA = find_isa() or CPU_ISAS[-1]
ROWS, VECTORS, VECTOR_BYTES = ISA.rows, ISA.vectors, ISA.vector_bytes

real, size = np.float32, 4
"""The matrices' type and its bytes: `multiply` and `multiply_transposed` are compiled for each, with those in place."""


# ---- the loops around the tile --------------------------------------------------------------------------------------
#
# Matrices are given by address and strides, in elements, so that they can be called as C functions: see
# `numba_products`, which says what the arguments are.


def scratch_size(longest: int, itemsize: int) -> int:
    """Elements of scratch that products with no dimension above `longest` need."""
    return longest * (VECTORS * VECTOR_BYTES // itemsize + ROWS)


def multiply(alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch):
    alpha, beta = real(alpha), real(beta)
    lanes = VECTOR_BYTES // size
    remainder = scratch + VECTORS * lanes * depth * size
    whole_rows = last_row - (last_row - row) % ROWS
    if whole_rows < last_row:
        _pack_rows(a + whole_rows * a_row * size, a_row, a_step, depth, last_row - whole_rows, remainder, alpha, size)
    while column < last_column:
        width = min(VECTORS * lanes, last_column - column)
        vectors = VECTORS if width > lanes else 1
        panel, panel_row = b + column * size, b_row
        if width < vectors * lanes:
            panel, panel_row = scratch, vectors * lanes
            _pack_columns(b + column * size, b_row, depth, width, panel, panel_row, alpha, size)
        blocks = (last_row - row + ROWS - 1) // ROWS
        for i in range(row, last_row, ROWS):
            if column + width < last_column:
                _prefetch_part(b + (column + width) * size, b_row, depth, (i - row) // ROWS, blocks, size)
            left = (a + i * a_row * size, a_row, a_step) if i < whole_rows else (remainder, 1, ROWS)
            c_tile = c + (i * c_row + column) * size
            tile(vectors, depth, *left, panel, panel_row, c_tile, c_row, alpha, beta, last_row - i, width)
        column += width


def multiply_transposed(
    alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch
):
    """Computed as the transpose, ``B @ A.T``: of the two operands A is the smaller one, so it is packed."""
    alpha, beta = real(alpha), real(beta)
    lanes = VECTOR_BYTES // size
    remainder = scratch + VECTORS * lanes * depth * size
    whole_columns = last_column - (last_column - column) % ROWS
    if whole_columns < last_column:
        count = last_column - whole_columns
        _pack_rows(b + whole_columns * b_row * size, b_row, 1, depth, count, remainder, alpha, size)
    while row < last_row:
        width = min(VECTORS * lanes, last_row - row)
        vectors = VECTORS if width > lanes else 1
        panel_row = vectors * lanes
        _pack_transposed(a + row * a_row * size, a_row, depth, width, scratch, panel_row, alpha, size)
        for i in range(column, last_column, ROWS):
            left = (b + i * b_row * size, b_row, 1) if i < whole_columns else (remainder, 1, ROWS)
            c_tile, count = c + (row * c_row + i) * size, last_column - i
            transposed_tile(vectors, depth, *left, scratch, panel_row, c_tile, c_row, alpha, beta, count, width)
        row += width


@inline
def _prefetch_part(b, b_row, depth, part, parts, size):
    """Prefetch a part of the next panel of B; without that the first tile on it waits for each row.

    With the prefetch of A, 784-512-512-512-10 takes 1 to 3 % less time at batch 256 (three interleaved runs).
    """
    for k in range(depth * part // parts, depth * (part + 1) // parts):
        for line in range(0, VECTORS * VECTOR_BYTES, 64):
            prefetch(b + k * b_row * size + line)


@inline
def _pack_rows(a, a_row, a_step, depth, count, target, like, size):
    """The last rows of A, fewer than a tile's, as the tile reads them, filled up with rows of zeros."""
    for k in range(depth):
        for i in range(ROWS):
            copy_or_zero(a + (i * a_row + k * a_step) * size, target + (k * ROWS + i) * size, i < count, like)


@inline
def _pack_columns(b, b_row, depth, width, panel, panel_row, like, size):
    """Columns of B, filled up with zeros to whole vectors."""
    lanes = VECTOR_BYTES // size
    for k in range(depth):
        for j in range(0, panel_row, lanes):
            copy_some(b + (k * b_row + j) * size, panel + (k * panel_row + j) * size, width - j, like)


@inline
def _pack_transposed(a, a_row, depth, count, panel, panel_row, like, size):
    """Rows of A as columns, filled up with zeros to whole vectors."""
    lanes = VECTOR_BYTES // size
    whole_rows, whole_depth = count - count % ROWS, depth - depth % lanes
    for i in range(0, whole_rows, ROWS):
        for k in range(0, whole_depth, lanes):
            transpose_block(a + (i * a_row + k) * size, a_row, panel + (k * panel_row + i) * size, panel_row, like)
    for i in range(panel_row):
        for k in range(whole_depth if i < whole_rows else 0, depth):
            copy_or_zero(a + (i * a_row + k) * size, panel + (k * panel_row + i) * size, i < count, like)


# ---- LLVM code ------------------------------------------------------------------------------------------------------


class Vectors:
    """Writes vector instructions for one element type."""

    def __init__(self, builder, scalar):
        self.builder, self.scalar = builder, scalar
        self.size = 4 if isinstance(scalar, ir.FloatType) else 8
        self.lanes = VECTOR_BYTES // self.size
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.undefined, self.zeros = ir.Constant(self.type, ir.Undefined), ir.Constant(self.type, [0.0] * self.lanes)

    def offset(self, address, elements, stride=1):
        """Address of an element; each of the numbers a value or an int."""
        elements, stride = (I64(n) if isinstance(n, int) else n for n in (elements, stride))
        elements = self.builder.mul(stride, elements)
        return self.builder.add(address, self.builder.mul(elements, I64(self.size)))

    def load(self, address, of=None):
        value = self.builder.load(self.builder.inttoptr(address, (of or self.type).as_pointer()))
        value.align = self.size
        return value

    def store(self, value, address):
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = self.size

    def splat(self, value):
        """A vector of one value."""
        return self.pick(self.builder.insert_element(self.undefined, value, I32(0)), self.undefined, [0] * self.lanes)

    def pick(self, first, second, indices):
        return self.builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(I32, len(indices)), indices))

    def multiply_add(self, x, y, z):
        if not ISA.fma:
            return self.builder.fadd(self.builder.fmul(x, y), z)
        return call_llvm(self.builder, f"llvm.fma.v{self.lanes}f{8 * self.size}", self.type, x, y, z)

    def mask(self, lanes, count):
        """Which of the first `lanes` are below the value `count`."""
        undefined = ir.Constant(ir.VectorType(I64, lanes), ir.Undefined)
        counts = self.pick(self.builder.insert_element(undefined, count, I32(0)), undefined, [0] * lanes)
        return self.builder.icmp_signed("<", ir.Constant(undefined.type, list(range(lanes))), counts)

    def load_some(self, address, mask, otherwise):
        """A vector of the elements that the mask has, and of those of `otherwise`; no other memory is touched."""
        arguments = self.builder.inttoptr(address, self.type.as_pointer()), I32(self.size), mask, otherwise
        name = f"llvm.masked.load.v{self.lanes}f{8 * self.size}.p0"
        return call_llvm(self.builder, name, self.type, *arguments)

    def store_some(self, value, address, mask):
        pointer = self.builder.inttoptr(address, value.type.as_pointer())
        name = f"llvm.masked.store.v{value.type.count}f{8 * self.size}.p0"
        call_llvm(self.builder, name, ir.VoidType(), value, pointer, I32(self.size), mask)

    def transpose(self, rows):
        """(index, first row, vector) of the pieces of the columns of a matrix; `rows` are ROWS vectors.

        Interleaving the first half of the elements with the second moves row i, column j to place 2j + i of two rows;
        doing so once for each doubling of the rows transposes them all.
        """
        half = self.lanes // 2
        low, high = ([j for i in range(s, s + half) for j in (i, self.lanes + i)] for s in (0, half))
        for _ in range(ROWS.bit_length() - 1):
            pairs = zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True)
            rows = [self.pick(x, y, order) for x, y in pairs for order in (low, high)]
        length = min(ROWS, self.lanes)
        for place in range(0, ROWS * self.lanes, length):
            vector, start = rows[place // self.lanes], place % self.lanes
            yield place // ROWS, place % ROWS, self.pick(vector, self.undefined, list(range(start, start + length)))


def make_tile(transposed, multiply_add=None):
    """A tile of ROWS x `vectors` vectors, VECTORS or 1: ``C = alpha * A @ B + beta * C``, or ``C = (A @ B).T``.

    All addresses are integers, strides are in elements. Of C only `rows` x `columns` are read and written; of A and B
    the whole tile's are read. `multiply_add` writes another instruction for the accumulation than the usual one.
    """

    def write(vectors, builder, depth, a, a_row, a_step, b, b_step, c, c_row, alpha, beta, rows, columns):
        v = Vectors(builder, alpha.type)
        accumulate = functools.partial(multiply_add, builder) if multiply_add else v.multiply_add
        sums = [[cgutils.alloca_once(builder, v.type) for _ in range(vectors)] for _ in range(ROWS)]
        for place in (place for row in sums for place in row):
            builder.store(v.zeros, place)
        if not transposed:  # C is needed after the loop, and often comes from the L3 cache
            for i in range(ROWS):
                for j in range(vectors):
                    emit_prefetch(builder, v.offset(v.offset(c, i, c_row), j * v.lanes), write=True)
        with cgutils.for_range(builder, depth) as loop:
            row, column = v.offset(b, loop.index, b_step), v.offset(a, loop.index, a_step)
            if not transposed:  # where A is a transposed matrix, this is what the tile after the next begins with
                emit_prefetch(builder, builder.add(column, I64(64)), write=False)
            of_b = [v.load(v.offset(row, j * v.lanes)) for j in range(vectors)]
            for i in range(ROWS):
                of_a = v.splat(v.load(v.offset(column, i, a_row), v.scalar))
                for j, place in enumerate(sums[i]):
                    builder.store(accumulate(of_a, of_b[j], builder.load(place)), place)
        full = builder.and_(
            builder.icmp_signed(">=", rows, I64(ROWS)), builder.icmp_signed(">=", columns, I64(vectors * v.lanes))
        )
        write_result = _write_transposed if transposed else _write_straight
        with builder.if_else(full, likely=True) as (then, otherwise):
            with then:
                write_result(v, sums, c, c_row, alpha, beta, None, None)
            with otherwise:
                write_result(v, sums, c, c_row, alpha, beta, rows, columns)

    @emits(types.void)
    def tile(builder, vectors, depth, a, a_row, a_step, b, b_step, c, c_row, alpha, beta, rows, columns):
        rest = depth, a, a_row, a_step, b, b_step, c, c_row, alpha, beta, rows, columns
        with builder.if_else(builder.icmp_signed(">", vectors, I64(1))) as (wide, narrow):
            with wide:
                write(VECTORS, builder, *rest)
            with narrow:
                write(1, builder, *rest)

    return tile


def _write_straight(v, sums, c, c_row, alpha, beta, rows, columns):
    """From the accumulators to C; only `rows` x `columns` of it unless they are None."""
    builder = v.builder
    alphas, betas = v.splat(alpha), v.splat(beta)
    keep = builder.fcmp_unordered("!=", beta, ir.Constant(v.scalar, 0.0))  # if not, C is not even read: it may be NaN
    masks = [columns and v.mask(v.lanes, builder.sub(columns, I64(j * v.lanes))) for j in range(len(sums[0]))]
    with builder.if_else(keep) as branches:
        for branch, kept in zip(branches, (True, False), strict=True):
            with branch:
                for i, row in enumerate(sums):
                    with _if_below(builder, i, rows):
                        for j, place in enumerate(row):
                            address = v.offset(v.offset(c, i, c_row), j * v.lanes)
                            value, mask = builder.fmul(alphas, builder.load(place)), masks[j]
                            if kept:
                                old = v.load_some(address, mask, v.undefined) if mask else v.load(address)
                                value = v.multiply_add(betas, old, value)
                            if mask:
                                v.store_some(value, address, mask)
                            else:
                                v.store(value, address)


def _write_transposed(v, sums, c, c_row, alpha, beta, rows, columns):
    """The same for the transposed tile, which ignores alpha and beta."""
    builder = v.builder
    for j in range(len(sums[0])):
        for column, first_row, piece in v.transpose([builder.load(row[j]) for row in sums]):
            index = j * v.lanes + column
            with _if_below(builder, index, columns):
                address = v.offset(v.offset(c, index, c_row), first_row)
                if rows is None:
                    v.store(piece, address)
                else:
                    v.store_some(piece, address, v.mask(piece.type.count, builder.sub(rows, I64(first_row))))


def _if_below(builder, index, count):
    """Where `index` is below the value `count`; everywhere if that is None."""
    return contextlib.nullcontext() if count is None else builder.if_then(builder.icmp_signed("<", I64(index), count))


tile, transposed_tile = make_tile(False), make_tile(True)


# `like` is any value of the element type; addresses are integers, strides in elements.


@emits(types.void)
def copy_or_zero(builder, source, target, copied, like):
    """One element, or 0 where it is not to be copied; then the source is not read."""
    v = Vectors(builder, like.type)
    with builder.if_else(copied) as (then, otherwise):
        with then:
            v.store(v.load(source, v.scalar), target)
        with otherwise:
            v.store(ir.Constant(v.scalar, 0.0), target)


@emits(types.void)
def copy_some(builder, source, target, count, like):
    """One vector, of which `count` elements are there; the rest becomes zeros."""
    v = Vectors(builder, like.type)
    v.store(v.load_some(source, v.mask(v.lanes, count), v.zeros), target)


@emits(types.void)
def transpose_block(builder, source, source_row, target, target_row, like):
    """ROWS rows of one vector, as columns."""
    v = Vectors(builder, like.type)
    rows = [v.load(v.offset(source, i, source_row)) for i in range(ROWS)]
    for column, first_row, piece in v.transpose(rows):
        v.store(piece, v.offset(v.offset(target, column, target_row), first_row))
