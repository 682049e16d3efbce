"""How the numba kernels are compiled, and where the compiled code is kept."""

import hashlib
import logging
import platform
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core.dispatcher import Dispatcher
from numba.core.event import Listener, install_listener

from fastnn.files import cache_dir
from fastnn.interruption import Interruption, look_for_interruption

_logger = logging.getLogger("fastnn")
_cache_lock = threading.Lock()


def _cache_folder() -> Path | None:
    """Folder for the compiled code, made if need be; None where it cannot be had, which costs seconds a process.

    numba renews a cached function when its own file changes, not when a file with a function it calls does. So the
    folder's name is a digest of all sources that are compiled, and of the versions. (numba itself tells CPUs apart.) It
    is a folder of the user's, because the package's own may be read-only: FASTNN_CACHE_DIR, or the user's cache.
    """
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for path in [folder / "codes.py", *sorted(folder.glob("numba_*.py"))]:
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {llvmlite.__version__} {np.__version__} {platform.python_version()}".encode())
    try:
        folder = cache_dir() / "numba" / digest.hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _logger.warning("compiled code cannot be kept (%s): it is compiled anew in each process", error)
        return None
    return folder


CACHE_FOLDER = _cache_folder()


def compile(function: Callable, entry: bool = True) -> Callable:
    if not entry:
        return inline(function)
    options = {"nogil": True, "error_model": "numpy"}
    if CACHE_FOLDER is None or _calls_kernels_of_others(function):
        return numba.njit(**options)(function)
    with _kept():
        return numba.njit(cache=True, **options)(function)


@contextmanager
def _kept() -> Iterator[None]:
    """What is compiled within is kept in our folder. numba has one setting for all its users: it is borrowed."""
    with _cache_lock:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(CACHE_FOLDER) if CACHE_FOLDER is not None else before
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before


def inline(function: Callable) -> Callable:
    """Compile a function into each that calls it; for one with a single caller, or of a few lines."""
    return numba.njit(inline="always", error_model="numpy")(function)


def compile_for_c(function: Callable, signature: Any, real: type) -> Any:
    """Compile a function for C callers and one real type, in place of its module's `real` and `size`.

    Compiled and kept under a name of its own: numba would not tell the types apart, which are not in the signature.
    """
    name, size = f"{function.__name__}_{real.__name__}", np.dtype(real).itemsize
    typed = types.FunctionType(function.__code__, {**function.__globals__, "real": real, "size": size}, name)
    typed.__qualname__, typed.__module__ = name, function.__module__
    with _kept():
        return numba.cfunc(signature, nopython=True, cache=CACHE_FOLDER is not None, error_model="numpy")(typed)


def out_of_reach(function: Callable, *arguments: Any) -> Any:
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
    """Whether there are compiled functions from outside this folder among its globals, as a variant's are in a step.

    Neither numba nor the folder's name would notice that they are others than last time: the step with a variant would
    be found on disk where the one with our own is wanted.
    """
    own_file, folder = function.__code__.co_filename, Path(__file__).parent
    compiled = [value for value in function.__globals__.values() if isinstance(value, Dispatcher)]
    files = {value.py_func.__code__.co_filename for value in compiled}
    return any(file != own_file and Path(file).parent != folder for file in files)
