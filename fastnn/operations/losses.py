"""Losses: each with its value for one output of one sample, and its gradient right under it.

A sample's loss is the sum over its outputs. The gradient is taken with respect to the quantity that the loss is a plain
function of (`Loss.of`); the kernels take it from there to the pre-activations of the output layer. A new loss is a
class and an entry in `LOSSES`, or outside the library a call of `fastnn.register`.
"""

import functools
from typing import ClassVar, Literal

from fastnn.choices import check_choice
from fastnn.operations.activations import ACTIVATIONS, output_activations
from fastnn.operations.expressions import Program, Value, absolute, exp, log, log1p, maximum, sign, trace, where

__all__ = ["LOSSES", "Loss", "check_loss"]


class Loss:
    """A function of a network's outputs and of what they ought to be.

    Attributes
    ----------
    name : str
    of : {"output", "logit", "log_probability"}
        What `gradient` differentiates by: the output a; the pre-activation z, for the likelihood of an output
        activation; the logarithm of softmax's output. The last two meet no logarithm of 0.
    outputs : tuple of str
        The output activations that it may follow.
    targets : {"any", "non-negative", "share", "distribution"}
        Which targets it admits: "share" from 0 to 1; a "distribution" adds up to 1 over the outputs, too.
    """

    name: ClassVar[str]
    of: ClassVar[Literal["output", "logit", "log_probability"]] = "output"
    outputs: ClassVar[tuple[str, ...]] = ("identity", "sigmoid", "softmax", "exp")
    targets: ClassVar[Literal["any", "non-negative", "share", "distribution"]] = "any"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        """The loss of one output.

        Parameters
        ----------
        z
            Its pre-activation; ``log a`` where `of` is "log_probability".
        a, t
            The output and its target.
        n
            The number of outputs of a sample.
        """
        raise TypeError(f"the loss {self.name!r} has no formula for its value")

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        """Its derivative with respect to the quantity that `of` names."""
        raise TypeError(f"the loss {self.name!r} has no formula for its gradient")

    @functools.cached_property
    def program(self) -> Program:
        """Value and gradient."""
        return trace(lambda *symbols: (self.value(*symbols), self.gradient(*symbols)), ["z", "a", "t", "n"])


class CrossEntropy(Loss):
    """``-sum t log a``; Bishop, "Pattern Recognition and Machine Learning" (2006), section 4.3.4."""

    name, of, outputs, targets = "cross_entropy", "log_probability", ("softmax",), "distribution"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return -t * z

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return -t


class SmoothedCrossEntropy(Loss):
    """Cross-entropy with targets ``(1 - s) t + s / n``, s = 0.1; Szegedy et al., CVPR 2016, section 7."""

    name, of, outputs, targets = "smoothed_cross_entropy", "log_probability", ("softmax",), "distribution"
    smoothing = 0.1

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return -((1 - self.smoothing) * t + self.smoothing / n) * z

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return -((1 - self.smoothing) * t + self.smoothing / n)


class FocalLoss(Loss):
    """``-sum t (1 - a)^2 log a``: samples that are already right count little; Lin et al., ICCV 2017, section 3.2."""

    name, of, outputs, targets = "focal", "log_probability", ("softmax",), "distribution"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return -t * (1.0 - a) * (1.0 - a) * z

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return t * (1.0 - a) * (2.0 * a * z - (1.0 - a))


class BinaryCrossEntropy(Loss):
    """``-sum t log a + (1 - t) log(1 - a)``, from the logits; Bishop (2006), section 4.3.2."""

    name, of, outputs, targets = "binary_cross_entropy", "logit", ("sigmoid",), "share"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return maximum(z, 0.0) - z * t + log1p(exp(-absolute(z)))

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return a - t


class Quadratic(Loss):
    """``1/2 sum (a - t)^2``."""

    name = "quadratic"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return 0.5 * (a - t) * (a - t)

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return a - t


class Absolute(Loss):
    """``sum |a - t|``, whose minimum is at the median of the targets."""

    name = "absolute"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return absolute(a - t)

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return sign(a - t)


class Huber(Loss):
    """Quadratic up to a distance of 1, absolute beyond; Huber, Annals of Mathematical Statistics 35 (1964)."""

    name = "huber"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        d = absolute(a - t)
        return where(d > 1.0, d - 0.5, 0.5 * d * d)

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        d = a - t
        return where(absolute(d) > 1.0, sign(d), d)


class Hinge(Loss):
    """``sum max(0, 1 - s a)`` with s = 1 for a target above 1/2 and -1 otherwise: each output against the rest.

    Crammer & Singer, JMLR 2 (2001), call it one-against-rest; Cortes & Vapnik, Machine Learning 20 (1995).
    """

    name, outputs, targets = "hinge", ("identity",), "share"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return maximum(1.0 - where(t > 0.5, a, -a), 0.0)

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return where(where(t > 0.5, a, -a) < 1.0, where(t > 0.5, -1.0, 1.0), 0.0)


class Poisson(Loss):
    """Half the deviance of a Poisson distribution, ``sum a - t + t log(t / a)``, from the logits ``z = log a``."""

    name, of, outputs, targets = "poisson", "logit", ("exp",), "non-negative"

    def value(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        t_log_t = where(t > 0.0, t * log(where(t > 0.0, t, 1.0)), 0.0)
        return (a - t) - t * z + t_log_t

    def gradient(self, z: Value, a: Value, t: Value, n: Value) -> Value:
        return a - t


LOSSES: dict[str, Loss] = {
    one.name: one
    for one in (
        CrossEntropy(),
        SmoothedCrossEntropy(),
        FocalLoss(),
        BinaryCrossEntropy(),
        Quadratic(),
        Absolute(),
        Huber(),
        Hinge(),
        Poisson(),
    )
}


def check_loss(loss: str | None, output: str) -> str:
    """The loss by name; None means the one that belongs to `output`.

    Raises
    ------
    ValueError
        If it is unknown, or may not follow `output`.
    """
    if loss is None:
        return ACTIVATIONS[output].loss
    record = LOSSES[check_choice("loss", loss, LOSSES)]
    if output not in record.outputs:
        needed = [name for name in output_activations() if name in record.outputs]
        fitting = [name for name, other in LOSSES.items() if output in other.outputs]
        raise ValueError(
            f"loss {loss!r} needs output={' or '.join(map(repr, needed))}, the network has output={output!r}; "
            f"losses that fit it: {', '.join(fitting)}"
        )
    return loss
