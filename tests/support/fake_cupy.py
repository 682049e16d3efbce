"""CuPy's names, as far as `fastnn.kernels.cuda_device` uses them, over numpy and a machine that a test invents.

Arrays lie in the host's memory, no kernel runs, and what is asked of the device is written down in its order. What CuPy
refuses is refused here too; test_cuda_device.py compares names and errors with those of a CuPy that is installed.
"""

import dataclasses
import functools
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np

STATUS = {
    2: "cudaErrorMemoryAllocation: out of memory",
    35: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    46: "cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable",
    100: "cudaErrorNoDevice: no CUDA-capable device is detected",
    901: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
}
SHARED = 48 * 1024  # bytes of shared memory that a kernel may have unless it asks for more


class CUDARuntimeError(RuntimeError):
    def __init__(self, status):
        self.status = status
        super().__init__(STATUS[status])


class CompileException(Exception):  # noqa: N818 - CuPy's name
    def __init__(self, msg, source, name, options, backend="nvrtc"):
        self._msg = msg
        super().__init__()

    def __str__(self):
        return self._msg


class OutOfMemoryError(MemoryError):
    def __init__(self, size, total, limit=0):
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")


@dataclasses.dataclass
class Machine:
    """What is found, what goes wrong, and what has happened; versions are CUDA's, 13020 for 13.2."""

    driver: int = 13020
    runtime: int = 13020
    devices: int = 1
    count_fails: int = 0  # a status
    capability: str = "90"
    multiprocessors: int = 132
    resident: int = 2  # blocks of a kernel that fit on a multiprocessor
    shared_limit: int = 227 * 1024  # bytes of shared memory that a kernel may ask for
    free: int = 70 * 2**30
    total: int = 80 * 2**30
    pooled: int = 2**30  # bytes that CuPy's pool holds and could give
    first_use: Exception | None = None  # of CuPy's own kernels
    log: str = ""  # the compiler's, where a module does not compile
    capture_fails: bool = False
    happened: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.streams = [Stream(self)]  # the last is the current one
        self.functions = {}  # RawKernel by the number that the driver knows it by

    def count(self):
        status = self.count_fails or (0 if self.driver else 35)
        if status:
            raise CUDARuntimeError(status)
        return self.devices

    def allocate(self, nbytes):
        if nbytes > self.free:
            raise OutOfMemoryError(nbytes, self.pooled)

    def occupancy(self, function, threads, shared):
        return self.functions[function].count_resident(threads, shared)

    def tell(self, *what):
        self.happened.append(what)


# ---- streams and graphs ---------------------------------------------------------------------------------------------


class Stream:
    def __init__(self, machine, non_blocking=False):
        self._machine, self.is_non_blocking, self._capturing = machine, non_blocking, False

    def __enter__(self):
        self._machine.streams.append(self)
        return self

    def __exit__(self, *_):
        assert self._machine.streams.pop() is self

    def begin_capture(self):
        if not self.is_non_blocking:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self._capturing = True
        self._machine.tell("begin capture", self)

    def end_capture(self):
        assert self._capturing
        self._capturing = False
        self._machine.tell("end capture", self)
        if self._machine.capture_fails:
            raise CUDARuntimeError(901)
        return Graph(self._machine)

    def record(self):
        event = Event(self._machine)
        self._machine.tell("record", self, event)
        return event

    def wait_event(self, event):
        self._machine.tell("wait", self, event)

    def synchronize(self):
        self._machine.tell("synchronize", self)


class Event:
    def __init__(self, machine):
        self._machine = machine

    def synchronize(self):
        self._machine.tell("synchronize", self)


class Graph:
    def __init__(self, machine):
        self._machine = machine

    def upload(self):
        self._machine.tell("upload", self, self._machine.streams[-1])

    def launch(self):
        self._machine.tell("launch graph", self, self._machine.streams[-1])


# ---- arrays ---------------------------------------------------------------------------------------------------------


class PinnedArray(np.ndarray):
    """On the host, page-locked."""


class Array(np.ndarray):
    machine: Machine

    def __array_finalize__(self, made_from):
        self.machine = getattr(made_from, "machine", None)

    def set(self, values, stream=None):
        if (values.dtype, values.shape) != (self.dtype, self.shape):
            raise TypeError(f"{values.dtype} array cannot be set to {self.dtype} array")
        self.view(np.ndarray)[...] = values
        self.machine.tell("copy", stream or self.machine.streams[-1], isinstance(values, PinnedArray))


