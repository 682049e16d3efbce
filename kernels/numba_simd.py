"""Matrix products of vector instructions: a register tile written as LLVM code, and the loops around it.

The tile keeps ROWS x VECTORS accumulators in registers. For each k it loads VECTORS vectors of B, broadcasts ROWS
elements of A and multiplies them into the accumulators; so both operands are read straight from where they lie, A at
any strides, B by rows. Then it writes ``C = alpha * A @ B + beta * C``, or its transpose, which is turned in registers.
Each element of C is one sum in the order of k, whatever the tile and whoever's share it is: the result does not depend
on the number of threads.

After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008), and F. Van
Zee and R. van de Geijn, "BLIS", ACM TOMS 41 (2015); their packing of whole operands is left out, because at the sizes
of these networks it cost more than it gained: B is packed only where it does not fill its last vector.
"""

import contextlib
import platform
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from fastnn.kernels.numba_cache import inline
from fastnn.kernels.numba_team import prefetch


class Host(NamedTuple):
    """What a tile has to suit."""

    instructions: str
    machines: tuple[str, ...]  # as `platform.machine` has them
    features: tuple[str, ...]  # as LLVM names them
    vector_bytes: int
    rows: int  # a power of two: the transposed tile is turned by interleaving
    vectors: int
    fused: bool  # multiplies and adds in one instruction


_X86, _ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
HOSTS = (
    # The accumulators have to hide the latency of a multiply-add (4 cycles, 2 units: 8 chains) and to fit the registers
    # together with a row of B and one element of A. The first that the CPU has is taken.
    Host("AVX-512", _X86, ("avx512f",), 64, 8, 2, True),  # 16 of 32 registers; 8 x 3, 12 x 2, 16 x 1 were no faster
    Host("AVX2", _X86, ("avx2", "fma"), 32, 4, 3, True),  # 12 of 16; 103 GFLOP/s, 6 x 2 98, 4 x 2 88, 2 x 4 84
    Host("SSE2", _X86, ("sse2",), 16, 4, 2, False),  # 8 of 16 registers
    Host("NEON", _ARM, ("neon",), 16, 8, 2, True),  # 16 of 32 registers: up to 4 units
)


def has_features(*names: str) -> bool:
    """Whether the CPU that numba compiles for has all of these, by LLVM's names."""
    _, _, features = cpu_target.target_context.codegen().magic_tuple()
    has = {feature[1:] for feature in features.split(",") if feature.startswith("+")}
    has |= {"neon"} if platform.machine().lower() in _ARM else set()  # every 64-bit ARM has it
    return has.issuperset(names)


def find_host() -> Host | None:
    """The table's entry for the CPU that numba compiles for; None if there is none."""
    machine = platform.machine().lower()
    return next((host for host in HOSTS if machine in host.machines and has_features(*host.features)), None)


HOST = find_host() or HOSTS[-1]
ROWS, VECTORS, VECTOR_BYTES = HOST.rows, HOST.vectors, HOST.vector_bytes

real, size = np.float32, 4
"""The matrices' type and its bytes: `multiply` and `multiply_transposed` are compiled for each, with those in place."""

_I32, _I64 = ir.IntType(32), ir.IntType(64)


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
    edge = scratch + VECTORS * lanes * depth * size
    whole_rows = last_row - (last_row - row) % ROWS
    if whole_rows < last_row:
        _pack_rows(a + whole_rows * a_row * size, a_row, a_step, depth, last_row - whole_rows, edge, alpha, size)
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
            left, apart, step = a + i * a_row * size, a_row, a_step
            if i == whole_rows:
                left, apart, step = edge, 1, ROWS
            target = c + (i * c_row + column) * size
            rows = last_row - i
            if vectors == 1:
                slim_tile(depth, left, apart, step, panel, panel_row, target, c_row, alpha, beta, rows, width)
            else:
                wide_tile(depth, left, apart, step, panel, panel_row, target, c_row, alpha, beta, rows, width)
        column += width


