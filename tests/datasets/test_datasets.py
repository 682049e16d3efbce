"""Datasets: found where they should be, never mistaken for another, every download verified, digits the same."""

import gzip
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx_bytes, small_arrays

from fastnn.datasets import DATASETS, catalogue, digits, download, load
from fastnn.datasets.catalogue import FileEntry
from fastnn.errors import DatasetUnavailableError, FileFormatError

REAL_DATA = os.environ.get("FASTNN_DATA_DIR")
ROOT = Path(catalogue.__file__).parents[2]  # where the package lies
STANDARD = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
NOBODY = "http://127.0.0.1:9/"  # the discard port, closed on any machine that runs tests


def write_folder(folder, arrays, suffix=".gz", dotted=False):
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in STANDARD.items():
        name = name.replace("-idx", ".idx") if dotted else name
        content = idx_bytes(arrays[key])
        (folder / (name + suffix)).write_bytes(gzip.compress(content, mtime=0) if suffix else content)
    return folder


def assert_holds(dataset, arrays):
    for key, expected in arrays.items():
        np.testing.assert_array_equal(getattr(dataset, key), expected)
    assert dataset.y_train.dtype == dataset.y_test.dtype == np.int32
    assert dataset.x_train.flags.c_contiguous
    assert dataset.x_test.flags.c_contiguous


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory):
    """A cache that holds the generated digits once for the whole run."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTNN_CACHE_DIR", str(folder))
        load("digits")
    return folder


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No test sees the user's data, the user's cache, a proxy or the network."""
    monkeypatch.delenv("FASTNN_DATA_DIR", raising=False)
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setattr(download, "RETRIES", 0)
    for name in ("mnist", "fashion-mnist"):
        monkeypatch.setitem(catalogue.MIRRORS, name, (NOBODY,))


@pytest.fixture
def published(monkeypatch):
    """Small stand-ins for the published MNIST and Fashion-MNIST."""
    datasets = {"mnist": small_arrays(1), "fashion-mnist": small_arrays(2)}
    for name in datasets:
        entries = []
        for key, array in datasets[name].items():
            content = idx_bytes(array)
            digests = [hashlib.sha256(data).hexdigest() for data in (content, gzip.compress(content, mtime=0))]
            entries.append(FileEntry(key, STANDARD[key], len(content), *digests))
        monkeypatch.setitem(catalogue.FILES, name, tuple(entries))
    return datasets


# ---------------------------------------------------------------- the real MNIST


@pytest.mark.skipif(not REAL_DATA, reason="FASTNN_DATA_DIR is not set: the real MNIST is not on this machine")
def test_real_mnist(monkeypatch):
    monkeypatch.setenv("FASTNN_DATA_DIR", str(Path(REAL_DATA).resolve()))
    data = load("mnist")
    assert data.x_train.shape == (60_000, 28, 28)
    assert data.x_test.shape == (10_000, 28, 28)
    assert data.x_train.dtype == data.x_test.dtype == np.uint8
    assert np.bincount(data.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.source.startswith("FASTNN_DATA_DIR: ")
    assert load("auto").name == "mnist"


# ---------------------------------------------------------------- names and paths


@pytest.mark.parametrize(("suffix", "dotted"), [("", False), (".gz", False), ("", True), (".gz", True)])
def test_folder_of_idx_files(tmp_path, suffix, dotted):
    arrays = small_arrays(8)
    folder = write_folder(tmp_path / "own", arrays, suffix, dotted)
    for name in (folder, str(folder)):
        data = load(name)
        assert_holds(data, arrays)
        assert data.name == "own"
        assert str(folder) in data.source


def test_folder_incomplete_or_inconsistent(tmp_path):
    folder = write_folder(tmp_path / "own", small_arrays(9))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DatasetUnavailableError, match="t10k-labels-idx1-ubyte missing"):
        load(folder)
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(99, np.uint8)))
    with pytest.raises(FileFormatError, match="a label for each image"):
        load(folder)


