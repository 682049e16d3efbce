"""Which backend a network runs on: what there is, in what state, and which one is chosen and why.

The order is argument, `use_backend`, `set_backend`, the environment variable FASTNN_BACKEND, auto. An explicit choice
that cannot be had is an error; only auto looks further. This is the only file that names a backend. One more is a line
in `_BUILTIN`, or an entry point of the group ``fastnn.backends`` whose value is a module with functions of the kernel
contract, `fastnn.kernels.contract`.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import cast

from fastnn.choices import check_choice
from fastnn.errors import BackendError, SettingError
from fastnn.kernels.contract import KERNELS, Kernels
from fastnn.measured import find_fastest

__all__ = [
    "BackendChoice",
    "BackendInfo",
    "available_backends",
    "backend_names",
    "resolve_backend",
    "set_backend",
    "use_backend",
]

_CUPY_REMEDY = "pip install 'fastnn-mlp[cuda13]' (or [cuda12], as your driver supports)"
_BUILTIN = {  # name: (module with the kernels, library it stands on, how to get that), in auto's order of preference
    "cupy": ("fastnn.kernels.cupy_kernels", "cupy", _CUPY_REMEDY),
    "numba": ("fastnn.kernels.numba_kernels", "numba", "pip install --upgrade numba"),
    "numpy": ("fastnn.kernels.numpy_kernels", "numpy", "pip install --upgrade numpy scipy"),
}
READY, NOT_INSTALLED, IMPORT_FAILED, NO_DEVICE = "ready", "not installed", "import failed", "no device"
DISABLED, WRONG_SETTING = "disabled", "wrong setting"


@dataclass(frozen=True)
class BackendInfo:
    """A backend and whether it can be used here.

    Attributes
    ----------
    name : str
    state : {"ready", "not installed", "import failed", "no device", "disabled", "wrong setting"}
        Disabled: a variable of the library's own forbids it. Wrong setting: a variable of fastnn's is not understood.
    reason : str
        The device it runs on if ready, else what is wrong.
    remedy : str
        What to do about it; empty if ready.
    versions : dict of str to str
        Of the libraries it stands on, as far as they are there.
    """

    name: str
    state: str
    reason: str
    remedy: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BackendChoice:
    """The backend that was chosen, where the choice came from, and its kernels."""

    name: str
    origin: str
    reason: str
    kernels: Kernels


_context: ContextVar[str | None] = ContextVar("fastnn_backend", default=None)
_process: str | None = None


def set_backend(name: str | None) -> None:
    """Choose the backend of networks made from now on, in every thread; None takes the choice back.

    Raises
    ------
    BackendError
        If `name` is unknown or not ready.
    """
    global _process
    if name is not None:
        _require(name, "set_backend()")
    _process = name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend of networks made inside the ``with`` block, in this thread or asyncio task alone.

    Raises
    ------
    BackendError
        If `name` is unknown or not ready.
    """
    _require(name, "use_backend()")
    token = _context.set(name)
    try:
        yield
    finally:
        _context.reset(token)


def available_backends() -> dict[str, BackendInfo]:
    """Every backend by name, auto's favourite first, with its state; asks the libraries, which takes a moment."""
    return {name: _state(name) for name in _sources()}


def backend_names() -> list[str]:
    """What a user may ask for, ready or not."""
    return [*_sources(), "auto"]


def resolve_backend(name: str | None = None, sizes: Sequence[int] | None = None) -> BackendChoice:
    """The backend that a network made here and now gets; `name` is the argument it was made with, if any.

    `sizes` are the network's: auto takes the backend that ``fastnn which --save`` has found to be the fastest for them,
    and says so in the reason.

    Raises
    ------
    BackendError
        If an explicit choice is unknown or not ready, or auto finds nothing that is.
    """
    candidates = (
        (name, "argument"),
        (_context.get(), "use_backend()"),
        (_process, "set_backend()"),
        (os.environ.get("FASTNN_BACKEND") or None, "FASTNN_BACKEND"),
    )
    return _require(*next(((n, o) for n, o in candidates if n is not None), ("auto", "default")), sizes)


