"""A CUDA device by way of CuPy: its memory, compiled modules, launches, graphs, and copies beside the computation.

Nothing here knows what a kernel computes. The tests put a module of the same names in its place that runs the kernels
on the CPU.

Everything happens on the calling thread's current CuPy stream, as CuPy's own operations on the arrays do, so that all
of it stays in order. Graphs are captured on a stream of their own, on which nothing ever runs.
"""

import contextlib
import functools
import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import BackendError, DeviceMemoryError
from fastnn.kernels.cuda_source import Module

__all__ = [
    "Uploads",
    "asarray",
    "capability",
    "capture",
    "device",
    "free_memory",
    "from_dlpack",
    "is_on_device",
    "load",
    "multiprocessors",
    "resident_blocks",
    "shared_limit",
    "synchronize",
    "to_numpy",
    "versions",
    "zeros",
]


def _check_installation() -> None:
    """Two wheels of CuPy in one environment overwrite each other's files."""
    wheels = sorted({d for d in importlib.metadata.packages_distributions().get("cupy", []) if d.startswith("cupy")})
    if len(wheels) > 1:
        remove = f"pip uninstall -y {' '.join(wheels)}"
        raise ImportError(f"{' and '.join(wheels)} are installed over each other: {remove}, then install one of them")


def _first_line(error: BaseException) -> str:
    """The first line of a message: reasons are shown on one line, and CuPy's messages fill a page."""
    return str(error).strip().partition("\n")[0]


_check_installation()  # before CuPy is imported, which warns of two wheels by a page on stderr
try:
    import cupy
    import cupyx
except ImportError as error:  # CuPy's own message is a page; only its cause says what is wrong
    raise ImportError(f"CuPy cannot be imported: {_first_line(error.__cause__ or error)}") from error

_runtime = cupy.cuda.runtime
_MINIMUM = (8, 0)  # compute capability: asynchronous copies, bfloat16 and tf32 in the matrix units
_STATIC_SHARED = 48 * 1024  # bytes of shared memory that a kernel gets without asking
_INSUFFICIENT_DRIVER, _NO_DEVICE = 35, 100  # cudaError's numbers, for which CuPy has no names
_DEVICE_MEMORY = (2, 13)  # DLPack's kDLCUDA and kDLCUDAManaged
_OLDEST_EXTRA = 12  # version of CUDA: of the extras in pyproject.toml


# ---- the device -----------------------------------------------------------------------------------------------------


def device() -> str:
    _check_driver()
    number = cupy.cuda.Device().id
    properties = _runtime.getDeviceProperties(number)
    name, memory = properties["name"].decode(), properties["totalGlobalMem"]
    if capability() < _MINIMUM:
        raise BackendError(
            f"{name} has compute capability {_dotted(capability())}, and {_dotted(_MINIMUM)} (Ampere) is the least"
        )
    _check_headers()
    return f"{name}, compute capability {_dotted(capability())}, {memory / 2**30:.0f} GiB"


def _check_driver() -> None:
    try:
        count = _runtime.getDeviceCount()
    except _runtime.CUDARuntimeError as error:
        driver = _runtime.driverGetVersion()
        if driver == 0:
            raise BackendError(f"no NVIDIA driver is loaded (cupy {cupy.__version__})") from error
        if error.status == _INSUFFICIENT_DRIVER:
            raise BackendError(_explain_old_driver(driver, _runtime.runtimeGetVersion())) from error
        if error.status != _NO_DEVICE:
            raise BackendError(f"no CUDA device: {error}") from error
        count = 0
    if count == 0:
        raise BackendError("no CUDA device: the driver sees none (is CUDA_VISIBLE_DEVICES set?)")


def _explain_old_driver(driver: int, runtime: int) -> str:
    versions = f"the NVIDIA driver is for CUDA {_version(driver)} and this CuPy for CUDA {_version(runtime)}"
    major, cupys = driver // 1000, runtime // 1000
    if not _OLDEST_EXTRA <= major < cupys:
        return f"{versions}: update the driver"
    replace = f"pip uninstall -y cupy-cuda{cupys}x && pip install 'fastnn-mlp[cuda{major}]'"
    return f"{versions}: update the driver, or replace the CuPy ({replace})"


def _check_headers() -> None:
    """CuPy compiles its own kernels, with headers of the CUDA toolkit, when they are first used."""
    try:
        cupy.full(1, np.nan)
    except (_runtime.CUDARuntimeError, cupy.cuda.memory.OutOfMemoryError) as error:  # in use by others, or broken
        raise BackendError(f"the CUDA device takes no work: {error}") from error
    except (cupy.cuda.compiler.CompileException, RuntimeError) as error:
        reason = f"CUDA's headers are missing or do not fit it ({_first_line(error)})"
        raise ImportError(f"CuPy cannot compile: {reason}") from error


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


@functools.cache
def capability() -> tuple[int, int]:
    """Compute capability, for example (9, 0)."""
    text = cupy.cuda.Device().compute_capability
    return int(text[:-1]), int(text[-1])


@functools.cache
def multiprocessors() -> int:
    """How many multiprocessors the device has."""
    return int(cupy.cuda.Device().attributes["MultiProcessorCount"])


@functools.cache
def shared_limit() -> int:
    """Bytes of shared memory that a block can have."""
    return int(cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])


