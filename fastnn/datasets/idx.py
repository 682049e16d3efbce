"""The IDX format of MNIST: two zero bytes, a type code, the number of dimensions, their lengths, then the elements."""

import hashlib
import math
import os
import struct
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.datasets.streams import DEFAULT_LIMIT_BYTES, Stream, check_unpacked_size, fill, opened
from fastnn.errors import FileFormatError

__all__ = ["content_sha256", "read_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMENSIONS = 32  # what every supported numpy can represent


def read_idx(path: str | os.PathLike[str], limit_bytes: int = DEFAULT_LIMIT_BYTES) -> npt.NDArray[Any]:
    """Read an IDX file, gzipped or not (told by its first bytes, not by its name).

    The elements are streamed straight into the array that is returned, so the peak memory is that one array and a
    small buffer, whatever the file claims.

    Parameters
    ----------
    path : str or path
        The file.
    limit_bytes : int, optional
        The most bytes of elements to accept.

    Returns
    -------
    numpy.ndarray
        C-contiguous, in the machine's byte order: uint8, int8, int16, int32, float32 or float64.

    Raises
    ------
    FileFormatError
        Foreign, truncated, damaged, empty or too large.
    DatasetUnavailableError
        The file does not exist or cannot be read.

    References
    ----------
    LeCun, Cortes, Burges: "The MNIST database of handwritten digits", section "File formats".
    """
    with opened(path, "an intact IDX file, plain or gzip") as (stream, size):
        dtype, shape = _read_header(path, stream)
        content = math.prod(shape, start=dtype.itemsize)
        check_unpacked_size(path, content, size, limit_bytes)
        array = np.empty(shape, dtype)
        done = fill(stream, array)
    if done != content:
        state = "truncated" if done < content else "followed by bytes that do not belong to it"
        raise FileFormatError(
            f"{path}: expected {content:,} bytes of elements for the shape {shape}, found "
            f"{'' if done < content else 'at least '}{done:,}; the file is {state}: fetch it anew"
        )
    if dtype.itemsize > 1 and sys.byteorder == "little":
        array.byteswap(inplace=True)  # in place: a second copy would double the peak memory
    return array.view(dtype.newbyteorder("="))


def content_sha256(array: npt.NDArray[np.uint8]) -> str:
    """SHA-256 (hex) of the unpacked IDX file that holds `array`, a C-contiguous uint8 array.

    It needs no second reading of the file: the header of an IDX file follows from the array.
    """
    digest = hashlib.sha256(struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape))
    digest.update(array.reshape(-1).data)
    return digest.hexdigest()


def _read_header(path: object, stream: Stream) -> tuple[np.dtype[Any], tuple[int, ...]]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _DTYPES:
        found = f"the first bytes {start!r}" if start else "no content"
        raise FileFormatError(
            f"{path}: expected an IDX file (two zero bytes, then a type code of "
            f"{', '.join(f'{code:#04x}' for code in _DTYPES)}), found {found}; fetch the file anew"
        )
    dimensions = start[3]
    if not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise FileFormatError(
            f"{path}: expected 1 to {_MAX_DIMENSIONS} dimensions, found {dimensions}; fetch the file anew"
        )
    lengths = stream.read(4 * dimensions)
    if len(lengths) < 4 * dimensions:
        raise FileFormatError(
            f"{path}: expected a header of {4 + 4 * dimensions} bytes, found {4 + len(lengths)}; "
            "the file is truncated: fetch it anew"
        )
    shape = struct.unpack(f">{dimensions}I", lengths)
    if 0 in shape:
        raise FileFormatError(f"{path}: expected at least one element, found the shape {shape}; fetch the file anew")
    return np.dtype(_DTYPES[start[2]]), shape
