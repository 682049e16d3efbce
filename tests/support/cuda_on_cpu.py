"""The launch layer, `fastnn.kernels.cuda_device`, without a device: the same names, over kernels that run on the CPU.

A C++ compiler builds the kernels' sources with ``on_cpu.h``. The order of execution is the worst that a device allows:
launches wait in a queue until a result is needed; an asynchronous copy is made at once where it need not wait for the
computation, and as late as possible where it does; a captured graph keeps no array alive; each launch runs blocks and
threads in another order. And arrays of the device cannot be mixed with numpy's.
"""

import collections
import contextlib
import ctypes
import fcntl
import functools
import hashlib
import importlib
import importlib.util
import operator
import os
import re
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from fastnn import backends
from fastnn.errors import BackendError
from fastnn.files import cache_dir

COMPILER = shutil.which(os.environ.get("CXX", "g++"))
HERE = Path(__file__).parent
CACHE = cache_dir() / "cuda_on_cpu"
FLAGS = ["-std=c++17", "-O1", "-march=native", "-fno-strict-aliasing", "-shared", "-fPIC", "-DFASTNN_ON_CPU"]
LAUNCHER = """
extern "C" const char* launch_{kernel}(unsigned blocks, unsigned threads, size_t shared, int order, bool together,
                                      void** arguments) {{
  return on_cpu::launch({kernel}, blocks, threads, shared, order, together, arguments);
}}
"""
CUDA = 2  # DLPack's number for such devices
ORDERS = 7  # of blocks and threads: forwards, backwards, shuffled, and whose turn is how long; see `launch` in on_cpu.h

on_cuda = pytest.mark.parametrize(
    "backend", [pytest.param("cupy", marks=pytest.mark.gpu), "cuda_on_cpu"], indirect=True
)
on_cpu_only = pytest.mark.parametrize("backend", ["cuda_on_cpu"], indirect=True)

PARTS = ("cupy_kernels", "cuda_team", "cuda_persistent", "cuda_joint_launch", "cuda_stream")

queue = collections.deque()  # launches that have not run yet
running = threading.RLock()  # held by the thread that runs them
capturing = threading.local()  # its `launches` are those of the graph that this thread is capturing


@functools.cache
def load_kernels() -> types.ModuleType:
    """`fastnn.kernels.cupy_kernels` over this module instead of a device."""
    with mock.patch.dict(sys.modules, {"fastnn.kernels.cuda_device": sys.modules[__name__]}):
        for name in PARTS:
            sys.modules.pop(f"fastnn.kernels.{name}", None)
        specification = importlib.util.find_spec("fastnn.kernels.cupy_kernels")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        module.parts = {name: sys.modules.get(f"fastnn.kernels.{name}") for name in PARTS}
    return module


def find_part(kernels: types.ModuleType, name: str) -> types.ModuleType:
    """One of the modules that `kernels`, on a device or not, are made of."""
    parts = getattr(kernels, "parts", None)
    return parts[name] if parts else importlib.import_module(f"fastnn.kernels.{name}")


def register(setitem=operator.setitem) -> None:
    """Make it a backend of this name; with pytest's `setitem` for the length of a test."""
    setitem(sys.modules, "cuda_on_cpu_kernels", load_kernels())
    setitem(backends._BUILTIN, "cuda_on_cpu", ("cuda_on_cpu_kernels", "numpy", "install a C++ compiler"))


# ---- the device -----------------------------------------------------------------------------------------------------


def device():
    if COMPILER is None:
        raise BackendError("there is no C++ compiler to build CUDA kernels for the CPU")
    return "CUDA kernels on the CPU"


def capability():
    return (9, 0)


def multiprocessors():
    return 4


def shared_limit():
    return 227 * 1024


def resident_blocks(loaded, name, threads, shared):
    return 16


def versions():
    return {}


# ---- memory ---------------------------------------------------------------------------------------------------------


