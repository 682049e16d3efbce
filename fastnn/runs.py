"""A training run: epochs, validation, callbacks and their record; and what it takes to go on with one."""

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from fastnn.augmentation import Augment
from fastnn.callbacks import Callback
from fastnn.console import progress_bar, say, wants_progress
from fastnn.descriptions import describe
from fastnn.errors import DivergedError
from fastnn.evaluation import Evaluator
from fastnn.history import History
from fastnn.kernels.codes import REGRESSION
from fastnn.operations import Optimizer
from fastnn.schedules import Schedule
from fastnn.training import Trainer
from fastnn.training_state import TrainingState
from fastnn.workspace import Workspace

__all__ = ["Run"]

Report = Callable[[Trainer], None]


class Run:
    """One call of `Network.fit`, under way; see `fastnn.callbacks.Run` for what it is to callbacks."""

    def __init__(
        self,
        workspace: Workspace,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        loss: str,
        epochs: int,
        batch_size: int,
        shuffle: bool,
        augment: Augment | None,
        validate: Evaluator | None,
        callbacks: list[Callback],
        verbose: bool | str,
    ) -> None:
        self.network, self.epochs, self.batch_size, self.optimizer = workspace.network, epochs, batch_size, optimizer
        self._workspace, self._loss, self._shuffle, self._callbacks = workspace, loss, shuffle, callbacks
        self._schedule, self._augment = schedule, augment
        self._trainer = Trainer(workspace, optimizer, schedule, epochs, shuffle, augment)
        self._validate, self._stopped = validate, False
        self.verbose = wants_progress(verbose)
        training = ("loss",) if workspace.data.task == REGRESSION else ("loss", "accuracy")
        self.quantities = training + tuple(f"val_{name}" for name in training if validate)
        self.history = History()
        self._restore: list[tuple[Callback, dict[str, Any]]] = []

    @property
    def rate_factor(self) -> float:
        """Multiplies the learning rate from the next epoch on, beside the schedule."""
        return self._trainer.rate_factor

    @rate_factor.setter
    def rate_factor(self, factor: float) -> None:
        self._trainer.rate_factor = factor

    @property
    def is_last_epoch(self) -> bool:
        """Whether no epoch follows the one that has just ended."""
        return self._stopped or self.history.epochs >= self.epochs

    # ---- going on ----

    def state(self) -> TrainingState:
        """Where the run is, between two epochs."""
        return TrainingState(
            settings=self._settings(),
            history=copy.deepcopy(self.history),
            updates=self._trainer.updates,
            epochs_trained=self.network.epochs_trained,
            rate_factor=self.rate_factor,
            stopped=self._stopped,
            callbacks=[(type(one).__name__, one.state()) for one in self._stateful()],
            arrays=self._workspace.objective.state(),
        )

    def _settings(self) -> dict[str, Any]:
        augment = {} if self._augment is None else {"augment": describe(self._augment)}  # older files have none
        return (
            self.network.configuration()
            | augment
            | {
                "loss": self._loss,
                "optimizer": describe(self.optimizer),
                "schedule": describe(self._schedule),
                "batch_size": self.batch_size,
                "shuffle": self._shuffle,
                "data": self._workspace.data.fingerprint,
                "history of": list(self.quantities),
            }
        )

    def resume(self, state: TrainingState) -> None:
        """Go on where `state` was taken.

        Raises
        ------
        ValueError
            If a setting, the data, or what optimizer and callbacks have to remember is not as it was; then nothing is
            changed.
        """
        callbacks, kept = self._stateful(), dict(state.arrays)
        older = [kept.pop(name) for name in ("state1", "state2") if name in kept]  # as files of version 0.1 call them
        kept |= dict(zip(self.optimizer.state, older, strict=False))
        was = state.settings or {}
        now = self._settings() if was else {}
        if was and now["schedule"].partition(" ")[0] == was["schedule"]:
            was = was | {"schedule": now["schedule"]}  # older files have a function's name alone
        was = was | {"callbacks": [name for name, _ in state.callbacks]}
        was |= {name: array.size for name, array in kept.items()}
        now = now | {"callbacks": [type(one).__name__ for one in callbacks]}
        now |= self._workspace.objective.sizes()
        changed = [
            f"{name} {was.get(name)!r}, now {now.get(name)!r}" for name in now | was if was.get(name) != now.get(name)
        ]
        if changed:
            raise ValueError(f"cannot go on with a run of other settings; then and now: {'; '.join(changed)}")
        self._workspace.objective.restore(kept)
        self.network.epochs_trained = state.epochs_trained
        self.history, self._stopped = copy.deepcopy(state.history), state.stopped
        self._trainer.resume(state.updates, state.rate_factor)
        self._restore = [(one, kept) for one, (_, kept) in zip(callbacks, state.callbacks, strict=True)]

    def _stateful(self) -> list[Callback]:
        return [callback for callback in self._callbacks if callback.state()]

    # ---- the run ----

    def train(self) -> History:
        """All epochs that are left; see `fastnn.Network.fit`."""
        network, history = self.network, self.history
        network.history = history
        data = self._workspace.data
        network.learn_conventions(data.task, self._loss, data.pixels, data.largest_input)
        history.backend, history.dtype, history.precision = network.backend, network.dtype.name, network.precision
        history.threads, history.samples, history.interrupted = network.threads, data.n_samples, False
        history.partial = False
        with network.kernels.limit_threads(network.threads), ExitStack() as ends:
            begun: list[Callback] = []
            ends.callback(_end_all, begun, self)
            for callback in self._callbacks:
                begun.append(callback)
                callback.begin(self)
            for callback, state in self._restore:
                callback.restore(state)
            history.compile_seconds = _compile(self._trainer, self.verbose)
            history.plan = self._workspace.plan  # some backends decide on it now
            try:
                while not self.is_last_epoch:
                    self._epoch(history.epochs)
                    for callback in self._callbacks:
                        self._stopped |= _ends_the_run(callback(network, history), callback)
            except DivergedError:
                history.diverged = True
                raise
            except KeyboardInterrupt:
                history.interrupted = True
                raise
        return history

    def _epoch(self, number: int) -> None:
        """Train and validate epoch `number`, counted from 0, and enter it into the history."""
        trainer, history = self._trainer, self.history
        with _progress(self.verbose, self, number) as report:
            start = time.perf_counter()
            try:
                trainer.epoch(number, report)
                seconds = time.perf_counter() - start
                validation = self._validate() if self._validate else None
            except KeyboardInterrupt:
                trainer.interrupt()
                if trainer.steps_done:
                    nothing = (math.nan, math.nan) if self._validate else None
                    history.add(trainer.means(), time.perf_counter() - start, nothing, trainer.learning_rate)
                    history.partial = True
                raise
            history.add(trainer.means(), seconds, validation, trainer.learning_rate)
            report(trainer)


