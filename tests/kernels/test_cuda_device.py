"""The launch layer of the cupy backend, and what is said where that backend cannot be had: without CuPy or a device.

`fake_cupy` stands in for CuPy. Where a CuPy is installed, the names that the layer uses and the fake's errors are
compared with it.
"""

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import fake_cupy
import numpy as np
import pytest
from fake_cupy import Machine

from fastnn import BackendError, DeviceMemoryError, available_backends, backends
from fastnn.backends import IMPORT_FAILED, NO_DEVICE, NOT_INSTALLED, READY, resolve_backend
from fastnn.cli import main
from fastnn.kernels.cuda_source import Module

HERE = Path(fake_cupy.__file__).parent
LAYER = "fastnn.kernels.cuda_device"
FRESH = (LAYER, "fastnn.kernels.cuda_stream", "fastnn.kernels.cupy_kernels")
PAGE = "\n==========\nFailed to import CuPy.\n\nOriginal error:\n  ImportError: libfrob.so.3: not found\n==========\n"


@pytest.fixture(autouse=True)
def _nothing_remembered():
    """What was imported over a fake is forgotten after the test, and what was there before is back."""
    kept = {name: sys.modules.pop(name, None) for name in FRESH}
    backends._inspect.cache_clear()
    yield
    for name, module in kept.items():
        place(name, module)
    backends._inspect.cache_clear()


def place(name, module):
    """Have a module of this name imported, in its package too; or none, for None."""
    package, _, last = name.rpartition(".")
    sys.modules.pop(name, None)
    vars(sys.modules[package]).pop(last, None)
    if module is not None:
        sys.modules[name] = module
        setattr(sys.modules[package], last, module)


@pytest.fixture
def wheels(monkeypatch):
    """The distributions that have a package `cupy`: a list to be changed."""
    found = ["cupy-cuda13x", "cupy-cuda13x"]  # a name comes as often as importlib.metadata finds it
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"cupy": found, "numpy": ["numpy"]})
    return found


@pytest.fixture
def install(wheels, monkeypatch):
    """CuPy on a machine: ``install(driver=0)``; see `fake_cupy.Machine`."""

    def make(**facts):
        machine = Machine(**facts)
        for name, module in fake_cupy.modules(machine).items():
            monkeypatch.setitem(sys.modules, name, module)
        return machine

    return make


@pytest.fixture
def layer(install):
    """A machine and the launch layer on it: ``layer(driver=0)``."""

    def make(**facts):
        machine = install(**facts)
        return machine, importlib.import_module(LAYER)

    return make


# ---------------------------------------------------------------- the device, and the reasons for having none

MISSING = fake_cupy.CompileException(
    '\nkern.cu(1): catastrophic error: cannot open source file "cuda_fp16.h"\n\n1 catastrophic error detected\n',
    "",
    "kern.cu",
    (),
)
NO_PATH = RuntimeError("Failed to auto-detect CUDA root directory. Please specify `CUDA_PATH` environment variable.")

REASONS = [  # what the machine is, the error's kind, words of the reason
    ({"driver": 0}, NO_DEVICE, ["no NVIDIA driver is loaded", "cupy 14.2.0"]),
    ({"driver": 12040, "runtime": 13000, "count_fails": 35}, NO_DEVICE, ["CUDA 12.4 ", "CUDA 13.0", "[cuda12]"]),
    ({"driver": 11080, "runtime": 12090, "count_fails": 35}, NO_DEVICE, ["CUDA 11.8 ", "CUDA 12.9", "the driver"]),
    ({"devices": 0}, NO_DEVICE, ["the driver sees none", "CUDA_VISIBLE_DEVICES"]),
    ({"count_fails": 100}, NO_DEVICE, ["the driver sees none", "CUDA_VISIBLE_DEVICES"]),
    ({"count_fails": 46}, NO_DEVICE, ["cudaErrorDevicesUnavailable"]),
    ({"capability": "75"}, NO_DEVICE, ["NVIDIA Invented has compute capability 7.5", "8.0 (Ampere) is the least"]),
    ({"first_use": MISSING}, IMPORT_FAILED, ["CUDA's headers are missing", 'cannot open source file "cuda_fp16.h"']),
    ({"first_use": NO_PATH}, IMPORT_FAILED, ["CUDA's headers are missing", "`CUDA_PATH`"]),
    ({"first_use": RuntimeError("")}, IMPORT_FAILED, ["CUDA's headers are missing"]),
    ({"first_use": fake_cupy.CUDARuntimeError(46)}, NO_DEVICE, ["takes no work", "busy or unavailable"]),
    ({"first_use": fake_cupy.OutOfMemoryError(512, 0)}, NO_DEVICE, ["takes no work", "Out of memory"]),
]


