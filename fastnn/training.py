"""Training: epochs of mini-batches over one data set, their record, and what may end them."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.errors import DivergedError
from fastnn.evaluation import Evaluator
from fastnn.history import History
from fastnn.optimizers import Optimizer
from fastnn.schedules import Schedule
from fastnn.step import bind
from fastnn.workspace import Workspace

if TYPE_CHECKING:
    from fastnn.network import Network

__all__ = ["Callback", "Trainer", "fit", "gradients"]

Callback = Callable[["Network", History], Any]
Report = Callable[["Trainer"], None]

_CALL_SECONDS = 0.1  # an epoch longer than this takes several calls, so that progress and Ctrl-C are alive


class Trainer:
    """One workspace and one optimizer: runs epochs, and keeps the weights of the last good one.

    Parameters
    ----------
    space : Workspace
    optimizer : Optimizer
    schedule : Schedule
    epochs : int
        Of the whole run; schedules want to know.
    shuffle : bool
    """

    def __init__(
        self, space: Workspace, optimizer: Optimizer, schedule: Schedule, epochs: int, shuffle: bool = True
    ) -> None:
        self.space, self._network, self._kernels = space, space.network, space.network.kernels
        self._optimizer, self._schedule, self._epochs, self._shuffle = optimizer, schedule, epochs, shuffle
        self._good = self._kernels.to_numpy(self._network.parameters).copy()
        self._steps_a_call = 1
        self._step_weights = np.zeros(space.steps)
        self.steps_done = 0  # mini-batches of the current epoch that are behind us

    def compile(self) -> float:
        """Have the step ready to run; returns the seconds it took."""
        start = time.perf_counter()
        self.space.prepare(bind(self._kernels).train_steps)
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
            while self.steps_done < self.space.steps:
                self._run_some(number)
                report(self)
            self._keep_parameters(number)
        except DivergedError:
            self._network.parameters[...] = self._kernels.asarray(self._good)
            raise
        finally:
            self._network.epochs_trained += 1

    def interrupt(self) -> None:
        """Count the mini-batches of a call that never returned: those that have left a loss."""
        losses = self._kernels.to_numpy(self.space.objective.losses)
        self.steps_done = max(self.steps_done, int(np.isfinite(losses).sum()))

    def means(self) -> tuple[float, float]:
        """Loss and accuracy of the current epoch so far."""
        return self.space.means(self._step_weights, self.steps_done)

    def _begin(self, number: int) -> None:
        """Order, dropout masks and learning rates of an epoch: functions of the seed and the epoch alone."""
        space, network, asarray = self.space, self._network, self._kernels.asarray
        self.steps_done = 0
        space.objective.losses[...] = math.nan  # so that a call that is interrupted shows how far it came
        order = np.arange(space.n_samples)
        if self._shuffle:
            network.generator("order", network.epochs_trained).shuffle(order)
        space.data.order[...] = asarray(order)
        space.set_stream(network.dropout_stream(network.epochs_trained))
        steps = np.arange(number * space.steps, (number + 1) * space.steps)
        factors = np.asarray(self._schedule(steps, space.steps, self._epochs * space.steps), np.float64)
        if factors.shape != steps.shape:
            raise ValueError(f"schedule must return a factor for each step, shape {steps.shape}, got {factors.shape}")
        space.objective.rates[...] = asarray(self._optimizer.rates(factors, steps))
        self._step_weights = space.step_weights(order)

    def _run_some(self, number: int) -> None:
        first = self.steps_done
        last = min(first + self._steps_a_call, self.space.steps)
        start = time.perf_counter()
        self.space.run(bind(self._kernels).train_steps, first, last)
        losses = self._kernels.to_numpy(self.space.objective.losses)[first:last]
        seconds = time.perf_counter() - start
        self._steps_a_call = max(1, int((last - first) * min(8.0, _CALL_SECONDS / max(seconds, 1e-9))))
        if not np.isfinite(losses).all():
            self._diverged("the loss is", number, first + int(np.argmin(np.isfinite(losses))))
        self.steps_done = last

    def _keep_parameters(self, number: int) -> None:
        """The last loss was taken before the last update, which may have been one too many."""
        now = self._kernels.to_numpy(self._network.parameters)
        if not np.isfinite(now).all():
            self._diverged("weights are", number, self.space.steps - 1)
        self._good[...] = now

    def _diverged(self, what: str, number: int, step: int) -> None:
        rate = float(self._kernels.to_numpy(self.space.objective.rates)[step, 0])
        raise DivergedError(
            f"{what} no longer finite in epoch {number + 1}, step {step + 1} of {self.space.steps}, at learning rate "
            f"{rate:.3g}: lower the learning rate, or scale the samples to about [0, 1]. "
            "The network has the weights from before that epoch.",
            number + 1,
            step + 1,
        )


def fit(
    network: "Network",
    space: Workspace,
    trainer: Trainer,
    validate: Evaluator | None,
    epochs: int,
    callbacks: Iterable[Callback],
    verbose: bool | str,
) -> History:
    """Epochs, validation, record and callbacks; see `fastnn.Network.fit`."""
    show = sys.stderr.isatty() if verbose == "auto" else bool(verbose)
    history = network.history = History(
        backend=network.backend,
        dtype=network.dtype.name,
        precision=network.precision,
        threads=network.threads,
        samples=space.n_samples,
    )
    network.task = space.task
    with network.kernels.limit_threads(network.threads):
        history.compile_seconds = _compile(trainer, show)
        history.plan = space.plan  # some backends decide on it now
        for number in range(epochs):
            with _progress(show, number, epochs, space.n_samples) as report:
                start = time.perf_counter()
                try:
                    trainer.epoch(number, report)
                    seconds = time.perf_counter() - start
                    validation = validate() if validate else None
                except DivergedError:
                    history.diverged = True
                    raise
                except KeyboardInterrupt:
                    history.interrupted = True
                    trainer.interrupt()
                    if trainer.steps_done:
                        nothing = (math.nan, math.nan) if validate else None
                        history.add(trainer.means(), time.perf_counter() - start, nothing)
                    raise
                history.add(trainer.means(), seconds, validation)
                report(trainer)
            try:
                if any([callback(network, history) for callback in callbacks]):  # a list: every one is called
                    break
            except KeyboardInterrupt:
                history.interrupted = True
                raise
    return history


def _compile(trainer: Trainer, show: bool) -> float:
    """Seconds it took; somebody who has to wait for it is told why."""
    word = "fastnn: compiling, once for this number of layers and these dtypes; the code is kept for the next time"
    timer = threading.Timer(0.5, print, [word], {"file": sys.stderr})
    if show:
        timer.start()
    try:
        return trainer.compile()
    finally:
        timer.cancel()


@contextmanager
def _progress(show: bool, number: int, epochs: int, n_samples: int) -> Iterator[Report]:
    """A function that draws how far the epoch is, to stderr."""
    if not show:
        yield lambda trainer: None
        return
    from tqdm import tqdm

    with tqdm(total=n_samples, desc=f"epoch {number + 1}/{epochs}", unit=" samples", unit_scale=True) as bar:

        def report(trainer: Trainer) -> None:
            history = trainer.space.network.history
            loss, accuracy = trainer.means()
            shown = {"loss": loss, "accuracy": accuracy}
            if history and len(history.val_accuracy) > number:
                shown |= {"val_loss": history.val_loss[-1], "val_accuracy": history.val_accuracy[-1]}
            bar.set_postfix({k: f"{v:.4f}" for k, v in shown.items() if not math.isnan(v)}, refresh=False)
            bar.update(min(trainer.steps_done * trainer.space.rows, n_samples) - bar.n)
            bar.refresh()

        yield report


def gradients(space: Workspace, dropout: int) -> tuple[float, list[tuple[np.ndarray, np.ndarray | None]]]:
    """Loss and gradients of the whole of a workspace's data at once; see `fastnn.Network.gradients`."""
    network, objective = space.network, space.objective
    space.set_stream(network.dropout_stream(dropout))
    with network.kernels.limit_threads(network.threads):
        space.run(bind(network.kernels).train_steps, 0, space.steps)
    loss, _ = space.means(space.step_weights(np.arange(space.n_samples)), space.steps)
    to_numpy = network.kernels.to_numpy
    pairs = zip(objective.dW, objective.db, strict=True)
    return loss, [(to_numpy(dW).copy(), to_numpy(db).copy() if network.bias else None) for dW, db in pairs]
