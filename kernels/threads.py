"""How many threads the BLAS libraries of this process may use, safely from several Python threads."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import LibController, ThreadpoolController

_lock = threading.Lock()
_active: dict[object, tuple[int, int]] = {}  # contexts now open, the last opened last: (thread, limit)
_controller: ThreadpoolController | None = None
_before: dict[str, int] = {}  # library path -> its thread count before the first context opened


@contextmanager
def limit_blas_threads(n: int) -> Iterator[None]:
    """Limit every BLAS of this process to `n` threads for the length of the context.

    The limit is the process's, not the thread's: of several open contexts the last opened one applies, and the limit
    before the first is restored after the last. (threadpoolctl's own context restores what it found, which leaves the
    wrong limit behind when two threads overlap.)
    """
    context = object()
    with _lock:
        if not _active:
            _remember()
        _active[context] = threading.get_ident(), n
        _set()
    try:
        yield
    finally:
        with _lock:
            del _active[context]
            _set()


def _libraries() -> list[LibController]:
    assert _controller is not None
    found: list[LibController] = _controller.select(user_api="blas").lib_controllers
    return found


def _remember() -> None:
    global _controller
    if _controller is None:  # searches all loaded libraries, which takes some milliseconds
        _controller = ThreadpoolController()
    _before.update({library.filepath: library.get_num_threads() for library in _libraries()})


def _set() -> None:
    """The last opened context's limit, or what was before the first."""
    limit = next(reversed(_active.values()))[1] if _active else None
    for library in _libraries():
        number = _before.get(library.filepath) if limit is None else limit
        if number is not None:
            _set_one(library, number)


def _set_one(library: LibController, n: int) -> None:
    """threadpoolctl 3.8 obeys the first Python thread and silently ignores the others; here `_lock` keeps the order."""
    release = getattr(library, "clear_controlling_thread", None)
    if release:
        release(force=True)
    library.set_num_threads(n)
    if release:
        release(force=True)


def _forget_parent() -> None:
    """A forked child has the thread that forked and no other: contexts of the others will never close there."""
    global _lock
    _lock = threading.Lock()
    others = [context for context, (thread, _) in _active.items() if thread != threading.get_ident()]
    for context in others:
        del _active[context]
    if others:
        _set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
