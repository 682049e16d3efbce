"""Arrays out of an .npz file of unknown origin: no pickle, and no more memory than the file can justify."""

import math
import os
import warnings
import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastnn.datasets.streams import DEFAULT_LIMIT_BYTES, check_unpacked_size, fill, opened
from fastnn.errors import FileFormatError

__all__ = ["read_npz"]

_ENCRYPTED = 0x1


def read_npz(
    path: str | os.PathLike[str], keys: Sequence[str] | None = None, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays `keys` out of an .npz file.

    Parameters
    ----------
    path : str or path
        The file, as ``numpy.savez`` or ``numpy.savez_compressed`` writes it.
    keys : sequence of str, optional
        The arrays to read; others in the file are left alone. Default: all.
    limit_bytes : int, optional
        The most bytes to accept for all `keys` together.

    Returns
    -------
    dict of str to numpy.ndarray
        C-contiguous arrays of booleans, integers or floats in the machine's byte order.

    Raises
    ------
    FileFormatError
        Not a zip file, damaged, too large, an array missing or of Python objects.
    DatasetUnavailableError
        The file does not exist or cannot be read.
    """
    with opened(path, "an intact .npz file") as (file, size), zipfile.ZipFile(file) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        members = {info.filename.removesuffix(".npy"): info for info in infos}
        keys = sorted(members) if keys is None else keys
        missing = [key for key in keys if key not in members]
        if missing:
            raise FileFormatError(
                f"{path}: expected the arrays {', '.join(keys)}; {', '.join(missing)} missing, found "
                f"{', '.join(sorted(members)[:20]) or 'none'}; save them with numpy.savez under those names"
            )
        check_unpacked_size(path, sum(members[key].file_size for key in keys), size, limit_bytes)
        return {key: _read_member(f"{path}[{key}]", archive, members[key], size, limit_bytes) for key in keys}


def _read_member(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo, size: int, limit: int) -> npt.NDArray[Any]:
    # bzip2 and lzma have no bounded ratio and numpy never writes them.
    if info.flag_bits & _ENCRYPTED or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise FileFormatError(
            f"{name}: expected a stored or deflated array, found an encrypted one or compression method "
            f"{info.compress_type}; save it with numpy.savez_compressed"
        )
    check_unpacked_size(name, info.file_size, min(info.compress_size, size), limit)
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(name, stream)
        content = math.prod(shape, start=dtype.itemsize)
        if stream.tell() + content != info.file_size:
            raise FileFormatError(
                f"{name}: expected {content:,} bytes of elements for the shape {shape}, found "
                f"{info.file_size - stream.tell():,}; the file is damaged: fetch it anew"
            )
        array = np.empty(shape[::-1] if fortran else shape, dtype)
        done = fill(stream, array)
    if done != content:
        raise FileFormatError(f"{name}: expected {content:,} bytes of elements, found {done:,}; fetch the file anew")
    return np.ascontiguousarray(array.T if fortran else array, dtype.newbyteorder("="))


def _read_header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise FileFormatError(f"{name}: expected .npy version 1.0 or 2.0, found {version}; save plain numeric arrays")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of headers written by Python 2, which are welcome
        try:
            shape, fortran, dtype = readers[version](stream)
        except MemoryError as error:  # Python's parser says so of brackets nested too deep
            raise ValueError("the header is too complex") from error
    if dtype.kind not in "biuf":
        raise FileFormatError(
            f"{name}: expected an array of integers or floats, found dtype {dtype}; "
            "object arrays hold pickles, which can run code, and are never read: save plain numeric arrays"
        )
    if any(length < 0 for length in shape):
        raise FileFormatError(f"{name}: expected lengths of at least 0, found the shape {shape}; fetch the file anew")
    return shape, fortran, dtype
