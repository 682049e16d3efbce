"""Threads of the BLAS, threads of Python, forked children, and compiled code shared between processes."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg.blas  # noqa: F401 - what has to be loaded to be counted
from products import with_all_products
from threadpoolctl import ThreadpoolController

from fastnn import Network
from fastnn.kernels.threads import limit_blas_threads
from fastnn.threads import resolve_threads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def python(code, *arguments, cwd=None, timeout=120, **environment):
    """Standard output of `code` in a fresh process, and its standard error; None takes a variable away."""
    changed = {**os.environ, **environment}
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={name: value for name, value in changed.items() if value is not None},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout, run.stderr


# ---------------------------------------------------------------- how many


def test_the_argument_comes_first(monkeypatch):
    monkeypatch.setenv("FASTNN_NUM_THREADS", "3")
    assert resolve_threads(2) == 2
    assert resolve_threads(np.int64(2)) == 2
    assert resolve_threads(None) == 3
    assert Network([2, 2], backend="numpy").threads == 3
    assert Network([2, 2], backend="numpy", threads=1).threads == 1


@pytest.mark.parametrize("value", [None, ""])
def test_the_default_is_what_this_process_may_use(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv("FASTNN_NUM_THREADS", value)
    assert 1 <= resolve_threads(None) <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (8.0, 4), (1.5, 2), (0.5, 1)])
def test_a_container_s_limit_is_no_more_threads(monkeypatch, quota, expected):
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("fastnn.threads.usable_cores", lambda: 4)
    monkeypatch.setattr("fastnn.threads.cpu_quota", lambda: quota)
    assert resolve_threads(None) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_the_default_respects_affinity():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from fastnn.threads import resolve_threads; print(resolve_threads(None))"
    )
    assert python(code)[0] == "1\n"


@pytest.mark.parametrize("value", [0, -2, 1.5, "many", float("nan"), float("inf"), True, [2], {}])
def test_what_is_no_number_of_threads(value):
    with pytest.raises(ValueError, match="threads must be a whole number of at least 1, got"):
        resolve_threads(value)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "inf", "1e3", "2 4", "0x2"])
def test_what_is_no_number_in_the_environment(monkeypatch, value):
    monkeypatch.setenv("FASTNN_NUM_THREADS", value)
    with pytest.raises(ValueError, match=f"FASTNN_NUM_THREADS must be a whole number of at least 1, got '{value}'"):
        Network([2, 2], backend="numpy")


# ---------------------------------------------------------------- the limit on the BLAS


def counts():
    return [library.get_num_threads() for library in ThreadpoolController().select(user_api="blas").lib_controllers]


@pytest.fixture
def many():
    """The BLAS at four threads, whatever this machine has; given back afterwards."""
    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    before = [library.get_num_threads() for library in libraries]
    for library in libraries:
        library.set_num_threads(4)
    assert set(counts()) == {4}, "a BLAS that cannot be set cannot be tested"
    yield
    for library, number in zip(libraries, before, strict=True):
        library.set_num_threads(number)


def test_limits_nest(many):
    with limit_blas_threads(2):
        assert set(counts()) == {2}
        with limit_blas_threads(1), limit_blas_threads(3):
            assert set(counts()) == {3}
        assert set(counts()) == {2}
    assert set(counts()) == {4}


def test_limits_are_lifted_after_an_error(many):
    with pytest.raises(ZeroDivisionError), limit_blas_threads(1):
        raise ZeroDivisionError
    assert set(counts()) == {4}


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_limits_that_overlap_in_two_threads(many, order):
    """Opened first and second, closed in either order: the last one still open holds, and at the end none does."""
    limits = {"first": 1, "second": 2}
    close, opened = ({name: threading.Event() for name in limits} for _ in range(2))

    def hold(name):
        with limit_blas_threads(limits[name]):
            opened[name].set()
            assert close[name].wait(30)

    threads = {name: threading.Thread(target=hold, args=(name,)) for name in limits}
    for name, thread in threads.items():
        thread.start()
        assert opened[name].wait(30)
    assert set(counts()) == {2}
    for name, remaining in zip(order, (limits[order[1]], 4), strict=True):
        close[name].set()
        threads[name].join()
        assert set(counts()) == {remaining}


def test_the_same_limit_twice_and_another_between(many):
    """Contexts are told apart though their limits are equal."""
    outer, middle, inner = limit_blas_threads(2), limit_blas_threads(1), limit_blas_threads(2)
    outer.__enter__()
    middle.__enter__()
    inner.__enter__()
    inner.__exit__(None, None, None)
    assert set(counts()) == {1}
    outer.__exit__(None, None, None)
    assert set(counts()) == {1}
    middle.__exit__(None, None, None)
    assert set(counts()) == {4}


@with_all_products
def test_training_leaves_the_limit_as_it_was(many, backend, gemm):
    x, y = np.ones((20, 12), np.float32), np.arange(20) % 3
    seen = []
    net = Network([12, 8, 3], backend=backend, threads=1)
    net.fit(x, y, epochs=1, callbacks=[lambda net, history: seen.extend(counts())])
    net.evaluate(x, y)
    net.predict(x)
    net.gradients(x, y)
    assert set(seen) == {1}
    assert set(counts()) == {4}
    with pytest.raises(ZeroDivisionError):
        net.fit(x, y, epochs=1, callbacks=[lambda net, history: 1 / 0])
    assert set(counts()) == {4}


# ---------------------------------------------------------------- several Python threads


def run(seed, backend):
    rng = np.random.default_rng(seed)
    x, y = rng.random((600, 200), np.float32), rng.integers(0, 10, 600)
    net = Network([200, 100, 10], seed=seed, backend=backend, threads=2)
    net.fit(x, y, epochs=3, batch_size=50)
    return net.predict_proba(x), net.history.loss


@with_all_products
def test_networks_trained_at_once_are_those_trained_in_turn(backend, gemm):
    if backend == "cuda_on_cpu":
        pytest.skip("its launches take turns, which takes long")
    seeds = range(4)
    expected, found = [run(seed, backend) for seed in seeds], {}
    threads = [threading.Thread(target=lambda s=seed: found.update({s: run(s, backend)})) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for seed in seeds:
        np.testing.assert_array_equal(found[seed][0], expected[seed][0])
        assert found[seed][1] == expected[seed][1]


@with_all_products
def test_one_network_answers_several_threads(backend, gemm):
    x = np.random.default_rng(0).random((2000, 12), np.float32)
    net = Network([12, 8, 3], backend=backend, threads=1)
    expected, found = net.predict_proba(x), {}
    threads = [threading.Thread(target=lambda i=i: found.update({i: net.predict_proba(x)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for i in range(4):
        np.testing.assert_array_equal(found[i], expected)


# ---------------------------------------------------------------- forked children

FORKED = """
import multiprocessing, os, pickle, sys, threading, time
import numpy as np
import fastnn
from threadpoolctl import ThreadpoolController

