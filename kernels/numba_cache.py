"""How the numba kernels are compiled, and where the compiled code is kept."""

import hashlib
import importlib.util
import logging
import os
import pkgutil
import platform
import shutil
import tempfile
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.core.event import Listener, install_listener
from numba.core.sigutils import normalize_signature

from fastnn.files import cache_dir
from fastnn.interruption import Interruption, look_for_interruption

_logger = logging.getLogger("fastnn")
_MONTH = 30 * 86_400  # seconds


def _cache_folder() -> Path | None:
    """Folder for the compiled code, made if need be; None where it cannot be had, which costs seconds a process.

    numba renews a cached function when its own file changes, not when a file with a function it calls does. So the
    folder's name is a digest of all sources that are compiled, and of the versions. (numba itself tells CPUs apart.) It
    is a folder of the user's, because the package's own may be read-only: FASTNN_CACHE_DIR, or the user's cache.
    """
    digest = hashlib.sha256()
    digest.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__} {platform.python_version()}".encode())
    try:
        for name in _compiled_modules():
            digest.update(_content(name))
        folder = cache_dir() / "numba" / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        os.utime(folder)
        _remove_unused(folder.parent)
    except OSError as error:
        _logger.warning("compiled code cannot be kept (%s): it is compiled anew in each process", error)
        return None
    return folder


def _compiled_modules() -> list[str]:
    """Those whose functions are compiled, also where the package lies in a zip or without its sources."""
    folder = Path(__file__).parent
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    own = sorted(f"{__package__}.{name}" for name in names if name == "codes" or name.startswith("numba_"))
    if __name__ not in own:
        raise FileNotFoundError(f"versions of the modules in {folder} cannot be told apart, for nothing lists them")
    return [*own, "fastnn.step"]


def _content(module: str) -> bytes:
    """The source as the module's loader has it; the bytecode, where that is all there is; OSError without either."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    return spec.loader.get_data(spec.origin)  # type: ignore[union-attr]  # all loaders of files have it


def _remove_unused(parent: Path) -> None:
    """Remove the folders of older versions that no process has asked for in a month."""
    for folder in parent.iterdir():
        with suppress(OSError):  # another process was faster
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _MONTH:
                shutil.rmtree(folder, ignore_errors=True)


CACHE_FOLDER = _cache_folder()


class _Locator(_CacheLocator):
    """Our folder, whatever numba's setting, which is for all its users, and whether or not there is a source file."""

    def __init__(self, function: Callable, file: str) -> None:
        self._line, self._file = function.__code__.co_firstlineno, file

    def get_cache_path(self) -> str:
        return str(CACHE_FOLDER)

    def get_source_stamp(self) -> Any:
        try:
            status = os.stat(self._file)
        except OSError:  # in a zip, or without sources: the folder's name is a digest of what there is
            return ""
        return status.st_mtime, status.st_size

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Callable, file: str) -> "_Locator":
        return cls(function, file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - numba's own attribute


class _Cache(FunctionCache):
    _impl_class = _CacheImpl


def _cache_on_disk(compiled: Any, function: Callable) -> Any:
    """Have what numba compiles of a function kept in our folder."""
    compiled._cache = _Cache(function)
    return compiled


def compile(function: Callable, entry: bool = True) -> Callable:
    if not entry:
        return inline(function)
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    if CACHE_FOLDER is None or _calls_kernels_of_others(function) or numba.config.DISABLE_JIT:
        return compiled
    return _cache_on_disk(compiled, function)


def inline(function: Callable) -> Callable:
    """Compile a function into each that calls it; for one with a single caller, or of a few lines."""
    return numba.njit(inline="always", error_model="numpy")(function)


def compile_for_c(function: Callable, signature: Any, real: type, digest: str = "", **names: Any) -> Any:
    """Compile a function for C callers and one real type, in place of its module's `real` and `size`.

    `names` are other globals to replace, `digest` tells those apart. Compiled and kept under a name of its own: numba
    would not tell the types apart, which are not in the signature.
    """
    name, size = f"{function.__name__}_{real.__name__}_{digest}", np.dtype(real).itemsize
    globals_ = {**function.__globals__, "real": real, "size": size, **names}
    typed = types.FunctionType(function.__code__, globals_, name)
    typed.__qualname__, typed.__module__ = name, function.__module__
    compiled = CFunc(typed, normalize_signature(signature), {}, {"error_model": "numpy"})
    if CACHE_FOLDER is not None:
        _cache_on_disk(compiled, typed)
    compiled.compile()
    return compiled


def compile_interruptibly(function: Callable, *arguments: Any) -> Any:
    """Call a function that compiles where Ctrl-C ends it between two passes of the compiler, and nowhere else.

    LLVM calls back into Python. Were such a call ended by an exception, LLVM would go on with nothing instead of what
    it asked for, and sooner or later the process's memory be broken. So it is not done in the main thread, the one
    that Ctrl-C strikes; that one waits.
    """
    interruption = Interruption()

    def compile_apart() -> Any:
        with interruption:
            return function(*arguments)

    with install_listener("numba:run_pass", _Passes()):
        if threading.current_thread() is not threading.main_thread():
            return function(*arguments)
        with ThreadPoolExecutor(1) as pool:
            try:
                return pool.submit(compile_apart).result()
            except BaseException:
                interruption.ask()
                raise


class _Passes(Listener):
    """Looks before each pass whether this thread is to end."""

    def on_start(self, event: Any) -> None:
        look_for_interruption()

    def on_end(self, event: Any) -> None:
        pass


def _calls_kernels_of_others(function: Callable) -> bool:
    """Whether there are compiled functions from outside this package among its globals, as a variant's are in a step.

    Neither numba nor the folder's name would notice that they are others than last time: the step with a variant would
    be found on disk where the one with our own is wanted. Modules are compared, as files may be named otherwise in
    bytecode that was compiled elsewhere.
    """
    compiled = [value for value in function.__globals__.values() if isinstance(value, Dispatcher)]
    modules = {value.py_func.__module__ for value in compiled} - {function.__module__}
    return not all(module.startswith(f"{__package__}.") for module in modules)