@pytest.mark.parametrize(("facts", "state", "words"), REASONS)
def test_every_reason_is_one_line_that_says_what_is_wrong(layer, facts, state, words):
    _, cuda_device = layer(**facts)
    with pytest.raises({NO_DEVICE: BackendError, IMPORT_FAILED: ImportError}[state]) as caught:
        cuda_device.device()
    reason = str(caught.value)
    assert "\n" not in reason
    assert [word for word in words if word not in reason] == []


def test_an_old_driver_is_answered_with_a_cupy_only_where_there_is_one_for_it(layer):
    for driver, runtime, extra in ((12040, 13020, "[cuda12]"), (11080, 13020, None), (13000, 13020, None)):
        place(LAYER, None)
        _, cuda_device = layer(driver=driver, runtime=runtime, count_fails=35)
        with pytest.raises(BackendError, match="update the driver") as caught:
            cuda_device.device()
        extras = re.findall(r"\[cuda\d+\]", str(caught.value))
        assert extras == ([extra] if extra else [])
        # installed beside the other wheel, the new one would break both
        assert ("pip uninstall -y cupy-cuda13x && pip install" in str(caught.value)) == bool(extra)


def test_two_wheels_are_named_with_the_command_that_removes_them(layer, wheels):
    wheels.append("cupy-cuda12x")
    with pytest.raises(ImportError) as caught:
        layer()
    reason = str(caught.value)
    assert reason.startswith("cupy-cuda12x and cupy-cuda13x are installed over each other")
    assert "pip uninstall -y cupy-cuda12x cupy-cuda13x," in reason
    assert "\n" not in reason


def test_other_distributions_with_a_package_cupy_are_no_second_wheel(layer, wheels):
    wheels.append("someones-stubs")
    assert layer()[1].device()


def test_the_cause_is_taken_from_cupys_page(wheels, monkeypatch):
    class Broken:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "cupy":
                raise ImportError(PAGE) from ImportError("libfrob.so.3: not found\nsecond line")

    monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(LAYER)
    assert str(caught.value) == "CuPy cannot be imported: libfrob.so.3: not found"


def test_a_ready_device_is_named_with_capability_and_memory(layer):
    _, cuda_device = layer(capability="90", total=80 * 2**30)
    assert cuda_device.device() == "NVIDIA Invented, compute capability 9.0, 80 GiB"


@pytest.mark.parametrize(("text", "numbers"), [("80", (8, 0)), ("90", (9, 0)), ("100", (10, 0)), ("121", (12, 1))])
def test_capability(layer, text, numbers):
    _, cuda_device = layer(capability=text)
    assert cuda_device.capability() == numbers
    assert f"compute capability {numbers[0]}.{numbers[1]}" in cuda_device.device()


def test_multiprocessors(layer):
    assert layer(multiprocessors=78)[1].multiprocessors() == 78


def test_shared_limit_is_what_a_kernel_can_ask_for(layer):
    assert layer(shared_limit=99 * 1024)[1].shared_limit() == 99 * 1024


def test_versions_with_and_without_a_driver(layer):
    assert layer()[1].versions() == {"cupy": "14.2.0", "cuda": "13.2", "driver": "13.2"}
    place(LAYER, None)
    assert layer(driver=0)[1].versions() == {"cupy": "14.2.0", "cuda": "13.2"}


# ---------------------------------------------------------------- what the table of backends says of it


