"""Activations: each with its value, its derivative right under it, and all that anything else needs to know of it.

A new one is a class and an entry in `ACTIVATIONS`, or outside the library a call of `fastnn.register`: the kernels of
every backend, the command line, the exports and the test suites take it from here.
"""

import functools
import math
from typing import Any, ClassVar

from fastnn.operations.expressions import (
    Program,
    Value,
    absolute,
    exp,
    expm1,
    log1p,
    maximum,
    minimum,
    normal_cdf,
    sigmoid,
    tanh,
    trace,
    where,
)

__all__ = ["ACTIVATIONS", "Activation", "hidden_activations", "output_activations"]


class Activation:
    """An elementwise function of a layer's pre-activations.

    Attributes
    ----------
    name : str
    hidden, output : bool
        Whether hidden layers, and whether the output layer may have it.
    loss : str
        The loss that is meant with this output where none is named.
    tasks : tuple of str
        What the targets of a network with this output may mean.
    torch : (str, dict) or None
        Class in ``torch.nn`` and its arguments.
    onnx : str or None
        ONNX operator that computes it for every type of numbers; None: its formula is exported.
    """

    name: ClassVar[str]
    hidden: ClassVar[bool] = True
    output: ClassVar[bool] = False
    loss: ClassVar[str] = "quadratic"
    tasks: ClassVar[tuple[str, ...]] = ("regression",)
    torch: ClassVar[tuple[str, dict[str, Any]] | None] = None
    onnx: ClassVar[str | None] = None

    def value(self, z: Value) -> Value:
        """The activation of a pre-activation `z`."""
        raise TypeError(f"the activation {self.name!r} has no formula for its value")

    def derivative(self, z: Value, a: Value) -> Value:
        """Its derivative, from `z` or, which saves memory, from ``a = value(z)`` alone."""
        raise TypeError(f"the activation {self.name!r} has no formula for its derivative")

    @functools.cached_property
    def value_program(self) -> Program:
        return trace(self.value, ["z"])

    @functools.cached_property
    def derivative_program(self) -> Program:
        return trace(self.derivative, ["z", "a"])

    @property
    def needs_z(self) -> bool:
        """Whether the derivative is computed from z, so that z must be kept beside a."""
        return "z" in self.derivative_program.symbols


class Identity(Activation):
    name, output, torch = "identity", True, ("Identity", {})
    tasks = ("classification", "regression")

    def value(self, z: Value) -> Value:
        return z

    def derivative(self, z: Value, a: Value) -> Value:
        return 1.0


class ReLU(Activation):
    """Nair & Hinton, ICML 2010. A NaN stays one."""

    name, torch, onnx = "relu", ("ReLU", {}), "Relu"

    def value(self, z: Value) -> Value:
        return maximum(z, 0.0)

    def derivative(self, z: Value, a: Value) -> Value:
        return where(a > 0.0, 1.0, 0.0)


class LeakyReLU(Activation):
    """Maas et al., ICML workshop on deep learning, 2013."""

    name, torch = "leaky_relu", ("LeakyReLU", {"negative_slope": 0.01})
    slope = 0.01

    def value(self, z: Value) -> Value:
        return maximum(z, self.slope * z)

    def derivative(self, z: Value, a: Value) -> Value:
        return where(a > 0.0, 1.0, self.slope)


class ELU(Activation):
    """Clevert et al., ICLR 2016, with alpha = 1."""

    name, torch = "elu", ("ELU", {})

    def value(self, z: Value) -> Value:
        return where(z > 0.0, z, expm1(minimum(z, 0.0)))

    def derivative(self, z: Value, a: Value) -> Value:
        return where(a > 0.0, 1.0, a + 1.0)


class Softplus(Activation):
    """``log(1 + exp(z))``; Dugas et al., NIPS 2000."""

    name, torch = "softplus", ("Softplus", {})

    def value(self, z: Value) -> Value:
        return maximum(z, 0.0) + log1p(exp(-absolute(z)))

    def derivative(self, z: Value, a: Value) -> Value:
        return -expm1(-a)


class Sigmoid(Activation):
    name, output, loss, torch, onnx = "sigmoid", True, "binary_cross_entropy", ("Sigmoid", {}), "Sigmoid"
    tasks = ("classification", "multilabel", "regression")

    def value(self, z: Value) -> Value:
        return sigmoid(z)

    def derivative(self, z: Value, a: Value) -> Value:
        return a * (1.0 - a)


class Tanh(Activation):
    name, torch, onnx = "tanh", ("Tanh", {}), "Tanh"

    def value(self, z: Value) -> Value:
        return tanh(z)

    def derivative(self, z: Value, a: Value) -> Value:
        return 1.0 - a * a


class GELU(Activation):
    """``z Phi(z)``, in the exact form; Hendrycks & Gimpel 2016."""

    name, torch = "gelu", ("GELU", {})

    def value(self, z: Value) -> Value:
        return z * normal_cdf(z)

    def derivative(self, z: Value, a: Value) -> Value:
        density = exp(-0.5 * z * z) * (1 / math.sqrt(2 * math.pi))
        return normal_cdf(z) + z * density


class SiLU(Activation):
    """Also called swish; Elfwing et al., Neural Networks 107 (2018)."""

    name, torch = "silu", ("SiLU", {})

    def value(self, z: Value) -> Value:
        return z * sigmoid(z)

    def derivative(self, z: Value, a: Value) -> Value:
        s = sigmoid(z)
        return s + z * s * (1.0 - s)


class Mish(Activation):
    """``z tanh(softplus(z))``; Misra, BMVC 2020."""

    name, torch = "mish", ("Mish", {})

    def value(self, z: Value) -> Value:
        return z * tanh(maximum(z, 0.0) + log1p(exp(-absolute(z))))

    def derivative(self, z: Value, a: Value) -> Value:
        t = tanh(maximum(z, 0.0) + log1p(exp(-absolute(z))))
        return t + z * sigmoid(z) * (1.0 - t * t)


class Exponential(Activation):
    """The mean of a Poisson distribution, whose logarithm z is."""

    name, hidden, output, loss, onnx = "exp", False, True, "poisson", "Exp"

    def value(self, z: Value) -> Value:
        return exp(z)

    def derivative(self, z: Value, a: Value) -> Value:
        return a


class Softmax(Activation):
    """``exp(z_j) / sum_k exp(z_k)`` over each sample's outputs: the only one that is not elementwise.

    Each backend has code of its own for it, in float64 and rounded: libraries differ in the last bits of an
    exponential, and ReLU networks magnify that.
    """

    name, hidden, output, loss, torch = "softmax", False, True, "cross_entropy", ("Softmax", {"dim": 1})
    tasks = ("classification",)


ACTIVATIONS: dict[str, Activation] = {
    one.name: one
    for one in (
        Identity(),
        ReLU(),
        LeakyReLU(),
        ELU(),
        Softplus(),
        Sigmoid(),
        Tanh(),
        GELU(),
        SiLU(),
        Mish(),
        Exponential(),
        Softmax(),
    )
}


def hidden_activations() -> list[str]:
    """Names of those that hidden layers may have."""
    return [name for name, one in ACTIVATIONS.items() if one.hidden]


def output_activations() -> list[str]:
    """Names of those that the output layer may have."""
    return [name for name, one in ACTIVATIONS.items() if one.output]
