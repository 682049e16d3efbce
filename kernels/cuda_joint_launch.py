"""Networks that are trained in threads of their own, and whose persistent kernels are launched together."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from fastnn.interruption import look_for_interruption

__all__ = ["JointLaunch", "current"]

_local = threading.local()
_POLL_SECONDS = 0.1  # after which a waiting thread checks whether it was interrupted


def current() -> "JointLaunch | None":
    """The joint launch that this thread takes part in, if any."""
    return getattr(_local, "joint_launch", None)


class JointLaunch:
    """A barrier of `n` threads, each of which trains a network inside ``with joint_launch``.

    What a thread submits is launched when all others have submitted theirs too, have left the context, or have
    withdrawn.

    Parameters
    ----------
    n : int
    launch : callable
        ``launch(requests)`` launches all that was submitted.
    """

    def __init__(self, n: int, launch: Callable[[Sequence[Any]], None]) -> None:
        self.n = n
        self._launch = launch
        self._changed = threading.Condition()
        self._expected = n
        self._requests: list[Any] = []
        self._round = 0  # number of the next launch
        self._errors: dict[int, BaseException] = {}  # by round
        self._sources: dict[tuple[Any, ...], Any] = {}

    def __enter__(self) -> None:
        _local.joint_launch, _local.expected = self, True

    def __exit__(self, *error: object) -> None:
        self.withdraw()
        _local.joint_launch = None

    def withdraw(self) -> None:
        """Tell the others not to wait for this thread any more."""
        if _local.expected:
            _local.expected = False
            with self._changed:
                self._expected -= 1
                self._launch_if_complete()

    def submit(self, request: Any) -> None:
        """Return when the request has been launched, together with those of the others."""
        with self._changed:
            mine = self._round
            self._requests.append(request)
            self._launch_if_complete()
            try:
                while self._round == mine:
                    self._changed.wait(_POLL_SECONDS)
                    look_for_interruption()
            except BaseException:  # interrupted: the others must not train its network on
                if request in self._requests:
                    self._requests.remove(request)
                raise
            if mine in self._errors:
                raise self._errors[mine]

    def _launch_if_complete(self) -> None:
        if not self._requests or len(self._requests) < self._expected:
            return
        try:
            self._launch(self._requests)
        except Exception as error:  # raised in every thread of this round
            self._errors[self._round] = error
        self._requests, self._round = [], self._round + 1
        self._changed.notify_all()

    def source(self, values: NDArray[Any], upload: Callable[[NDArray[Any]], Any]) -> Any:
        """What `upload` returns for a data set; called once for all threads that train on the same one."""
        key = values.__array_interface__["data"][0], values.shape, values.dtype.str
        with self._changed:
            if key not in self._sources:
                self._sources[key] = upload(values)
            return self._sources[key]
