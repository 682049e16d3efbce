"""What happens after every epoch of a run besides learning: stop it, keep it, log it, change its learning rate.

A callback is any function ``callback(network, history)``; training ends where one returns True; None and False go on,
and anything else is an error. What has to know when a run begins and ends, or has something to remember from one epoch
to the next, is a `Callback`.

After every epoch callbacks are called in their order, and at the end of the run their `end` is called in that order;
checkpoints come last in both, so that a file holds what all others have done.
"""

import csv
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TextIO, TypeAlias

import numpy as np

from fastnn.checks import check_count, check_finite
from fastnn.choices import check_choice
from fastnn.history import QUANTITIES, History
from fastnn.model import Model
from fastnn.operations import Optimizer
from fastnn.optional import require
from fastnn.storage import check_writable, save
from fastnn.training_state import TrainingState

__all__ = [
    "AverageWeights",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "LearningRateSchedule",
    "ReduceLROnPlateau",
    "TensorBoard",
    "as_callbacks",
]


Quantity: TypeAlias = Literal["val_loss", "val_accuracy", "loss", "accuracy"]


class Run(Protocol):
    """What a callback may know and change of the run that calls it, a call of `fastnn.Network.fit`.

    Attributes
    ----------
    network : Model
    history : History
    epochs : int
        Of the whole run, those before it was resumed too.
    batch_size : int
    optimizer : Optimizer
    verbose : bool
        Progress is drawn on stderr.
    quantities : tuple of str
        What `history` has a value of after each epoch: loss, accuracy, val_loss, val_accuracy.
    rate_factor : float
        Multiplies the learning rate from the next epoch on, beside the schedule.
    """

    network: Model
    history: History
    epochs: int
    batch_size: int
    optimizer: Optimizer
    verbose: bool
    quantities: tuple[str, ...]
    rate_factor: float

    @property
    def is_last_epoch(self) -> bool:
        """Whether no epoch follows the one that has just ended."""

    def state(self) -> TrainingState:
        """Where the run is, between two epochs."""


class Callback:
    """Base of callbacks that do more than look at an epoch; every method may be left out.

    Attributes
    ----------
    is_last : bool
        It is called after those that are not, and sees what they have done.
    """

    is_last: ClassVar[bool] = False

    def begin(self, run: Run) -> None:
        """Called before the first epoch. The same object may serve one run after the other."""

    def __call__(self, network: Model, history: History) -> bool | None:
        """Called after every epoch; True ends the run."""
        return None

    def end(self, run: Run) -> None:
        """Called after the last epoch, and also where an error or Ctrl-C ended the run, in `begin` too."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep of it: plain values and numpy arrays. Empty: nothing."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave; called after `begin`."""


class _Function(Callback):
    """A plain function."""

    def __init__(self, function: Callable[[Any, History], Any]) -> None:
        self._function = function

    def __repr__(self) -> str:
        return repr(self._function)

    def __call__(self, network: Model, history: History) -> bool | None:
        ends: bool | None = self._function(network, history)
        return ends


def as_callbacks(callbacks: Any) -> list[Callback]:
    """Functions and objects as `Callback`, in their order but for checkpoints: those see what all others have done."""
    given: list[Any] = list(callbacks) if isinstance(callbacks, Iterable) else [None]
    if any(isinstance(callback, type) or not callable(callback) for callback in given):
        raise ValueError(f"callbacks must be functions or objects as EarlyStopping(), in a list; got {callbacks!r}")
    made = [callback if isinstance(callback, Callback) else _Function(callback) for callback in given]
    return sorted(made, key=lambda callback: callback.is_last)


def _renamed(old: str, value: float | None, new: str, default: float) -> float:
    """The value of an argument that was called otherwise before."""
    if value is None:
        return default
    warnings.warn(f"{old} is now called {new}", DeprecationWarning, stacklevel=3)
    return value


class _Monitor:
    """A quantity of the history, and its best value so far."""

    def __init__(self, quantity: Quantity, min_delta: float = 0.0) -> None:
        self.quantity = check_choice("quantity to monitor", quantity, QUANTITIES)
        self._min_delta = check_finite("min_delta", min_delta, least=0)
        self._sign = -1.0 if quantity.endswith("loss") else 1.0
        self.best = math.nan

    def begin(self, run: Run) -> None:
        if self.quantity not in run.quantities:
            there = ", ".join(run.quantities)
            raise ValueError(f"monitor={self.quantity!r} is not to be had in this run, which has {there}")
        self.best = math.nan

    def improved(self, history: History) -> bool:
        """Whether the last epoch is better than all before it, by more than `min_delta`; NaN never is."""
        value = getattr(history, self.quantity)[-1]
        if math.isnan(value):
            return False
        if math.isnan(self.best) or self._sign * (value - self.best) > self._min_delta:
            self.best = value
            return True
        return False