def _choose(origin: str, sizes: Sequence[int] | None) -> BackendChoice:
    name, words = find_fastest(sizes) or (None, "")
    if name in _sources():
        info, kernels = _inspect(name)
        if kernels is not None:
            return BackendChoice(name, f"auto ({origin})", f"{name}: {info.reason}; {words}", kernels)
    passed_over: list[str] = []
    for name in _sources():
        info, kernels = _inspect(name)
        if kernels is not None:
            reason = "; ".join([*passed_over, f"{name}: {info.reason}"])
            return BackendChoice(name, f"auto ({origin})", reason, kernels)
        passed_over.append(f"{name}: {info.state}" + (f" ({info.reason})" if info.state == IMPORT_FAILED else ""))
    raise BackendError(f"no backend is ready: {'; '.join(passed_over)}. `fastnn backends` says what to do.")


def _require(name: str, origin: str, sizes: Sequence[int] | None = None) -> BackendChoice:
    """The backend asked for by name; auto is a name too."""
    try:
        check_choice("backend", name, backend_names())
    except ValueError as error:
        raise BackendError(f"{error} (asked for by {origin})") from None
    if name == "auto":
        return _choose(origin, sizes)
    info, kernels = _inspect(name)
    if kernels is None:
        others = [other for other in _sources() if other != name and _state(other).state == READY]
        raise BackendError(
            f"backend {name!r} (asked for by {origin}) is not ready: {info.state}: {info.reason}\n"
            f"{info.remedy}; or choose one that is ready: {', '.join([*others, 'auto'])}."
        )
    return BackendChoice(name, origin, info.reason, kernels)


def _sources() -> dict[str, tuple[str, str, str]]:
    """The table of backends: the built-in ones, then those that other packages registered."""
    return _BUILTIN | {name: source for name, source in _registered().items() if name not in _BUILTIN}


@functools.cache  # all installed distributions are read: 10 ms
def _registered() -> dict[str, tuple[str, str, str]]:
    table = {}
    for entry in importlib.metadata.entry_points(group="fastnn.backends"):
        distribution = entry.dist.name if entry.dist else entry.value
        table[entry.name] = (entry.value, entry.value.partition(".")[0], f"pip install {distribution}")
    return table


def _state(name: str) -> BackendInfo:
    try:
        return _inspect(name)[0]
    except SettingError as error:
        return BackendInfo(name, WRONG_SETTING, str(error), "correct that variable, or unset it")


@functools.cache
def _inspect(name: str) -> tuple[BackendInfo, Kernels | None]:
    module, library, remedy = _sources()[name]
    if importlib.util.find_spec(library) is None:
        return BackendInfo(name, NOT_INSTALLED, f"there is no package {library!r}", remedy), None
    try:
        kernels = _complete(importlib.import_module(module))
        device = kernels.device()
    except SettingError:  # the user's, whichever backend is asked for
        raise
    except BackendError as error:
        state, remedy = NO_DEVICE, "nvidia-smi shows whether driver and device are seen"
        if library == "numba":
            state, remedy = DISABLED, "unset that variable"
        return BackendInfo(name, state, str(error), remedy, kernels.versions()), None
    except Exception as error:  # a broken library fails in its own way: any error means that it cannot be imported
        reason = f"{type(error).__name__}: {error}"
        return BackendInfo(name, IMPORT_FAILED, reason, f"mend that installation: {remedy}"), None
    return BackendInfo(name, READY, device, "", kernels.versions()), kernels


def _complete(module: ModuleType) -> Kernels:
    """The module with the functions of the kernel contract, those that it lacks taken from the reference."""
    own = [name for name in KERNELS if hasattr(module, name)]
    if not own:
        raise ImportError(f"{module.__name__} has none of the functions of the kernel contract: {', '.join(KERNELS)}")
    if len(own) == len(KERNELS):
        return cast(Kernels, module)
    from fastnn.kernels import numpy_kernels

    complete = ModuleType(module.__name__, module.__doc__)
    vars(complete).update({name: getattr(module if name in own else numpy_kernels, name) for name in KERNELS})
    return cast(Kernels, complete)
