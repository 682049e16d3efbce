"""Optimizers: what a gradient does to the parameters. Objects here are constants; their state belongs to a run.

The arithmetic is in the kernels (`sgd`, `rmsprop`, `adam`, `dense_sgd`); here it gets its names, limits and rates.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastnn.arguments import check_finite, is_finite
from fastnn.choices import parse_choice
from fastnn.kernels import codes

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "as_optimizer"]


class Constants(NamedTuple):
    """What the kernels want to know of an optimizer; see `fastnn.step.Objective`."""

    code: int
    beta1: float = 0.0
    beta2: float = 0.0
    epsilon: float = 0.0
    variant: bool = False
    has_state1: bool = False
    has_state2: bool = False
    clip_norm: float = 0.0


class Optimizer:
    """What all optimizers have: a learning rate, and weight decay on weights but never on biases.

    Parameters
    ----------
    learning_rate : float > 0
    weight_decay : float >= 0
        Adds ``weight_decay * W``, the gradient of ``weight_decay / 2 * |W|^2``, to that of every weight matrix.
    clip_norm : float > 0 or None
        A gradient whose norm, over all parameters and before weight decay, is larger is scaled down to it.
    """

    learning_rate: float  # fields of the subclasses, each in its own order
    weight_decay: float
    clip_norm: float | None

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epsilon", "clip_norm"):
            value = getattr(self, name, 1.0)
            if value is None and name == "clip_norm":
                continue
            if not (is_finite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number > 0, got {value!r}")
        check_finite("weight_decay", self.weight_decay, least=0)
        for name in ("momentum", "rho", "beta1", "beta2"):
            share = getattr(self, name, 0.0)
            if not (is_finite(share) and 0 <= share < 1):
                raise ValueError(f"{name} must be at least 0 and less than 1, got {share!r}")

    @property
    def constants(self) -> Constants:
        raise TypeError("Optimizer is the base class; choose one of " + ", ".join(OPTIMIZERS))

    def _constants(self, code: int, **values: Any) -> Constants:
        return Constants(code, **values, clip_norm=self.clip_norm or 0.0)

    def rates(self, factors: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Learning rate, and Adam's two corrections of its zero start, at each of `steps` (counted from 0).

        Parameters
        ----------
        factors : (n,) float64
            The schedule's.
        steps : (n,) int64

        Returns
        -------
        (n, 3) float64
        """
        beta1, beta2 = self.constants.beta1, self.constants.beta2
        t = steps + 1.0
        return np.stack([self.learning_rate * factors, 1 / (1 - beta1**t), 1 / (1 - beta2**t)], axis=1)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's look-ahead if wanted; see `kernels.sgd`.

    ``v = momentum * v + g``, ``p -= learning_rate * v``; with `nesterov`, ``p -= learning_rate * (g + momentum * v)``.

    Parameters
    ----------
    learning_rate, weight_decay, clip_norm
        See `Optimizer`.
    momentum : float in [0, 1)
    nesterov : bool

    References
    ----------
    Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, section 2.
    """

    learning_rate: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.nesterov, bool | np.bool_):
            raise ValueError(f"nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum > 0")

    @property
    def constants(self) -> Constants:
        if self.momentum == 0 and self.clip_norm is None:
            return Constants(codes.PLAIN_SGD)
        return self._constants(codes.SGD, beta1=self.momentum, variant=self.nesterov, has_state1=True)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradient over the root of its mean square; Tieleman & Hinton 2012, lecture 6.5."""

    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None

    @property
    def constants(self) -> Constants:
        return self._constants(codes.RMSPROP, beta2=self.rho, epsilon=self.epsilon, has_state2=True)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Mean gradient over the root of its mean square; Kingma & Ba, ICLR 2015, algorithm 1."""

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None

    @property
    def constants(self) -> Constants:
        moments = {"beta1": self.beta1, "beta2": self.beta2, "has_state1": True, "has_state2": True}
        return self._constants(codes.ADAM, epsilon=self.epsilon, **moments)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay beside the gradient, not in it; Loshchilov & Hutter, ICLR 2019, algorithm 2."""

    weight_decay: float = 0.01

    @property
    def constants(self) -> Constants:
        return super().constants._replace(variant=True)


OPTIMIZERS = {"sgd": SGD, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW}


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """``"adam"``, ``"sgd(0.1, momentum=0.9)"`` or an `Optimizer`, as an `Optimizer`."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    return parse_choice("optimizer", optimizer, OPTIMIZERS)