def test_unknown_name_lists_the_choices(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="did you mean 'fashion-mnist'") as caught:
        load("fashion-mnits")
    assert all(name in str(caught.value) for name in DATASETS)
    for name in ("", 3, None):
        with pytest.raises(ValueError, match="unknown dataset"):
            load(name)


@pytest.mark.parametrize("name", ["./absent", "absent/folder", "absent.npz", "~/no such folder of fastnn", "a\0/b"])
def test_path_that_does_not_exist(name):
    with pytest.raises(DatasetUnavailableError) as caught:
        load(name)
    assert Path(name).name.strip("~") in str(caught.value).replace("\\x00", "\0")


def test_file_of_another_kind(tmp_path):
    (tmp_path / "table.csv").write_text("1,2,3")
    with pytest.raises(FileFormatError, match=r"table\.csv.*folder of IDX files"):
        load(tmp_path / "table.csv")


def write_table(path, x, y=None, header=False):
    columns = x.reshape(len(x), -1) if y is None else np.column_stack([y, x.reshape(len(x), -1)])
    names = [*(["label"] if y is not None else []), *(f"pixel{i}" for i in range(x[0].size))]
    lines = [*([",".join(names)] if header else []), *(",".join(map(str, row)) for row in columns)]
    text = "\n".join([*lines, ""]).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("header", [True, False])
def test_a_pair_of_tables(tmp_path, suffix, header):
    arrays = small_arrays(11)
    for split in ("train", "test"):
        write_table(tmp_path / f"mnist_{split}{suffix}", arrays[f"x_{split}"], arrays[f"y_{split}"], header)
    for split in ("train", "test"):
        data = load(tmp_path / f"mnist_{split}{suffix}")
        assert_holds(data, arrays)
        assert data.x_train.dtype == np.uint8


def test_a_table_without_labelled_test_samples_holds_some_out(tmp_path):
    arrays = small_arrays(12, train=14)
    write_table(tmp_path / "train.csv", arrays["x_train"], arrays["y_train"], header=True)
    data = load(tmp_path / "train.csv")
    assert (len(data.x_train), len(data.x_test)) == (12, 2)
    assert "held out for testing" in data.source
    write_table(tmp_path / "test.csv", arrays["x_test"], header=True)  # as Kaggle's
    data = load(tmp_path / "train.csv")
    assert (len(data.x_train), len(data.x_test)) == (12, 2)
    assert "test.csv has no labels" in data.source
    (tmp_path / "train.csv").unlink()
    with pytest.raises(FileFormatError, match="expected a column named 'label'"):
        load(tmp_path / "test.csv")


@pytest.mark.parametrize("text", ["", "label,pixel0\n", "1,2\n1,2,3\n", "cat,3\ndog,4\ncow,4\n"])
def test_what_is_no_table_of_numbers_is_refused(tmp_path, text):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(FileFormatError, match=r"train\.csv: expected a table"):
        load(tmp_path / "train.csv")


def write_set(folder, arrays, prefix, test="test"):
    for key, name in STANDARD.items():
        content = gzip.compress(idx_bytes(arrays[key]), mtime=0)
        (folder / f"{prefix}{name.replace('t10k', test)}.gz").write_bytes(content)


@pytest.mark.parametrize(("prefix", "test"), [("kmnist-", "t10k"), ("my_", "test")])
def test_idx_files_with_something_before_their_names(tmp_path, prefix, test):
    arrays = small_arrays(13)
    write_set(tmp_path, arrays, prefix, test)
    assert_holds(load(tmp_path), arrays)


