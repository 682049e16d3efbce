"""A team of threads that runs one compiled function together: who does which share, and how they wait for each other.

Every member runs the same code on the same arrays (single program, multiple data). A kernel does its member's share of
the work and ends with `wait`; nothing else is synchronised. The threads are Python's, started for one call and gone
after it: so there is no pool that a fork could break, and none that spins while others want the cores.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.memory import zeros
from fastnn.kernels.numba_cache import compile
from fastnn.kernels.numba_intrinsics import address_of, load_acquire, pause, sleep, store_release, yield_core

_SPINS = 2000  # some 40 us: longer than members of a team that all have a core ever differ
_YIELDS = 20_000  # some 10 ms; who naps keeps the late one waiting in turn, once it has its core again
_SLEEP = 50  # us


class Team(NamedTuple):
    """What one member knows of its team; the first three arrays are shared."""

    rank: int
    size: int
    arrivals: np.ndarray  # (size, 8) int64: how often each member has waited, each in a cache line of its own
    row_sums: np.ndarray  # (2, B) float64
    sums: np.ndarray  # (segments,) float64
    scratch: np.ndarray  # (n,) real, this member's own
    exponentials: np.ndarray  # (n_l,) float64 for the widest layer, its own too
    multiply: int  # addresses, see `numba_products`
    multiply_transposed: int


def assemble(size: int, rows: int, widest: int, segments: int, products: Any, dtype: Any) -> tuple[Team, ...]:
    """A team's members, for `rows` samples a batch, layers of at most `widest` units, sums of so many `segments`."""
    shared = zeros((size, 8), np.int64), zeros((2, rows), np.float64), zeros(segments, np.float64)
    functions = products.multiply, products.multiply_transposed
    return tuple(
        Team(rank, size, *shared, zeros(products.scratch, dtype), zeros(widest, np.float64), *functions)
        for rank in range(size)
    )


def launch(function: Callable, calls: Sequence[tuple]) -> None:
    """Run ``function(*call)`` for each call, in threads; the last argument of each is the member that it is for.

    While other programs want the cores, by fewer members: a team is as slow as the one that lost its core. Nobody else
    notices, because results do not depend on the size of the team.
    """
    size = _oversubscription.limit(len(calls))
    calls = [(*call[:-1], call[-1]._replace(size=size)) for call in calls[:size]]
    if size == 1:
        function(*calls[0])
        return
    failures: list[BaseException] = []
    ended: list[int] = []
    shares = [1.0] * size  # of the time that each member had a core
    gate, complete = threading.Lock(), threading.Event()

    def run(call: tuple) -> None:
        with gate:
            if not complete.is_set():  # no thread to be had for somebody, or Ctrl-C: those that wait here go home
                return
        member, wall, cpu = call[-1], time.perf_counter(), time.thread_time()
        try:
            function(*call)
        except BaseException as error:  # the others must not wait for this member for ever
            failures.append(error)
            member.arrivals[member.rank, 0] = np.iinfo(np.int64).max
        ended.append(member.rank)
        shares[member.rank] = (time.thread_time() - cpu) / max(time.perf_counter() - wall, 1e-9)

    # The calling thread is no member: Ctrl-C may strike it anywhere, and the others would wait for it for ever.
    # And CPython 3.11 may then leave a thread that never ends, on which, were it no daemon, the process would wait.
    threads = [threading.Thread(target=run, args=(c,), name=f"fastnn-{c[-1].rank}", daemon=True) for c in calls]
    calls[0][-1].arrivals[...] = 0
    start = time.perf_counter()
    try:
        with gate:
            for thread in threads:
                thread.start()
            complete.set()
        for thread in threads:
            thread.join()
    except BaseException:
        while complete.is_set() and len(ended) < size:  # until they end, they work on the caller's arrays
            with suppress(BaseException):  # a second Ctrl-C comes no sooner; `join` and `is_alive` tell lies after one
                time.sleep(0.001)
        raise
    if failures:
        raise failures[0]
    _oversubscription.record(shares, time.perf_counter() - start)


class _Oversubscription:
    """How many threads the cores have time for, as far as the last teams told.

    With 784-128-10 on two threads, another program busy on one of two cores: 0.63 to 0.67 of the idle throughput; only
    0.32 with a team that never shrinks, and 0.33 on the numpy backend, whose BLAS has threads of its own.
    """

    # Of a core. Another program that wants one leaves half of it; what a busy host takes from a virtual machine for
    # moments leaves 0.75 and more, and a team the faster.
    _MIN_CPU_SHARE = 0.65
    _MIN_SECONDS = 0.05  # a shorter call tells too little: the system itself takes a core for some milliseconds
    _FIRST_BACKOFF, _MAX_BACKOFF = 0.25, 4.0  # seconds until the whole team is tried again; doubled each time

    def __init__(self) -> None:
        self._size, self._until, self._backoff = sys.maxsize, 0.0, self._FIRST_BACKOFF

    def limit(self, size: int) -> int:
        return min(size, self._size) if time.monotonic() < self._until else size

    def record(self, shares: Sequence[float], seconds: float) -> None:
        """What became of a team: the share of the time that each member had a core."""
        if len(shares) == 1 or seconds < self._MIN_SECONDS:
            return
        if min(shares) >= self._MIN_CPU_SHARE:
            self._backoff = self._FIRST_BACKOFF
            return
        self._size = len(shares) - max(1, len(shares) // 4)
        self._until = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, self._MAX_BACKOFF)


_oversubscription = _Oversubscription()  # the cores are everybody's: one for the process


# ---- in compiled code -----------------------------------------------------------------------------------------------


@compile
def partition(n, grain, team):
    """First and last of `n` items that are this member's, in whole grains."""
    grains = (n + grain - 1) // grain
    first, last = grains * team.rank // team.size, grains * (team.rank + 1) // team.size
    return min(n, first * grain), min(n, last * grain)


@compile
def barrier(team):
    """Return when every member has come here, and what each wrote before can be read by all.

    A member that lost its core to another program keeps the others waiting for milliseconds. They spin for as long as
    is usual between members that run, then offer their cores, then sleep: so the scheduler can move the late one.
    """
    if team.size == 1:
        return
    arrivals = team.arrivals
    count = arrivals[team.rank, 0] + 1
    store_release(address_of(arrivals[team.rank]), count)
    for other in range(team.size):
        address, tries = address_of(arrivals[other]), 0
        while load_acquire(address) < count:
            tries += 1
            if tries < _SPINS:
                pause()
            elif tries < _SPINS + _YIELDS:
                yield_core()
            else:
                sleep(_SLEEP)
