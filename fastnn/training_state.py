"""Where a run is between two epochs: what a checkpoint keeps of it."""

import dataclasses
from typing import Any

import numpy as np

from fastnn.history import History

__all__ = ["TrainingState"]


@dataclasses.dataclass
class TrainingState:
    """All that the rest of a run depends on besides the data; arrays are copies, of the network's dtype.

    The order of samples and the dropout masks need no state: they are functions of the network's seed and of
    `epochs_trained`.

    Attributes
    ----------
    settings : dict
        Plain values that have to be the same where the run goes on; empty: whatever comes is taken.
    history : History
    updates : int
        Mini-batches done, on which schedules and Adam's corrections depend.
    epochs_trained : int
        The network's.
    rate_factor : float
    stopped : bool
        A callback has ended the run.
    callbacks : list of (str, dict)
        Class and state of each callback that has one.
    notes : dict
        The caller's own plain values, see `Checkpoint`.
    arrays : dict of str to numpy.ndarray
        "parameters" (n_parameters,), and as many for each name in the optimizer's `state`.
    """

    settings: dict[str, Any]
    history: History
    updates: int
    epochs_trained: int
    rate_factor: float
    stopped: bool
    callbacks: list[tuple[str, dict[str, Any]]]
    arrays: dict[str, np.ndarray]
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Epochs of the run that are done."""
        return self.history.epochs