def test_emnist_is_turned_upright_and_its_letters_counted_from_0(tmp_path):
    arrays = small_arrays(14)
    stored = {key: array.transpose(0, 2, 1) if array.ndim == 3 else array for key, array in arrays.items()}
    write_set(tmp_path, stored, "emnist-digits-")
    assert_holds(load(tmp_path), arrays)
    arrays["y_train"][0] = 0
    write_set(tmp_path, stored | {key: arrays[key] + 1 for key in ("y_train", "y_test")}, "emnist-letters-")
    with pytest.raises(DatasetUnavailableError, match="found emnist-digits-, emnist-letters-; give the path"):
        load(tmp_path)
    data = load(tmp_path / "emnist-letters-train-images-idx3-ubyte.gz")
    assert_holds(data, arrays)
    assert data.name == "emnist-letters"


def test_describe_counts_labels(tmp_path):
    data = load(write_folder(tmp_path / "own", small_arrays(10)))
    assert repr(data) == "<Dataset own: 6 training and 3 test samples, 28x28 uint8>"
    assert str(tmp_path / "own") in data.describe()


# ---------------------------------------------------------------- FASTNN_DATA_DIR


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("sub", [True, False], ids=["sub-folder", "flat"])
def test_data_dir(monkeypatch, tmp_path, published, name, sub):
    folder = write_folder(tmp_path / "data" / (name if sub else "."), published[name])
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "data"))
    data = load(name)
    assert_holds(data, published[name])
    assert (data.name, data.source) == (name, f"FASTNN_DATA_DIR: {folder}")


def test_what_is_no_folder_is_passed_over(monkeypatch, tmp_path, published):
    folder = write_folder(tmp_path / "data", published["mnist"])
    (folder / "mnist").write_text("not a folder")
    monkeypatch.setenv("FASTNN_DATA_DIR", str(folder))
    assert_holds(load("mnist"), published["mnist"])


@pytest.mark.parametrize(("name", "other"), [("mnist", "fashion-mnist"), ("fashion-mnist", "mnist")])
@pytest.mark.parametrize("sub", [True, False], ids=["sub-folder", "flat"])
def test_one_dataset_is_never_passed_off_as_another(monkeypatch, tmp_path, published, name, other, sub):
    write_folder(tmp_path / "data" / (name if sub else "."), published[other])
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(DatasetUnavailableError, match="are not the published"):
        load(name)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_what_was_unpacked_or_packed_anew_is_the_same_dataset(monkeypatch, tmp_path, published, name):
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "data"))
    write_folder(tmp_path / "data", published[name], suffix="")
    assert_holds(load(name), published[name])
    monkeypatch.delenv("FASTNN_DATA_DIR")
    write_folder(tmp_path / "cache" / name, published[name], suffix="", dotted=True)
    data = load(name)
    assert_holds(data, published[name])
    assert data.source == f"cache: {tmp_path / 'cache' / name}"


def test_data_dir_that_is_missing_or_incomplete_is_named(monkeypatch, tmp_path, published):
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetUnavailableError, match=r"nowhere is not a folder"):
        load("mnist")
    folder = write_folder(tmp_path / "data", published["mnist"])
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    monkeypatch.setenv("FASTNN_DATA_DIR", str(folder))
    with pytest.raises(DatasetUnavailableError, match="lacks t10k-images-idx3-ubyte"):
        load("mnist")


def test_data_dir_with_a_damaged_file_is_an_error(monkeypatch, tmp_path, published, digits_cache):
    folder = write_folder(tmp_path / "data", published["mnist"])
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setenv("FASTNN_DATA_DIR", str(folder))
    with pytest.raises(FileFormatError, match="train-images-idx3-ubyte"):
        load("mnist")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(digits_cache))
    with pytest.warns(UserWarning, match="NOT MNIST but 'digits'"):
        data = load("auto")
    assert data.name == "digits"
    assert str(path) in data.note


# ---------------------------------------------------------------- downloads


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves ``server.bodies`` by path; what is not there is a 404. A function as a body sends what it likes."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.bodies.get(self.path)
        if callable(body):
            body(self)
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as running:
        running.daemon_threads = True
        running.block_on_close = False
        running.bodies, running.asked, running.release = {}, [], threading.Event()
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.release.set()
        running.shutdown()
        thread.join(5)
        assert not thread.is_alive()