class DeviceArray(np.ndarray):
    """Allows only what CuPy's arrays do, and waits for the kernels launched before."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        arrays = [array for array in (*inputs, *out) if isinstance(array, np.ndarray) and array.ndim]
        if not all(isinstance(array, DeviceArray) for array in arrays):
            raise TypeError(f"{ufunc.__name__} of arrays of the device and of the host")
        synchronize()
        results = tuple(array.view(np.ndarray) for array in out)
        plain = [array.view(np.ndarray) if isinstance(array, DeviceArray) else array for array in inputs]
        result = getattr(ufunc, method)(*plain, out=results or None, **options)
        return out[0] if out else on_device(result)

    def __array_function__(self, function, kinds, arguments, options):
        raise TypeError(f"numpy.{function.__name__} of an array of the device")

    @property
    def __cuda_array_interface__(self):
        return {"data": (self.ctypes.data, False)}

    def __dlpack_device__(self):
        return CUDA, 0

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray) and not isinstance(value, DeviceArray):
            raise TypeError("an array of the host for one of the device")
        synchronize()
        super().__setitem__(key, value)


def on_device(values):
    return np.array(values).view(DeviceArray)


def asarray(values):
    return values if is_on_device(values) else on_device(values)


def from_dlpack(values):
    return values.__dlpack__() if values.__dlpack_device__() == (CUDA, 0) else None


def is_on_device(values):
    return isinstance(values, DeviceArray)


def zeros(shape, dtype):
    return np.zeros(shape, dtype).view(DeviceArray)


def to_numpy(array):
    assert isinstance(array, DeviceArray)
    synchronize()
    return array.view(np.ndarray).copy()


def synchronize():
    with running:
        while queue:
            queue.popleft()()


def run_until(launched):
    """Run the queue up to this launch."""
    with running:
        while launched in queue:
            queue.popleft()()


def free_memory():
    return 2**40


# ---- kernels --------------------------------------------------------------------------------------------------------


class Loaded:
    launches = 0  # of all modules

    def __init__(self, library, together=False):
        self._library, self._together = library, together

    def start(self, name, blocks, threads, shared, *arguments):
        function = getattr(self._library, f"launch_{name}")
        function.restype = ctypes.c_char_p
        values = [as_c(argument) for argument in arguments]
        pointers = (ctypes.c_void_p * len(values))(*[ctypes.addressof(value) for value in values])
        captured = getattr(capturing, "launches", None)
        kept = (values, arguments if captured is None else None)

        def run():
            Loaded.launches += 1
            failure = function(
                blocks, threads, ctypes.c_size_t(shared), Loaded.launches % ORDERS, self._together, pointers
            )
            assert failure is None, f"{name}: {failure.decode()}"
            return kept

        (queue if captured is None else captured).append(run)


def as_c(argument):
    if isinstance(argument, np.ndarray):
        assert isinstance(argument, DeviceArray)
        assert argument.flags.c_contiguous
        return ctypes.c_void_p(argument.ctypes.data if argument.size else None)
    return {int: ctypes.c_longlong, float: ctypes.c_double}[type(argument)](argument)


@functools.cache
def load(module):
    return Loaded(ctypes.CDLL(str(build(module.text(), module.file))), module.cooperative)


def build(text, name):
    """The shared library of a module's source; that of an earlier run if the source has not changed."""
    library = CACHE / f"{Path(name).stem}-{digest(text)}.so"
    with built_once(library) as draft:
        if draft:
            expanded = run_compiler(text, "-E")
            kernels = re.findall(r'extern "C"\s+void\s+(\w+)\(', expanded)
            launchers = "".join(LAUNCHER.format(kernel=kernel) for kernel in kernels)
            folder = precompiled_header().parent
            run_compiler(text + launchers, f"-I{folder}", "-include", "on_cpu.h", "-o", str(draft))
    return library


def precompiled_header():
    """Of ``on_cpu.h``, which takes longer to compile than most kernels: it lies beside a copy of the header."""
    header = CACHE / digest("") / "on_cpu.h"
    precompiled = header.with_suffix(".h.gch")
    with built_once(precompiled) as draft:
        if draft:
            shutil.copy(HERE / "on_cpu.h", header)
            run_compiler("", "-o", str(draft), kind="c++-header", source=str(header))
    return precompiled


def digest(text):
    header = (HERE / "on_cpu.h").read_text(encoding="utf-8")
    return hashlib.sha256("\0".join([text, header, *FLAGS, COMPILER]).encode()).hexdigest()[:20]


@contextlib.contextmanager
def built_once(path):
    """Where to write a file that does not exist yet; None if it exists. Of several processes one builds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            yield None
        else:
            draft = path.with_suffix(f".{os.getpid()}")
            yield draft
            draft.replace(path)


def run_compiler(text, *options, kind="c++", source="-"):
    command = [COMPILER, *FLAGS, *options, f"-I{HERE}", "-x", kind, source]
    done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
    if done.returncode:  # no AssertionError, by which tests tell that a kernel is wrong
        raise RuntimeError(f"{' '.join(command)}:\n{done.stderr}")
    return done.stdout


class Graph:
    def __init__(self, launches):
        self._launches = launches

    def launch(self):
        queue.extend(self._launches)


def capture(work):
    capturing.launches = []
    try:
        work()
        return Graph(capturing.launches)
    finally:
        capturing.launches = None


# ---- copies beside the computation ----------------------------------------------------------------------------------


class Uploads:
    """A copy is made at once if its event has occurred; if not, when the computation comes to where it is due."""

    def pinned_array(self, shape, dtype):
        return np.full(shape, 1, dtype)

    def record_event(self):
        return queue[-1] if queue else None

    def copy(self, values, to, after):
        def write():
            to.view(np.ndarray)[...] = values

        queue.append(write) if after in queue else write()
        return types.SimpleNamespace(synchronize=lambda: run_until(write))
