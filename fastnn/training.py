"""Training: epochs of mini-batches over one data set; what goes on around them is in `fastnn.runs`."""

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.augmentation import Augment, Deform
from fastnn.errors import DivergedError
from fastnn.interruption import look_for_interruption
from fastnn.operations import Optimizer
from fastnn.schedules import Schedule
from fastnn.step import bind
from fastnn.workspace import Workspace

__all__ = ["Trainer", "gradients"]

Report = Callable[["Trainer"], None]

_CALL_SECONDS = 0.1  # an epoch longer than this takes several calls, so that progress and Ctrl-C are alive


class Trainer:
    """One workspace and one optimizer: runs epochs, and keeps the weights of the last good one.

    Parameters
    ----------
    workspace : Workspace
    optimizer : Optimizer
    schedule : Schedule
    epochs : int
        Of the whole run; schedules want to know.
    shuffle : bool
    augment : Deform, callable or None
        As the workspace has it.

    Attributes
    ----------
    updates : int
        Mini-batches of all epochs that were finished, those before a run was resumed too.
    rate_factor : float
        Multiplies the learning rate from the next epoch on, beside the schedule.
    learning_rate : float
        At the end of the epoch under way, or the last one.
    steps_done : int
        Mini-batches of the epoch under way that are behind us.
    """

    def __init__(
        self,
        workspace: Workspace,
        optimizer: Optimizer,
        schedule: Schedule,
        epochs: int,
        shuffle: bool = True,
        augment: Augment | None = None,
    ) -> None:
        self.workspace, self._network, self._kernels = workspace, workspace.network, workspace.network.kernels
        self._optimizer, self._schedule, self._epochs, self._shuffle = optimizer, schedule, epochs, shuffle
        self._augment, self._objective = augment, workspace.objective
        self._good = self._kernels.to_numpy(self._network.parameters).copy()
        self._steps_a_call = 1
        self._step_weights = np.zeros(workspace.data.steps)
        self.updates, self.rate_factor, self.learning_rate = 0, 1.0, math.nan
        self.steps_done = 0

    def resume(self, updates: int, rate_factor: float) -> None:
        """Go on from the network's present parameters after so many mini-batches."""
        self.updates, self.rate_factor = updates, rate_factor
        self._good[...] = self._kernels.to_numpy(self._network.parameters)

    def compile(self) -> float:
        """Have the step ready to run; returns the seconds it took."""
        start = time.perf_counter()
        self.workspace.prepare(bind(self._kernels).train_steps)
        return time.perf_counter() - start

    def epoch(self, number: int, report: Report) -> None:
        """Run epoch `number`, counted from 0, calling `report` now and then.

        Raises
        ------
        DivergedError
            If a loss or a parameter is not finite; the parameters from before the epoch are put back.
        """
        self._begin(number)
        try:
            while self.steps_done < self.workspace.data.steps:
                self._run_some(number)
                report(self)
                look_for_interruption()
            self._keep_parameters(number)
            self.updates += self.workspace.data.steps
        except DivergedError:
            self._network.parameters[...] = self._kernels.asarray(self._good)
            raise
        finally:
            self._network.epochs_trained += 1

    def interrupt(self) -> None:
        """Count the mini-batches of a call that never returned: those that have left a loss."""
        losses = self._objective.losses()
        self.steps_done = max(self.steps_done, int(np.isfinite(losses).sum()))

    def means(self) -> tuple[float, float]:
        """Loss and accuracy of the current epoch so far."""
        return self._objective.means(self._step_weights, self.steps_done)

    def _begin(self, number: int) -> None:
        """Order, augmentation, dropout and learning rates of an epoch: functions of the seed and the epoch alone."""
        data, network = self.workspace.data, self._network
        self.steps_done = 0
        order = np.arange(data.n_samples)
        if self._shuffle:
            network.generator("order", network.epochs_trained).shuffle(order)
        strength = self._augment.strength(number, self._epochs) if isinstance(self._augment, Deform) else 1.0
        data.begin_epoch(order, strength, network.generator("augment", network.epochs_trained))
        self.workspace.set_stream(network.dropout_stream(network.epochs_trained))
        steps = self.updates + np.arange(data.steps)
        factors = np.asarray(self._schedule(steps, data.steps, self._epochs * data.steps), np.float64)
        if factors.shape != steps.shape:
            raise ValueError(f"schedule must return a factor for each step, shape {steps.shape}, got {factors.shape}")
        rates = self._optimizer.rates(factors * self.rate_factor, steps)
        self._objective.begin_epoch(rates)
        self.learning_rate = float(rates[-1, 0])
        self._step_weights = data.step_weights(order)

    def _run_some(self, number: int) -> None:
        first = self.steps_done
        last = min(first + self._steps_a_call, self.workspace.data.steps)
        start = time.perf_counter()
        self.workspace.run(bind(self._kernels).train_steps, first, last)
        losses = self._objective.losses(first, last)
        seconds = time.perf_counter() - start
        self._steps_a_call = max(1, int((last - first) * min(8.0, _CALL_SECONDS / max(seconds, 1e-9))))
        if not np.isfinite(losses).all():
            self._diverged("the loss is", number, first + int(np.argmin(np.isfinite(losses))))
        self.steps_done = last

    def _keep_parameters(self, number: int) -> None:
        """The last loss was taken before the last update, which may have been one too many."""
        now = self._kernels.to_numpy(self._network.parameters)
        if not np.isfinite(now).all():
            self._diverged("weights are", number, self.workspace.data.steps - 1)
        self._good[...] = now

    def _diverged(self, what: str, number: int, step: int) -> None:
        rate, steps = self._objective.learning_rate(step), self.workspace.data.steps
        raise DivergedError(
            f"{what} no longer finite in epoch {number + 1}, step {step + 1} of {steps}, at learning rate "
            f"{rate:.3g}: lower the learning rate, or scale the samples to about [0, 1]. "
            "The network has the weights from before that epoch.",
            number + 1,
            step + 1,
        )


def gradients(workspace: Workspace, dropout: int) -> tuple[float, list[tuple[NDArray[Any], NDArray[Any] | None]]]:
    """Loss and gradients of the whole of a workspace's data at once; see `fastnn.Network.gradients`."""
    network, data, objective = workspace.network, workspace.data, workspace.objective
    workspace.set_stream(network.dropout_stream(dropout))
    with network.kernels.limit_threads(network.threads):
        workspace.run(bind(network.kernels).train_steps, 0, data.steps)
    loss, _ = objective.means(data.step_weights(np.arange(data.n_samples)), data.steps)
    return loss, [(dW, db if network.bias else None) for dW, db in objective.gradients()]
