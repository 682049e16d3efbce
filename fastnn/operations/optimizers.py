"""Optimizers: what a gradient does to the parameters, each as one formula for one parameter.

Objects here are constants; the state belongs to a run. A new optimizer is a class and an entry in `OPTIMIZERS`, or
outside the library a call of `fastnn.register`: the kernels of every backend, checkpoints, the command line, sweeps and
the test suites take it from here.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnn.checks import check_finite, is_finite
from fastnn.choices import parse_choice
from fastnn.operations.expressions import Expression, Program, Value, sign, sqrt, trace

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "Optimizer", "RMSprop", "as_optimizer"]

Values: TypeAlias = tuple[Value, ...]

_COMMON = ("learning_rate", "weight_decay", "clip_norm")


class Optimizer:
    """What all optimizers have: a learning rate, and weight decay on weights but never on biases.

    A subclass is a frozen dataclass. Its own numbers are hyperparameters, which may differ from run to run of the same
    compiled code; its own booleans choose between formulas.

    Parameters
    ----------
    learning_rate : float > 0
    weight_decay : float >= 0
        Adds ``weight_decay * W``, the gradient of ``weight_decay / 2 * |W|^2``, to that of every weight matrix.
    clip_norm : float > 0 or None
        A gradient whose norm, over all parameters and before weight decay, is larger is scaled down to it.

    Attributes
    ----------
    state : tuple of str
        What is kept of each parameter from step to step, beginning with 0.
    """

    learning_rate: float  # fields of the subclasses, each in its own order
    weight_decay: float
    clip_norm: float | None
    state: ClassVar[tuple[str, ...]] = ()

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

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        """One step of one parameter.

        Parameters
        ----------
        p, g
            The parameter and its gradient.
        state
            One value for each name in `Optimizer.state`.
        rates
            The learning rate of this step, and its `corrections`.
        decay
            The weight decay: 0 for biases.

        Returns
        -------
        tuple
            The parameter's new value, then those of the state.
        """
        raise TypeError("Optimizer is the base class; choose one of " + ", ".join(OPTIMIZERS))

    def corrections(self, t: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], ...]:
        """Other numbers that depend on the step alone, for the steps `t`, counted from 1."""
        return ()

    def rates(self, factors: NDArray[np.floating[Any]], steps: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
        """Learning rate and corrections at each of `steps` (counted from 0).

        Parameters
        ----------
        factors : (n,) float64
            The schedule's.
        steps : (n,) int64

        Returns
        -------
        (n, 1 + corrections) float64
        """
        return np.stack([self.learning_rate * factors, *self.corrections(steps + 1.0)], axis=1)

    @property
    def is_plain_sgd(self) -> bool:
        """Whether it is ``p -= rate * (g + decay * p)``, which back-propagation applies layer by layer."""
        return False

    @property
    def constants(self) -> NDArray[np.floating[Any]]:
        """(k,) float64: the hyperparameters, as `program` takes them."""
        return np.array([getattr(self, name) for name in self._hyperparameters()], np.float64)

    @property
    def program(self) -> Program:
        """`update` of the symbols p, g, s0, s1 ..., and of the uniform rates[0] ..., constants[0] ... and decay."""
        return self._trace(True)

    @property
    def program_without_decay(self) -> Program:
        """The same for a weight decay of 0."""
        return self._trace(False)

    def _trace(self, decays: bool) -> Program:
        names = self._hyperparameters()
        flags = tuple((one.name, getattr(self, one.name)) for one in self._own_fields() if one.name not in names)
        kind: Any = type(self)  # which mypy does not take for hashable
        return _trace_update(kind, names, flags, 1 + len(self.corrections(np.ones(1))), decays)

    def _hyperparameters(self) -> tuple[str, ...]:
        own = [one.name for one in self._own_fields()]
        return tuple(name for name in own if not isinstance(getattr(self, name), bool | np.bool_))

    def _own_fields(self) -> list[dataclasses.Field[Any]]:
        this: Any = self  # subclasses are dataclasses, which mypy does not see
        return [one for one in dataclasses.fields(this) if one.name not in _COMMON]


@functools.cache
def _trace_update(
    kind: type[Any], names: tuple[str, ...], flags: tuple[tuple[str, bool], ...], n_rates: int, decays: bool
) -> Program:
    symbolic = object.__new__(kind)
    vars(symbolic).update(flags)
    vars(symbolic).update({name: Expression(f"constants[{i}]", uniform=True) for i, name in enumerate(names)})
    state = tuple(Expression(f"s{i}") for i in range(len(kind.state)))
    rates = tuple(Expression(f"rates[{i}]", uniform=True) for i in range(n_rates))
    decay = Expression("decay", uniform=True) if decays else 0.0
    return trace(symbolic.update, [Expression("p"), Expression("g"), state, rates, decay])


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's look-ahead if wanted.

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
    state = ("velocity",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.nesterov, bool | np.bool_):
            raise ValueError(f"nesterov must be True or False, got {self.nesterov!r}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum > 0")

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        g = g + decay * p
        velocity = self.momentum * state[0] + g
        return p - rates[0] * (g + self.momentum * velocity if self.nesterov else velocity), velocity

    @property
    def is_plain_sgd(self) -> bool:
        return self.momentum == 0 and self.clip_norm is None


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradient over the root of its mean square; Tieleman & Hinton 2012, lecture 6.5."""

    learning_rate: float = 0.001
    rho: float = 0.9
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    state = ("mean_square",)

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        g = g + decay * p
        mean_square = self.rho * state[0] + (1 - self.rho) * (g * g)
        return p - rates[0] * (g / (sqrt(mean_square) + self.epsilon)), mean_square


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Gradient over the root of the sum of all its squares; Duchi et al., JMLR 12 (2011), section 1.2."""

    learning_rate: float = 0.01
    epsilon: float = 1e-10
    weight_decay: float = 0.0
    clip_norm: float | None = None
    state = ("sum_of_squares",)

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        g = g + decay * p
        sum_of_squares = state[0] + g * g
        return p - rates[0] * (g / (sqrt(sum_of_squares) + self.epsilon)), sum_of_squares


@dataclass(frozen=True)
class Adam(Optimizer):
    """Mean gradient over the root of its mean square; Kingma & Ba, ICLR 2015, algorithm 1."""

    learning_rate: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    state = ("mean", "mean_square")

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        return self._step(p, g + decay * p, state, rates)

    def _step(self, p: Value, g: Value, state: Values, rates: Values) -> Values:
        rate, unbias1, unbias2 = rates
        mean = self.beta1 * state[0] + (1 - self.beta1) * g
        mean_square = self.beta2 * state[1] + (1 - self.beta2) * (g * g)
        return p - rate * unbias1 * (mean / (sqrt(mean_square * unbias2) + self.epsilon)), mean, mean_square

    def corrections(self, t: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], ...]:
        """What undoes the bias of the zero start, for the mean and for the mean square."""
        return 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay beside the gradient, not in it; Loshchilov & Hutter, ICLR 2019, algorithm 2."""

    weight_decay: float = 0.01

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        return self._step((1 - rates[0] * decay) * p, g, state, rates)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam that looks ahead as Nesterov does; Dozat, ICLR workshop 2016, algorithm 2, with a constant beta1."""

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        rate, ahead, now, unbias2 = rates
        g = g + decay * p
        mean = self.beta1 * state[0] + (1 - self.beta1) * g
        mean_square = self.beta2 * state[1] + (1 - self.beta2) * (g * g)
        step = (self.beta1 * ahead) * mean + ((1 - self.beta1) * now) * g
        return p - rate * (step / (sqrt(mean_square * unbias2) + self.epsilon)), mean, mean_square

    def corrections(self, t: NDArray[np.floating[Any]]) -> tuple[NDArray[np.floating[Any]], ...]:
        """Those of the mean at the next step and at this one, and that of the mean square."""
        return 1 / (1 - self.beta1 ** (t + 1)), 1 / (1 - self.beta1**t), 1 / (1 - self.beta2**t)


@dataclass(frozen=True)
class Lion(Optimizer):
    """The sign of a mean gradient, weight decay beside it; Chen et al., NeurIPS 2023, algorithm 2."""

    learning_rate: float = 0.0001
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    clip_norm: float | None = None
    state = ("mean",)

    def update(self, p: Value, g: Value, state: Values, rates: Values, decay: Value) -> Values:
        direction = sign(self.beta1 * state[0] + (1 - self.beta1) * g)
        mean = self.beta2 * state[0] + (1 - self.beta2) * g
        return (1 - rates[0] * decay) * p - rates[0] * direction, mean


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "lion": Lion,
}


def as_optimizer(optimizer: str | Optimizer) -> Optimizer:
    """``"adam"``, ``"sgd(0.1, momentum=0.9)"`` or an `Optimizer`, as an `Optimizer`."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    parsed: Optimizer = parse_choice("optimizer", optimizer, OPTIMIZERS)
    return parsed
