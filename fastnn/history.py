"""What a training run saw, one value an epoch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["QUANTITIES", "History"]

QUANTITIES = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass
class History:
    """Record of a call of `Network.fit`; the lists have one value an epoch.

    Attributes
    ----------
    backend, dtype : str
    precision : str or None
        Of the matrix products, where it is not the dtype's.
    plan : str
        How the mini-batches were run: interpreted, compiled, or on a GPU by a persistent kernel, a replayed graph, or
        eagerly one launch at a time.
    threads : int
    samples : int
        Training samples an epoch.
    compile_seconds : float
        Time before the first mini-batch: compiling, or finding the compiled code on disk.
    interrupted : bool
        The user stopped the run.
    partial : bool
        The run was interrupted within its last epoch, or before that was validated.
    diverged : bool
        The loss or the weights became NaN or infinite in the epoch after these; the weights are those from before it.
    loss, accuracy : list of float
        Over the training samples as they were met, dropout and learning going on; the data loss alone, without weight
        decay. Accuracy is NaN for regression.
    val_loss, val_accuracy : list of float
        Over the validation data after each epoch; empty without.
    seconds : list of float
        Training time of each epoch, without compilation and validation.
    learning_rate : list of float
        At the end of each epoch.
    """

    backend: str = ""
    dtype: str = ""
    precision: str | None = None
    plan: str = ""
    threads: int = 1
    samples: int = 0
    compile_seconds: float = 0.0
    interrupted: bool = False
    partial: bool = False
    diverged: bool = False
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return len(self.loss)

    def add(
        self,
        training: tuple[float, float],
        seconds: float,
        validation: tuple[float, float] | None,
        learning_rate: float = math.nan,
    ) -> None:
        """Enter an epoch: (loss, accuracy) of training and, if there is such data, of validation."""
        self.loss.append(training[0])
        self.accuracy.append(training[1])
        self.seconds.append(seconds)
        self.learning_rate.append(learning_rate)
        if validation:
            self.val_loss.append(validation[0])
            self.val_accuracy.append(validation[1])

    def value(self, quantity: str, epoch: int) -> float:
        """A list's value for an epoch, counted from 0; NaN where the list is empty, as without validation data."""
        values = getattr(self, quantity)
        return values[epoch] if values else math.nan

    @property
    def finished_epochs(self) -> int:
        """Epochs that were run to their end: all, but for the last of a run that was interrupted in it."""
        return self.epochs - self.partial

    def best_epoch(self, quantity: str) -> tuple[int, float, str] | None:
        """The best finished epoch, counted from 1, its value, and "validation" or "training"; None where there is none.

        Parameters
        ----------
        quantity : {"loss", "accuracy"}
            Of validation where there is such data, else of training.
        """
        best = min if quantity == "loss" else max
        for name, where in ((f"val_{quantity}", "validation"), (quantity, "training")):
            values = getattr(self, name)[: self.finished_epochs]
            finite = [i for i, value in enumerate(values) if math.isfinite(value)]
            if finite:
                i = best(finite, key=values.__getitem__)
                return i + 1, values[i], where
        return None

    def _repr_html_(self) -> str:
        from fastnn.notebook_html import history_html

        return history_html(self)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON, None where a value is NaN or infinite."""

        def plain(value: Any) -> Any:
            if isinstance(value, list):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {name: plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Any) -> "History":
        """What `to_dict` gave, as a History again: None becomes NaN; older ones do not say whether they are `partial`.

        Raises
        ------
        ValueError
            If a name is unknown, or a value is not of its kind.
        """
        kinds = {one.name: type(getattr(cls(), one.name)) for one in fields(cls)}
        history = cls()
        if not isinstance(values, Mapping):
            raise ValueError(f"a history is a mapping, got {type(values).__name__}")
        for name, value in values.items():
            if kinds.get(name) is list:
                value = [math.nan if item is None else float(item) for item in value]
            elif name not in kinds or not isinstance(value, str if name == "precision" and value else kinds[name]):
                raise ValueError(f"no history has {name} = {value!r}")
            setattr(history, name, value)
        if history.interrupted and "partial" not in values:
            history.partial = not (history.val_loss and math.isfinite(history.val_loss[-1]))
        if len({len(history.loss), len(history.accuracy), len(history.seconds)}) > 1:
            raise ValueError("the lists of a history must have one value an epoch")
        return history
