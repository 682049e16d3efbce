"""The IDX and npz readers: every malformed file is refused with a message, in bounded memory."""

import functools
import gzip
import hashlib
import io
import os
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from idx_files import idx_bytes, small_arrays

from fastnn.datasets import load, read_idx, read_npz
from fastnn.datasets.idx import content_sha256
from fastnn.errors import DatasetUnavailableError, FileFormatError

# ---------------------------------------------------------------- read_idx


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("code", "dtype"), [(0x08, "u1"), (0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")]
)
def test_idx_of_every_type(tmp_path, code, dtype, packed):
    array = np.arange(-6, 6).reshape(2, 3, 2).astype(dtype)
    content = idx_bytes(array, code)
    path = tmp_path / "name says nothing.txt"
    path.write_bytes(gzip.compress(content) if packed else content)
    found = read_idx(path)
    np.testing.assert_array_equal(found, array)
    assert found.dtype == np.dtype(dtype)
    assert found.dtype.isnative
    assert found.flags.c_contiguous


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_idx_truncated_at_every_byte(tmp_path, packed):
    content = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    content = gzip.compress(content) if packed else content
    path = tmp_path / "images"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(FileFormatError, match="images"):
            read_idx(path)
    path.write_bytes(content)
    assert read_idx(path).shape == (2, 3, 4)


def test_idx_gzip_with_any_bit_flipped_is_refused_or_unharmed(tmp_path):
    array = np.random.default_rng(0).integers(0, 9, (3, 5, 5), np.uint8)
    content = gzip.compress(idx_bytes(array), mtime=0)
    path = tmp_path / "images.gz"
    refused = 0
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            found = read_idx(path)
        except FileFormatError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, array)
    assert refused > 8 * (len(content) - 10)  # all but the modification time and the like in the gzip header


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no content"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "expected an IDX file"),
        (b"<!DOCTYPE html>", "<!DO"),
        (b"\0\0\x07\x01\0\0\0\x01\0", "type code"),
        (b"\0\x01\x08\x01\0\0\0\x01\0", "two zero bytes"),
        (b"\0\0\x08\0\0", "found 0"),
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"\0", "found 255"),
        (b"\0\0\x08\x02\0\0\0\x05\0\0\0\0", "at least one element"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "over the limit"),
        (b"\0\0\x08\x01\0\0\0\x02ab and more", "do not belong"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab and more", mtime=0), "do not belong"),
        (gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab", mtime=0) + b"junk", "gzip"),
        (gzip.compress(b"\0\0\x08\x01\x7f\xff\xff\xff", mtime=0), "can hold"),
        (gzip.compress(b"", mtime=0), "no content"),
        (b"\x1f\x8b", "gzip"),
    ],
)
def test_idx_refuses_with_a_message(tmp_path, content, words):
    path = tmp_path / "some-file"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="some-file") as caught:
        read_idx(path)
    assert words in str(caught.value)
    assert ";" in str(caught.value), "the remedy follows a semicolon"


def test_idx_that_is_no_file(tmp_path):
    with pytest.raises(FileFormatError, match="a folder"):
        read_idx(tmp_path)
    with pytest.raises(DatasetUnavailableError, match="absent"):
        read_idx(tmp_path / "absent")
    with pytest.raises(DatasetUnavailableError):
        read_idx("a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileFormatError, match="a pipe"):
            read_idx(tmp_path / "pipe")


def peak_bytes(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_idx_memory_is_bounded(tmp_path):
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(idx_bytes(np.zeros(100, np.uint8)) + bytes(64 << 20), 1))

    def refuse():
        with pytest.raises(FileFormatError, match="do not belong"):
            read_idx(bomb)

    assert peak_bytes(refuse) < 2 << 20

    claim = tmp_path / "claim.gz"
    claim.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 2_000_000_000) + bytes(1000)))

    def refuse_claim():
        with pytest.raises(FileFormatError, match="can hold"):
            read_idx(claim)

    assert peak_bytes(refuse_claim) < 2 << 20

    good = tmp_path / "good.gz"
    good.write_bytes(gzip.compress(idx_bytes(np.zeros((32 << 20,), np.uint8)), 1))
    assert peak_bytes(lambda: read_idx(good)) < 35 << 20, "one array and small buffers, not two copies"
    with pytest.raises(FileFormatError, match="limit"):
        read_idx(good, limit_bytes=1 << 20)