@pytest.mark.parametrize(("facts", "state", "words"), REASONS)
def test_the_backend_has_state_reason_and_remedy(install, facts, state, words):
    install(**facts)
    info = available_backends()["cupy"]
    assert info.state == state
    assert [word for word in words if word not in info.reason] == []
    assert "\n" not in info.reason
    assert ("nvidia-smi" in info.remedy) == (state == NO_DEVICE)
    assert ("fastnn-mlp[cuda13]" in info.remedy) == (state == IMPORT_FAILED)
    assert ("cuda" in info.versions) == (state == NO_DEVICE)


@pytest.mark.parametrize(("facts", "state", "words"), REASONS)
def test_an_explicit_choice_fails_with_two_lines(install, facts, state, words):
    install(**facts)
    with pytest.raises(BackendError) as caught:
        resolve_backend("cupy")
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"backend 'cupy' (asked for by argument) is not ready: {state}: ")
    assert [word for word in words if word not in first] == []
    assert second.endswith("or choose one that is ready: numba, numpy, auto.")


def test_two_wheels_are_a_failed_import(install, wheels):
    wheels.append("cupy-cuda12x")
    install()
    info = available_backends()["cupy"]
    assert info.state == IMPORT_FAILED
    assert "pip uninstall -y cupy-cuda12x cupy-cuda13x" in info.reason


@pytest.mark.parametrize("facts", [{"driver": 0}, {"first_use": MISSING}])
def test_auto_passes_on_to_numba_and_says_why(install, facts):
    install(**facts)
    choice = resolve_backend("auto")
    assert choice.name == "numba"
    assert choice.reason.startswith(f"cupy: {available_backends()['cupy'].state}")


def test_a_ready_device_is_autos_first_choice(install):
    install()
    info = available_backends()["cupy"]
    assert (info.state, info.remedy) == (READY, "")
    assert info.versions == {"cupy": "14.2.0", "cuda": "13.2", "driver": "13.2"}
    choice = resolve_backend("auto")
    assert (choice.name, choice.reason) == ("cupy", "cupy: NVIDIA Invented, compute capability 9.0, 80 GiB")
    assert choice.kernels.precisions() == ("bf16", "tf32")


# ---------------------------------------------------------------- what the command says of it

