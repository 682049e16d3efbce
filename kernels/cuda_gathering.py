"""Networks that train in threads of their own, and whose launches go together."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.interruption import look_for_interruption

__all__ = ["Gathering", "current"]

_local = threading.local()
_LOOK = 0.1  # seconds after which a thread that waits sees whether it was interrupted


def current() -> "Gathering | None":
    """That of this thread."""
    return getattr(_local, "gathering", None)


class Gathering:
    """A meeting of `n` threads: each trains a network inside ``with gathering``, and they launch in step.

    What a thread submits waits until all others have submitted theirs, have left, or will never submit anything.

    Parameters
    ----------
    n : int
    launch : callable
        ``launch(requests)`` does all that was submitted.
    """

    def __init__(self, n: int, launch: Callable[[Sequence[Any]], None]) -> None:
        self.n = n
        self._launch = launch
        self._changed = threading.Condition()
        self._expected = n
        self._requests: list[Any] = []
        self._round = 0  # of launches
        self._errors: dict[int, BaseException] = {}  # by round
        self._sources: dict[tuple, Any] = {}

    def __enter__(self) -> None:
        _local.gathering, _local.expected = self, True

    def __exit__(self, *error: object) -> None:
        self.withdraw()
        _local.gathering = None

    def withdraw(self) -> None:
        """This thread submits nothing any more."""
        if _local.expected:
            _local.expected = False
            with self._changed:
                self._expected -= 1
                self._launch_if_all_are_there()

    def submit(self, request: Any) -> None:
        """Return when it has been launched, together with those of the others."""
        with self._changed:
            mine = self._round
            self._requests.append(request)
            self._launch_if_all_are_there()
            try:
                while self._round == mine:
                    self._changed.wait(_LOOK)
                    look_for_interruption()
            except BaseException:  # interrupted: the others must not train its network on
                if request in self._requests:
                    self._requests.remove(request)
                raise
            if mine in self._errors:
                raise self._errors[mine]

    def _launch_if_all_are_there(self) -> None:
        if not self._requests or len(self._requests) < self._expected:
            return
        try:
            self._launch(self._requests)
        except Exception as error:  # of all who take part
            self._errors[self._round] = error
        self._requests, self._round = [], self._round + 1
        self._changed.notify_all()

    def source(self, values: np.ndarray, upload: Callable[[np.ndarray], Any]) -> Any:
        """What `upload` makes of a data set, made once for all who have the same."""
        key = values.__array_interface__["data"][0], values.shape, values.dtype.str
        with self._changed:
            if key not in self._sources:
                self._sources[key] = upload(values)
            return self._sources[key]
