"""Files that were damaged at random: every reader says so in an error of fastnn's own, or reads what it can."""

import gzip
import random
import warnings

import numpy as np
import pytest

import fastnn
from fastnn.errors import FastnnError
from fastnn.interchange import load_npy_folder, load_torch, save_npy_folder
from fastnn.storage import load_state

TRIES = 190  # of each format
NETWORK = fastnn.Network([3, 4, 2], backend="numpy")
ARRAYS = {
    "x_train": np.arange(24, dtype=np.uint8).reshape(6, 4),
    "y_train": np.arange(6) % 2,
    "x_test": np.arange(8, dtype=np.uint8).reshape(2, 4),
    "y_test": np.arange(2),
}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write_checkpoint(path):
    net = fastnn.Network([3, 2], backend="numpy")
    net.fit(np.ones((4, 3), np.float32), [0, 1, 0, 1], epochs=1, callbacks=[fastnn.Checkpoint(path)])


def write_folder(path):
    save_npy_folder(NETWORK, path)
    return path / "W1.npy"


def write_idx(path, pack=lambda content: content, suffix=""):
    path.mkdir()
    for name, x, y in (("train", "x_train", "y_train"), ("t10k", "x_test", "y_test")):
        images = ARRAYS[x].reshape(-1, 2, 2)
        (path / f"{name}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
        (path / f"{name}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(ARRAYS[y].astype(np.uint8))))
    return path / f"train-images-idx3-ubyte{suffix}"


def write_table(path):
    rows = np.column_stack([ARRAYS["y_train"], ARRAYS["x_train"]])
    names = "label," + ",".join(f"pixel{i}" for i in range(4))
    np.savetxt(path, rows, "%d", ",", header=names, comments="")


def write_torch(path):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.ones(2, 3) if "weight" in name else torch.ones(2) for name in ("0.weight", "0.bias")}, path)


def write_torch_safetensors(path):
    from safetensors.numpy import save_file

    save_file({"0.weight": np.ones((2, 3), np.float32), "0.bias": np.ones(2, np.float32)}, path)


def load_weights(path):
    return load_torch(path, output="softmax", backend="numpy")


# name of the file or folder: (how it is written, giving the file to damage if that is another, how it is read)
FORMATS = {
    "net.safetensors": (NETWORK.save, lambda path: fastnn.load(path, backend="numpy")),
    "run.safetensors": (write_checkpoint, load_state),
    "net.npz": (NETWORK.save, lambda path: fastnn.load(path, backend="numpy")),
    "weights": (write_folder, lambda path: load_npy_folder(path, hidden="relu", output="softmax", backend="numpy")),
    "weights.pt": (write_torch, load_weights),
    "weights.safetensors": (write_torch_safetensors, load_weights),
    "data.npz": (lambda path: np.savez(path, **ARRAYS), fastnn.datasets.load),
    "packed.npz": (lambda path: np.savez_compressed(path, **ARRAYS), fastnn.datasets.load),
    "idx": (write_idx, fastnn.datasets.load),
    "idx.gz": (lambda path: write_idx(path, gzip.compress, ".gz"), fastnn.datasets.load),
    "train.csv": (write_table, fastnn.datasets.load),
}


def damage(content, chance):
    """A few bytes changed, most often where headers are; or a part cut off, left out, repeated or put in."""
    content, n = bytearray(content), len(content)
    kind = chance.randrange(6)
    at = chance.randrange(n if chance.random() < 0.5 else min(n, 160))
    if kind < 3:
        for _ in range(chance.choice([1, 1, 2, 8])):
            content[(at + chance.randrange(12)) % n] = chance.randrange(256)
    elif kind == 3:
        del content[at:]
    elif kind == 4:
        del content[at : at + chance.randrange(1, 20)]
    else:
        content[at:at] = content[at : at + 9] if chance.random() < 0.5 else chance.randbytes(chance.randrange(1, 9))
    return bytes(content)


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_refused_in_words_of_our_own(tmp_path, name):
    write, read = FORMATS[name]
    path = tmp_path / name
    damaged = write(path) or path
    whole, chance, refused = damaged.read_bytes(), random.Random(name), 0
    read(path)
    for i in range(TRIES):
        content = damage(whole, chance)
        damaged.write_bytes(content)
        try:
            with warnings.catch_warnings(action="ignore"):
                read(path)
        except FastnnError:
            refused += 1
        except Exception as error:
            pytest.fail(f"try {i}: {type(error).__name__}: {error}; the file was {content!r}")
    assert refused > TRIES / 3