HIDDEN = """
import sys
from importlib.machinery import PathFinder


class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in ("cupy", "cupyx") else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


def write_cupy(folder, source):
    (folder / "cupy").mkdir()
    (folder / "cupy" / "__init__.py").write_text(source)


def no_device(folder):
    write_cupy(folder, "import fake_cupy\nfake_cupy.install(driver=0)\n")


def not_installed(folder):
    (folder / "sitecustomize.py").write_text(HIDDEN)


def broken(folder):
    write_cupy(folder, f"raise ImportError({PAGE!r}) from ImportError('libfrob.so.3: not found')\n")


def two_wheels(folder):
    """CuPy warns of this when it is imported."""
    write_cupy(folder, f"import fake_cupy, warnings\nwarnings.warn({PAGE!r})\nfake_cupy.install()\n")
    for wheel in ("cupy-cuda12x", "cupy-cuda13x"):
        info = folder / f"{wheel.replace('-', '_')}-14.2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {wheel}\nVersion: 14.2.0\n")
        (info / "top_level.txt").write_text("cupy\n")


@pytest.fixture
def train(tmp_path):
    """``fastnn train`` on a prepared installation, in a process of its own: ``train(no_device, "cupy")``."""

    def run(prepare, backend):
        prepare(tmp_path)
        path = os.pathsep.join([str(tmp_path), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "fastnn.cli", "train", "--dataset", "digits", "--epochs", "1"]
        environment = {**os.environ, "PYTHONPATH": path, "FASTNN_BACKEND": backend}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)

    return run


@pytest.mark.parametrize(
    ("prepare", "state", "words"),
    [
        (no_device, NO_DEVICE, "no NVIDIA driver is loaded"),
        (not_installed, NOT_INSTALLED, "there is no package 'cupy'"),
        (broken, IMPORT_FAILED, "CuPy cannot be imported: libfrob.so.3: not found"),
        (two_wheels, IMPORT_FAILED, "cupy-cuda12x and cupy-cuda13x are installed over each other"),
    ],
)
def test_the_command_ends_with_code_3_and_two_lines(train, prepare, state, words):
    done = train(prepare, "cupy")
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith(f"fastnn: backend 'cupy' (asked for by FASTNN_BACKEND) is not ready: {state}: ")
    assert words in first
    assert ("nvidia-smi" if state == NO_DEVICE else "pip install 'fastnn-mlp[cuda13]'") in second
    assert "or choose one that is ready: " in second


@pytest.mark.parametrize(("prepare", "state"), [(no_device, NO_DEVICE), (not_installed, NOT_INSTALLED)])
def test_the_command_trains_with_auto_elsewhere_and_says_so(train, prepare, state):
    done = train(prepare, "auto")
    assert done.returncode == 0, done.stderr
    words = rf"^backend +(numba|numpy), by auto \(FASTNN_BACKEND\); cupy: {state}; "
    assert re.search(words, done.stdout, re.MULTILINE)
    assert re.search(r"^test accuracy +\d+\.\d\d %$", done.stdout, re.MULTILINE)


# ---------------------------------------------------------------- memory


def test_arrays_go_to_the_device_and_back(layer):
    machine, cuda_device = layer()
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = cuda_device.asarray(values)
    assert isinstance(array, fake_cupy.Array)
    np.testing.assert_array_equal(cuda_device.to_numpy(array), values)
    made = cuda_device.zeros((3, 2), np.dtype(np.int64))
    assert (made.shape, made.dtype, made.any()) == ((3, 2), np.int64, False)
    cuda_device.synchronize()
    assert machine.happened[-1] == ("synchronize", machine.streams[-1])


def test_free_memory_counts_what_the_pool_holds(layer):
    assert layer(free=5, pooled=7)[1].free_memory() == 12


def ask_for_zeros(cuda_device, shape):
    cuda_device.zeros(shape, np.dtype(np.float64))


def ask_for_a_copy(cuda_device, shape):
    cuda_device.asarray(np.zeros(shape))


@pytest.mark.parametrize("ask", [ask_for_zeros, ask_for_a_copy])
def test_memory_that_is_not_there(layer, ask):
    _, cuda_device = layer(free=2**20, pooled=2**19, total=16 * 2**30)
    with pytest.raises(DeviceMemoryError) as caught:
        ask(cuda_device, (1000, 1024))
    assert isinstance(caught.value, MemoryError)
    words = str(caught.value)
    assert "asked for 7.8 MiB (shape (1000, 1024), float64)" in words
    assert "1.5 MiB of 16.00 GiB are free" in words
    for setting in ("batch_size", "layers", "float32", "FASTNN_CUDA_DATA_LIMIT"):
        assert setting in words


def test_what_fits_is_no_error(layer):
    assert layer(free=8000)[1].zeros((1000,), np.dtype(np.float64)).size == 1000
    place(LAYER, None)
    with pytest.raises(DeviceMemoryError):
        layer(free=7999)[1].zeros((1000,), np.dtype(np.float64))


def test_other_errors_are_passed_on(layer):
    with pytest.raises(TypeError):
        layer()[1].zeros((2,), "no dtype")


def test_the_command_says_what_did_not_fit(install, capsys):
    install(free=2**16)
    assert main(["train", "--dataset", "digits", "--epochs", "1", "--backend", "cupy"]) == 1
    words = capsys.readouterr().err
    assert words.startswith("fastnn: out of device memory: asked for ")
    assert words.count("\n") == 1


# ---------------------------------------------------------------- kernels

SOURCE = Module("optimizers.cu", ("REAL=float", "SPECIAL"))


def launches(machine):
    return [event for event in machine.happened if event[0] in ("launch", "allow shared memory", "occupancy")]


def test_a_module_is_compiled_once(layer):
    machine, cuda_device = layer()
    first = cuda_device.load(SOURCE)
    assert cuda_device.load(Module(*SOURCE)) is first
    assert cuda_device.load(SOURCE._replace(macros=("REAL=double",))) is not first
    compiled = [event for event in machine.happened if event[0] == "compile"]
    assert len(compiled) == 2
    assert compiled[0] == ("compile", SOURCE.text(), ("-std=c++17",), False)


def test_only_blocks_that_wait_for_each_other_are_launched_together(layer):
    machine, cuda_device = layer()
    alone = cuda_device.load(SOURCE)
    assert cuda_device.load(SOURCE._replace(cooperative=True)) is not alone
    assert [event[-1] for event in machine.happened if event[0] == "compile"] == [False, True]


def test_a_kernel_that_does_not_compile(layer):
    log = 'optimizers.cu(7): error: identifier "weigth" is undefined\n1 error detected in the compilation\n'
    _, cuda_device = layer(log=log, capability="86")
    with pytest.raises(BackendError) as caught:
        cuda_device.load(SOURCE)
    assert str(caught.value) == f"optimizers.cu (REAL=float SPECIAL) does not compile for sm_86:\n{log}"


def test_a_launch_passes_on_what_it_is_given(layer):
    machine, cuda_device = layer()
    arguments = (cuda_device.zeros((2,), np.dtype(np.float32)), 3, 0.5)
    loaded = cuda_device.load(SOURCE)
    loaded.start("sgd", 7, 256, 64, *arguments)
    (launch,) = launches(machine)
    assert launch[:4] == ("launch", "sgd", (7,), (256,))
    assert launch[5] == 64
    assert isinstance(launch[4], tuple)
    assert all(passed is given for passed, given in zip(launch[4], arguments, strict=True))


def test_a_kernel_is_looked_up_once(layer):
    machine, cuda_device = layer()
    loaded = cuda_device.load(SOURCE)
    for name in ("sgd", "adam", "sgd", "adam"):
        loaded.start(name, 1, 32, 0)
    assert [event for event in machine.happened if event[0] == "get function"] == [
        ("get function", "sgd"),
        ("get function", "adam"),
    ]


def test_shared_memory_beyond_48_kilobytes_is_asked_for_once(layer):
    machine, cuda_device = layer()
    loaded = cuda_device.load(SOURCE)
    small, large, larger = 48 * 1024, 64 * 1024, 100 * 1024
    for shared in (0, small, large, large, small, larger, large):
        loaded.start("dense", 1, 32, shared)
    loaded.start("other", 1, 32, large)
    asked = [event[1:] for event in launches(machine) if event[0] == "allow shared memory"]
    assert asked == [("dense", large), ("dense", larger), ("other", large)]
    assert [event[-1] for event in launches(machine) if event[0] == "launch"] == [
        *(0, small, large, large, small, larger, large),
        large,
    ]


def test_the_fake_refuses_shared_memory_that_was_not_asked_for(install):
    kernel = fake_cupy.RawKernel(install(), "dense")
    with pytest.raises(RuntimeError, match="INVALID_VALUE"):
        kernel((1,), (32,), (), shared_mem=48 * 1024 + 1)
    with pytest.raises(RuntimeError, match="INVALID_VALUE"):
        kernel.max_dynamic_shared_size_bytes = 227 * 1024 + 1


def test_resident_blocks_are_those_of_all_multiprocessors(layer):
    machine, cuda_device = layer(multiprocessors=78, resident=3)
    loaded = cuda_device.load(SOURCE)
    loaded.start("other", 1, 32, 0)
    assert cuda_device.resident_blocks(loaded, "dense", 256, 1024) == 78 * 3
    assert launches(machine)[1:] == [("occupancy", "dense", 256, 1024)]


def test_no_block_is_resident_where_none_fits(layer):
    _, cuda_device = layer(resident=0)
    assert cuda_device.resident_blocks(cuda_device.load(SOURCE), "dense", 256, 1024) == 0


def test_shared_memory_is_asked_for_before_resident_blocks_are_counted(layer):
    machine, cuda_device = layer(multiprocessors=10, resident=1)
    loaded = cuda_device.load(SOURCE)
    large = 200 * 1024
    assert cuda_device.resident_blocks(loaded, "dense", 256, large) == 10
    loaded.start("dense", 10, 256, large)  # with the kernel that was counted: nothing is asked for again
    assert launches(machine) == [
        ("allow shared memory", "dense", large),
        ("occupancy", "dense", 256, large),
        ("launch", "dense", (10,), (256,), (), large),
    ]
    assert [event for event in machine.happened if event[0] == "get function"] == [("get function", "dense")]


def test_the_fake_counts_no_block_with_shared_memory_that_was_not_asked_for(install):
    machine = install()
    kernel = fake_cupy.RawKernel(machine, "dense")
    assert machine.occupancy(kernel.kernel.ptr, 32, 48 * 1024) == machine.resident
    assert machine.occupancy(kernel.kernel.ptr, 32, 48 * 1024 + 1) == 0


# ---------------------------------------------------------------- graphs


def test_work_is_captured_on_a_stream_of_its_own(layer):
    machine, cuda_device = layer()
    default = machine.streams[-1]
    seen = []
    graph = cuda_device.capture(lambda: seen.append((machine.streams[-1], list(machine.happened))))
    ((stream, before),) = seen
    assert stream is not default
    assert stream.is_non_blocking
    assert before == [("begin capture", stream)]
    assert machine.happened[1:] == [("end capture", stream), ("upload", graph, default)]
    assert machine.streams == [default]


@pytest.mark.parametrize("capture_fails", [False, True])
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_ends_the_capture_and_is_what_the_caller_sees(layer, capture_fails, error):
    machine, cuda_device = layer(capture_fails=capture_fails)
    default = machine.streams[-1]

    def work():
        raise error

    with pytest.raises(error):
        cuda_device.capture(work)
    assert [event[0] for event in machine.happened] == ["begin capture", "end capture"]
    assert machine.streams == [default]


def test_a_capture_that_fails_by_itself_is_an_error_too(layer):
    machine, cuda_device = layer(capture_fails=True)
    with pytest.raises(fake_cupy.CUDARuntimeError, match="StreamCaptureInvalidated"):
        cuda_device.capture(lambda: None)
    assert len(machine.streams) == 1


# ---------------------------------------------------------------- copies beside the computation


@pytest.fixture
def upload(layer):
    """A machine with its default stream, an `Uploads`, page-locked values, and an array of the device for them."""
    machine, cuda_device = layer()
    uploads = cuda_device.Uploads()
    values = uploads.pinned_array((2, 3), np.dtype(np.float32))
    values[...] = 4
    return machine, machine.streams[-1], uploads, values, cuda_device.zeros((2, 3), np.dtype(np.float32))


def test_room_is_page_locked(upload):
    *_, values, _ = upload
    assert isinstance(values, fake_cupy.PinnedArray)
    assert (values.shape, values.dtype) == ((2, 3), np.float32)


def test_a_copy_waits_for_its_mark_and_what_is_launched_later_for_the_copy(upload):
    machine, default, uploads, values, to = upload
    after = uploads.record_event()
    assert machine.happened[-1] == ("record", default, after)
    begin = len(machine.happened)
    done = uploads.copy(values, to, after)
    wait, copy, record, hold = machine.happened[begin:]
    own = copy[1]
    assert own is not default
    assert own.is_non_blocking
    assert wait == ("wait", own, after)
    assert copy == ("copy", own, True)
    assert record == ("record", own, done)
    assert hold == ("wait", default, done)
    np.testing.assert_array_equal(to, values)
    done.synchronize()
    assert machine.happened[-1] == ("synchronize", done)


def test_all_copies_go_one_after_the_other(upload):
    machine, _, uploads, values, to = upload
    for _ in range(3):
        uploads.copy(values, to, None)
    assert len({event[1] for event in machine.happened if event[0] == "copy"}) == 1


def test_copies_and_captures_are_the_current_streams(layer):
    """A caller who has made another stream current has everything in that one's order."""
    machine, cuda_device = layer()
    with fake_cupy.Stream(machine) as stream:
        uploads = cuda_device.Uploads()
        values, to = uploads.pinned_array((1,), np.dtype(np.uint8)), cuda_device.zeros((1,), np.dtype(np.uint8))
        uploads.copy(values, to, uploads.record_event())
        graph = cuda_device.capture(lambda: None)
        cuda_device.synchronize()
    waiting = [event[1] for event in machine.happened if event[0] == "wait"]
    assert waiting[-1] is stream
    assert machine.happened[-2:] == [("upload", graph, stream), ("synchronize", stream)]


