"""How the kernels of a network are launched: the execution plans.

With "eager" each kernel is launched by the interpreter. With "graph" the launches of some mini-batches are recorded as
a CUDA graph, and replayed for all others. With "persistent" one launch does them all, which only some networks allow:
see `cuda_persistent`. FASTNN_CUDA_PLAN chooses the plan; if it is unset, `Member` does.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.errors import BackendError, SettingError
from fastnn.kernels.codes import GRADIENT_ONLY
from fastnn.kernels.cuda_device import capture, load, multiprocessors, zeros
from fastnn.kernels.cuda_joint_launch import current
from fastnn.kernels.cuda_modules import Product, choose_tile, module
from fastnn.kernels.cuda_persistent import Launch, find_obstacle
from fastnn.kernels.cuda_source import Module
from fastnn.kernels.cuda_stream import StreamedSamples

__all__ = ["Member", "requested_plan"]

PLANS = ("eager", "graph", "persistent")
_THREADS = 256  # of a block of an elementwise kernel
_REPLAYED = 16  # mini-batches in a graph: launching one costs a few microseconds, whatever its size

Work = Callable[[int], None]
Arguments = tuple[Any, ...]
Key = tuple[int, ...]


class Member:
    """What launches of one network have in common: the type of its arrays, the counter of mini-batches, its graphs.

    An entry of the step is given as ``work(n)``, which launches n mini-batches from the counter on, and as `called`,
    the function and its arguments after the indices. The same objects in `called` always make the same launches.

    Parameters
    ----------
    real : {"float", "double"}
    precision : {None, "bf16", "tf32"}
    """

    def __init__(self, real: str, precision: str | None) -> None:
        self._requested = requested_plan()
        self.plan = "graph"
        self.counter = zeros((1,), np.dtype(np.int64))
        self.real, self.precision = real, precision
        self._dry_run = False
        self._references: dict[Key, Arguments] = {}  # to the arrays of graphs and launches, which hold none themselves
        self._graphs: dict[tuple[Key, int], Any] = {}
        self._launches: dict[Key, Launch] = {}
        self._scratch: dict[int, Any] = {}

    # ---- for the kernels ----

    def scratch(self, n: int) -> Any:
        """A scratch buffer of `n` float64, the same one each time, which one kernel writes and the next reads."""
        if n not in self._scratch:
            self._scratch[n] = zeros((n,), np.dtype(np.float64))
        return self._scratch[n]

    def start(self, file: str, kernel: str, blocks: int, threads: int, shared: int, *arguments: Any) -> None:
        """Launch a kernel of a file other than products.cu."""
        self._start(module(file, self.real), kernel, blocks, threads, shared, arguments)

    def each(self, file: str, kernel: str, size: int, *arguments: Any) -> None:
        """Launch an elementwise kernel over `size` elements."""
        if size:
            self.start(file, kernel, -(-size // _THREADS), _THREADS, 0, *arguments)

    def apply(self, update: str, size: int, *arguments: Any) -> None:
        """Launch the optimizer whose formula is `update`."""
        compiled = module("optimizers.cu", self.real, update=update)
        self._start(compiled, "apply_optimizer", -(-size // _THREADS), _THREADS, 0, arguments)

    def multiply(self, kernel: str, product: Product, *arguments: Any) -> None:
        """Launch a kernel that computes a matrix product."""
        tile = choose_tile(product, self.real, self.precision, multiprocessors())
        compiled = module("products.cu", self.real, self.precision, tile)
        self._start(compiled, kernel, tile.blocks(product), tile.threads, tile.shared(self.real, product), arguments)

    def _start(
        self, compiled: Module, kernel: str, blocks: int, threads: int, shared: int, arguments: tuple[Any, ...]
    ) -> None:
        loaded = load(compiled)
        if not self._dry_run:
            loaded.start(kernel, blocks, threads, shared, *arguments)

    # ---- for the step ----

    def prepare(self, work: Work, first: int, last: int, called: Arguments) -> None:
        """Choose a plan, and compile what `work` will launch."""
        self.plan = self._decide(called)
        if self.plan == "persistent":
            self._make_launch(called)
            return
        if _trains(called) and (joint := current()):
            joint.withdraw()
        self._dry_run = True
        try:
            work(1)
        finally:
            self._dry_run = False

    def _decide(self, called: Arguments) -> str:
        """The plan that was requested; otherwise "persistent" where it is possible and not slower than "graph".

        Measured on a device, an epoch of 784-128-10 takes as long by either, and one of 784-512-512-512-10 takes 3.1
        times as long by the persistent kernel. That kernel gains where several networks are trained side by side.
        """
        if self._requested in ("eager", "graph") or not _trains(called):
            return "eager" if self._requested == "eager" else "graph"
        layers = called[2]
        if self._requested is None and len(layers.weights) > 2 and current() is None:
            return "graph"
        obstacle = find_obstacle(self, *called[1:-1])
        if obstacle and self._requested == "persistent":
            raise BackendError(f"FASTNN_CUDA_PLAN=persistent: that plan cannot train this network: {obstacle}")
        return "graph" if obstacle else "persistent"

    def _make_launch(self, called: Arguments) -> None:
        self._references[_key(called)] = called[:-1]
        self._launches[_key(called)] = Launch(self, *called[1:-1])

    def run(self, work: Work, first: int, last: int, called: Arguments) -> None:
        """Do mini-batches `first` to ``last - 1``."""
        if first == last:
            return
        if self.plan == "persistent":
            if _key(called) not in self._launches:
                self._make_launch(called)
            self._launches[_key(called)].run(first, last)
            return
        data = called[1]
        self.start("gradients.cu", "set_counter", 1, 1, 0, self.counter, first)
        streamed = isinstance(data.x, StreamedSamples)
        spans = data.x.feed(data.order, data.batch_size, first, last) if streamed else [(first, last)]
        for begin, end in spans:
            if self.plan == "graph":
                self._replay(work, end - begin, called)
            else:
                self._work(work, end - begin)

    def _work(self, work: Work, n: int) -> None:
        work(n)
        self.start("gradients.cu", "advance_counter", 1, 1, 0, self.counter, n)

    def _replay(self, work: Work, count: int, called: Arguments) -> None:
        key = _key(called)
        if key not in self._references:
            self._references[key] = called[:-1]  # the last is this member
            self._work(work, 1)  # loads the kernels, which is impossible while a graph is captured
            count -= 1
        while count > 0:
            n = _REPLAYED if count >= _REPLAYED else 1
            if (key, n) not in self._graphs:
                self._graphs[key, n] = capture(functools.partial(self._work, work, n))
            self._graphs[key, n].launch()
            count -= n


def _key(called: Arguments) -> Key:
    return tuple(map(id, called))


def _trains(called: Arguments) -> bool:
    """Whether it is the entry of the step that changes parameters."""
    function, *_, objective, _ = called
    return bool(function.__name__ == "train_steps" and objective.update != GRADIENT_ONLY)


def requested_plan() -> str | None:
    plan = os.environ.get("FASTNN_CUDA_PLAN") or None
    if plan not in (None, *PLANS):
        raise SettingError(f"FASTNN_CUDA_PLAN must be {', '.join(PLANS[:-1])} or {PLANS[-1]}, got {plan!r}")
    return plan