rng = np.random.default_rng(0)
x, y = rng.random((2000, 300), np.float32), rng.integers(0, 10, 2000)

def train(_=None, callbacks=()):
    net = fastnn.Network([300, 200, 10], backend=sys.argv[1], threads=2)
    net.fit(x, y, epochs=2, batch_size=200, callbacks=callbacks)
    return net.predict_proba(x).tobytes()

def counts():
    return {l.get_num_threads() for l in ThreadpoolController().select(user_api="blas").lib_controllers}

def forked(function):
    "What `function` returns in a forked child."
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(function(), pipe)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        result = pickle.load(pipe)
    os.waitpid(child, 0)
    return result
"""

CHILD = """
expected = train()
assert forked(train) == expected, "a child"
assert forked(lambda: forked(train)) == expected, "a child's child"
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(train, range(3)) == [expected] * 3, "a pool"
assert train() == expected, "the parent afterwards"

children = []
assert train(callbacks=[lambda n, h: children.append(forked(train))]) == expected
assert children == [expected] * 2, "from inside a run"

# forked while another thread is in a run (though not in the BLAS, whose locks a child inherits as they are): the limit
# that it has set never ends in the child
for library in ThreadpoolController().select(user_api="blas").lib_controllers:
    library.set_num_threads(4)
stop, begun = threading.Event(), threading.Event()
def forever():
    net = fastnn.Network([300, 200, 10], backend=sys.argv[1], threads=1)
    net.fit(x, y, epochs=1, callbacks=[lambda n, h: begun.set() or stop.wait()])
