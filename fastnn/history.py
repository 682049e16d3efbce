"""What a training run saw, one value an epoch."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["History"]


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
        The user stopped the run; the last values cover the part of the epoch that was done.
    diverged : bool
        The loss or the weights became NaN or infinite in the epoch after these; the weights are those from before it.
    loss, accuracy : list of float
        Over the training samples as they were met, dropout and learning going on; the data loss alone, without weight
        decay. Accuracy is NaN for regression.
    val_loss, val_accuracy : list of float
        Over the validation data after each epoch; empty without.
    seconds : list of float
        Training time of each epoch, without compilation and validation.
    """

    backend: str = ""
    dtype: str = ""
    precision: str | None = None
    plan: str = ""
    threads: int = 1
    samples: int = 0
    compile_seconds: float = 0.0
    interrupted: bool = False
    diverged: bool = False
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs recorded."""
        return len(self.loss)

    def add(self, training: tuple[float, float], seconds: float, validation: tuple[float, float] | None) -> None:
        """Enter an epoch: (loss, accuracy) of training and, if there is such data, of validation."""
        self.loss.append(training[0])
        self.accuracy.append(training[1])
        self.seconds.append(seconds)
        if validation:
            self.val_loss.append(validation[0])
            self.val_accuracy.append(validation[1])

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON, None where a value is NaN or infinite."""

        def plain(value: Any) -> Any:
            if isinstance(value, list):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {name: plain(value) for name, value in asdict(self).items()}
