"""Launching: a network, the data of a run, its buffers and its objective, given to the functions of the step."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.augmentation import Augment
from fastnn.buffers import first_rows, make_buffers, with_own_samples
from fastnn.model import Model
from fastnn.objective import RunObjective
from fastnn.operations import Optimizer
from fastnn.run_data import RunData
from fastnn.step import Buffers, bind

__all__ = ["Workspace"]


class Workspace:
    """All that `fastnn.step` needs to go through a data set in mini-batches.

    Parameters
    ----------
    network : Model
    x, y, rows, sample_weight, task, augment
        See `RunData`.
    loss : str
    optimizer : Optimizer or None
        None: the gradient is all that is wanted.
    training : bool
        With gradients.
    dropout : bool
        With dropout, in training.

    Attributes
    ----------
    network : Model
    data : RunData

    Raises
    ------
    DataError
        If samples, targets or weights do not fit the network.
    """

    def __init__(
        self,
        network: Model,
        x: Any,
        y: Any,
        rows: int,
        *,
        loss: str = "quadratic",
        sample_weight: Any = None,
        optimizer: Optimizer | None = None,
        training: bool = False,
        dropout: bool = True,
        task: int | None = None,
        augment: Augment | None = None,
    ) -> None:
        self.network, kernels = network, network.kernels
        self.data = RunData(
            network, x, y, rows, loss=loss, sample_weight=sample_weight, training=training, task=task, augment=augment
        )
        self._objective_options = loss, self.data.task, self.data.steps, optimizer, training
        self._layers = network.layers(training and dropout)
        self._stream = kernels.asarray(np.zeros(3, np.uint32))
        self._prepared: set[Callable[..., None]] = set()

    @functools.cached_property
    def objective(self) -> RunObjective:
        """Made when first asked for: predictions need none."""
        return RunObjective(self.network, *self._objective_options)

    @functools.cached_property
    def _members(self) -> list[tuple[Any, Buffers, Buffers]]:
        """Each member of the team, its buffers, and those for the last mini-batch; made when first needed."""
        network, data = self.network, self.data
        team = network.kernels.make_team(network.threads, network.sizes, data.rows, network.dtype, network.precision)
        shared = make_buffers(network, self._layers.dropout, data.rows, data.weights.size > 0, self._stream)
        # Fetching takes each member less than to wait for the others; deforming takes longer, so that they share that.
        others = (shared if data.deforms else with_own_samples(network, shared) for _ in team[1:])
        buffers = [shared, *others]
        last_rows = data.n_samples - (data.steps - 1) * data.rows
        return [(member, own, first_rows(own, last_rows)) for member, own in zip(team, buffers, strict=True)]

    @property
    def plan(self) -> str:
        """How the mini-batches are run, in the backend's word."""
        return self.network.kernels.plan(self._members[0][0])

    def prepare(self, function: Callable[..., None]) -> None:
        """Have what `run` will be given ready to run: compiled."""
        self._prepare(function, self._calls((0, 0), (self.objective.arrays,)))

    def run(self, function: Callable[..., None], first: int, last: int) -> None:
        """Have a function of the step go through mini-batches `first` to ``last - 1``; the last may be smaller."""
        steps, objective = self.data.steps, (self.objective.arrays,)
        for start, stop in self.data.load(first, last):
            self._launch(function, self._calls((start, min(stop, steps - 1)), objective))
            if stop == steps:
                self._launch(function, self._calls((stop - 1, stop), objective, smaller=True))

    def forward(self, step: int) -> Any:
        """Outputs (rows, n_out) of mini-batch `step`, in a buffer that the next call overwrites."""
        calls = self._calls((step,), (), smaller=step == self.data.steps - 1)
        for _ in self.data.load(step, step + 1):
            self._launch(bind(self.network.kernels).forward, calls)
        buffers: Buffers = calls[0][-2]
        return buffers.a[-1]

    def set_stream(self, stream: NDArray[np.uint32]) -> None:
        """Choose the dropout masks and the deformations of the epoch, see `dropout` and `deform`."""
        self._stream[...] = self.network.kernels.asarray(stream)

    def _calls(
        self, steps: tuple[int, ...], objective: tuple[Any, ...], smaller: bool = False
    ) -> list[tuple[Any, ...]]:
        """The arguments of each member of the team."""
        return [
            (*steps, self.data.data, self._layers, last_buffers if smaller else buffers, *objective, member)
            for member, buffers, last_buffers in self._members
        ]

    def _prepare(self, function: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
        if function not in self._prepared:
            self.network.kernels.prepare(function, calls[0])
            self._prepared.add(function)

    def _launch(self, function: Callable[..., None], calls: list[tuple[Any, ...]]) -> None:
        self._prepare(function, calls)
        with np.errstate(all="ignore"):  # a run that diverges is told by its loss, not by numpy's warnings
            self.network.kernels.launch(function, calls)