# ---------------------------------------------------------------- the layer and the fake against an installed CuPy

RESULTS = {  # of CuPy's functions, whose attributes the layer goes on to use
    "cupy.cuda.get_current_stream": "cupy.cuda.Stream",
    "cupy.get_default_memory_pool": "cupy.cuda.MemoryPool",
}
KINDS = {  # of CuPy's, that the layer has in variables: what they are, and the attributes it uses
    "cupy.RawModule": ("compile", "get_function"),
    "cupy.RawKernel": ("kernel", "max_dynamic_shared_size_bytes", "__call__"),
    "cupy.cuda.Function": ("ptr",),
    "cupy.cuda.Stream": ("begin_capture", "end_capture", "record", "wait_event", "__enter__"),
    "cupy.cuda.Event": ("synchronize",),
    "cupy.cuda.Graph": ("upload", "launch"),
    "cupy.ndarray": ("set",),
}
POSITIONS = {  # of the arguments that the layer passes in this order, as the documentation names them
    "cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor": ["func", "blockSize", "dynamicSMemSize"],
}
KEYWORDS = {  # the layer's, as the documentation has them
    "cupy.RawModule": ("code", "options", "enable_cooperative_groups"),
    "cupy.RawKernel.__call__": ("shared_mem",),
    "cupy.cuda.Stream": ("non_blocking",),
    "cupy.ndarray.set": ("stream",),
}