class EarlyStopping(Callback):
    """End the run when a quantity gets no better, and give the network the weights of the best epoch.

    However the run ends, the network has the best epoch's weights; a run that ends by itself or by Ctrl-C too.

    Parameters
    ----------
    monitor : {"val_loss", "val_accuracy", "loss", "accuracy"}
    patience : int
        Epochs in a row without a better value after which the run ends.
    min_delta : float >= 0
        By how much a value has to be better to count.
    restore_best : bool
    least_change : float
        Deprecated name of `min_delta`.

    Attributes
    ----------
    best : float
        The best value.
    best_epoch : int
        Its epoch, counted from 1; 0 before the first.

    References
    ----------
    Prechelt, "Early stopping - but when?", in "Neural Networks: Tricks of the Trade" (1998).

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 16, 10], backend="numpy")
    >>> stop = fastnn.EarlyStopping("val_loss", patience=2)
    >>> history = net.fit(
    ...     data.x_train, data.y_train, epochs=100, optimizer="adam(0.02)",
    ...     validation_data=(data.x_test, data.y_test), callbacks=[stop],
    ... )
    >>> history.epochs == stop.best_epoch + 2 < 100
    True
    """

    def __init__(
        self,
        monitor: Quantity = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
        *,
        least_change: float | None = None,
    ) -> None:
        self._monitor = _Monitor(monitor, _renamed("least_change", least_change, "min_delta", min_delta))
        self.patience = check_count("patience", patience)
        self.restore_best = bool(restore_best)
        self.best_epoch, self._waited = 0, 0
        self._weights: np.ndarray | None = None

    @property
    def best(self) -> float:
        return self._monitor.best

    def begin(self, run: Run) -> None:
        self.best_epoch, self._waited, self._weights = 0, 0, None
        self._monitor.begin(run)

    def __call__(self, network: Model, history: History) -> bool:
        self._waited += 1
        if self._monitor.improved(history):
            self.best_epoch, self._waited = history.epochs, 0
            if self.restore_best:
                self._weights = network.kernels.to_numpy(network.parameters).copy()
        return self._waited >= self.patience

    def end(self, run: Run) -> None:
        if self._weights is not None:
            run.network.parameters[...] = run.network.kernels.asarray(self._weights)

    def state(self) -> dict[str, Any]:
        weights = {} if self._weights is None else {"weights": self._weights}
        return {"best": self.best, "best_epoch": self.best_epoch, "waited": self._waited} | weights

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best, self.best_epoch = state["best"], state["best_epoch"]
        self._waited, self._weights = state["waited"], state.get("weights")


class AverageWeights(Callback):
    """Give the network, when the run ends, the average of its weights after each of the last epochs.

    Parameters
    ----------
    last : float in (0, 1]
        Share of the epochs of the run, at its end, that count.
    decay : float in [0, 1) or None
        None: each counts alike. Otherwise the average is an exponential one: with each epoch ``decay`` of it stays.

    Attributes
    ----------
    count : int
        Epochs in the average.

    References
    ----------
    Polyak & Juditsky, SIAM Journal on Control and Optimization 30 (1992); Izmailov et al., "Averaging weights leads to
    wider optima and better generalization", UAI 2018.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 16, 10], backend="numpy")
    >>> average = fastnn.AverageWeights(last=0.5)
    >>> history = net.fit(data.x_train, data.y_train, epochs=4, callbacks=[average])
    >>> average.count
    2
    """

    def __init__(self, last: float = 0.2, decay: float | None = None) -> None:
        if not 0 < check_finite("last", last) <= 1:
            raise ValueError(f"last must be a share of the epochs, more than 0 and at most 1, got {last!r}")
        if decay is not None and not 0 <= check_finite("decay", decay) < 1:
            raise ValueError(f"decay must be at least 0 and less than 1, got {decay!r}")
        self.last, self.decay, self.count = last, decay, 0
        self._average: np.ndarray | None = None
        self._epochs = 0

    def begin(self, run: Run) -> None:
        self.count, self._average, self._epochs = 0, None, run.epochs

    def __call__(self, network: Model, history: History) -> None:
        if history.epochs <= (1 - self.last) * self._epochs:
            return
        now = network.kernels.to_numpy(network.parameters).astype(np.float64)
        self.count += 1
        share = 1 / self.count if self.decay is None else 1 - self.decay
        self._average = now if self._average is None else self._average + share * (now - self._average)

    def end(self, run: Run) -> None:
        if self._average is not None:
            run.network.parameters[...] = run.network.kernels.asarray(self._average.astype(run.network.dtype))

    def state(self) -> dict[str, Any]:
        return {"count": self.count} | ({} if self._average is None else {"average": self._average})

    def restore(self, state: dict[str, Any]) -> None:
        self.count, self._average = state["count"], state.get("average")


