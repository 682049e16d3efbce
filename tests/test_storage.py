"""Model files: whole or not there, refused when damaged, and free of code."""

import os
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors

import fastnn
from fastnn import FileFormatError, Network, load
from fastnn.kernels import codes

TINY = {"hidden": "tanh", "seed": 5, "backend": "numpy", "threads": 1}


@pytest.fixture
def net():
    return Network([3, 2, 2], **TINY)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def content(net, path):
    """The bytes of a whole file."""
    net.save(path)
    return path.read_bytes()


def same(one, two):
    """All that makes a network is equal."""
    names = (
        "sizes",
        "hidden",
        "output",
        "bias",
        "dropout",
        "seed",
        "scale",
        "shift",
        "dtype",
        "task",
        "epochs_trained",
    )
    return all(getattr(one, name) == getattr(two, name) for name in names) and all(
        np.array_equal(W, V) and (b is c is None or np.array_equal(b, c))
        for (W, b), (V, c) in zip(one.get_weights(), two.get_weights(), strict=True)
    )


def read(path):
    return load(path, backend="numpy", threads=1)


# ---------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ([3, 2, 2], {}),
        ([3, 2], {"dropout": [0.5]}),
        ([3, 1], {"output": "sigmoid", "bias": False}),
        ([3, 2, 4, 2], {"hidden": ["gelu", "leaky_relu"], "dropout": [0.25, 0, 0.5], "dtype": "float64"}),
        ([3, 2, 2], {"output": "identity", "scale": 1 / 3, "shift": -0.1, "seed": None}),
        ([3, 2, 2], {"init": "normal(1e-40)"}),
        ([3, 2, 2], {"init": "uniform(-3e38, 3e38)", "seed": 2**80}),
    ],
)
def test_a_network_comes_back(path, sizes, options):
    net = Network(sizes, **{**TINY, **options})
    net.save(path)
    copy = read(path)
    assert same(copy, net)
    assert copy.dtype == net.dtype
    copy.save(path)
    assert same(read(path), net)


def test_what_training_left_comes_back(net, path):
    net.fit(np.ones((8, 3)), np.eye(2)[[0, 1] * 4] * 0.5 + 0.25, epochs=3)
    net.save(path)
    copy = read(path)
    assert (copy.epochs_trained, copy.task) == (3, codes.CLASSIFICATION)
    assert copy.history == net.history
    assert same(copy, net)


def test_a_file_from_one_backend_opens_on_another(path, backend):
    x = np.random.default_rng(0).random((20, 12), np.float32)
    net = Network([12, 8, 3], backend=backend)
    net.save(path)
    on_numpy = read(path)
    assert on_numpy.backend == "numpy"
    np.testing.assert_allclose(on_numpy.predict_proba(x), net.predict_proba(x), rtol=1e-5)
    on_numpy.save(path)
    back = load(path, backend=backend)
    assert back.backend == backend
    np.testing.assert_array_equal(back.predict_proba(x), net.predict_proba(x))


def test_the_backend_is_the_reader_s_choice(content, path):
    with fastnn.use_backend("numpy"):
        assert load(path).backend_choice.origin == "use_backend()"
    with pytest.raises(fastnn.BackendError, match="'nunpy'"):
        load(path, backend="nunpy")


