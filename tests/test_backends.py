"""Which backend is chosen, what is said about those that cannot be had, and that none is swapped silently."""

import asyncio
import json
import os
import subprocess
import sys
import threading

import cuda_on_cpu
import numpy as np
import pytest
import require

import fastnn
from fastnn import BackendError, Network, available_backends, backends, set_backend, use_backend
from fastnn.backends import IMPORT_FAILED, NO_DEVICE, NOT_INSTALLED, READY, WRONG_SETTING, resolve_backend
from fastnn.errors import SettingError

COMPLETE = "from fastnn.kernels.numpy_kernels import *\n"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    backends._registered.cache_clear()
    backends._inspect.cache_clear()
    set_backend(None)
    yield
    set_backend(None)
    backends._registered.cache_clear()
    backends._inspect.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution that registers a backend: ``install(name, source)``; no source, no package."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, source=None):
        package = f"{name}_{tmp_path.name.replace('-', '_')}"
        if source is not None:
            (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-kernels\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[fastnn.backends]\n{name} = {package}\n")
        monkeypatch.delitem(sys.modules, package, raising=False)
        return package

    return make


def choice(argument=None):
    found = resolve_backend(argument)
    return found.name, found.origin


# ---------------------------------------------------------------- precedence


def test_precedence_from_the_weakest_to_the_strongest(install, monkeypatch):
    for name in ("first", "second", "third", "fourth"):
        install(name, COMPLETE)
    assert resolve_backend().origin == "auto (default)"
    monkeypatch.setenv("FASTNN_BACKEND", "first")
    assert choice() == ("first", "FASTNN_BACKEND")
    set_backend("second")
    assert choice() == ("second", "set_backend()")
    with use_backend("third"):
        assert choice() == ("third", "use_backend()")
        assert choice("fourth") == ("fourth", "argument")
        assert Network([2, 2], backend="fourth").backend == "fourth"
        assert Network([2, 2]).backend == "third"
    assert choice() == ("second", "set_backend()")
    set_backend(None)
    assert choice() == ("first", "FASTNN_BACKEND")
    monkeypatch.delenv("FASTNN_BACKEND")
    assert resolve_backend().origin == "auto (default)"


def test_auto_is_a_choice_like_any_other(install, monkeypatch):
    """Asking for auto at a stronger place overrides a name at a weaker one."""
    monkeypatch.setenv("FASTNN_BACKEND", "numpy")
    with use_backend("auto"):
        assert resolve_backend().origin == "auto (use_backend())"
    assert resolve_backend("auto").origin == "auto (argument)"
    set_backend("auto")
    assert resolve_backend().origin == "auto (set_backend())"
    set_backend(None)
    monkeypatch.setenv("FASTNN_BACKEND", "auto")
    assert resolve_backend().origin == "auto (FASTNN_BACKEND)"


def test_an_empty_environment_variable_is_none(monkeypatch):
    monkeypatch.setenv("FASTNN_BACKEND", "")
    assert resolve_backend().origin == "auto (default)"


def test_a_network_says_where_its_backend_came_from():
    with use_backend("numpy"):
        chosen = Network([2, 2]).backend_choice
    assert (chosen.name, chosen.origin) == ("numpy", "use_backend()")
    assert "CPU" in chosen.reason


def test_a_network_keeps_its_backend():
    with use_backend("numpy"):
        net = Network([2, 2])
    set_backend("numba")
    net.fit(np.ones((4, 2)), [0, 1, 0, 1], epochs=1)
    assert net.backend == "numpy"
    assert net.history.backend == "numpy"


# ---------------------------------------------------------------- context managers


def test_contexts_nest_and_close_after_an_error():
    with use_backend("numpy"):
        with use_backend("numba"):
            assert choice()[0] == "numba"
        assert choice()[0] == "numpy"
        with pytest.raises(ZeroDivisionError), use_backend("numba"):
            raise ZeroDivisionError
        assert choice()[0] == "numpy"
    assert resolve_backend().origin == "auto (default)"


def test_a_context_is_of_one_thread_alone():
    inside, done, seen = threading.Event(), threading.Event(), {}

    def other():
        with use_backend("numba"):
            inside.set()
            done.wait(30)
            seen["other"] = choice()

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(30)
    with use_backend("numpy"):
        seen["main"] = choice()
        done.set()
        thread.join()
    assert seen == {"main": ("numpy", "use_backend()"), "other": ("numba", "use_backend()")}


def test_a_new_thread_begins_without_the_context_but_with_the_process_choice():
    seen = []
    set_backend("numba")
    with use_backend("numpy"):
        thread = threading.Thread(target=lambda: seen.append(choice()))
        thread.start()
        thread.join()
    assert seen == [("numba", "set_backend()")]


def test_contexts_of_asyncio_tasks_do_not_mix():
    async def task(name):
        with use_backend(name):
            for _ in range(5):
                await asyncio.sleep(0)
                assert choice() == (name, "use_backend()")
        return resolve_backend().origin

    async def both():
        return await asyncio.gather(task("numpy"), task("numba"), task("numpy"))

    assert asyncio.run(both()) == ["auto (default)"] * 3


# ---------------------------------------------------------------- the four states


def test_ready(install):
    install("toy", COMPLETE)
    info = available_backends()["toy"]
    assert (info.name, info.state, info.remedy) == ("toy", READY, "")
    assert "CPU" in info.reason
    assert info.versions["numpy"] == np.__version__


def test_not_installed(install):
    package = install("toy")
    info = available_backends()["toy"]
    assert (info.state, info.reason) == (NOT_INSTALLED, f"there is no package {package!r}")
    assert info.remedy == "pip install toy-kernels"
    with pytest.raises(BackendError, match=r"(?s)'toy'.*argument.*not installed.*pip install toy-kernels.*numpy"):
        resolve_backend("toy")


@pytest.mark.parametrize("error", ["ImportError", "OSError", "RuntimeError", "AttributeError"])
def test_import_failed_with_the_original_words(install, error):
    install("toy", f"raise {error}('libtoy.so.3: undefined symbol: frobnicate')")
    info = available_backends()["toy"]
    assert (info.state, info.reason) == (IMPORT_FAILED, f"{error}: libtoy.so.3: undefined symbol: frobnicate")
    with pytest.raises(BackendError, match=r"(?s)import failed.*undefined symbol: frobnicate.*pip install toy-kernels"):
        resolve_backend("toy")


def test_a_library_missing_further_down_is_not_called_not_installed(install):
    """Installed, but a library that it imports in turn is not: the state is import failed, with that library's name."""
    install("toy", "import a_library_that_nobody_has")
    info = available_backends()["toy"]
    assert info.state == IMPORT_FAILED
    assert "a_library_that_nobody_has" in info.reason


def test_no_device(install):
    source = "def device():\n    from fastnn.errors import BackendError\n    raise BackendError('no TPU on this bus')\n"
    install("toy", COMPLETE + source)
    info = available_backends()["toy"]
    assert (info.state, info.reason) == (NO_DEVICE, "no TPU on this bus")
    assert info.remedy
    with pytest.raises(BackendError, match=r"(?s)no device.*no TPU on this bus"):
        resolve_backend("toy")


def test_available_backends_lists_the_built_in_ones_first(install):
    install("toy", COMPLETE)
    found = available_backends()
    assert list(found) == ["cupy", "numba", "numpy", "toy"]
    for name, info in found.items():
        assert info.name == name
        assert info.state in (READY, NOT_INSTALLED, IMPORT_FAILED, NO_DEVICE)
        assert info.reason
        assert bool(info.remedy) == (info.state != READY)
    assert found["numpy"].state == READY
    assert "scipy" in found["numpy"].versions


def test_a_built_in_backend_cannot_be_replaced(install):
    install("numpy", "raise ImportError('an impostor')")
    assert available_backends()["numpy"].state == READY


# ---------------------------------------------------------------- an explicit choice is never replaced


def choose_by_argument(name):
    Network([2, 2], backend=name)


def choose_by_context(name):
    with use_backend(name):
        pytest.fail("the block was entered")


def choose_by_environment(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTNN_BACKEND", name)
        Network([2, 2])


WAYS = [
    (choose_by_argument, "argument"),
    (choose_by_context, r"use_backend\(\)"),
    (set_backend, r"set_backend\(\)"),
    (choose_by_environment, "FASTNN_BACKEND"),
]


@pytest.mark.parametrize(("choose", "origin"), WAYS)
def test_unknown_names_are_refused_with_the_choices(choose, origin):
    with pytest.raises(BackendError, match=rf"'nunba'; did you mean 'numba'\? Choices: cupy, numba, numpy.*{origin}"):
        choose("nunba")
    assert resolve_backend().origin == "auto (default)"


@pytest.mark.parametrize(("choose", "origin"), WAYS)
def test_a_choice_that_is_not_ready_is_an_error(install, choose, origin):
    install("toy", "raise ImportError('broken toy')")
    with pytest.raises(BackendError, match=rf"(?s){origin}.*import failed.*broken toy.*choose one that is ready"):
        choose("toy")
    assert resolve_backend().origin == "auto (default)"


def test_the_error_does_not_offer_itself(install):
    install("toy")
    with pytest.raises(BackendError) as caught:
        resolve_backend("toy")
    offered = str(caught.value).rpartition("choose one that is ready: ")[2]
    assert "numpy" in offered
    assert "toy" not in offered


@pytest.mark.parametrize("name", [3, b"numpy", "NUMPY ", "numpy,numba"])
def test_what_is_no_name_is_unknown(name):
    with pytest.raises(BackendError, match="unknown backend"):
        Network([2, 2], backend=name)


def test_an_empty_name_is_an_explicit_choice_too():
    with pytest.raises(BackendError, match="unknown backend ''"):
        Network([2, 2], backend="")


# ---------------------------------------------------------------- auto

BROKEN = """
import json, warnings
import numpy as np
import fastnn
from fastnn.backends import resolve_backend
net = fastnn.Network([3, 4, 2])
net.fit(np.eye(3), [0, 1, 1], epochs=1)
info = fastnn.available_backends()["numba"]
try:
    fastnn.Network([3, 2], backend="numba")
    error = ""
except fastnn.BackendError as e:
    error = str(e)
chosen = net.backend_choice
print(json.dumps([chosen.name, chosen.origin, chosen.reason, info.state, info.reason, error]))
"""


def test_auto_passes_over_a_broken_numba_and_says_so(tmp_path):
    for library in ("numba", "cupy"):
        (tmp_path / library).mkdir()
        (tmp_path / library / "__init__.py").write_text(f"raise ImportError('{library} needs NumPy 1.22 or less')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-c", BROKEN], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    name, origin, reason, state, why, error = json.loads(run.stdout)
    assert (name, origin) == ("numpy", "auto (default)")
    assert "numba: import failed" in reason
    assert state == IMPORT_FAILED
    assert why == "ImportError: numba needs NumPy 1.22 or less"
    assert why in error


def test_auto_takes_the_first_that_is_ready():
    ready = [name for name, info in available_backends().items() if info.state == READY]
    assert resolve_backend("auto").name == ready[0]


# ---------------------------------------------------------------- foreign backends, and moving between backends


def trained(backend, **options):
    rng = np.random.default_rng(4)
    x, y = rng.random((90, 12), np.float32), rng.integers(0, 3, 90)
    net = Network([12, 8, 3], backend=backend, seed=6, dropout=0.2)
    net.fit(x, y, epochs=2, batch_size=16, optimizer="sgd(0.1, momentum=0.5)", **options)
    return net, x, y


def test_a_registered_backend_trains(install):
    install("toy", COMPLETE + "def device():\n    return 'a toy'\n")
    net, x, y = trained("toy")
    reference = trained("numpy")[0]
    assert net.backend == "toy"
    assert net.history.backend == "toy"
    assert "toy" in repr(net)
    np.testing.assert_array_equal(net.predict_proba(x), reference.predict_proba(x))
    assert net.evaluate(x, y) == reference.evaluate(x, y)
    assert net.history.loss == reference.history.loss


def test_to_moves_and_answers_stay(backend):
    net, x, y = trained("numpy")
    before, weights, score = net.predict_proba(x), net.get_weights(), net.evaluate(x, y)
    assert net.to(backend) is net
    assert (net.backend, net.backend_choice.name, net.backend_choice.origin) == (backend, backend, "argument")
    for (W, b), (new_W, new_b) in zip(weights, net.get_weights(), strict=True):
        np.testing.assert_array_equal(W, new_W)
        np.testing.assert_array_equal(b, new_b)
    np.testing.assert_allclose(net.predict_proba(x), before, rtol=1e-5, atol=1e-6)
    assert net.evaluate(x, y) == pytest.approx(score, rel=1e-5)
    net.to("numpy")
    np.testing.assert_array_equal(net.predict_proba(x), before)


def test_training_goes_on_after_a_move(backend):
    """Moved after two epochs and trained for one more: as without the move."""
    runs = []
    for target in ("numpy", backend):
        net, x, y = trained("numpy")
        net.to(target).fit(x, y, epochs=1, batch_size=16)
        assert net.epochs_trained == 3
        runs.append(net.predict_proba(x) if target == "numpy" else net.to("numpy").predict_proba(x))
    np.testing.assert_allclose(runs[1], runs[0], rtol=1e-4, atol=1e-6)


def test_to_a_backend_that_is_not_there_changes_nothing(install):
    install("toy")
    net, x, _ = trained("numpy")
    before = net.predict_proba(x)
    with pytest.raises(BackendError, match="not installed"):
        net.to("toy")
    assert net.backend == "numpy"
    np.testing.assert_array_equal(net.predict_proba(x), before)


def test_backend_error_is_a_runtime_error():
    assert issubclass(fastnn.BackendError, RuntimeError)


STATES = """
import json, fastnn
infos = fastnn.available_backends()
print(json.dumps({name: [info.state, info.reason, info.remedy] for name, info in infos.items()}))
"""


@pytest.mark.parametrize(
    ("variable", "value", "state"), [("NUMBA_DISABLE_JIT", "1", "disabled"), ("FASTNN_GEMM", "fast", "wrong setting")]
)
def test_a_variable_that_forbids_numba_is_a_state_with_its_reason(variable, value, state):
    environment = {**{k: v for k, v in os.environ.items() if k != "FASTNN_BACKEND"}, variable: value}
    run = subprocess.run([sys.executable, "-c", STATES], env=environment, capture_output=True, text=True, check=True)
    infos = json.loads(run.stdout)
    assert infos["numba"][0] == state
    assert variable in infos["numba"][1]
    assert "unset" in infos["numba"][2]
    assert infos["numpy"][0] == READY
    command = subprocess.run(
        [sys.executable, "-m", "fastnn.cli", "backends"], env=environment, capture_output=True, text=True
    )
    assert (command.returncode, command.stderr) == (0, "")
    if variable == "NUMBA_DISABLE_JIT":
        assert "chosen   numpy" in command.stdout


@pytest.mark.parametrize(("variable", "value"), [("FASTNN_CUDA_PLAN", "fast"), ("FASTNN_CUDA_DATA_LIMIT", "8 GB")])
def test_a_wrong_variable_of_the_cuda_backend_is_a_state_with_its_reason(monkeypatch, variable, value):
    cuda_on_cpu.register(monkeypatch.setitem)
    if available_backends()["cuda_on_cpu"].state != READY:
        require.missing("cuda_on_cpu", "no C++ compiler")
    backends._inspect.cache_clear()
    monkeypatch.setenv(variable, value)
    info = available_backends()["cuda_on_cpu"]
    assert info.state == WRONG_SETTING
    assert variable in info.reason
    assert repr(value) in info.reason
    with pytest.raises(SettingError, match=variable):
        resolve_backend("cuda_on_cpu")
    monkeypatch.delenv(variable)
    assert available_backends()["cuda_on_cpu"].state == READY