def _end_all(callbacks: list[Callback], run: Run) -> None:
    """End all in their order, also where one of them fails."""
    with ExitStack() as ends:
        for callback in reversed(callbacks):  # an ExitStack calls last what was entered first
            ends.callback(callback.end, run)


def _ends_the_run(answer: Any, callback: Callback) -> bool:
    if answer is None or isinstance(answer, bool | np.bool_):
        return bool(answer)
    raise ValueError(
        f"a callback must return True to end the training, or None or False to go on; {callback!r} returned {answer!r}"
    )


def _compile(trainer: Trainer, show: bool) -> float:
    """Seconds it took; somebody who has to wait for it is told why."""
    words = "compiling, once for this number of layers and these dtypes; the code is kept for the next time"
    timer = threading.Timer(0.5, say, [words])
    if show:
        timer.start()
    try:
        return trainer.compile()
    finally:
        timer.cancel()


@contextmanager
def _progress(show: bool, run: Run, number: int) -> Iterator[Report]:
    """A function that draws how far the epoch is, to stderr."""
    if not show:
        yield lambda trainer: None
        return
    n_samples = run.history.samples
    with progress_bar(
        total=n_samples, desc=f"epoch {number + 1}/{run.epochs}", unit=" samples", unit_scale=True
    ) as bar:

        def report(trainer: Trainer) -> None:
            loss, accuracy = trainer.means()
            shown = {"loss": loss, "accuracy": accuracy}
            if len(run.history.val_accuracy) > number:
                shown |= {"val_loss": run.history.val_loss[-1], "val_accuracy": run.history.val_accuracy[-1]}
            bar.set_postfix({k: f"{v:.4f}" for k, v in shown.items() if not math.isnan(v)}, refresh=False)
            bar.update(min(trainer.steps_done * trainer.workspace.data.rows, n_samples) - bar.n)
            bar.refresh()

        yield report
