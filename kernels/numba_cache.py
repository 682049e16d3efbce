"""How the numba kernels are compiled, and where the compiled code is cached."""

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
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator
from numba.core.ccallback import CFunc
from numba.core.dispatcher import Dispatcher
from numba.core.event import Listener, install_listener
from numba.core.sigutils import normalize_signature

from fastnn.files import cache_dir
from fastnn.interruption import Interruption, look_for_interruption

Function = Callable[..., Any]

_logger = logging.getLogger("fastnn")
_MONTH = 30 * 86_400  # seconds


def _cache_folder() -> Path | None:
    """Folder for the compiled code, created if need be; None if that is impossible, which costs seconds a process.

    numba compiles a cached function again when its own file changes, but not when the file of a function it calls does.
    So the folder's name is a digest of all sources that are compiled, and of the versions. (numba itself distinguishes
    CPUs.) It lies in FASTNN_CACHE_DIR or the user's cache, because the package's own folder may be read-only.
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
        _logger.warning("compiled code cannot be cached on disk (%s): each process compiles it again", error)
        return None
    return folder


def _compiled_modules() -> list[str]:
    """The modules whose functions are compiled; works for a package in a zip file, and for one without sources."""
    folder = Path(__file__).parent
    names = (module.name for module in pkgutil.iter_modules([str(folder)]))
    own = sorted(f"{__package__}.{name}" for name in names if name == "codes" or name.startswith("numba_"))
    if __name__ not in own:
        raise FileNotFoundError(f"the modules in {folder} cannot be listed, so a change in them would not be noticed")
    return [*own, "fastnn.step"]


def _content(module: str) -> bytes:
    """The module's source, or its bytecode where there is no source; OSError without either."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    content: bytes = spec.loader.get_data(spec.origin)  # type: ignore[union-attr]  # all loaders of files have it
    return content


def _remove_unused(parent: Path) -> None:
    """Remove the folders of other versions that no process has used for a month."""
    for folder in parent.iterdir():
        with suppress(OSError):  # another process has removed it
            if folder.is_dir() and time.time() - folder.stat().st_mtime > _MONTH:
                shutil.rmtree(folder, ignore_errors=True)


CACHE_FOLDER = _cache_folder()


class _Locator(_CacheLocator):
    """Has numba use our folder, also without source files; its own setting, which is for all its users, stays."""

    def __init__(self, function: Function, file: str) -> None:
        self._line, self._file = function.__code__.co_firstlineno, file

    def get_cache_path(self) -> str:
        return str(CACHE_FOLDER)

    def get_source_stamp(self) -> Any:
        try:
            status = os.stat(self._file)
        except OSError:  # in a zip file, or without sources: the folder's name is a digest of the content
            return ""
        return status.st_mtime, status.st_size

    def get_disambiguator(self) -> str:
        return str(self._line)

    @classmethod
    def from_function(cls, function: Function, file: str) -> "_Locator":
        return cls(function, file)


class _CacheImpl(CompileResultCacheImpl):
    _locator_classes = [_Locator]  # noqa: RUF012 - numba's own attribute


class _Cache(FunctionCache):
    _impl_class = _CacheImpl


def _cache_on_disk(compiled: Any, function: Function) -> Any:
    """Have numba cache in our folder what it compiles of a function."""
    compiled._cache = _Cache(function)  # type: ignore[no-untyped-call]  # its constructor is numba's
    return compiled


def compile(function: Function, entry: bool = True) -> Any:
    if not entry:
        return inline(function)
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    if CACHE_FOLDER is None or _calls_foreign_kernels(function) or config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets it at run time
        return compiled
    return _cache_on_disk(compiled, function)


def inline(function: Function) -> Any:
    """Compile a function into each that calls it; for one with a single caller, or of a few lines."""
    return numba.njit(inline="always", error_model="numpy")(function)


def compile_for_c(
    function: Function, signature: Any, dtype: np.dtype[Any], digest: str = "", make_names: Function = dict
) -> Any:
    """Compile a function, once, for C callers and one dtype, which replaces the `real` and `size` of its module.

    `make_names` returns other globals to replace, and `digest` identifies them. The function is cached on disk under a
    name of its own: numba would not distinguish the types, which are not in the signature. What is returned has its
    `address`.
    """
    key = function, dtype, digest
    if key not in compiled_for_c:
        compile_interruptibly(_compile_once, key, signature, make_names)
    return compiled_for_c[key]


def _compile_once(key: tuple[Function, np.dtype[Any], str], signature: Any, make_names: Function) -> None:
    with _compiling:
        if key in compiled_for_c:
            return
        function, dtype, digest = key
        name = f"{function.__name__}_{dtype.name}_{digest}"
        globals_ = {**function.__globals__, "real": dtype.type, "size": dtype.itemsize, **make_names()}
        typed = types.FunctionType(function.__code__, globals_, name)
        typed.__qualname__, typed.__module__ = name, function.__module__
        compiled = CFunc(typed, normalize_signature(signature), {}, {"error_model": "numpy"})
        if CACHE_FOLDER is not None:
            _cache_on_disk(compiled, typed)
        compiled.compile()
        compiled_for_c[key] = compiled


compiled_for_c: dict[tuple[Function, np.dtype[Any], str], Any] = {}
_compiling = threading.Lock()


def compile_interruptibly(function: Function, *arguments: Any) -> Any:
    """Call a function that compiles, in a thread that Ctrl-C ends between two passes of the compiler only.

    LLVM calls back into Python. If KeyboardInterrupt ended such a callback, LLVM would go on without the result, and
    corrupt the process's memory. So the main thread, in which Python raises it, does not compile, but waits.
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
    """Checks before each pass whether this thread was interrupted."""

    def on_start(self, event: Any) -> None:
        look_for_interruption()

    def on_end(self, event: Any) -> None:
        pass


def _calls_foreign_kernels(function: Function) -> bool:
    """Whether a function's globals include compiled functions from outside this package: a step with other kernels.

    Neither numba nor the folder's name would notice the difference: that step would be loaded from disk instead of the
    one with our own kernels. Modules are compared, not files, which bytecode compiled elsewhere names otherwise.
    """
    compiled = [value for value in function.__globals__.values() if isinstance(value, Dispatcher)]
    modules = {value.py_func.__module__ for value in compiled} - {function.__module__}
    return not all(module.startswith(f"{__package__}.") for module in modules)
