"""Ending what another thread does, as Ctrl-C ends what the main thread does.

The thread looks for it, where nothing is half done. An exception that is raised in a thread from outside
(``PyThreadState_SetAsyncExc``) strikes anywhere: in a destructor, which swallows it, or in a callback of LLVM, which
goes on with memory that is not what it asked for.
"""

import threading

__all__ = ["Interruption", "look_for_interruption"]

_local = threading.local()


class Interruption:
    """What one thread can ask of another: a thread inside ``with interruption`` ends when it next looks."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    def ask(self) -> None:
        """Have the thread end; it may not have begun."""
        self._asked.set()

    def look(self) -> None:
        """Raise KeyboardInterrupt if it was asked for."""
        if self._asked.is_set():
            raise KeyboardInterrupt

    def __enter__(self) -> None:
        self.look()
        _local.interruption = self

    def __exit__(self, *error: object) -> None:
        _local.interruption = None


def look_for_interruption() -> None:
    """Raise KeyboardInterrupt if another thread asked this one to end."""
    interruption = getattr(_local, "interruption", None)
    if interruption is not None:
        interruption.look()