class Checkpoint(Callback):
    """Write the whole state of the run to a file after an epoch: ``net.fit(..., resume=path)`` goes on from there.

    The file is a model file too (`fastnn.load`). It is written after what the other callbacks do, and replaced
    atomically: whenever the process is killed, the last whole checkpoint is there. If another callback gives the
    network other weights when the run ends, as `EarlyStopping` does, the file has those, and a run that is resumed
    nevertheless goes on from the weights of the last epoch.

    Parameters
    ----------
    path : str or Path
    every : int
        Epochs from one to the next; the last epoch of a run is always written.
    best : {"val_loss", "val_accuracy", "loss", "accuracy"} or None
        Write only where this quantity is better than ever before.
    notes : dict or None
        Plain values of one's own, kept in the file (`TrainingState.notes`).

    Examples
    --------
    >>> import fastnn, pathlib, tempfile
    >>> data = fastnn.datasets.load("digits")
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "run.safetensors"
    >>> for epochs in (1, 3):  # the second call goes on after the first epoch
    ...     net = fastnn.Network([784, 16, 10], backend="numpy")
    ...     history = net.fit(
    ...         data.x_train, data.y_train, epochs=epochs, optimizer="adam",
    ...         callbacks=[fastnn.Checkpoint(path)], resume=path if path.exists() else None,
    ...     )
    ...     print(history.epochs, net.epochs_trained)
    1 1
    3 3
    """

    is_last = True

    def __init__(
        self, path: str | Path, every: int = 1, best: Quantity | None = None, notes: dict[str, Any] | None = None
    ) -> None:
        self.path, self.notes = Path(path), dict(notes or {})
        self.every = check_count("every", every)
        self._monitor = None if best is None else _Monitor(best)
        self._run: Run | None = None
        self._written: TrainingState | None = None

    def begin(self, run: Run) -> None:
        self._written = None
        check_writable(self.path)
        if self._monitor:
            self._monitor.begin(run)
        self._run = run

    def __call__(self, network: Model, history: History) -> None:
        assert self._run is not None
        due = self._run.is_last_epoch or history.epochs % self.every == 0
        if due and (self._monitor is None or self._monitor.improved(history)):
            self._written = dataclasses.replace(self._run.state(), notes=self.notes)
            save(network, self.path, self._written)

    def end(self, run: Run) -> None:
        written, network = self._written, run.network
        self._run = self._written = None
        if written is None or written.epoch != run.history.epochs:
            return  # the file is of an earlier epoch than the last, and says so
        if not np.array_equal(written.arrays["parameters"], network.kernels.to_numpy(network.parameters)):
            save(network, self.path, written)

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best} if self._monitor else {}

    def restore(self, state: dict[str, Any]) -> None:
        if self._monitor:
            self._monitor.best = state["best"]


class CSVLog(Callback):
    """Write a line an epoch to a CSV file: epoch, loss, accuracy, val_loss, val_accuracy, seconds, learning_rate.

    Each line is on its way to the disk when the epoch ends. A value that there is not is left empty. A run that is
    resumed begins with the lines of the epochs before.

    Parameters
    ----------
    path : str or Path
        Overwritten.
    """

    COLUMNS = ("epoch", *QUANTITIES, "seconds", "learning_rate")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: TextIO | None = None

    def begin(self, run: Run) -> None:
        self._file = open(self.path, "w", newline="", encoding="utf-8")  # noqa: SIM115 - open as long as the run is
        csv.writer(self._file).writerow(self.COLUMNS)
        for i in range(run.history.epochs):
            self._write(run.history, i)

    def __call__(self, network: Model, history: History) -> None:
        self._write(history, history.epochs - 1)

    def end(self, run: Run) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def _write(self, history: History, i: int) -> None:
        assert self._file is not None
        values = (history.value(name, i) for name in self.COLUMNS[1:])
        csv.writer(self._file).writerow([i + 1, *("" if math.isnan(value) else repr(value) for value in values)])
        self._file.flush()


