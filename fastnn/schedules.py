"""Learning-rate schedules: the factor on the optimizer's learning rate at every step of a run.

A schedule is any function ``(steps, steps_per_epoch, total_steps) -> factors``: `steps` is an int array of the steps
asked for, counted from 0 through all epochs of the run; the factors are a float64 array of that shape. They are
computed on the host an epoch ahead, so that no backend has to know about schedules.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastnn.checks import is_finite
from fastnn.choices import parse_choice

__all__ = ["SCHEDULES", "Constant", "Cosine", "Exponential", "Schedule", "Step", "as_schedule"]

Schedule = Callable[[np.ndarray, int, int], np.ndarray]


@dataclass(frozen=True)
class Constant:
    """The optimizer's learning rate throughout."""

    def __call__(self, steps: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
        return np.ones(len(steps))


@dataclass(frozen=True)
class Exponential:
    """Times `decay` after every step: ``decay ** step``."""

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not (is_finite(self.decay) and 0 < self.decay <= 1):
            raise ValueError(f"exponential(decay) needs 0 < decay <= 1, got {self.decay!r}")

    def __call__(self, steps: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
        return self.decay**steps


@dataclass(frozen=True)
class Step:
    """Times `factor` after every `epochs` epochs."""

    epochs: int = 10
    factor: float = 0.1

    def __post_init__(self) -> None:
        numbers = is_finite(self.epochs) and is_finite(self.factor)
        if not (numbers and self.epochs == int(self.epochs) >= 1 and 0 < self.factor <= 1):
            raise ValueError(f"step(epochs, factor) needs a whole number epochs >= 1 and 0 < factor <= 1, got {self}")

    def __call__(self, steps: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
        return self.factor ** (steps // (self.epochs * steps_per_epoch)).astype(np.float64)


@dataclass(frozen=True)
class Cosine:
    """Linear rise over the share `warmup` of the run, then half a cosine down to `final`.

    References
    ----------
    Loshchilov & Hutter, "SGDR", ICLR 2017, eq. 5, without restarts; Goyal et al. 2017, section 2.2 for the warm-up.
    """

    warmup: float = 0.0
    final: float = 0.0

    def __post_init__(self) -> None:
        numbers = is_finite(self.warmup) and is_finite(self.final)
        if not (numbers and 0 <= self.warmup < 1 and 0 <= self.final <= 1):
            raise ValueError(f"cosine(warmup, final) needs 0 <= warmup < 1 and 0 <= final <= 1, got {self}")

    def __call__(self, steps: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
        rise = math.ceil(self.warmup * total_steps)
        share = np.clip((steps - rise) / max(1, total_steps - rise), 0, 1)
        fall = self.final + (1 - self.final) * 0.5 * (1 + np.cos(np.pi * share))
        return np.where(steps < rise, (steps + 1) / (rise + 1), fall)


SCHEDULES = {"constant": Constant, "exponential": Exponential, "step": Step, "cosine": Cosine}


def as_schedule(schedule: str | Schedule | None) -> Schedule:
    """None, ``"cosine"``, ``"exponential(0.999)"`` or a function, as a function."""
    if schedule is None:
        return Constant()
    if isinstance(schedule, str):
        return parse_choice("schedule", schedule, SCHEDULES)
    if isinstance(schedule, type) or not callable(schedule):
        raise ValueError(f"schedule must be a name, an object as Cosine(0.1), or a function, got {schedule!r}")
    return schedule
