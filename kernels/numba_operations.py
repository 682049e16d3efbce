"""Activations, losses and optimizers for the numba kernels: formulas compiled as C functions of a row of elements.

The kernels call them by address. So the compiled step is the same whatever operations a network has, and an operation
that a user registers is compiled by itself, in a fraction of a second.
"""

import functools
import hashlib
import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.np.numpy_support import carray

from fastnn.kernels.numba_cache import compile_for_c, inline
from fastnn.kernels.numba_intrinsics import pointer_to
from fastnn.operations import Activation, Loss, Optimizer
from fastnn.operations.expressions import FUNCTIONS, PYTHON, Program

__all__ = ["LoadedActivation", "load_activation", "load_loss", "load_optimizer"]

real, size = np.float32, 4
"""The elements' type and its bytes: the functions for rows are compiled for each, with those in place."""


class LoadedActivation(NamedTuple):
    """Addresses of C functions, 0 where there is none."""

    value: int  # (z, a, n, scratch)
    derivative: int  # (z, a, d, n): d is multiplied by it
    by_rows: int  # 1 if the outputs of a sample depend on each other, as softmax's do


# ---- elementary functions -------------------------------------------------------------------------------------------


@inline
def _exp_parts(x):
    """``(2^n, e^r - 1)`` with ``e^x = 2^n e^r`` and ``|r| <= ln(2) / 2``: e^x and e^x - 1 without cancellation.

    Taylor's series to r^13 (the next term is below 5e-18), in operations that LLVM vectorizes; it has no vector version
    of libm's. Within 3e-16 of the true sigmoid, 5e-16 of tanh; 64 x 128 of them take 12 us, through libm 27 and 62 to
    99 us. Beyond +-708, where sigmoid and tanh have long reached their limits, x is cut off; a NaN stays one.
    """
    x = -708.0 if x < -708.0 else (708.0 if x > 708.0 else x)
    n = math.floor(x * 1.4426950408889634 + 0.5)
    r = (x - n * 0.693145751953125) - n * 1.4286068203094173e-06  # ln 2 in two parts: the first product is exact
    p = (1 / 6227020800 * r + 1 / 479001600) * r + 1 / 39916800
    p = ((p * r + 1 / 3628800) * r + 1 / 362880) * r + 1 / 40320
    p = ((p * r + 1 / 5040) * r + 1 / 720) * r + 1 / 120
    p = ((p * r + 1 / 24) * r + 1 / 6) * r + 1 / 2
    power = np.int64((np.int64(n) + np.int64(1023)) << np.int64(52)).view(np.float64)
    return power, (p * r + 1.0) * r


@inline
def f_exp(x):
    scale, rest = _exp_parts(np.float64(x))
    return scale + scale * rest


@inline
def f_expm1(x):
    scale, rest = _exp_parts(np.float64(x))
    return (scale - 1.0) + scale * rest


@inline
def f_sigmoid(x):
    scale, rest = _exp_parts(-np.float64(x))
    return 1.0 / (1.0 + (scale + scale * rest))


@inline
def f_tanh(x):  # (e^2x - 1) / (e^2x + 1)
    scale, rest = _exp_parts(2.0 * np.float64(x))
    less_one = (scale - 1.0) + scale * rest
    return less_one / (less_one + 2.0)


@inline
def f_normal_cdf(x):
    return 0.5 * (1.0 + math.erf(x * math.sqrt(0.5)))


@inline
def f_sign(x):
    return (1.0 if x > 0 else 0.0) - (1.0 if x < 0 else 0.0)


@inline
def f_maximum(x, y):
    return y if x <= y else x  # a NaN stays one


@inline
def f_minimum(x, y):
    return y if x >= y else x


_LIBRARY = {"f_log": math.log, "f_log1p": math.log1p, "f_sqrt": math.sqrt, "f_absolute": abs}
_ELEMENTARY = {f"f_{name}": _LIBRARY.get(f"f_{name}") or globals()[f"f_{name}"] for name in FUNCTIONS}


# ---- rows -----------------------------------------------------------------------------------------------------------
#
# In each, `formula` is replaced by a compiled one, and `derivative` in a loss by that of the output activation.


def formula(*arguments):
    """What a record's formula is compiled to."""


def derivative(z, a):
    """The formula of an output activation's derivative."""


def _activate(z, a, n, scratch):
    """z is copied first and a then changed in place, which LLVM vectorizes whether or not z and a are the same."""
    z, a = carray(pointer_to(z), n, dtype=real), carray(pointer_to(a), n, dtype=real)
    for j in range(n):
        a[j] = z[j]
    for j in range(n):
        a[j] = formula(a[j])


def _softmax(z, a, n, scratch):
    z, a = carray(pointer_to(z), n, dtype=real), carray(pointer_to(a), n, dtype=real)
    powers = carray(pointer_to(scratch), n, dtype=np.float64)
    top, total = z[0], 0.0
    for j in range(n):
        top = z[j] if z[j] > top else top
    for j in range(n):
        powers[j] = f_exp(z[j] - np.float64(top))
    for j in range(n):
        total += powers[j]
    for j in range(n):
        a[j] = real(powers[j]) / total


def _multiply_by_derivative(z, a, d, n):
    z, a = carray(pointer_to(z), n, dtype=real), carray(pointer_to(a), n, dtype=real)
    d = carray(pointer_to(d), n, dtype=real)
    for j in range(n):
        d[j] *= formula(z[j], a[j])