def offer(server, mirror, arrays):
    for key, name in STANDARD.items():
        server.bodies[f"/{mirror}/{name}.gz"] = gzip.compress(idx_bytes(arrays[key]), mtime=0)


def use_mirrors(monkeypatch, server, *mirrors, name="mnist"):
    urls = tuple(mirror if "://" in mirror else f"{server.url}/{mirror}/" for mirror in mirrors)
    monkeypatch.setitem(catalogue.MIRRORS, name, urls)


def cached_names(tmp_path, name="mnist"):
    folder = tmp_path / "cache" / name
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


ALL_FILES = sorted(f"{name}.gz" for name in STANDARD.values())


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_download_then_cache(monkeypatch, tmp_path, published, server, name):
    offer(server, "good", published[name])
    use_mirrors(monkeypatch, server, "good", name=name)
    data = load(name)
    assert_holds(data, published[name])
    assert data.source == f"downloaded from {server.url}/good/ to {tmp_path / 'cache' / name}"
    assert cached_names(tmp_path, name) == ALL_FILES
    server.bodies.clear()
    again = load(name)
    assert_holds(again, published[name])
    assert again.source == f"cache: {tmp_path / 'cache' / name}"
    assert len(server.asked) == 4


def test_damaged_cache_is_mended(monkeypatch, tmp_path, published, server):
    offer(server, "good", published["mnist"])
    use_mirrors(monkeypatch, server, "good")
    load("mnist")
    path = tmp_path / "cache" / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    assert_holds(load("mnist"), published["mnist"])
    assert server.asked[4:] == ["/good/t10k-images-idx3-ubyte.gz"]


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b"\x1f\x8b" + bytes(1000))


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(10_000):
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        pass


def silent(handler):
    handler.server.release.wait(10)


BAD_BODIES = {
    "404": (None, "404"),
    "garbage": (b"<html>please log in</html>", "does not match the known hash"),
    "empty": (b"", "does not match the known hash"),
    "other content": (gzip.compress(idx_bytes(small_arrays(77, train=1)["x_train"])), "does not match the known hash"),
    "bomb": (gzip.compress(bytes(32 << 20), mtime=0), "does not match the known hash"),
    "cut off": (cut_off, "IncompleteRead"),
    "endless": (endless, "sent more than"),
    "silent": (silent, "timed out"),
}


@pytest.mark.parametrize("kind", BAD_BODIES)
def test_bad_mirror_is_passed_over_and_leaves_nothing(monkeypatch, tmp_path, published, server, kind):
    body, words = BAD_BODIES[kind]
    monkeypatch.setattr(download, "READ_SECONDS", 0.5)
    server.bodies["/bad/train-images-idx3-ubyte.gz"] = body
    use_mirrors(monkeypatch, server, "bad")
    with pytest.raises(DatasetUnavailableError) as caught:
        load("mnist")
    assert words in str(caught.value)
    assert cached_names(tmp_path) == []
    offer(server, "good", published["mnist"])
    use_mirrors(monkeypatch, server, "bad", "good")
    data = load("mnist")
    assert_holds(data, published["mnist"])
    assert "/good/" in data.source
    assert "/bad/" not in data.source
    assert cached_names(tmp_path) == ALL_FILES
    assert sum(path.startswith("/bad/") for path in server.asked) == 2, "a mirror that failed is not asked again"


def test_a_mirror_that_fails_once_is_asked_again(monkeypatch, tmp_path, published, server):
    monkeypatch.setattr(download, "RETRIES", 1)
    offer(server, "good", published["mnist"])
    use_mirrors(monkeypatch, server, "good")
    path = "/good/train-images-idx3-ubyte.gz"
    whole = server.bodies[path]

    def cut_off_once(handler):
        server.bodies[path] = whole
        cut_off(handler)

    server.bodies[path] = cut_off_once
    assert_holds(load("mnist"), published["mnist"])
    assert server.asked.count(path) == 2