class TensorBoard(Callback):
    """Write loss, accuracy, learning rate and seconds of every epoch for TensorBoard; needs tensorboardX.

    Parameters
    ----------
    folder : str or Path
        Of this run; ``tensorboard --logdir`` takes the folder above.
    """

    _TAGS = {  # noqa: RUF012 - a constant
        "loss": "loss/training",
        "val_loss": "loss/validation",
        "accuracy": "accuracy/training",
        "val_accuracy": "accuracy/validation",
        "learning_rate": "learning_rate",
        "seconds": "seconds",
    }

    def __init__(self, folder: str | Path) -> None:
        require("tensorboardX", "tensorboard")
        self.folder = Path(folder)
        self._writer: Any = None

    def begin(self, run: Run) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(self.folder), purge_step=run.history.epochs + 1)

    def __call__(self, network: Model, history: History) -> None:
        for quantity, tag in self._TAGS.items():
            value = history.value(quantity, history.epochs - 1)
            if not math.isnan(value):
                self._writer.add_scalar(tag, value, history.epochs)
        self._writer.flush()

    def end(self, run: Run) -> None:
        if self._writer:
            self._writer.close()
            self._writer = None


class LearningRateSchedule(Callback):
    """Choose the learning rate of every epoch by a function of one's own.

    What is known before the run, as a cosine or steps, is better said by ``fit(schedule=...)``, which acts on every
    mini-batch; the two are multiplied.

    Parameters
    ----------
    function : callable
        ``function(epoch, learning_rate) -> learning_rate``: the epoch that is about to begin, counted from 0, and the
        learning rate of the one before (the optimizer's, before the first).
    """

    def __init__(self, function: Callable[[int, float], float]) -> None:
        if not callable(function):
            raise ValueError(f"LearningRateSchedule needs a function (epoch, learning_rate), got {function!r}")
        self._function = function
        self._run: Run | None = None

    def begin(self, run: Run) -> None:
        self._run = run
        if run.history.epochs == 0:  # a run that is resumed has the rate of its next epoch
            self._choose(0)

    def __call__(self, network: Model, history: History) -> None:
        self._choose(history.epochs)

    def end(self, run: Run) -> None:
        self._run = None

    def _choose(self, epoch: int) -> None:
        assert self._run is not None
        base = self._run.optimizer.learning_rate
        rate = check_finite("learning rate", self._function(epoch, base * self._run.rate_factor))
        if rate <= 0:
            raise ValueError(
                f"the function of LearningRateSchedule must return a rate > 0, got {rate} in epoch {epoch}"
            )
        self._run.rate_factor = rate / base


class ReduceLROnPlateau(Callback):
    """Multiply the learning rate by `factor` whenever a quantity gets no better for some epochs.

    Parameters
    ----------
    monitor : {"val_loss", "val_accuracy", "loss", "accuracy"}
    factor : float in (0, 1)
    patience : int
        Epochs in a row without a better value.
    min_delta : float >= 0
        By how much a value has to be better to count.
    min_lr : float >= 0
        The learning rate is not lowered below this.
    least_change, least_rate : float
        Deprecated names of `min_delta` and `min_lr`.
    """

    def __init__(
        self,
        monitor: Quantity = "val_loss",
        factor: float = 0.1,
        patience: int = 5,
        min_delta: float = 0.0,
        min_lr: float = 0.0,
        *,
        least_change: float | None = None,
        least_rate: float | None = None,
    ) -> None:
        self._monitor = _Monitor(monitor, _renamed("least_change", least_change, "min_delta", min_delta))
        min_lr = _renamed("least_rate", least_rate, "min_lr", min_lr)
        self.factor, self.min_lr = check_finite("factor", factor), check_finite("min_lr", min_lr, least=0)
        if not 0 < self.factor < 1:
            raise ValueError(f"factor must lie between 0 and 1, got {factor!r}")
        self.patience = check_count("patience", patience)
        self._waited = 0
        self._run: Run | None = None

    @property
    def least_rate(self) -> float:
        """Deprecated name of `min_lr`."""
        return _renamed("least_rate", self.min_lr, "min_lr", self.min_lr)

    def begin(self, run: Run) -> None:
        self._monitor.begin(run)
        self._waited, self._run = 0, run

    def __call__(self, network: Model, history: History) -> None:
        self._waited = 0 if self._monitor.improved(history) else self._waited + 1
        if self._waited >= self.patience:
            assert self._run is not None
            least = self.min_lr / self._run.optimizer.learning_rate
            self._waited, self._run.rate_factor = 0, max(self._run.rate_factor * self.factor, least)

    def end(self, run: Run) -> None:
        self._run = None

    def state(self) -> dict[str, Any]:
        return {"best": self._monitor.best, "waited": self._waited}

    def restore(self, state: dict[str, Any]) -> None:
        self._monitor.best, self._waited = state["best"], state["waited"]