def chains(source):
    """The dotted names of CuPy's in a source, those that begin with what a call of one returns too."""
    tree = ast.parse(source)
    names = {"cupy": "cupy", "cupyx": "cupyx"}
    for node in tree.body:
        if isinstance(node, ast.Assign) and dotted(node.value, names):
            names[node.targets[0].id] = dotted(node.value, names)
    return sorted(filter(None, {dotted(n, names) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}))


def dotted(node, names):
    """A name in full; None if it is not CuPy's."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Call):
        called = dotted(node.func, names)
        return RESULTS.get(called, called)  # of a class: an instance, which has its attributes
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value, names)
        return owner and f"{owner}.{node.attr}"
    return None


def missing(names):
    """Those that there are not."""

    def exists(name):
        module, *attributes = name.split(".")
        try:
            functools.reduce(getattr, attributes, importlib.import_module(module))
        except AttributeError:
            return False
        return True

    return [name for name in names if not exists(name)]


def device_attributes():
    """The keys of `Device.attributes` that the layer uses."""
    return set(re.findall(r'\.attributes\["(\w+)"\]', layer_source()))


def layer_source():
    specification = importlib.util.find_spec("fastnn.kernels")
    return Path(specification.submodule_search_locations[0], "cuda_device.py").read_text(encoding="utf-8")


@pytest.fixture
def real():
    return pytest.importorskip("cupy", reason="no CuPy to compare with")


def test_the_walk_finds_what_the_layer_uses():
    found = chains(layer_source())
    assert "cupy.cuda.runtime.getDeviceCount" in found
    assert "cupy.cuda.runtime.CUDARuntimeError" in found
    assert "cupy.cuda.Stream.record" in found
    assert "cupy.cuda.Device.compute_capability" in found
    assert "cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor" in found
    assert "cupy.cuda.MemoryPool.free_bytes" in found
    assert "cupyx.empty_pinned" in found
    assert len(found) > 25


def test_an_installed_cupy_has_every_name_that_the_layer_uses(real):
    assert missing(chains(layer_source())) == []
    assert missing(f"{kind}.{attribute}" for kind, attributes in KINDS.items() for attribute in attributes) == []


def test_an_installed_cupy_has_every_attribute_of_a_device_that_the_layer_uses(real):
    assert "trimmed from the names" in real.cuda.Device.attributes.__doc__  # and it is cudaDevAttr that is
    assert missing(f"cupy.cuda.runtime.cudaDevAttr{name}" for name in device_attributes()) == []
    assert missing(["cupy.cuda.runtime.cudaDevAttrInvented"]) == ["cupy.cuda.runtime.cudaDevAttrInvented"]


def test_the_fakes_device_has_the_attributes_that_the_layer_uses():
    device = fake_cupy.modules(Machine())["cupy"].cuda.Device()
    assert device_attributes() == set(device.attributes)


def test_a_name_that_cupy_lacks_is_found_out(real):
    source = "_runtime = cupy.cuda.runtime\n_runtime.errorInsufficientDriver\ncupy.cuda.get_current_stream().recrod()"
    assert missing(chains(source)) == ["cupy.cuda.Stream.recrod", "cupy.cuda.runtime.errorInsufficientDriver"]


@pytest.mark.parametrize("name", KEYWORDS)
def test_an_installed_cupy_documents_the_keywords_that_the_layer_uses(real, name):
    documented = functools.reduce(getattr, name.split(".")[1:], real).__doc__
    for keyword in KEYWORDS[name]:
        assert re.search(rf"\b{keyword}\b", documented)


@pytest.mark.parametrize("name", POSITIONS)
def test_an_installed_cupy_documents_the_order_of_the_arguments(real, name):
    documented = functools.reduce(getattr, name.split(".")[1:], real).__doc__
    assert re.findall(r"(\w+)[,)]", documented.partition("\n")[0]) == POSITIONS[name]


def test_the_fake_has_every_name_that_the_layer_uses(install):
    install()
    methods = re.compile(r"\.(Device|MemoryPool|Stream)\.")  # of what the fake's functions return
    assert missing(name for name in chains(layer_source()) if not methods.search(name)) == []


def test_the_fake_has_no_name_of_its_own(install, real):
    def names(owner, prefix):
        for name, value in vars(owner).items():
            if not name.startswith("_") or name == "__version__":
                yield f"{prefix}.{name}"
                if hasattr(value, "__dict__") and not callable(value):
                    yield from names(value, f"{prefix}.{name}")

    found = [name for prefix, module in fake_cupy.modules(Machine()).items() for name in names(module, prefix)]
    assert "cupy.cuda.runtime.memGetInfo" in found
    assert missing(found) == []
    assert missing(["cupy.cuda.runtime.invented"]) == ["cupy.cuda.runtime.invented"]


@pytest.mark.parametrize("status", fake_cupy.STATUS)
def test_the_fakes_statuses_are_cudas(real, status):
    error = real.cuda.runtime.CUDARuntimeError(status)
    assert (error.status, str(error)) == (status, fake_cupy.STATUS[status])
    assert isinstance(error, RuntimeError)


def test_the_fakes_errors_are_of_cupys_kinds_and_words(real):
    arguments = ("log\nof two lines", "source", "kern.cu", ())
    pairs = [
        (real.cuda.compiler.CompileException(*arguments), fake_cupy.CompileException(*arguments)),
        (real.cuda.memory.OutOfMemoryError(4096, 1024, 0), fake_cupy.OutOfMemoryError(4096, 1024)),
    ]
    for error, fakes in pairs:
        assert str(error) == str(fakes)
        assert type(error).__mro__[1:] == type(fakes).__mro__[1:]


def test_the_layers_statuses_are_cudas(real):
    cuda_device = importlib.import_module(LAYER)
    error = real.cuda.runtime.CUDARuntimeError
    assert str(error(cuda_device._INSUFFICIENT_DRIVER)).startswith("cudaErrorInsufficientDriver: ")
    assert str(error(cuda_device._NO_DEVICE)).startswith("cudaErrorNoDevice: ")


def test_an_installed_cupy_says_why_it_is_not_ready_or_is(real):
    info = available_backends()["cupy"]
    assert info.state != NOT_INSTALLED
    assert "AttributeError" not in info.reason  # a name that CuPy lacks would be taken for a failed import
    assert "\n" not in info.reason