def versions() -> dict[str, str]:
    found = {"cupy": cupy.__version__, "cuda": _version(_runtime.runtimeGetVersion())}
    driver = _runtime.driverGetVersion()
    return found | ({"driver": _version(driver)} if driver else {})


# ---- memory ---------------------------------------------------------------------------------------------------------


def asarray(values: NDArray[Any]) -> Any:
    return _allocate(values.shape, values.dtype, lambda: cupy.asarray(values))


def from_dlpack(values: Any) -> Any:
    kind, number = values.__dlpack_device__()
    there = kind in _DEVICE_MEMORY and number == cupy.cuda.Device().id
    return cupy.from_dlpack(values) if there else None


def is_on_device(values: Any) -> bool:
    """Whether `values` is an array of CuPy's."""
    return isinstance(values, cupy.ndarray)


def zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    return _allocate(shape, dtype, lambda: cupy.zeros(shape, dtype))


def to_numpy(array: Any) -> NDArray[Any]:
    values: NDArray[Any] = cupy.asnumpy(array)
    return values


def synchronize() -> None:
    cupy.cuda.get_current_stream().synchronize()


def free_memory() -> int:
    """Bytes that can still be allocated."""
    return int(_runtime.memGetInfo()[0] + cupy.get_default_memory_pool().free_bytes())


def _allocate(shape: Sequence[int], dtype: Any, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except cupy.cuda.memory.OutOfMemoryError as error:
        asked = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
        total = _runtime.memGetInfo()[1]
        raise DeviceMemoryError(
            f"out of device memory: asked for {_size(asked)} (shape {tuple(shape)}, {np.dtype(dtype)}), and "
            f"{_size(free_memory())} of {_size(total)} are free. Lower batch_size or the layers' sizes, use float32, "
            "or have the data set streamed by a lower FASTNN_CUDA_DATA_LIMIT (bytes)."
        ) from error


def _size(n: float) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**29 else f"{n / 2**20:.1f} MiB"


# ---- kernels --------------------------------------------------------------------------------------------------------


class _Loaded:
    """A compiled module."""

    def __init__(self, module: Module) -> None:
        self._name = f"{module.file} ({' '.join(module.macros)})"
        options = {"options": ("-std=c++17",), "enable_cooperative_groups": module.cooperative}
        self._raw = cupy.RawModule(code=module.text(), **options)
        self._kernels: dict[str, Any] = {}
        try:
            self._raw.compile()
        except cupy.cuda.compiler.CompileException as error:
            architecture = "sm_{}{}".format(*capability())
            raise BackendError(f"{self._name} does not compile for {architecture}:\n{error}") from error

    def start(self, name: str, blocks: int, threads: int, shared: int, *arguments: Any) -> None:
        """Launch a kernel; whole numbers go to it as ``long long``, others as ``double``, arrays as pointers."""
        self.kernel(name, shared)((blocks,), (threads,), arguments, shared_mem=shared)

    def kernel(self, name: str, shared: int) -> Any:
        """CuPy's kernel of that name, ready to have `shared` bytes of shared memory."""
        kernel = self._kernels.get(name)
        if kernel is None:
            kernel = self._kernels[name] = self._raw.get_function(name)
        if shared > _STATIC_SHARED and shared > kernel.max_dynamic_shared_size_bytes:  # asks the driver
            kernel.max_dynamic_shared_size_bytes = shared
        return kernel


@functools.cache
def load(module: Module) -> _Loaded:
    """A module compiled for the device, or taken from CuPy's cache on disk.

    Raises
    ------
    BackendError
        If it does not compile; with the architecture and the compiler's log.
    """
    return _Loaded(module)


def resident_blocks(loaded: _Loaded, name: str, threads: int, shared: int) -> int:
    """How many blocks of a kernel fit on the device at once."""
    function = loaded.kernel(name, shared).kernel.ptr
    return (
        int(cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(function, threads, shared)) * multiprocessors()
    )


def capture(work: Callable[[], None]) -> Any:
    """What `work` launches, as a graph, none of it run; ``graph.launch()`` runs it all on the current stream.

    Kernels must have run before: the first launch loads them, which cannot be captured.
    """
    with cupy.cuda.Stream(non_blocking=True) as stream:
        stream.begin_capture()
        try:
            work()
        except BaseException:
            with contextlib.suppress(_runtime.CUDARuntimeError):  # it fails too where that error broke the capture
                stream.end_capture()
            raise
        graph = stream.end_capture()
    graph.upload()
    return graph


class Uploads:
    """Copies from page-locked memory to the device, beside what the current stream computes."""

    def __init__(self) -> None:
        self._stream = cupy.cuda.Stream(non_blocking=True)

    def pinned_array(self, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array in page-locked memory."""
        values: NDArray[Any] = cupyx.empty_pinned(shape, dtype)
        return values

    def record_event(self) -> Any:
        """An event that occurs when the computation launched so far is done; see `copy`."""
        return cupy.cuda.get_current_stream().record()

    def copy(self, values: NDArray[Any], to: Any, after: Any) -> Any:
        """Begin to copy when the event `after` has occurred; computation that is launched later waits for the copy.

        The event must not be older than `to`: its memory may have been another array's, on which the computation goes
        on, and CuPy reuses memory in the order of the current stream alone.

        Returns an event; `values` may be overwritten when its ``synchronize()`` returns.
        """
        self._stream.wait_event(after)
        to.set(values, stream=self._stream)
        done = self._stream.record()
        cupy.cuda.get_current_stream().wait_event(done)
        return done