thread = threading.Thread(target=forever)
thread.start()
begun.wait()
assert counts() == {1}
results = [forked(lambda: (train(), counts())) for _ in range(3)]
stop.set()
thread.join()
assert results == [(expected, {4})] * 3, [(r[0] == expected, r[1]) for r in results]
assert counts() == {4}
print("done")
"""


@needs_fork
@with_all_products
def test_forked_children_train_like_their_parent(backend, gemm):
    if backend in ("cupy", "cuda_on_cpu"):
        pytest.skip("CUDA does not survive a fork")
    assert python(FORKED + CHILD, backend, timeout=60)[0] == "done\n"


# ---------------------------------------------------------------- compiled code on disk

COMPILE = """
import json, numpy as np, fastnn, time
start = time.perf_counter()
net = fastnn.Network([5, 3], backend="numba", threads=1)
x = np.arange(10, dtype=np.float32).reshape(2, 5) / 10
out, _ = net.predict_proba(x), net.evaluate(x, [0, 1])
from fastnn.kernels.numba_cache import compiled_for_c
from fastnn.step import bind
stats, functions = bind(net.kernels).evaluate_steps.stats, [function.cache_hits for function in compiled_for_c.values()]
print(json.dumps([out.tolist(), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), functions]))
"""


@pytest.mark.usefixtures("numba")
def test_a_second_process_finds_the_compiled_code(tmp_path):
    """Two at once begin with nothing and must not trip over each other; the third has nothing left to compile."""
    environment = {**os.environ, "FASTNN_CACHE_DIR": str(tmp_path / "new" / "folder")}
    command = [sys.executable, "-c", COMPILE]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (json.loads(process.communicate(timeout=120)[0]) for process in both)
    third = json.loads(python(COMPILE, FASTNN_CACHE_DIR=environment["FASTNN_CACHE_DIR"])[0])
    assert first[0] == second[0] == third[0], "code from the disk gives the same to the bit"
    assert first[2] + second[2] >= 1
    assert third[1:3] == [1, 0]
    assert set(third[3]) == {1}
    assert list((tmp_path / "new" / "folder").rglob("*.nbc"))


@pytest.mark.usefixtures("numba")
def test_without_a_place_for_compiled_code_it_works_and_warns(tmp_path):
    """A folder below a regular file cannot be made by anybody, root included."""
    (tmp_path / "file").write_text("")
    expected = json.loads(python(COMPILE)[0])[0]
    out, err = python(COMPILE, FASTNN_CACHE_DIR=str(tmp_path / "file" / "cache"))
    assert json.loads(out)[0] == expected
    assert err.count("compiled code cannot be cached") == 1
    assert str(tmp_path / "file" / "cache") in err


FOLDER = "from fastnn.kernels.numba_cache import CACHE_FOLDER; print(CACHE_FOLDER)"


@pytest.fixture
def numba():
    from fastnn.backends import READY, available_backends

    if available_backends()["numba"].state != READY:
        pytest.skip("numba is not ready")


@pytest.mark.usefixtures("numba")
def test_the_package_s_own_folder_is_not_written_to(tmp_path):
    """It may be read-only, or shared by users."""
    out, _ = python(FOLDER, FASTNN_CACHE_DIR=None, XDG_CACHE_HOME=str(tmp_path), HOME=str(tmp_path))
    folder = Path(out.strip())
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path)


@pytest.mark.usefixtures("numba")
def test_without_a_home(tmp_path):
    """As in a container whose user is in no password file: nothing named "~" may appear where one happens to be."""
    code = "import os, pwd\ndef nobody(*_):\n    raise KeyError\npwd.getpwuid = pwd.getpwnam = nobody\n"
    for program in (FOLDER, "import fastnn\nassert fastnn.Network([3, 2]).backend"):
        python(code + program, cwd=tmp_path, HOME=None, XDG_CACHE_HOME=None, FASTNN_CACHE_DIR=None)
    assert os.listdir(tmp_path) == []


@pytest.mark.usefixtures("numba")
def test_home_is_not_needed_where_a_folder_is_named(tmp_path):
    out, err = python(FOLDER, HOME=None, XDG_CACHE_HOME=None, FASTNN_CACHE_DIR=str(tmp_path / "mine"))
    assert Path(out.strip()).is_relative_to(tmp_path / "mine")
    assert err == ""


@pytest.mark.usefixtures("numba")
def test_compiled_code_that_nobody_asked_for_in_a_month_is_removed(tmp_path):
    old, recent = (tmp_path / "numba" / name for name in ("0123456789abcdef", "fedcba9876543210"))
    for folder, days in ((old, 31), (recent, 29)):
        folder.mkdir(parents=True)
        (folder / "gather-1.py311.1.nbc").write_bytes(b"code")
        os.utime(folder, (0, time.time() - days * 86_400))
    used = Path(python(FOLDER, FASTNN_CACHE_DIR=str(tmp_path))[0].strip())
    assert set((tmp_path / "numba").iterdir()) == {recent, used}
    os.utime(used, (0, 0))
    python(FOLDER, FASTNN_CACHE_DIR=str(tmp_path))
    assert time.time() - used.stat().st_mtime < 600


@pytest.mark.usefixtures("numba")
def test_numba_s_own_setting_is_left_alone():
    code = (
        "import numba; before = numba.config.CACHE_DIR\n"
        "import fastnn.kernels.numba_kernels\n"
        "assert numba.config.CACHE_DIR == before"
    )
    python(code)


@pytest.mark.usefixtures("numba")
def test_numba_s_own_setting_is_left_alone_while_kernels_are_made(monkeypatch):
    """Another thread may compile at the time what is somebody else's."""
    from numba.core import config

    from fastnn.kernels import numba_cache, numba_kernels

    seen = []

    class Cache(numba_cache._Cache):
        def __init__(self, function):
            seen.append(config.CACHE_DIR)
            super().__init__(function)

    monkeypatch.setattr(numba_cache, "_Cache", Cache)
    numba_cache.compile(numba_kernels.clip.py_func)
    assert seen == [config.CACHE_DIR]
