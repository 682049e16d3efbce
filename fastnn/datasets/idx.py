"""The IDX format of MNIST: two zero bytes, a type code, the number of dimensions, their lengths, then the elements."""

import contextlib
import gzip
import hashlib
import os
import struct
import sys
import zlib
from collections.abc import Iterator

import numpy as np

from fastnn.datasets.streams import DEFAULT_LIMIT_BYTES, Readable, check_unpacked_size, fill, open_regular, shape_bytes
from fastnn.errors import DatasetUnavailableError, FileFormatError

__all__ = ["content_sha256", "read_idx"]

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMENSIONS = 32  # what every supported numpy can represent


def read_idx(path: str | os.PathLike[str], limit_bytes: int = DEFAULT_LIMIT_BYTES) -> np.ndarray:
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
    file, size = open_regular(path)
    with file, _reading(path):
        packed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if not packed:
            return _read_stream(path, file, size, False, limit_bytes)
        with gzip.GzipFile(fileobj=file) as stream:
            return _read_stream(path, stream, size, True, limit_bytes)


def content_sha256(array: np.ndarray) -> str:
    """SHA-256 (hex) of the unpacked IDX file that holds `array`, a C-contiguous uint8 array.

    It needs no second reading of the file: the header of an IDX file follows from the array.
    """
    digest = hashlib.sha256(struct.pack(f">HBB{array.ndim}I", 0, 0x08, array.ndim, *array.shape))
    digest.update(array.reshape(-1).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _reading(path: object) -> Iterator[None]:
    """Turn what a damaged gzip file or a failing disk raises into the errors of this package."""
    try:
        yield
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise FileFormatError(
            f"{path}: expected an intact gzip file, found a truncated or damaged one ({error}); fetch it anew"
        ) from error
    except (FileFormatError, DatasetUnavailableError):
        raise
    except OSError as error:
        raise DatasetUnavailableError(f"cannot read {path}: {error.strerror or error}; check the disk") from error


def _read_stream(path: object, stream: Readable, size: int, packed: bool, limit: int) -> np.ndarray:
    dtype, shape, header = _read_header(path, stream)
    content = shape_bytes(shape, dtype.itemsize)
    check_unpacked_size(path, content, size, limit)
    if not packed and size != header + content:
        _refuse_length(path, shape, content, size - header)
    array = np.empty(shape, dtype)
    done = fill(stream, array)
    # One byte further: it shows trailing bytes and, at the end of a gzip file, makes the CRC be checked.
    excess = len(stream.read(1)) if done == content else 0
    if done + excess != content:
        _refuse_length(path, shape, content, done + excess)
    return _to_native(array)


def _read_header(path: object, stream: Readable) -> tuple[np.dtype, tuple[int, ...], int]:
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
    return np.dtype(_DTYPES[start[2]]), shape, 4 + len(lengths)


def _refuse_length(path: object, shape: tuple[int, ...], content: int, found: int) -> None:
    state = "truncated" if found < content else "followed by bytes that do not belong to it"
    count = f"{found:,}" if found <= content else f"at least {found:,}"
    raise FileFormatError(
        f"{path}: expected {content:,} bytes of elements for the shape {shape}, found {count}; "
        f"the file is {state}: fetch it anew"
    )


def _to_native(array: np.ndarray) -> np.ndarray:
    native = array.dtype.newbyteorder("=")
    if array.dtype.itemsize > 1 and sys.byteorder == "little":
        array.byteswap(inplace=True)  # in place: a second copy would double the peak memory
    return array.view(native)