def test_several_mirrors_may_have_a_part_each(monkeypatch, tmp_path, published, server):
    for mirror in ("first", "second"):
        offer(server, mirror, published["mnist"])
    del server.bodies["/first/t10k-images-idx3-ubyte.gz"]
    use_mirrors(monkeypatch, server, "first", "second")
    data = load("mnist")
    assert_holds(data, published["mnist"])
    folder = tmp_path / "cache" / "mnist"
    assert data.source == f"downloaded from {server.url}/first/ and {server.url}/second/ to {folder}"


def test_what_was_downloaded_may_be_read_by_whoever_may_read_other_files(monkeypatch, tmp_path, published, server):
    offer(server, "good", published["mnist"])
    use_mirrors(monkeypatch, server, "good")
    load("mnist")
    (tmp_path / "other").write_bytes(b"")
    modes = {path.stat().st_mode for path in (tmp_path / "other", *(tmp_path / "cache" / "mnist").iterdir())}
    assert len(modes) == 1


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system cannot interrupt a thread")
def test_interrupt_leaves_nothing(monkeypatch, tmp_path, published, server):
    def interrupt(handler):
        cut_off(handler)
        handler.wfile.flush()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        server.release.wait(10)

    server.bodies["/slow/train-images-idx3-ubyte.gz"] = interrupt
    use_mirrors(monkeypatch, server, "slow")
    with pytest.raises(KeyboardInterrupt):
        load("mnist")
    assert cached_names(tmp_path) == []


def test_no_network_is_quick_and_clear(monkeypatch, tmp_path):
    hosts = (NOBODY, "http://localhost:9/", "http://127.0.0.2:9/")
    monkeypatch.setitem(catalogue.MIRRORS, "mnist", hosts)
    started = time.monotonic()
    with pytest.raises(DatasetUnavailableError) as caught:
        load("mnist")
    assert time.monotonic() - started < 5
    message = str(caught.value)
    words = ("FASTNN_DATA_DIR", str(tmp_path / "cache" / "mnist"), "'digits'", "refused", NOBODY, "http://localhost:9/")
    assert [word for word in words if word not in message] == []
    assert hosts[2] not in message, "two silent hosts are enough"
    assert "labels" not in message, "the first file is enough"
    assert cached_names(tmp_path) == []


def test_host_that_cannot_be_resolved(monkeypatch):
    monkeypatch.setitem(catalogue.MIRRORS, "mnist", ("http://mirror.invalid/",))  # RFC 2606 reserves .invalid
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(DatasetUnavailableError, match=r"mirror\.invalid"):
        load("mnist")


def test_cache_that_cannot_be_written(monkeypatch, tmp_path, published):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DatasetUnavailableError, match="FASTNN_CACHE_DIR"):
        load("mnist")


def test_auto_takes_mnist_where_it_can(monkeypatch, published, server):
    offer(server, "good", published["mnist"])
    use_mirrors(monkeypatch, server, "good")
    assert load("auto").name == "mnist"


def test_auto_falls_back_to_digits_and_says_why(monkeypatch, digits_cache):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(digits_cache))
    with pytest.warns(UserWarning, match="NOT MNIST but 'digits'"):
        data = load()
    assert data.name == "digits"
    assert "MNIST is not on this machine" in data.note
    assert "refused" in data.note


def test_heavy_imports_wait_until_they_are_needed():
    code = (
        "import sys, types; package = types.ModuleType('fastnn'); package.__path__ = ['fastnn']\n"
        "sys.modules['fastnn'] = package; import fastnn.datasets\n"
        "heavy = {'scipy', 'sklearn', 'pooch', 'requests', 'tqdm', 'platformdirs'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-B", "-c", code], cwd=ROOT, check=True, timeout=60)