def put_on(machine, values):
    machine.allocate(values.nbytes)
    array = np.array(values).view(Array)
    array.machine = machine
    return array


def adopt(machine, values):
    array = values.__dlpack__(stream=machine.streams[-1]).view(Array)
    array.machine = machine
    return array


def to_host(array):
    assert isinstance(array, Array)
    return np.array(array)


def make_zeros(machine, shape, dtype):
    machine.tell("zeros", machine.streams[-1])
    machine.allocate(int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
    return put_on(machine, np.zeros(shape, dtype))


def make_full(machine, shape, value):
    if machine.first_use is not None:
        raise machine.first_use
    return put_on(machine, np.full(shape, value))


def make_pinned(machine, shape, dtype):
    return np.empty(shape, dtype).view(PinnedArray)


# ---- kernels --------------------------------------------------------------------------------------------------------


class RawModule:
    def __init__(self, machine, *, code, options=(), enable_cooperative_groups=False):
        self._machine, self._code, self._options = machine, code, options
        self._together = enable_cooperative_groups

    def compile(self):
        self._machine.tell("compile", self._code, self._options, self._together)
        if self._machine.log:
            raise CompileException(self._machine.log, self._code, "kern.cu", self._options)

    def get_function(self, name):
        self._machine.tell("get function", name)
        return RawKernel(self._machine, name)


class RawKernel:
    def __init__(self, machine, name):
        self._machine, self._name, self._limit = machine, name, SHARED
        self.kernel = SimpleNamespace(ptr=0x1000 + len(machine.functions))
        machine.functions[self.kernel.ptr] = self

    @property
    def max_dynamic_shared_size_bytes(self):
        return self._limit

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, limit):
        if limit > self._machine.shared_limit:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._machine.tell("allow shared memory", self._name, limit)
        self._limit = limit

    def count_resident(self, threads, shared):
        self._machine.tell("occupancy", self._name, threads, shared)
        return self._machine.resident if shared <= self._limit else 0  # the driver's answer, which is no error

    def __call__(self, grid, block, args, *, shared_mem=0):
        if shared_mem > self._limit:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._machine.tell("launch", self._name, grid, block, args, shared_mem)


# ---- the modules ----------------------------------------------------------------------------------------------------


def modules(machine):
    """`cupy` and `cupyx` of a machine, to be put into `sys.modules`."""
    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        driverGetVersion=lambda: machine.driver,
        getDeviceCount=machine.count,
        getDeviceProperties=lambda number: {"name": b"NVIDIA Invented", "totalGlobalMem": machine.total},
        memGetInfo=lambda: (machine.free, machine.total),
        runtimeGetVersion=lambda: machine.runtime,
    )
    device = SimpleNamespace(
        attributes={
            "MaxSharedMemoryPerBlockOptin": machine.shared_limit,
            "MultiProcessorCount": machine.multiprocessors,
        },
        compute_capability=machine.capability,
        id=0,
    )
    cuda = SimpleNamespace(
        Device=lambda: device,
        Stream=functools.partial(Stream, machine),
        compiler=SimpleNamespace(CompileException=CompileException),
        driver=SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=machine.occupancy),
        get_current_stream=lambda: machine.streams[-1],
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        runtime=runtime,
    )
    cupy = make_module(
        "cupy",
        RawModule=functools.partial(RawModule, machine),
        __version__="14.2.0",
        asarray=functools.partial(put_on, machine),
        asnumpy=to_host,
        cuda=cuda,
        from_dlpack=functools.partial(adopt, machine),
        full=functools.partial(make_full, machine),
        ndarray=Array,
        get_default_memory_pool=lambda: SimpleNamespace(free_bytes=lambda: machine.pooled),
        zeros=functools.partial(make_zeros, machine),
    )
    cupyx = make_module("cupyx", empty_pinned=functools.partial(make_pinned, machine))
    return {"cupy": cupy, "cupyx": cupyx}


def make_module(name, **contents):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)  # by which importlib.util.find_spec knows what is imported
    vars(module).update(contents)
    return module


def install(**machine):
    """Be CuPy in this process; for a package `cupy` that has nothing but this call in it."""
    sys.modules.update(modules(Machine(**machine)))
