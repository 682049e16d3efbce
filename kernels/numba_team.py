"""A team of threads that runs one compiled function: its static partition of the work, and its barrier.

Every member runs the same code on the same arrays (single program, multiple data). A kernel does its member's part of
the work and ends with a barrier; nothing else is synchronised. The threads are Python's and end with the call that
started them: so there is no pool that a fork could break, and none that spins while other programs want the cores.
"""

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels.memory import zeros
from fastnn.kernels.numba_cache import compile
from fastnn.kernels.numba_intrinsics import address_of, load_acquire, pause, sleep, store_release, yield_core

_SPINS = 2000  # some 40 us: members that all have a core arrive within less
_YIELDS = 20_000  # some 10 ms; a member that sleeps is late itself at the next barrier
_SLEEP = 50  # us


class Team(NamedTuple):
    """One member of a team; the first three arrays are the whole team's."""

    rank: int
    size: int
    arrivals: NDArray[np.int64]  # (size, 8): barriers that each member has reached, each in a cache line of its own
    row_sums: NDArray[np.float64]  # (2, B)
    sums: NDArray[np.float64]  # (segments,)
    scratch: NDArray[Any]  # (n,) real, this member's own
    exponentials: NDArray[np.float64]  # (n_l,) for the widest layer, this member's own
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


def launch(function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Run ``function(*call)`` for each call, in threads; the last argument of each is the member that it is for.

    While other programs want the cores, the team is smaller, for it is as slow as a member that lost its core. Results
    do not depend on the size of the team.
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

    def run(call: tuple[Any, ...]) -> None:
        with gate:
            if not complete.is_set():  # a thread could not be started, or Ctrl-C: no member runs
                return
        member, wall, cpu = call[-1], time.perf_counter(), time.thread_time()
        try:
            function(*call)
        except BaseException as error:  # the others must not wait for this member for ever
            failures.append(error)
            member.arrivals[member.rank, 0] = np.iinfo(np.int64).max
        ended.append(member.rank)
        shares[member.rank] = (time.thread_time() - cpu) / max(time.perf_counter() - wall, 1e-9)

    # The calling thread is no member: Ctrl-C may end it anywhere, and the others would wait at a barrier for ever.
    # CPython 3.11 may then leave a thread that never ends; the process would wait for one that is no daemon.
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
        while complete.is_set() and len(ended) < size:  # until they end, they write to the caller's arrays
            with suppress(BaseException):  # a second Ctrl-C changes nothing; after one `join` and `is_alive` are wrong
                time.sleep(0.001)
        raise
    if failures:
        raise failures[0]
    _oversubscription.record(shares, time.perf_counter() - start)


class _Oversubscription:
    """Shrinks teams while other programs use the cores, judged by the CPU time that members of the last teams got.

    With 784-128-10 on two threads and another program busy on one of two cores, throughput is 0.63 to 0.67 of that on
    idle cores; 0.32 with a team that never shrinks, and 0.33 on the numpy backend, whose BLAS has threads of its own.
    """

    # CPU time by wall time. Another program on the same core leaves half of it; what a busy host takes from a virtual
    # machine for moments leaves 0.75 and more, where the whole team is still faster.
    _MIN_CPU_SHARE = 0.65
    _MIN_SECONDS = 0.05  # shorter calls are not judged: the system itself takes a core for some milliseconds
    _FIRST_BACKOFF, _MAX_BACKOFF = 0.25, 4.0  # seconds until the whole team is tried again; doubled each time

    def __init__(self) -> None:
        self._size, self._until, self._backoff = sys.maxsize, 0.0, self._FIRST_BACKOFF

    def limit(self, size: int) -> int:
        """How many members a team of at most `size` should have now."""
        return min(size, self._size) if time.monotonic() < self._until else size

    def record(self, shares: Sequence[float], seconds: float) -> None:
        """Take account of a call: of its wall time, the share that each member had a core."""
        if len(shares) == 1 or seconds < self._MIN_SECONDS:
            return
        if min(shares) >= self._MIN_CPU_SHARE:
            self._backoff = self._FIRST_BACKOFF
            return
        self._size = len(shares) - max(1, len(shares) // 4)
        self._until = time.monotonic() + self._backoff
        self._backoff = min(2 * self._backoff, self._MAX_BACKOFF)


_oversubscription = _Oversubscription()  # one for the process, whose teams all use the same cores


# ---- for compiled code ----------------------------------------------------------------------------------------------


@compile
def partition(n, grain, team):
    """Begin and end of this member's part of `n` items, in multiples of `grain`."""
    grains = (n + grain - 1) // grain
    first, last = grains * team.rank // team.size, grains * (team.rank + 1) // team.size
    return min(n, first * grain), min(n, last * grain)


@compile
def barrier(team):
    """Return when every member has reached the barrier; what each wrote before can then be read by all.

    A member that lost its core to another program is late by milliseconds. The others spin for as long as members that
    run may differ, then yield their cores, then sleep, so that the scheduler can move the late one.
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
