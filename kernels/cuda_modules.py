"""The variants in which the CUDA C++ sources are compiled: by type, by precision, by the tiles of matrix products.

Needs neither CuPy nor a device.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from fastnn.kernels.codes import PRECISIONS
from fastnn.kernels.cuda_source import Module, update_text
from fastnn.operations import ACTIVATIONS, LOSSES, OPTIMIZERS, Optimizer
from fastnn.operations.optimizers import SGD

__all__ = ["REALS", "TILES", "Product", "Tile", "all_modules", "choose_tile", "module"]

REALS = {"float32": "float", "float64": "double"}
_BYTES = {"float": 4, "double": 8}
_SLAB = 64  # bytes of a slab's depth: see cuda/tile.cuh


class Product(NamedTuple):
    """A matrix product of ``m x k`` and ``k x n``, and whether elements of consecutive k are neighbours in each."""

    m: int
    n: int
    k: int
    a_by_k: bool
    b_by_k: bool


class Tile(NamedTuple):
    """How a matrix product is divided over blocks, warps and stages; see cuda/tile.cuh."""

    m: int
    n: int
    warps_m: int
    warps_n: int
    slices: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_m * self.warps_n * self.slices

    def blocks(self, product: Product) -> int:
        """The number of blocks, one for each tile."""
        return math.ceil(product.m / self.m) * math.ceil(product.n / self.n)

    def shared(self, real: str, product: Product) -> int:
        """Bytes of shared memory a block: slabs of both operands in every stage; later the sums of all slices."""
        size = _BYTES[real]

        def slab(extent: int, by_k: bool) -> int:
            return extent * (_SLAB + 16) if by_k else _SLAB // size * (extent * size + 32)

        slabs = self.stages * self.slices * (slab(self.m, product.a_by_k) + slab(self.n, product.b_by_k))
        return max(slabs, self.slices * self.m * (self.n + 8) * size)

    def macros(self) -> tuple[str, ...]:
        names = ("TILE_M", "TILE_N", "WARPS_M", "WARPS_N", "SLICES", "STAGES")
        return tuple(f"{name}={value}" for name, value in zip(names, self, strict=True))


# From many small tiles, the sum of each divided over many warps, to few large ones, which read each element less often.
_TILES = (Tile(16, 16, 1, 1, 8, 4), Tile(32, 32, 1, 1, 4, 4), Tile(64, 64, 2, 2, 2, 3), Tile(128, 128, 2, 4, 1, 3))
TILES = {"float": _TILES, "double": _TILES[:3]}  # in double the sums of the largest tile do not fit the registers

# Multiply-adds of a multiprocessor in a cycle, by type or precision (H100 white paper, table of peak rates).
_RATE = {"float": 128, "double": 64, "tf32": 512, "bf16": 1024}
_EFFICIENCY = 2 / 3  # of that rate, which compiled kernels reach
_BYTES_A_CYCLE = 64  # that a multiprocessor gets from the second-level cache
_LATENCY = 800  # cycles of a read from there
_LAUNCH = 2000  # cycles for a block to start, to wait for its first slabs and to write its results


def choose_tile(product: Product, real: str, precision: str | None, multiprocessors: int) -> Tile:
    """The tile with which a product should take the fewest cycles, by a rough model.

    What the model has to get right is the size of tile that fills a device's multiprocessors.
    """

    def cycles(tile: Tile) -> float:
        depth, size = _SLAB // _BYTES[real], _BYTES[real]
        waves = math.ceil(tile.blocks(product) / multiprocessors)
        rounds = math.ceil(product.k / (tile.slices * depth))
        arithmetic = tile.m * tile.n * depth * tile.slices / (_RATE[precision or real] * _EFFICIENCY)
        transfer = (tile.m + tile.n) * depth * tile.slices * size / _BYTES_A_CYCLE
        return waves * (_LAUNCH + rounds * max(arithmetic, transfer, _LATENCY / (tile.stages - 1)))

    return min(TILES[real], key=cycles)


def module(
    file: str,
    real: str,
    precision: str | None = None,
    tile: Tile | None = None,
    cooperative: bool = False,
    update: str = "",
) -> Module:
    """A source compiled for one type; products also for a precision and a tile, optimizers for an `update`."""
    macros = (f"REAL={real}", *((precision.upper(),) if precision else ()), *(tile.macros() if tile else ()))
    return Module(file, macros, cooperative, update, (*ACTIVATIONS, *LOSSES))


def _optimizers() -> Iterator[Optimizer]:
    """The registered optimizers with their defaults, and SGD with momentum: one for each formula."""
    yield from (kind() for kind in OPTIMIZERS.values())
    yield from (SGD(momentum=0.9), SGD(momentum=0.9, nesterov=True))


def all_modules() -> Iterator[Module]:
    """All modules that may be compiled at run time."""
    for real in REALS.values():
        yield from (module(file, real) for file in ("batch.cu", "deform.cu", "loss.cu", "gradients.cu"))
        yield from (
            module("optimizers.cu", real, update=text) for text in dict.fromkeys(map(update_text, _optimizers()))
        )
        for precision in (None, *PRECISIONS) if real == "float" else (None,):
            if real == "float":
                yield module("persistent.cu", real, precision, cooperative=True)
            yield from (module("products.cu", real, precision, tile) for tile in TILES[real])