def test_content_digest_is_that_of_the_file():
    array = small_arrays(3)["x_train"]
    assert content_sha256(array) == hashlib.sha256(idx_bytes(array)).hexdigest()


# ---------------------------------------------------------------- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_loads(tmp_path, save):
    arrays = small_arrays(4)
    save(tmp_path / "own.npz", **arrays, more=np.arange(3))
    data = load(tmp_path / "own.npz")
    for key, expected in arrays.items():
        np.testing.assert_array_equal(getattr(data, key), expected)
    assert data.x_train.dtype == np.uint8
    assert data.name == "own"
    assert "own.npz" in data.source


def test_npz_keeps_floats_and_straightens_memory(tmp_path):
    arrays = small_arrays(5)
    stored = {
        "x_train": np.asfortranarray(arrays["x_train"].astype(">f4")),
        "y_train": arrays["y_train"].astype(np.float64),
        "x_test": arrays["x_test"].astype(np.float32),
        "y_test": arrays["y_test"].astype(np.int64),
    }
    np.savez(tmp_path / "own.npz", **stored)
    data = load(str(tmp_path / "own.npz"))
    for key, expected in arrays.items():
        np.testing.assert_array_equal(getattr(data, key), expected)
    assert data.x_train.dtype == np.float32
    assert data.x_train.dtype.isnative


def bad_npz_arrays():
    arrays = small_arrays(6)
    yield "x_test missing", {key: array for key, array in arrays.items() if key != "x_test"}
    yield "pickles", arrays | {"x_train": np.array([{}] * 6, object)}
    yield "dtype", arrays | {"y_train": np.array(["a"] * 6)}
    yield "whole numbers", arrays | {"y_train": np.full(6, 0.5)}
    yield "whole numbers", arrays | {"y_train": np.full(6, np.nan)}
    yield "whole numbers", arrays | {"y_train": np.ones(6, bool)}
    yield "labels from 0 on", arrays | {"y_train": np.full(6, -1)}
    yield "labels from 0 on", arrays | {"y_train": np.full(6, 1 << 40)}
    yield "a label for each", arrays | {"y_train": np.eye(6, 10)}
    yield "a label for each", arrays | {"y_train": np.zeros(5, np.uint8)}
    yield "one shape and dtype", arrays | {"x_test": arrays["x_test"][:, 1:]}
    yield "one shape and dtype", arrays | {"x_test": arrays["x_test"] / 255}
    yield "not empty", arrays | {"x_test": arrays["x_test"][:0], "y_test": arrays["y_test"][:0]}
    yield "not empty", arrays | {"x_test": np.float32(1)}


@pytest.mark.parametrize(("words", "arrays"), list(bad_npz_arrays()))
def test_npz_refuses_unfit_arrays(tmp_path, words, arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(FileFormatError, match=r"own\.npz") as caught:
        load(tmp_path / "own.npz")
    assert words in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_damaged_anywhere_is_refused_or_unharmed(tmp_path, save):
    array = np.random.default_rng(7).integers(0, 9, 40, np.uint8)
    stream = io.BytesIO()
    save(stream, only=array)
    content = stream.getvalue()
    path = tmp_path / "own.npz"
    refused = 0
    for position in range(len(content)):
        for damaged in (content[:position], content[:position] + b"\xa5" + content[position + 1 :]):
            path.write_bytes(damaged)
            try:
                found = read_npz(path, ["only"])["only"]
            except FileFormatError:
                refused += 1
            else:
                np.testing.assert_array_equal(found, array)
    assert refused > len(content)


def test_npz_memory_is_bounded(tmp_path):
    def npy_header(shape):
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return stream.getvalue()

    path = tmp_path / "own.npz"
    contents = {
        "expected 1,900,000,000 bytes": npy_header((1_900_000_000,)) + bytes(10),
        "expected 100 bytes": npy_header((100,)) + bytes(64 << 20),
        "over the limit": npy_header((64 << 20,)) + bytes(64 << 20),
        "shape (-1,)": npy_header((-1,)),
    }

    def refuse(words):
        with pytest.raises(FileFormatError) as caught:
            read_npz(path, ["a"], limit_bytes=(1 << 20) if words == "over the limit" else 2 << 30)
        assert words in str(caught.value)

    for words, content in contents.items():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("a.npy", content)
        assert peak_bytes(functools.partial(refuse, words)) < 2 << 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", npy_header((4,)) + bytes(4))
    with pytest.raises(FileFormatError, match="compression method 14"):
        read_npz(path, ["a"])
