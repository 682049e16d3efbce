"""How weights are drawn before training; biases start at zero.

An initializer is any function ``(generator, n_in, n_out) -> (n_in, n_out) float64 array``. Weights are drawn on the
host in float64, so that every backend and dtype starts from the same numbers.
"""

import math
from collections.abc import Callable

import numpy as np

from fastnn.checks import is_finite
from fastnn.choices import parse_choice

__all__ = ["INITIALIZERS", "Initializer", "as_initializer", "he", "lecun", "normal", "uniform", "xavier"]

Initializer = Callable[[np.random.Generator, int, int], np.ndarray]


def normal(std: float) -> Initializer:
    """Normal with mean 0 and standard deviation `std`."""
    if not (is_finite(std) and std >= 0):
        raise ValueError(f"normal(std) needs a finite std >= 0, got {std!r}")
    return lambda generator, n_in, n_out: generator.normal(0.0, std, (n_in, n_out))


def uniform(low: float, high: float) -> Initializer:
    """Uniform over ``[low, high)``."""
    if not (is_finite(low) and is_finite(high) and low <= high):
        raise ValueError(f"uniform(low, high) needs finite low <= high, got {low!r}, {high!r}")
    return lambda generator, n_in, n_out: generator.uniform(low, high, (n_in, n_out))


def he() -> Initializer:
    """Normal with variance ``2 / n_in``, which keeps the signal's size through ReLUs (He et al., ICCV 2015, eq. 10)."""
    return lambda generator, n_in, n_out: generator.normal(0.0, math.sqrt(2.0 / n_in), (n_in, n_out))


def lecun() -> Initializer:
    """Normal with variance ``1 / n_in`` (LeCun et al., "Efficient BackProp", 1998, eq. 16)."""
    return lambda generator, n_in, n_out: generator.normal(0.0, math.sqrt(1.0 / n_in), (n_in, n_out))


def xavier() -> Initializer:
    """Uniform with variance ``2 / (n_in + n_out)`` (Glorot & Bengio, AISTATS 2010, eq. 16)."""

    def draw(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        limit = math.sqrt(6.0 / (n_in + n_out))
        return generator.uniform(-limit, limit, (n_in, n_out))

    return draw


INITIALIZERS: dict[str, Callable[..., Initializer]] = {
    "he": he,
    "xavier": xavier,
    "lecun": lecun,
    "uniform": uniform,
    "normal": normal,
}


def as_initializer(init: str | Initializer) -> Initializer:
    """``"he"``, ``"uniform(-0.1, 0.1)"`` or a function, as a function whose results are checked."""
    draw = init if callable(init) else parse_choice("initializer", init, INITIALIZERS)

    def checked(generator: np.random.Generator, n_in: int, n_out: int) -> np.ndarray:
        W = np.asarray(draw(generator, n_in, n_out))
        if W.shape != (n_in, n_out):
            raise ValueError(f"init must return an array of shape ({n_in}, {n_out}), got {W.shape}")
        if not np.isfinite(W).all():
            raise ValueError(f"init must return finite numbers, got a NaN or an infinity for ({n_in}, {n_out})")
        return W

    return checked
