"""Predictions on numba: all layers for a few samples at a time, so that what is between them stays in the cache.

A second implementation of the forward pass of `fastnn.step`, held against it by the tests: nothing waits for anything
between two layers, and a call costs a few microseconds, because one C function is called with addresses.
"""

import functools
import itertools
import threading
from typing import Any

import numpy as np
from numba.core import types
from numba.np.numpy_support import carray

from fastnn.kernels.memory import zeros
from fastnn.kernels.numba_cache import compile, compile_for_c
from fastnn.kernels.numba_intrinsics import address_of, call, pointer_to
from fastnn.kernels.numba_products import Products, load, product

__all__ = ["make_predictor"]

source, real, size = np.float32, np.float32, 4
"""The types of the samples and of the network, in whose places the function is compiled for others."""

_ROWS = 64  # samples that go through all layers together
_TURN = 4  # times so many are what a thread takes at a time
_FEW = 4  # samples for which a product is summed up row by row of W: tiles would compute as many more again
_WORK = 20_000_000  # multiplications and additions of a call that are worth another thread: some 200 us
_HEADER, _COLUMNS = 7, 5


def _predict(x, first, last, scale, shift, description, out):
    """Samples `first` to ``last - 1``.

    The description is a row of int64: the number of layers, units of the widest, the number of samples that are few;
    the addresses of the product, of two buffers for samples that take turns, of memory for a row in float64 and for the
    product. Then for each layer n_in, n_out, the addresses of W, of b or 0, of the activation.
    """
    n_layers, widest, few, multiply, buffers, powers, scratch = carray(pointer_to(description), (1, _HEADER), np.int64)[
        0
    ]
    layers = carray(pointer_to(description + 8 * _HEADER), (n_layers, _COLUMNS), np.int64)
    tiles = carray(pointer_to(scratch), 1, dtype=real)
    n_samples, n_outputs = layers[0, 0], layers[n_layers - 1, 1]
    samples = carray(pointer_to(x), (last, n_samples), dtype=source)
    for start in range(first, last, _ROWS):
        rows = min(_ROWS, last - start)
        a = carray(pointer_to(buffers), (rows, n_samples), dtype=real)
        for i in range(rows):
            for j in range(n_samples):
                a[i, j] = real(samples[start + i, j]) * real(scale) + real(shift)
        for layer in range(n_layers):
            n_in, n_out = layers[layer, 0], layers[layer, 1]
            W = carray(pointer_to(layers[layer, 2]), (n_in, n_out), dtype=real)
            target = buffers + (layer + 1) % 2 * _ROWS * widest * size
            if layer == n_layers - 1:
                target = out + start * n_outputs * size
            z = carray(pointer_to(target), (rows, n_out), dtype=real)
            if rows <= few:
                _multiply_few(a, W, z)
            else:
                product(multiply, 1.0, a, False, W, n_in, 0.0, z, (0, rows), (0, n_out), tiles)
            for i in range(rows):
                if layers[layer, 3] != 0:
                    b = carray(pointer_to(layers[layer, 3]), n_out, dtype=real)
                    for j in range(n_out):
                        z[i, j] += b[j]
                row = address_of(z[i])
                call(layers[layer, 4], (row, row, n_out, powers))
            a = z


@compile
def _multiply_few(a, W, z):
    """Four rows of W at a time, which halves what is read and written of z for each."""
    whole = W.shape[0] // 4 * 4
    for i in range(z.shape[0]):
        row = z[i]
        for j in range(row.size):
            row[j] = 0
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            w0, w1, w2, w3 = W[k], W[k + 1], W[k + 2], W[k + 3]
            for j in range(row.size):
                row[j] += (a0 * w0[j] + a1 * w1[j]) + (a2 * w2[j] + a3 * w3[j])
        for k in range(whole, W.shape[0]):
            last, rest = a[i, k], W[k]
            for j in range(row.size):
                row[j] += last * rest[j]


_SIGNATURE = types.void(*[types.intp] * 3, types.float64, types.float64, *[types.intp] * 2)


@functools.cache
def _function(source_dtype: np.dtype[Any], dtype: np.dtype[Any]) -> Any:
    """The C function for samples and a network of these types, as ctypes calls it."""
    names = {"source": source_dtype.type}
    return compile_for_c(_predict, _SIGNATURE, dtype, source_dtype.name, lambda: names).ctypes


class _Memory:
    """What a thread works in, and where that and the layers are."""

    def __init__(self, layers: list[int], widest: int, few: int, products: Products, dtype: np.dtype[Any]) -> None:
        sizes = (2 * _ROWS * widest, dtype), (widest, np.float64), (max(1, products.scratch), dtype)
        arrays = [zeros((n,), kind) for n, kind in sizes]
        places = [array.ctypes.data for array in arrays]
        head = len(layers) // _COLUMNS, widest, few, products.multiply
        self._arrays = arrays, np.array([*head, *places, *layers], np.int64)
        self.description = self._arrays[1].ctypes.data


class make_predictor:  # noqa: N801 - a function of the kernels, whose result has to remember something
    """A function ``predict(x, scale, shift, out)`` for a network: its outputs for samples ``x * scale + shift``.

    Parameters
    ----------
    layers : fastnn.step.Layers
        Arrays that stay where they are; their values may change.
    dtype : numpy.dtype
    precision : str or None
    threads : int
        At most.
    """

    def __init__(self, layers: Any, dtype: np.dtype[Any], precision: str | None, threads: int) -> None:
        sizes = [layers.weights[0].shape[0], *(W.shape[1] for W in layers.weights)]
        self._layers, self._dtype, self._widest = layers, dtype, max(sizes)  # held, as only addresses are passed on
        self._products = load(dtype, max(_ROWS, *sizes), precision)
        self._work, self._threads = sum(W.size for W in layers.weights), threads if self._products.partitioned else 1
        rows = zip(layers.weights, layers.biases, layers.activations, strict=True)
        places = ((*W.shape, W.ctypes.data, b.ctypes.data if b.size else 0, one.value) for W, b, one in rows)
        self._places = [number for row in places for number in row]
        self._few = _FEW if precision is None else 0
        self._free: list[_Memory] = []

    def __call__(self, x: Any, scale: float, shift: float, out: Any) -> None:
        n, function = len(x), _function(x.dtype, self._dtype)
        ends = x.__array_interface__["data"][0], out.__array_interface__["data"][0]
        threads = min(self._threads, 1 + n * self._work // _WORK, -(-n // _ROWS))
        if threads == 1:
            self._run(function, ends, 0, n, scale, shift)
            return
        turns = itertools.count(0, _TURN * _ROWS)  # whoever is ready takes the next: another program may want a core

        def work() -> None:
            for first in turns:
                if first >= n:
                    return
                self._run(function, ends, first, min(n, first + _TURN * _ROWS), scale, shift)

        others = [threading.Thread(target=work, daemon=True) for _ in range(threads - 1)]
        for other in others:
            other.start()
        try:
            work()
        finally:
            for _ in turns:  # an interrupt leaves the others nothing to do
                break
            for other in others:
                other.join()

    def _run(self, function: Any, ends: tuple[int, int], first: int, last: int, scale: float, shift: float) -> None:
        try:
            memory = self._free.pop()  # atomic, as `append` is: two threads may predict at once
        except IndexError:
            memory = _Memory(self._places, self._widest, self._few, self._products, self._dtype)
        function(ends[0], first, last, scale, shift, memory.description, ends[1])
        self._free.append(memory)