def _loss_of_output(z, a, t, delta, n, best):
    z, a = carray(pointer_to(z), n, dtype=real), carray(pointer_to(a), n, dtype=real)
    t, delta = carray(pointer_to(t), n, dtype=real), carray(pointer_to(delta), n, dtype=real)
    total = 0.0
    for j in range(n):
        value, gradient = formula(z[j], a[j], t[j], real(n))
        total += value
        delta[j] = gradient * derivative(z[j], a[j])
    return total


def _loss_of_softmax(z, a, t, delta, n, best):
    z, a = carray(pointer_to(z), n, dtype=real), carray(pointer_to(a), n, dtype=real)
    t, delta = carray(pointer_to(t), n, dtype=real), carray(pointer_to(delta), n, dtype=real)
    total, along = 0.0, real(0)
    for j in range(n):
        value, gradient = formula(z[j], a[j], t[j], real(n))
        total += value
        along += gradient * a[j]
        delta[j] = gradient
    for j in range(n):  # J = diag(a) - a a'
        delta[j] = (delta[j] - along) * a[j]
    return total


def _loss_of_log_probability(z, a, t, delta, n, best):
    z, a = carray(pointer_to(z), n, dtype=real), carray(pointer_to(a), n, dtype=real)
    t, delta = carray(pointer_to(t), n, dtype=real), carray(pointer_to(delta), n, dtype=real)
    total, along, top, log_top = 0.0, real(0), z[best], math.log(a[best])
    for j in range(n):  # log a_j = z_j - z_k + log a_k for any k: the largest has the most digits
        value, gradient = formula(real(z[j] - top + log_top), a[j], t[j], real(n))
        total += value
        along += gradient
        delta[j] = gradient
    for j in range(n):
        delta[j] -= a[j] * along
    return total


# ---- loading --------------------------------------------------------------------------------------------------------


@functools.cache
def load_activation(activation: Activation, dtype: np.dtype[Any]) -> LoadedActivation:
    signature = types.void(*[types.intp] * 4)
    if activation.name == "softmax":
        return LoadedActivation(_address(_softmax, signature, dtype), 0, 1)
    value = _address(_activate, signature, dtype, formula=_source(activation.value_program, ["z"]))
    slope = _source(activation.derivative_program, ["z", "a"])
    return LoadedActivation(value, _address(_multiply_by_derivative, signature, dtype, formula=slope), 0)


@functools.cache
def load_loss(loss: Loss, output: Activation, dtype: np.dtype[Any]) -> int:
    signature = types.float64(*[types.intp] * 6)
    texts = {"formula": _source(loss.program, ["z", "a", "t", "n"])}
    if loss.of == "log_probability":
        return _address(_loss_of_log_probability, signature, dtype, **texts)
    if loss.of == "output" and output.name == "softmax":
        return _address(_loss_of_softmax, signature, dtype, **texts)
    slope = output.derivative_program if loss.of == "output" else Program([1.0])
    return _address(_loss_of_output, signature, dtype, **texts, derivative=_source(slope, ["z", "a"]))


def load_optimizer(optimizer: Optimizer, dtype: np.dtype[Any]) -> int:
    signature = types.void(*[types.intp] * 6, types.float64, types.intp)
    return _address(_run_update, signature, dtype, update=_update_source(optimizer))


def _run_update(params, grads, state, stride, rates, constants, decay, n):
    update(params, grads, state, stride, rates, constants, decay, n)


def update(params, grads, state, stride, rates, constants, decay, n):
    """What an optimizer's formula is compiled to, for n parameters."""


def _source(program: Program, symbols: list[str]) -> str:
    text = program.text(PYTHON)
    body = [*text.elements, f"return {', '.join(text.results)}"]
    return f"def compiled({', '.join(symbols)}):\n" + textwrap.indent("\n".join(body), "    ")


def _update_source(optimizer: Optimizer) -> str:
    """Each state becomes an array of its own: LLVM vectorizes an index that is known not to be negative."""
    text, names = optimizer.program.text(PYTHON), [f"s{i}" for i in range(len(optimizer.state))]
    arrays = ["params_", "grads_", *(f"{name}_" for name in names)]
    addresses = ["params", "grads", *(f"state + {i} * stride" for i in range(len(names)))]
    lines = [
        "rates, constants = carray(pointer(rates), 8, dtype=double), carray(pointer(constants), 8, dtype=double)",
        *(f"{a} = carray(pointer({b}), n, dtype=real)" for a, b in zip(arrays, addresses, strict=True)),
        *text.uniform,
        "for i in range(n):",
        *(f"    {name} = {array}[i]" for name, array in zip(["p", "g", *names], arrays, strict=True)),
        *(f"    {line}" for line in text.elements),
        *(f"    {a}[i] = {b}" for a, b in zip([arrays[0], *arrays[2:]], text.results, strict=True)),
    ]
    signature = "def compiled(params, grads, state, stride, rates, constants, decay, n):\n"
    return signature + textwrap.indent("\n".join(lines), "    ")


def _address(function: Callable[..., Any], signature: Any, dtype: np.dtype[Any], **texts: str) -> int:
    """Address of a C function of rows, compiled with formulas in the places of names."""

    def compile_formulas() -> dict[str, Any]:
        return {name: _compile_source(text, dtype.type) for name, text in texts.items()}

    digest = hashlib.sha256(repr(texts).encode()).hexdigest()[:16]
    address: int = compile_for_c(function, signature, dtype, digest, compile_formulas).address
    return address


def _compile_source(text: str, kind: type) -> Any:
    """Compile the text of a formula; Python code is the only form in which numba takes one."""
    names = {**_ELEMENTARY, "real": kind, "double": np.float64, "carray": carray, "pointer": pointer_to}
    exec(compile(text, "<formula>", "exec"), names)  # text that `expressions.Program.text` has generated
    return inline(names["compiled"])