# ---------------------------------------------------------------- digits


@pytest.fixture(scope="session")
def generated():
    return digits.generate()


def test_digits_sizes(monkeypatch, digits_cache):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(digits_cache))
    data = load("digits")
    assert data.x_train.shape == (20_000, 28, 28)
    assert data.x_test.shape == (4_000, 28, 28)
    assert data.x_train.dtype == np.uint8
    for labels in (data.y_train, data.y_test):
        shares = np.bincount(labels, minlength=10) / len(labels)
        assert len(shares) == 10
        assert shares.min() > 0.09
        assert shares.max() < 0.11
    # White on black, the ink in the middle and of about MNIST's amount (its mean is 33).
    assert 28 < data.x_train.mean() < 45
    box = data.x_train[:, 4:24, 4:24].sum(dtype=np.int64) / data.x_train.sum(dtype=np.int64)
    assert box > 0.95
    assert data.x_train.reshape(20_000, -1).max(axis=1).min() > 200


def test_digits_are_the_same_every_time(monkeypatch, digits_cache, generated):
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(digits_cache))
    assert_holds(load("digits"), generated.arrays)


def test_digits_train_and_test_share_no_original(generated):
    train, test = set(generated.train_origins.tolist()), set(generated.test_origins.tolist())
    assert not train & test
    assert train | test == set(range(1797)), "every original is used"
    from sklearn.datasets import load_digits

    originals = load_digits()
    assert len(np.unique(originals.data, axis=0)) == 1797, "and no two originals are the same picture"
    np.testing.assert_array_equal(originals.target[generated.train_origins], generated.arrays["y_train"])
    np.testing.assert_array_equal(originals.target[generated.test_origins], generated.arrays["y_test"])
    uses = np.bincount(generated.train_origins)[sorted(train)]
    assert uses.max() - uses.min() <= 1


def test_digits_images_show_their_origin(generated):
    """Shrunk back to 8x8 cells, an image is nearer to its own original than to nearly every other."""
    from sklearn.datasets import load_digits

    originals = load_digits().images.reshape(1797, -1)
    images = generated.arrays["x_test"][:300, 4:24, 4:24].astype(float)
    cells = np.pad(images, ((0, 0), (2, 2), (2, 2))).reshape(300, 8, 3, 8, 3).mean(axis=(2, 4)).reshape(300, -1)
    nearness = cells @ (originals / np.linalg.norm(originals, axis=1, keepdims=True)).T
    own = nearness[np.arange(300), generated.test_origins[:300]][:, None]
    assert np.median((nearness > own).mean(axis=1)) < 0.1


def test_digits_cache_damaged_or_unwritable(monkeypatch, tmp_path, generated):
    calls = []
    monkeypatch.setattr(digits, "generate", lambda: calls.append(1) or generated)
    folder = tmp_path / "cache"
    assert_holds(load("digits"), generated.arrays)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    for damaged in (whole[:-100], whole[:50_000] + b"\0\xff" + whole[50_002:], b""):
        path.write_bytes(damaged)
        assert_holds(load("digits"), generated.arrays)
        assert path.read_bytes() == whole, "rebuilt"
    assert len(calls) == 4
    load("digits")
    assert len(calls) == 4, "taken from the cache"
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FASTNN_CACHE_DIR", str(tmp_path / "file"))
    assert_holds(load("digits"), generated.arrays)
    assert len(calls) == 5


def test_without_a_home_digits_are_drawn_and_kept_nowhere(monkeypatch, tmp_path):
    def nowhere():
        raise OSError("no home")

    monkeypatch.setattr("fastnn.datasets.digits.cache_dir", nowhere)
    monkeypatch.setattr("fastnn.datasets.loading.cache_dir", nowhere)
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path))
    with pytest.warns(UserWarning, match="NOT MNIST but 'digits'"):
        data = load("auto")
    assert data.name == "digits"
    assert "no home" in data.note