def multiply_transposed(
    alpha, a, a_row, a_step, b, b_row, depth, beta, c, c_row, row, last_row, column, last_column, scratch
):
    """Computed as the transpose, ``B @ A.T``: of the two operands A is the small one, which is worth turning."""
    alpha, beta = real(alpha), real(beta)
    lanes = VECTOR_BYTES // size
    edge = scratch + VECTORS * lanes * depth * size
    whole_columns = last_column - (last_column - column) % ROWS
    if whole_columns < last_column:
        _pack_rows(b + whole_columns * b_row * size, b_row, 1, depth, last_column - whole_columns, edge, alpha, size)
    while row < last_row:
        width = min(VECTORS * lanes, last_row - row)
        vectors = VECTORS if width > lanes else 1
        panel_row = vectors * lanes
        _pack_transposed(a + row * a_row * size, a_row, depth, width, scratch, panel_row, alpha, size)
        for i in range(column, last_column, ROWS):
            left, apart, step = b + i * b_row * size, b_row, 1
            if i == whole_columns:
                left, apart, step = edge, 1, ROWS
            target = c + (row * c_row + i) * size
            rows = last_column - i
            if vectors == 1:
                slim_turned_tile(depth, left, apart, step, scratch, panel_row, target, c_row, alpha, beta, rows, width)
            else:
                wide_turned_tile(depth, left, apart, step, scratch, panel_row, target, c_row, alpha, beta, rows, width)
        row += width


