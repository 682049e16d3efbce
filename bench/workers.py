"""A process of its own for each of those who are measured: it does what it is asked to, one request at a time.

No thread pool, allocator or cache of one disturbs another then, and each has its own environment variables.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

import fastnn

__all__ = ["Crew", "LateError", "RefusalError", "Worker", "WorkerError"]

SPIN_SECONDS = 0.2  # for which threads go on to look for work, see `Worker._suspend`


class WorkerError(Exception):
    """A worker cannot do what it was asked, or has stopped; the message says why."""


class LateError(WorkerError):
    """It has not answered in time."""


class RefusalError(WorkerError):
    """Its backend cannot do what it was asked; the worker goes on."""


def serve(cores: int | None, pipe: Connection) -> None:
    """What the process does: answers requests ``(function, arguments)`` with ``function(kept, *arguments)``.

    `kept` is a dictionary for what one request leaves to the next. An error's text is the last answer, but for a
    `fastnn.BackendError`: what a backend cannot do in one case it may do in another.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends the workers
    end_with_parent()
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    kept: dict[str, Any] = {}
    try:
        while (request := pipe.recv()) is not None:
            function, arguments = request
            try:
                pipe.send((function(kept, *arguments),))
            except fastnn.BackendError as error:
                pipe.send([_describe(error)])
    except ImportError as error:
        pipe.send(f"not installed: {error}")
    except (EOFError, BrokenPipeError):  # the parent has gone
        return
    except Exception as error:
        pipe.send(_describe(error))
        if not isinstance(error, fastnn.FastnnError):
            traceback.print_exc()


def _describe(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def end_with_parent() -> None:
    """Have the system kill this process if its parent is killed: one that is suspended could not see that."""
    if sys.platform == "linux":
        kill_with_parent = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(kill_with_parent, signal.SIGKILL)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """For a process that starts within: a BLAS reads its number of threads when it is loaded, with numpy."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


class Worker:
    """The parent's side of a worker, whose process is suspended from each answer to the next request.

    Parameters
    ----------
    environment : mapping of str to str
        Variables of its process.
    cores : int or None
        How many of the machine's it may use; None: all.
    """

    def __init__(self, environment: Mapping[str, str], cores: int | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(cores, other), daemon=True)
        self._busy = False
        with _environment(environment):
            self._process.start()
        other.close()

    def ask(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Request ``function(kept, *arguments)``; both are pickled, so it is a function of a module."""
        self._busy = True
        self._resume()
        with suppress(OSError):  # if it is dead, `answer` says so
            self._pipe.send((function, arguments))

    def answer(self, deadline: float | None = None) -> Any:
        """What the function asked for returned.

        Parameters
        ----------
        deadline : float or None
            Of the clock `time.monotonic`.

        Raises
        ------
        WorkerError
            If it failed, or (`LateError`) has not answered then, or (`RefusalError`) its backend cannot do that.
        """
        if deadline is not None and not self._pipe.poll(max(0.0, deadline - time.monotonic())):
            raise LateError("no answer in the time that there was")
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(1)
            raise WorkerError(f"died with exit code {self._process.exitcode}") from None
        self._busy = False
        if isinstance(answer, str):
            raise WorkerError(answer)
        self._suspend()
        if isinstance(answer, list):
            raise RefusalError(answer[0])
        return answer[0]

    def call(self, function: Callable[..., Any], *arguments: Any, deadline: float | None = None) -> Any:
        """`ask` and `answer` in one."""
        self.ask(function, *arguments)
        return self.answer(deadline)

    def _suspend(self) -> None:
        """Take the cores from it, where the system can.

        A process that waits for its next request may still have threads that spin for work: those of OpenBLAS do so for
        up to 0.2 s after a product. Whoever trains next gets one core less, and a team of threads half its speed.
        """
        if hasattr(signal, "SIGSTOP"):
            self._send_signal(signal.SIGSTOP)
        else:
            time.sleep(SPIN_SECONDS)

    def _resume(self) -> None:
        """Let it go on."""
        if hasattr(signal, "SIGCONT"):
            self._send_signal(signal.SIGCONT)

    def _send_signal(self, number: int) -> None:
        if self._process.is_alive() and self._process.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def dismiss(self) -> None:
        """Let it end by itself, or end it if it has something to do."""
        self._resume()
        if self._busy:
            self._process.kill()
        else:
            with suppress(OSError):
                self._pipe.send(None)

    def close(self) -> None:
        """End it."""
        self.dismiss()
        self._process.join(5)
        self._process.kill()
        self._pipe.close()


class Crew:
    """Workers by name, in a block that ends them.

    Parameters
    ----------
    cores : int or None
        How many of the machine's each of them may use; None: all.
    """

    def __init__(self, cores: int | None = None) -> None:
        self._workers: dict[str, Worker] = {}
        self._cores = cores

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.dismiss()
        for worker in self._workers.values():
            worker.close()

    def __contains__(self, name: str) -> bool:
        return name in self._workers

    def start(self, name: str, environment: Mapping[str, str]) -> None:
        """Add one whose process has these variables, if there is none of that name."""
        if name not in self._workers:
            self._workers[name] = Worker(environment, self._cores)

    def call(self, name: str, function: Callable[..., Any], *arguments: Any, patience: float | None = None) -> Any:
        """What one of them answers within `patience` seconds, as `call_all`.

        Raises
        ------
        WorkerError
            As `Worker.answer`.
        """
        answers, failures = self.call_all({name: (function, *arguments)}, patience)
        if name in failures:
            raise failures[name]
        return answers[name]

    def call_all(
        self, requests: Mapping[str, tuple[Any, ...]], patience: float | None = None
    ) -> tuple[dict[str, Any], dict[str, WorkerError]]:
        """Answers to ``{name: (function, *arguments)}``, all at work at the same time, and the errors of the others.

        Who cannot, or has not answered within `patience` seconds, is ended, unless that is a `RefusalError`.
        """
        for name, request in requests.items():
            self._workers[name].ask(*request)
        deadline = None if patience is None else time.monotonic() + patience
        answers, failures = {}, {}
        for name in requests:
            try:
                answers[name] = self._workers[name].answer(deadline)
            except WorkerError as error:
                failures[name] = error
                if not isinstance(error, RefusalError):
                    self._workers.pop(name).close()
        return answers, failures
