"""Deformed images for the numba kernels: a C function for one image, called by address.

So the compiled step does not grow for those who deform nothing; the function is compiled when it is first asked for.
"""

from typing import Any

import numpy as np
from numba.core import types
from numba.np.numpy_support import carray

from fastnn.kernels.numba_cache import compile, compile_for_c
from fastnn.kernels.numba_intrinsics import pointer_to
from fastnn.kernels.numba_random import philox

__all__ = ["load_deform"]

source = real = np.float32
"""The types of the given and of the deformed pixels, in whose places the function is compiled for others."""


def load_deform(source_dtype: np.dtype[Any], dtype: np.dtype[Any]) -> int:
    number, place = types.float64, types.intp
    signature = types.void(place, place, number, number, *[place] * 9)
    names = {"source": source_dtype.type}
    address: int = compile_for_c(_deform_image, signature, dtype, source_dtype.name, lambda: names).address
    return address


def _deform_image(x, sample, scale, shift, out, ranges, stream, nodes_y, h, row_basis, nodes_x, w, column_basis):
    x, out = carray(pointer_to(x), (h, w), dtype=source), carray(pointer_to(out), (h, w), dtype=real)
    ranges, stream = carray(pointer_to(ranges), 5, np.float64), carray(pointer_to(stream), 3, np.uint32)
    row_basis = carray(pointer_to(row_basis), (nodes_y, h), dtype=np.float32)
    column_basis = carray(pointer_to(column_basis), (nodes_x, w), dtype=np.float32)
    scale, shift, words = real(scale), real(shift), np.empty(8 + 2 * nodes_y * nodes_x, np.uint32)
    nodes, in_row = np.empty((nodes_y, 2 * nodes_x), np.float32), np.empty(2 * nodes_x, np.float32)
    affine, place = np.empty((2, w), np.float32), np.empty((2, w), np.float32)
    image = np.zeros(h * w + w + 1, real)  # the last zeros are read, and multiplied by 0
    _draw_words(sample, stream, words)
    matrix, to_x, to_y = _draw_affine_map(words, ranges)
    _draw_nodes(words, np.float32(ranges[4] / 65535.0), nodes)
    for i in range(h):
        for j in range(w):
            image[i * w + j] = real(x[i, j])
    for j in range(w):
        across = j - (w - 1) / 2.0 - to_x
        affine[0, j], affine[1, j] = np.float32(matrix[0] * across), np.float32(matrix[2] * across)
    for i in range(h):
        down = i - (h - 1) / 2.0 - to_y
        start_x, start_y = np.float32(matrix[1] * down + (w - 1) / 2.0), np.float32(matrix[3] * down + (h - 1) / 2.0)
        _displace(row_basis[:, i], nodes, column_basis, in_row, place)
        for j in range(w):
            px, py = (affine[0, j] + start_x) + place[0, j], (affine[1, j] + start_y) + place[1, j]
            px = min(max(px, np.float32(0)), np.float32(w - 1))
            py = min(max(py, np.float32(0)), np.float32(h - 1))
            left, top = np.int32(px), np.int32(py)
            right_of, below = real(px - np.float32(left)), real(py - np.float32(top))
            k = top * np.int32(w) + left
            upper = image[k] + right_of * (image[k + 1] - image[k])
            lower = image[k + w] + right_of * (image[k + w + 1] - image[k + w])
            out[i, j] = (upper + below * (lower - upper)) * scale + shift


@compile
def _draw_words(sample, stream, words):
    for group in range((words.size + 3) // 4):
        four = philox(group, sample, 0xFFFFFFFF, stream)
        for j in range(min(4, words.size - 4 * group)):
            words[4 * group + j] = np.uint32(four[j])


@compile
def _draw_affine_map(words, ranges):
    """Elements of S^-1 K^-1 R^-1 by rows, for (x, y), and the translation of x and y."""
    unit = 2.0**-31
    angle, shear = ranges[0] * (words[0] * unit - 1.0), ranges[2] * (words[3] * unit - 1.0)
    in_x, in_y = 1.0 + ranges[1] * (words[1] * unit - 1.0), 1.0 + ranges[1] * (words[2] * unit - 1.0)
    to_x, to_y = ranges[3] * (words[4] * unit - 1.0), ranges[3] * (words[5] * unit - 1.0)
    sine, cosine, square = 1.0, 1.0, angle * angle
    for k in range(12, 0, -1):  # Taylor's series: the same in all libraries
        sine = 1.0 - square / (2.0 * k * (2.0 * k + 1.0)) * sine
        cosine = 1.0 - square / (2.0 * k * (2.0 * k - 1.0)) * cosine
    sine *= angle
    x = (cosine + shear * sine) / in_x, (sine - shear * cosine) / in_x
    return (*x, -sine / in_y, cosine / in_y), to_x, to_y


@compile
def _draw_nodes(words, unit, nodes):
    """Those for x in the first half of the columns, those for y in the second."""
    nodes_x = nodes.shape[1] // 2
    for i in range(nodes.shape[0]):
        for j in range(nodes_x):
            for axis in range(2):
                word = np.int64(words[8 + (axis * nodes.shape[0] + i) * nodes_x + j])
                nodes[i, axis * nodes_x + j] = np.float32((word & 0xFFFF) + (word >> 16) - 65535) * unit


@compile
def _displace(weights, nodes, column_basis, in_row, place):
    """The elastic displacement (2, w) of a row of pixels, for which the rows of nodes count so much."""
    nodes_x = column_basis.shape[0]
    for k in range(2 * nodes_x):
        in_row[k] = np.float32(0)
    for n in range(nodes.shape[0]):
        for k in range(2 * nodes_x):
            in_row[k] += weights[n] * nodes[n, k]
    for j in range(place.shape[1]):
        place[0, j], place[1, j] = np.float32(0), np.float32(0)
    for n in range(nodes_x):
        for j in range(place.shape[1]):
            place[0, j] += in_row[n] * column_basis[n, j]
            place[1, j] += in_row[nodes_x + n] * column_basis[n, j]
