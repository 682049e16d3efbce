"""A team of threads that runs one compiled function together: who does which share, and how they wait for each other.

Every member runs the same code on the same arrays (single program, multiple data). A kernel does its member's share of
the work and ends with `wait`; nothing else is synchronised. The threads are Python's, started for one call and gone
after it: so there is no pool that a fork could break, and none that spins while others want the cores.
"""

import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from fastnn.kernels.memory import zeros
from fastnn.kernels.numba_cache import compile

_SPINS = 2000  # some 40 us: longer than members of a team that all have a core ever differ
_YIELDS = 20_000  # some 10 ms; who naps keeps the late one waiting in turn, once it has its core again
_NAP = 50  # us


class Team(NamedTuple):
    """What one member knows of its team; the first three arrays are shared."""

    rank: int
    size: int
    arrivals: np.ndarray  # (size, 8) int64: how often each member has waited, each in a cache line of its own
    row_sums: np.ndarray  # (2, B) float64
    sums: np.ndarray  # (segments,) float64
    scratch: np.ndarray  # (n,) real, this member's own
    powers: np.ndarray  # (n_l,) float64 for the widest layer, its own too
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
    size = _crowd.affordable(len(calls))
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
    _crowd.look(shares, time.perf_counter() - start)


class _Crowd:
    """How many threads the cores have time for, as far as the last teams told.

    With 784-128-10 on two threads, another program busy on one of two cores: 0.63 to 0.67 of the idle throughput; only
    0.32 with a team that never shrinks, and 0.33 on the numpy backend, whose BLAS has threads of its own.
    """

    # Of a core. Another program that wants one leaves half of it; what a busy host takes from a virtual machine for
    # moments leaves 0.75 and more, and a team the faster.
    _LEAST_SHARE = 0.65
    _LEAST_SECONDS = 0.05  # a shorter call tells too little: the system itself takes a core for some milliseconds
    _FIRST_RETREAT, _LONGEST_RETREAT = 0.25, 4.0  # seconds until the whole team is tried again; doubled each time

    def __init__(self) -> None:
        self._size, self._until, self._retreat = sys.maxsize, 0.0, self._FIRST_RETREAT

    def affordable(self, size: int) -> int:
        return min(size, self._size) if time.monotonic() < self._until else size

    def look(self, shares: Sequence[float], seconds: float) -> None:
        """What became of a team: the share of the time that each member had a core."""
        if len(shares) == 1 or seconds < self._LEAST_SECONDS:
            return
        if min(shares) >= self._LEAST_SHARE:
            self._retreat = self._FIRST_RETREAT
            return
        self._size = len(shares) - max(1, len(shares) // 4)
        self._until = time.monotonic() + self._retreat
        self._retreat = min(2 * self._retreat, self._LONGEST_RETREAT)


_crowd = _Crowd()  # the cores are everybody's: one for the process


# ---- in compiled code -----------------------------------------------------------------------------------------------


@compile
def share(n, grain, team):
    """First and last of `n` items that are this member's, in whole grains."""
    grains = (n + grain - 1) // grain
    first, last = grains * team.rank // team.size, grains * (team.rank + 1) // team.size
    return min(n, first * grain), min(n, last * grain)


@compile
def wait(team):
    """Return when every member has come here, and what each wrote before can be read by all.

    A member that lost its core to another program keeps the others waiting for milliseconds. They spin for as long as
    is usual between members that run, then offer their cores, then sleep: so the scheduler can move the late one.
    """
    if team.size == 1:
        return
    arrivals = team.arrivals
    count = arrivals[team.rank, 0] + 1
    _publish(address_of(arrivals[team.rank]), count)
    for other in range(team.size):
        address, tries = address_of(arrivals[other]), 0
        while _observe(address) < count:
            tries += 1
            if tries < _SPINS:
                _pause()
            elif tries < _SPINS + _YIELDS:
                _yield_core()
            else:
                _sleep(_NAP)


@intrinsic
def address_of(typing_context, array):
    """Where an array begins; unlike ``array.ctypes.data`` without counting a reference, which locks the bus."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.intp(array), generate


@intrinsic
def prefetch(typing_context, address):
    """Have the cache fetch a line that will be read."""

    def generate(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        )
        kind = [number(n) for n in (0, 3, 1)]  # to read, to keep, data
        builder.call(function, [builder.inttoptr(arguments[0], byte), *kind])
        return context.get_dummy_value()

    return types.void(types.intp), generate


def _pointer(builder, address):
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


@intrinsic
def _publish(typing_context, address, value):
    """Store so that who observes the value sees all that was written before."""

    def generate(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], _pointer(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), generate


@intrinsic
def _observe(typing_context, address):
    def generate(context, builder, signature, arguments):
        return builder.load_atomic(_pointer(builder, arguments[0]), "acquire", 8)

    return types.int64(types.intp), generate


@intrinsic
def _pause(typing_context):
    """Tell the core that this is a waiting loop: it saves power, and leaves more to its other hyper-thread."""

    def generate(context, builder, signature, arguments):
        machine = platform.machine().lower()
        if machine in ("x86_64", "amd64"):
            function = builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), ir.FunctionType(ir.VoidType(), []))
            builder.call(function, [])
        elif machine in ("aarch64", "arm64"):
            hint = ir.FunctionType(ir.VoidType(), [ir.IntType(32)])
            function = builder.module.declare_intrinsic("llvm.aarch64.hint", (), hint)
            builder.call(function, [ir.Constant(ir.IntType(32), 1)])  # YIELD
        return context.get_dummy_value()

    return types.void(), generate


# Functions of the system's C library, by name: code that calls them can be kept on disk.
if sys.platform == "win32":
    _switch_thread = types.ExternalFunction("SwitchToThread", types.intc())
    _sleep_ms = types.ExternalFunction("Sleep", types.void(types.uint32))

    @compile
    def _yield_core():
        _switch_thread()

    @compile
    def _sleep(us):
        _sleep_ms(1)

else:
    _sched_yield = types.ExternalFunction("sched_yield", types.intc())
    _usleep = types.ExternalFunction("usleep", types.intc(types.uint32))

    @compile
    def _yield_core():
        _sched_yield()

    @compile
    def _sleep(us):
        _usleep(us)