@inline
def _prefetch_part(b, b_row, depth, part, parts, size):
    """Have the cache fetch a part of the next panel of B: else the first tile on it waits for each row.

    With the prefetch of A, 784-512-512-512-10 takes 1 to 3 % less time at batch 256 (three interleaved runs).
    """
    for k in range(depth * part // parts, depth * (part + 1) // parts):
        for line in range(0, VECTORS * VECTOR_BYTES, 64):
            prefetch(b + k * b_row * size + line)


@inline
def _pack_rows(a, a_row, a_step, depth, count, edge, like, size):
    """The last rows of A, fewer than a tile's, as the tile reads them, with zeros for those that are not there."""
    for k in range(depth):
        for i in range(ROWS):
            target = edge + (k * ROWS + i) * size
            if i < count:
                _copy_one(a + (i * a_row + k * a_step) * size, target, like)
            else:
                _clear_one(target, like)


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
            turn_block(a + (i * a_row + k) * size, a_row, panel + (k * panel_row + i) * size, panel_row, like)
    for i in range(panel_row):
        for k in range(whole_depth if i < whole_rows else 0, depth):
            target = panel + (k * panel_row + i) * size
            if i < count:
                _copy_one(a + (i * a_row + k) * size, target, like)
            else:
                _clear_one(target, like)


# ---- LLVM code ------------------------------------------------------------------------------------------------------


class Vectors:
    """Writes vector instructions for one element type."""

    def __init__(self, builder, scalar_type):
        self.builder = builder
        self.bits = scalar_type.bitwidth
        self.size = self.bits // 8
        self.scalar = ir.FloatType() if self.bits == 32 else ir.DoubleType()
        self.lanes = VECTOR_BYTES // self.size
        self.type = ir.VectorType(self.scalar, self.lanes)
        self.undefined = ir.Constant(self.type, ir.Undefined)

    def offset(self, address, elements):
        """Address of an element; `elements` a number or a value."""
        if isinstance(elements, int):
            elements = ir.Constant(_I64, elements)
        return self.builder.add(address, self.builder.mul(elements, ir.Constant(_I64, self.size)))

    def load(self, address, of=None):
        value = self.builder.load(self.builder.inttoptr(address, (of or self.type).as_pointer()))
        value.align = self.size
        return value

    def store(self, value, address):
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = self.size

    def splat(self, value):
        """A vector of one value."""
        one = self.builder.insert_element(self.undefined, value, ir.Constant(_I32, 0))
        return self.pick(one, self.undefined, [0] * self.lanes)

    def pick(self, first, second, indices):
        return self.builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(_I32, len(indices)), indices))

    def multiply_add(self, x, y, z):
        if not HOST.fused:
            return self.builder.fadd(self.builder.fmul(x, y), z)
        name = f"llvm.fma.v{self.lanes}f{self.bits}"
        function = ir.FunctionType(self.type, [self.type] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, name), [x, y, z])

    def mask(self, lanes, count):
        """Which of the first `lanes` are below the value `count`."""
        type_ = ir.VectorType(_I64, lanes)
        one = self.builder.insert_element(ir.Constant(type_, ir.Undefined), count, ir.Constant(_I32, 0))
        counts = self.pick(one, ir.Constant(type_, ir.Undefined), [0] * lanes)
        return self.builder.icmp_signed("<", ir.Constant(type_, list(range(lanes))), counts)

    def load_some(self, address, mask, otherwise=None):
        pointer = self.type.as_pointer()
        name = f"llvm.masked.load.v{self.lanes}f{self.bits}.p0"
        function = ir.FunctionType(self.type, [pointer, _I32, mask.type, self.type])
        arguments = [
            self.builder.inttoptr(address, pointer),
            ir.Constant(_I32, self.size),
            mask,
            otherwise or self.undefined,
        ]
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, name), arguments)

    def store_some(self, value, address, mask):
        pointer = value.type.as_pointer()
        name = f"llvm.masked.store.v{value.type.count}f{self.bits}.p0"
        function = ir.FunctionType(ir.VoidType(), [value.type, pointer, _I32, mask.type])
        arguments = [value, self.builder.inttoptr(address, pointer), ir.Constant(_I32, self.size), mask]
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, name), arguments)

    def prefetch(self, address, write):
        byte = ir.IntType(8).as_pointer()
        function = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        arguments = [self.builder.inttoptr(address, byte), *(ir.Constant(_I32, n) for n in (int(write), 3, 1))]
        self.builder.call(cgutils.get_or_insert_function(self.builder.module, function, "llvm.prefetch.p0"), arguments)

    def transpose(self, rows):
        """ROWS vectors, the rows of a matrix, to the same number of vectors that hold its columns one after the other.

        Interleaving the first half of the elements with the second turns row i, column j into place 2j + i of two
        rows; doing so once for each doubling of the rows turns them all.
        """
        half = self.lanes // 2
        low, high = ([j for i in range(s, s + half) for j in (i, self.lanes + i)] for s in (0, half))
        for _ in range(ROWS.bit_length() - 1):
            pairs = zip(rows[: len(rows) // 2], rows[len(rows) // 2 :], strict=True)
            rows = [self.pick(x, y, order) for x, y in pairs for order in (low, high)]
        return rows

    def columns(self, flat):
        """(index, first row, vector) of the pieces of columns that `transpose` gave."""
        length = min(ROWS, self.lanes)
        for place in range(0, ROWS * self.lanes, length):
            vector, start = flat[place // self.lanes], place % self.lanes
            piece = self.pick(vector, self.undefined, list(range(start, start + length)))
            yield place // ROWS, place % ROWS, piece


def make_tile(vectors, turned, multiply_add=None):
    """A tile of ROWS x `vectors` vectors: ``C = alpha * A @ B + beta * C``, or `turned` ``C = (A @ B).T``.

    All addresses are integers, strides are in elements. Of C only `rows` x `columns` are read and written; of A and B
    the whole tile's are read. `multiply_add` writes another instruction for the accumulation than the usual one.
    """

    @intrinsic
    def tile(typing_context, depth, a, a_row, a_step, b, b_step, c, c_row, alpha, beta, rows, columns):
        whole = types.intp
        signature = types.void(*[whole] * 8, alpha, alpha, whole, whole)

        def generate(context, builder, signature, arguments):
            depth, a, a_row, a_step, b, b_step, c, c_row, alpha, beta, rows, columns = arguments
            v = Vectors(builder, signature.args[8])
            sums = [[cgutils.alloca_once(builder, v.type) for _ in range(vectors)] for _ in range(ROWS)]
            for place in (place for row in sums for place in row):
                builder.store(ir.Constant(v.type, [0.0] * v.lanes), place)
            full = builder.and_(
                builder.icmp_signed(">=", rows, ir.Constant(_I64, ROWS)),
                builder.icmp_signed(">=", columns, ir.Constant(_I64, vectors * v.lanes)),
            )
            places = [v.offset(c, builder.mul(c_row, ir.Constant(_I64, i))) for i in range(ROWS)]
            if not turned:
                for place in places:  # C is needed after the loop, and often comes from the L3 cache
                    for i in range(vectors):
                        v.prefetch(v.offset(place, i * v.lanes), write=True)
            with cgutils.for_range(builder, depth) as loop:
                row = v.offset(b, builder.mul(loop.index, b_step))
                column = v.offset(a, builder.mul(loop.index, a_step))
                if not turned:  # where A is a transposed matrix, this is what the tile after the next begins with
                    v.prefetch(builder.add(column, ir.Constant(_I64, 64)), write=False)
                of_b = [v.load(v.offset(row, i * v.lanes)) for i in range(vectors)]
                for i in range(ROWS):
                    of_a = v.splat(v.load(v.offset(column, builder.mul(a_row, ir.Constant(_I64, i))), v.scalar))
                    for j in range(vectors):
                        old = builder.load(sums[i][j])
                        new = (
                            multiply_add(builder, of_a, of_b[j], old)
                            if multiply_add
                            else v.multiply_add(of_a, of_b[j], old)
                        )
                        builder.store(new, sums[i][j])
            with builder.if_else(full, likely=True) as (then, otherwise):
                with then:
                    _write(v, sums, turned, c, c_row, alpha, beta, None, None)
                with otherwise:
                    _write(v, sums, turned, c, c_row, alpha, beta, rows, columns)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _write(v, sums, turned, c, c_row, alpha, beta, rows, columns):
    """From the accumulators to C; only `rows` x `columns` of it unless they are None."""
    (_write_turned if turned else _write_straight)(v, sums, c, c_row, alpha, beta, rows, columns)


def _write_straight(v, sums, c, c_row, alpha, beta, rows, columns):
    builder = v.builder
    alphas, betas = v.splat(alpha), v.splat(beta)
    keep = builder.fcmp_unordered("!=", beta, ir.Constant(v.scalar, 0.0))  # if not, C is not even read: it may be NaN
    masks = [
        columns and v.mask(v.lanes, builder.sub(columns, ir.Constant(_I64, j * v.lanes))) for j in range(len(sums[0]))
    ]
    with builder.if_else(keep) as branches:
        for branch, kept in zip(branches, (True, False), strict=True):
            with branch:
                for i, row in enumerate(sums):
                    with _if_there(builder, i, rows):
                        for j, place in enumerate(row):
                            address = v.offset(v.offset(c, builder.mul(c_row, ir.Constant(_I64, i))), j * v.lanes)
                            value = builder.fmul(alphas, builder.load(place))
                            if kept:
                                old = v.load(address) if columns is None else v.load_some(address, masks[j])
                                value = v.multiply_add(betas, old, value)
                            if columns is None:
                                v.store(value, address)
                            else:
                                v.store_some(value, address, masks[j])


def _write_turned(v, sums, c, c_row, alpha, beta, rows, columns):
    builder = v.builder
    for j in range(len(sums[0])):
        flat = v.transpose([builder.load(row[j]) for row in sums])
        for column, first_row, piece in v.columns(flat):
            index = j * v.lanes + column
            with _if_there(builder, index, columns):
                address = v.offset(v.offset(c, builder.mul(c_row, ir.Constant(_I64, index))), first_row)
                if rows is None:
                    v.store(piece, address)
                else:
                    mask = v.mask(piece.type.count, builder.sub(rows, ir.Constant(_I64, first_row)))
                    v.store_some(piece, address, mask)


@contextlib.contextmanager
def _if_there(builder, index, count):
    if count is None:
        yield
    else:
        with builder.if_then(builder.icmp_signed("<", ir.Constant(_I64, index), count)):
            yield


wide_tile, slim_tile = make_tile(VECTORS, False), make_tile(1, False)
wide_turned_tile, slim_turned_tile = make_tile(VECTORS, True), make_tile(1, True)


# `like` is any value of the element type; addresses are integers, strides in elements.


@intrinsic
def _copy_one(typing_context, source, target, like):
    def generate(context, builder, signature, arguments):
        v = Vectors(builder, signature.args[2])
        v.store(v.load(arguments[0], v.scalar), arguments[1])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, like), generate


@intrinsic
def _clear_one(typing_context, target, like):
    def generate(context, builder, signature, arguments):
        v = Vectors(builder, signature.args[1])
        v.store(ir.Constant(v.scalar, 0.0), arguments[0])
        return context.get_dummy_value()

    return types.void(types.intp, like), generate


@intrinsic
def copy_some(typing_context, source, target, count, like):
    """One vector, of which `count` elements are there; the rest becomes zeros."""

    def generate(context, builder, signature, arguments):
        source, target, count, _ = arguments
        v = Vectors(builder, signature.args[3])
        v.store(v.load_some(source, v.mask(v.lanes, count), ir.Constant(v.type, [0.0] * v.lanes)), target)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, like), generate


@intrinsic
def turn_block(typing_context, source, source_row, target, target_row, like):
    """ROWS rows of one vector, as columns."""

    def generate(context, builder, signature, arguments):
        source, source_row, target, target_row, _ = arguments
        v = Vectors(builder, signature.args[4])
        rows = [v.load(v.offset(source, builder.mul(source_row, ir.Constant(_I64, i)))) for i in range(ROWS)]
        for column, first_row, piece in v.columns(v.transpose(rows)):
            v.store(piece, v.offset(v.offset(target, builder.mul(target_row, ir.Constant(_I64, column))), first_row))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4, like), generate