def test_the_reader_s_own_mistakes_are_not_the_file_s(content, path, monkeypatch):
    with pytest.raises(ValueError, match="threads must be a whole number") as caught:
        load(path, threads=0)
    assert not isinstance(caught.value, FileFormatError)
    monkeypatch.setenv("FASTNN_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="FASTNN_NUM_THREADS must be a whole number") as caught:
        load(path)
    assert not isinstance(caught.value, FileFormatError)


def test_other_tools_can_read_the_tensors(net, content, path):
    from safetensors.numpy import load_file

    tensors = load_file(path)
    assert sorted(tensors) == ["W1", "W2", "b1", "b2"]
    np.testing.assert_array_equal(tensors["W2"], net.get_weights()[1][0])


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_of_both_kinds(net, path, kind, monkeypatch):
    monkeypatch.chdir(path.parent)
    for name in (path, path.name):
        net.save(kind(name))
        assert same(load(kind(name), backend="numpy"), net)


def test_a_network_changed_after_saving_leaves_the_file(net, content, path):
    net.fit(np.ones((8, 3)), [0, 1] * 4, epochs=1)
    assert path.read_bytes() == content


# ---------------------------------------------------------------- writing


def test_permissions_are_those_of_any_new_file(net, tmp_path):
    before = os.umask(0o027)
    try:
        net.save(tmp_path / "net")
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("net", "plain")]
    assert modes == [0o640, 0o640]


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("folder", IsADirectoryError),
        ("nowhere/net", FileNotFoundError),
        ("file/net", NotADirectoryError),
        ("x" * 300, OSError),
    ],
)
def test_targets_that_cannot_be_written(net, tmp_path, target, error):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(error):
        net.save(tmp_path / target)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("function", ["replace", "fsync", "open"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_on_the_way_leaves_the_old_file(content, path, monkeypatch, function, error):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        Network([3, 2, 2], **{**TINY, "seed": 6}).save(path)
    monkeypatch.undo()
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name], "no temporary file is left"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_while_writing(content, path, monkeypatch):
    def onto_the_full_disk(path, content):
        path.touch()
        with open("/dev/full", "wb") as file:
            file.write(content)

    monkeypatch.setattr(Path, "write_bytes", onto_the_full_disk)
    with pytest.raises(OSError, match="No space left"):
        Network([3, 2, 2], **{**TINY, "seed": 6}).save(path)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [path.name]


def test_a_link_stays_one(net, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "models" / "net")
    net.save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert fastnn.load(tmp_path / "models" / "net", backend="numpy").sizes == net.sizes


KILLED = """
import os, random, signal, sys, time
import numpy as np
import fastnn
path = sys.argv[1]
nets = [fastnn.Network([200, 100, 10], seed=seed, backend="numpy", threads=1) for seed in (1, 2)]
known = {net.get_weights()[0][0].tobytes() for net in nets}
nets[0].save(path)
random.seed(3)
saved = 0
for trial in range(20):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        while True:
            for net in nets:
                net.save(path)
                os.write(writer, b".")
    time.sleep(random.uniform(0.001, 0.15))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(writer)
    saved += len(os.read(reader, 10**6))
    os.close(reader)
    net = fastnn.load(path, backend="numpy", threads=1)
    assert net.get_weights()[0][0].tobytes() in known
print(saved)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_the_file_is_whole(path):
    run = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 20, "the children did get to save, so the kills came in the middle of it"


# ---------------------------------------------------------------- damaged and foreign files


def refused(path, bytes_):
    path.write_bytes(bytes_)
    with pytest.raises(FileFormatError, match=re.escape(str(path))) as caught:
        read(path)
    return str(caught.value)


def test_truncated_files_are_refused(content, path):
    for length in [*range(0, len(content), 64), len(content) - 1]:
        refused(path, content[:length])


def test_files_with_more_at_the_end_are_refused(content, path):
    refused(path, content + b"\0")
    refused(path, content * 2)


def test_no_flipped_bit_goes_unseen(net, content, path):
    """Either the file is refused, or nothing has changed. Every third bit: all eight of them, all over the file."""
    harmless = 0
    for position in range(0, 8 * len(content), 3):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        try:
            copy = read(path)
        except FileFormatError:
            continue
        assert same(copy, net), f"bit {position % 8} of byte {position // 8}"
        harmless += 1
    assert harmless < 8, "a checker that accepts everything would show here"


@pytest.mark.parametrize("byte", [0x00, 0x20, 0x22, 0x7F, 0xFF])
def test_no_changed_byte_goes_unseen(net, content, path, byte):
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] = byte
        path.write_bytes(damaged)
        try:
            copy = read(path)
        except FileFormatError:
            continue
        assert same(copy, net), f"byte {position}"


def test_random_bytes_are_refused(path):
    rng = np.random.default_rng(0)
    for length in (1, 7, 8, 9, 16, 100, 1000, 10_000):
        refused(path, rng.bytes(length))


@pytest.mark.parametrize("bytes_", [b"", b"\0" * 8, b"\0" * 100, b"{}", b"\x80\x04}.", b"\x93NUMPY\x01\0"])
def test_other_kinds_of_files_are_refused(path, bytes_):
    message = refused(path, bytes_)
    assert "no whole safetensors file" in message
    assert "save the network again" in message


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 2**31, 10**9, 100_000_001])
def test_a_huge_header_is_refused_without_reserving_it(content, path, length):
    refused(path, struct.pack("<Q", length) + content[8:])


def test_a_safetensors_file_of_somebody_else_is_refused(path):
    from safetensors.numpy import save

    tensors = {"W1": np.zeros((3, 2), np.float32), "b1": np.zeros(2, np.float32)}
    for metadata in (None, {}, {"format": "pt"}):
        message = refused(path, save(tensors, metadata))
        assert "not one of fastnn's" in message


def test_a_zip_archive_is_taken_for_an_npz_file(path):
    assert "expected an intact .npz file" in refused(path, b"PK\x03\x04")


@pytest.mark.parametrize("length", [0x4B50, 0x280])  # "PK" as in a zip archive, and how pickles begin
def test_a_header_s_length_is_not_taken_for_another_format(net, content, path, length):
    old = int.from_bytes(content[:8], "little")
    path.write_bytes(length.to_bytes(8, "little") + content[8 : 8 + old].ljust(length) + content[8 + old :])
    assert same(read(path), net)


def test_a_name_says_that_an_npz_file_is_wanted(net, tmp_path):
    net.save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as arrays:
        assert arrays["W1"].shape == (3, 2)
    assert same(read(tmp_path / "net.npz"), net)


@pytest.mark.parametrize("suffix", [".onnx", ".pt", ".PTH", ".npy"])
def test_a_name_of_another_format_is_refused(net, tmp_path, suffix):
    with pytest.raises(ValueError, match="fastnn convert"):
        net.save(tmp_path / f"net{suffix}")
    assert list(tmp_path.iterdir()) == []


def rewrite(path, content, tensors=None, **metadata):
    """The same file with other metadata or tensors, its digest right again."""
    from safetensors import safe_open
    from safetensors.numpy import load as tensors_of
    from safetensors.numpy import save

    from fastnn.storage import _digest

    path.write_bytes(content)
    with safe_open(path, framework="numpy") as file:
        old = file.metadata()
    tensors = {**tensors_of(content), **(tensors or {})}
    tensors = {name: array for name, array in tensors.items() if array is not None}
    new = {**old, **metadata}
    if "sha256" not in metadata:
        new["sha256"] = _digest(new, tensors)
    return save(tensors, new)


def test_a_file_written_anew_is_accepted(net, content, path):
    path.write_bytes(rewrite(path, content))
    assert same(read(path), net)


def test_a_newer_format_asks_for_an_update(content, path):
    message = refused(path, rewrite(path, content, fastnn="4"))
    assert "has format '4', this fastnn reads 1 to 3: update fastnn" in message


def test_a_file_of_the_first_format_is_read(net, content, path):
    path.write_bytes(rewrite(path, content, fastnn="1"))
    assert same(read(path), net)
    assert read(path).decided_task is None  # which older files name also where no training has decided on it


@pytest.mark.parametrize("suffix", ["safetensors", "npz"])
def test_what_training_decided_on_data_is_kept(tmp_path, suffix):
    x = np.arange(80).reshape(20, 4) % 256
    x[0, 0] = 255
    net = Network([4, 3], output="sigmoid", backend="numpy", task="multilabel")
    net.fit(x, np.eye(3)[np.arange(20) % 3], epochs=1, loss="quadratic")
    net.save(tmp_path / f"net.{suffix}")
    copy = fastnn.load(tmp_path / f"net.{suffix}", backend="numpy")
    for name in ("decided_task", "loss", "pixels", "largest_input"):
        assert getattr(copy, name) == getattr(net, name), name
    assert (copy.task, copy.loss, copy.pixels, copy.largest_input) == (codes.MULTILABEL, "quadratic", True, 1.0)


@pytest.mark.parametrize(
    "history", ["{", "[]", '{"loss": [1.0]}', '{"loss": "low"}', '{"epochs": 3}', '{"threads": "two"}']
)
def test_a_history_that_is_none(content, path, history):
    assert "no network that fastnn can build" in refused(path, rewrite(path, content, history=history))


@pytest.mark.parametrize("version", ["0", "", "-1", "one", "²"])
def test_a_version_that_never_was_is_damage(content, path, version):
    assert "update" not in refused(path, rewrite(path, content, fastnn=version))


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_wrong_digest_is_damage(content, path, digest):
    assert "does not match its own digest" in refused(path, rewrite(path, content, sha256=digest))


CONFIGURATION = (
    '{"bias": true, "dropout": [0.0, 0.0], "dtype": "float32", "epochs_trained": 0, "hidden": ["tanh"], '
    '"output": "softmax", "scale": null, "seed": 5, "shift": 0.0, "sizes": [3, 2, 2], "task": "classification"}'
)


def test_the_configuration_is_plain_json(net, content, path):
    path.write_bytes(rewrite(path, content, network=CONFIGURATION))
    assert same(read(path), net)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (CONFIGURATION, ""),
        (CONFIGURATION, "[]"),
        (CONFIGURATION, "3"),
        (CONFIGURATION, "null"),
        (CONFIGURATION, "{}"),
        (CONFIGURATION, "[" * 100_000),
        ('"sizes": [3, 2, 2]', '"sizes": [3, 2, 3]'),
        ('"sizes": [3, 2, 2]', '"sizes": [3, 2]'),
        ('"sizes": [3, 2, 2]', '"sizes": [3, 2, -2]'),
        ('"sizes": [3, 2, 2]', '"sizes": "322"'),
        ('"sizes": [3, 2, 2]', '"sizes": [3, 1000000000000, 2]'),
        ('"tanh"', '"tahn"'),
        ('["tanh"]', "5"),
        ("softmax", "hardmax"),
        ("float32", "float16"),
        ("float32", "object"),
        ("true", "false"),
        ('"seed": 5', '"seed": -5'),
        ('"scale": null', '"scale": NaN'),
        ('"scale": null', '"scale": "big"'),
        ('"epochs_trained": 0', '"epochs_trained": -1'),
        ('"epochs_trained": 0', '"epochs_trained": "x"'),
        ('"task": "classification"', '"task": "divination"'),
        ('"dropout": [0.0, 0.0]', '"dropout": [0.0, 1.0]'),
        ('"shift": 0.0, ', ""),
    ],
)
def test_a_configuration_that_makes_no_network(content, path, old, new):
    text = CONFIGURATION.replace(old, new)
    assert text != CONFIGURATION
    assert "no network that fastnn can build" in refused(path, rewrite(path, content, network=text))


@pytest.mark.parametrize(
    "tensors",
    [
        {"W2": None},
        {"b1": None},
        {"W1": np.zeros((2, 3), np.float32)},
        {"W1": np.full((3, 2), np.nan, np.float32)},
        {"W1": np.zeros((3, 2), np.complex64)},
        {"W1": np.zeros((3, 2), np.float64)},
        {"W3": np.zeros((2, 2), np.float32)},
    ],
)
def test_tensors_that_make_no_network(content, path, tensors):
    assert "no network that fastnn can build" in refused(path, rewrite(path, content, tensors))


def test_a_missing_file_is_not_a_damaged_one(path):
    with pytest.raises(FileNotFoundError):
        load(path)
    with pytest.raises(IsADirectoryError):
        load(path.parent)


# ---------------------------------------------------------------- no code in data


def test_nothing_unpickles():
    """Files are data: no module of the package may hand one to anything that runs code from it."""
    root = Path(fastnn.__file__).parent
    sources = [*root.rglob("*.py"), *Path(codes.__file__).parent.rglob("*.py")]
    assert len(sources) > 20
    forbidden = re.compile(r"allow_pickle\s*=\s*True|\bpickle\.|import (cloud)?pickle|joblib\.load|\bmarshal\b|shelve")
    found = [f"{path.name}: {match[0]}" for path in sources for match in forbidden.finditer(path.read_text("utf-8"))]
    assert found == []
    assert forbidden.search("np.load(path, allow_pickle=True)"), "the pattern itself"


# ---- what killed processes leave, forged checkpoints, arrays of all kinds -------------------------------------------

KILLED_WRITING = """
import os, signal, sys
from pathlib import Path
from fastnn.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def parts(path):
    return sorted(file.name for file in path.parent.iterdir() if file.suffix == ".part")


@pytest.mark.skipif(os.name != "posix", reason="elsewhere what is a day old is removed")
def test_the_next_writer_removes_what_a_killed_one_has_left(net, path):
    subprocess.run([sys.executable, "-c", KILLED_WRITING, str(path)], check=False)
    assert len(parts(path)) == 1
    net.save(path.with_name("other.safetensors"))
    assert len(parts(path)) == 1  # it may be another's, but for its own name
    net.save(path)
    assert parts(path) == []


def test_what_is_being_written_is_left_alone(net, path):
    from fastnn.files import atomic_path

    with atomic_path(path) as temporary:
        temporary.write_text("half")
        net.save(path)
        assert parts(path) == [temporary.name]
    assert path.read_text() == "half"


def test_what_another_machine_or_an_older_version_left_is_removed_after_a_day(net, path):
    fresh, old = (path.with_name(f".{path.name}.{name}.part") for name in ("elsewhere-1.abc", "0123456789ab"))
    for file in (fresh, old):
        file.write_text("half")
    os.utime(old, (0, 0))
    net.save(path)
    assert parts(path) == [fresh.name]


def test_a_forged_checkpoint_takes_no_memory_for_the_sizes_it_claims(tmp_path):
    path = tmp_path / "run.safetensors"
    net = Network([3, 2, 2], **TINY)
    net.fit(np.ones((2, 3)), [0, 1], epochs=1, callbacks=[fastnn.Checkpoint(path)])
    content = path.read_bytes()
    with safetensors.safe_open(path, framework="numpy") as file:
        training = file.metadata()["training"]
    forged = training.replace('"sizes": [3, 2, 2]', '"sizes": [10000000, 10000000, 2]')
    assert forged != training
    path.write_bytes(rewrite(path, content, training=forged))
    with pytest.raises(FileFormatError, match="its configuration needs"):
        fastnn.storage.load_state(path)


TABLE = np.arange(12.0).reshape(3, 4)
KINDS = {
    "C order": TABLE,
    "transposed": TABLE.T,
    "Fortran order": np.asfortranarray(TABLE),
    "every second": np.arange(24.0)[::2],
    "reversed": np.arange(5.0)[::-1],
    "broadcast": np.broadcast_to(np.arange(3.0), (2, 3)),
    "big-endian": TABLE.astype(">f8"),
    "no dimension": np.array(3.0),
    "empty": np.zeros((0, 3)),
    "half": TABLE.astype("f2"),
    "truth values": TABLE > 3,
    "int16, big-endian": TABLE.astype(">i2"),
    "uint64": TABLE.astype("u8"),
    "part of a record": np.zeros(3, [("a", "f4"), ("b", "i8")])["b"],
    "read-only": np.frombuffer(bytes(8), "f4"),
}


class Remembers(fastnn.Callback):
    def __init__(self, array):
        self.array = array

    def state(self):
        return {"array": self.array}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_array_a_callback_keeps_is_read_back(tmp_path, kind):
    path, array = tmp_path / "run.safetensors", KINDS[kind]
    net = Network([3, 2], backend="numpy")
    net.fit(np.ones((2, 3)), [0, 1], epochs=1, callbacks=[Remembers(array), fastnn.Checkpoint(path)])
    [(_, kept)] = fastnn.storage.load_state(path).callbacks
    np.testing.assert_array_equal(kept["array"], array)
    assert kept["array"].dtype == array.dtype.newbyteorder("=")
    assert kept["array"].shape == array.shape
    fastnn.load(path, backend="numpy")


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None]), np.zeros(2, np.longdouble)])
def test_an_array_that_no_checkpoint_holds_is_refused_before_anything_is_written(tmp_path, array):
    path = tmp_path / "run.safetensors"
    with pytest.raises(ValueError, match=r"holds arrays of numbers of at most 8 bytes, got training\.callback0\.array"):
        Network([3, 2], backend="numpy").fit(
            np.ones((2, 3)), [0, 1], epochs=1, callbacks=[Remembers(array), fastnn.Checkpoint(path)]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["safetensors", "npz", ""])
@pytest.mark.parametrize("kind", ["C", "F", ">f4", "strided"])
def test_weights_of_any_order_are_written_to_every_format(tmp_path, suffix, kind):
    from fastnn.interchange import load_npy_folder, save_npy_folder

    W = np.arange(6, dtype="f4").reshape(3, 2)
    given = {"C": W, "F": np.asfortranarray(W), ">f4": W.astype(">f4"), "strided": np.repeat(W, 2, axis=1)[:, ::2]}[
        kind
    ]
    net = Network([3, 2], backend="numpy")
    net.set_weights([(given, np.zeros(2))])
    path = tmp_path / f"net.{suffix}" if suffix else tmp_path / "net"
    (net.save if suffix else lambda path: save_npy_folder(net, path))(path)
    copy = fastnn.load(path, backend="numpy") if suffix else load_npy_folder(path, output="softmax", backend="numpy")
    np.testing.assert_array_equal(copy.get_weights()[0][0], W)
