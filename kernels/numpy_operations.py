"""Activations, losses and optimizers for the numpy kernels: formulas as Python functions of whole arrays.

Each operation of a formula becomes one call of numpy's with a place for its result, so that nothing is allocated:

>>> from fastnn.operations.expressions import trace
>>> print(source(trace(lambda z, a: a * (1.0 - a), ["z", "a"])))
def formula(outs, scratch, a, **others):
    t0 = subtract(1.0, a, out=scratch[0])
    t1 = multiply(a, t0, out=scratch[0])
    return (t1,)
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg.blas as blas
import scipy.special

from fastnn.kernels import memory
from fastnn.operations import Activation, Loss, Optimizer
from fastnn.operations.expressions import COMPARISONS, FUNCTIONS, PYTHON, Program, Step

__all__ = ["LoadedActivation", "LoadedLoss", "LoadedOptimizer", "add_multiple", "load_activation", "load_loss"]
__all__ += ["load_optimizer", "multiply_matrices", "scratch_like", "source"]

Formula = Callable[..., tuple[Any, ...]]
_GEMM = {np.dtype(np.float32): blas.sgemm, np.dtype(np.float64): blas.dgemm}
_AXPY = {np.dtype(np.float32): blas.saxpy, np.dtype(np.float64): blas.daxpy}


class LoadedActivation(NamedTuple):
    value: Formula  # of z
    backward: Callable[..., None]  # (d, scratch, z, a): the gradient d with respect to a becomes that with respect to z


class LoadedLoss(NamedTuple):
    of: str
    formula: Formula  # the value and its gradient
    output: LoadedActivation


class LoadedOptimizer(NamedTuple):
    """An optimizer's formula for parameters that decay, and for those that do not."""

    with_decay: Formula
    without_decay: Formula


def load_activation(activation: Activation, dtype: np.dtype) -> LoadedActivation:
    if activation.name == "softmax":
        return LoadedActivation(_softmax, _back_through_softmax)
    derivative = _compile(activation.derivative_program)

    def backward(d, scratch, z, a):
        d *= derivative((), scratch, z=z, a=a)[0]

    return LoadedActivation(_compile(activation.value_program, ("z",)), backward)


def _softmax(outs, scratch, z):
    (a,), powers = outs, scratch.float64
    np.subtract(z, z.max(axis=1, keepdims=True), out=powers, dtype=np.float64)
    np.exp(powers, out=powers)  # at most 1: never an overflow
    a[...] = powers
    np.divide(a, powers.sum(axis=1, keepdims=True), out=a, casting="same_kind")


def _back_through_softmax(d, scratch, z, a):  # J = diag(a) - a a'
    d -= np.einsum("ij,ij->i", d, a)[:, None]
    d *= a


def load_loss(loss: Loss, output: Activation, dtype: np.dtype) -> LoadedLoss:
    return LoadedLoss(loss.of, _compile(loss.program), load_activation(output, dtype))


def load_optimizer(optimizer: Optimizer, dtype: np.dtype) -> LoadedOptimizer:
    over = ("p", *(f"s{i}" for i in range(len(optimizer.state))))
    return LoadedOptimizer(_compile(optimizer.program, over), _compile(optimizer.program_without_decay, over))


# ---- scratch arrays -------------------------------------------------------------------------------------------------


class Scratch(dict[int, np.ndarray]):
    """Arrays of one shape by number, made when they are first asked for; those of negative numbers hold booleans."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape, self.dtype = shape, dtype

    @functools.cached_property
    def float64(self) -> np.ndarray:
        return memory.zeros(self.shape, np.float64)

    def __missing__(self, number: int) -> np.ndarray:
        self[number] = memory.zeros(self.shape, np.bool_ if number < 0 else self.dtype)
        return self[number]


def scratch_like(array: np.ndarray, kept: dict[Any, Any]) -> Scratch:
    """Arrays like another for the intermediate results of a formula; `kept` has them for the next call."""
    key = array.shape, array.dtype
    if key not in kept:
        kept[key] = Scratch(*key)
    found: Scratch = kept[key]
    return found


# ---- from formulas to functions of arrays ---------------------------------------------------------------------------


def add_multiple(x, factor, y):
    """``x += factor * y`` for a number `factor`, in one pass: BLAS's axpy."""
    if y.size:
        _AXPY[x.dtype](y.reshape(-1), x.reshape(-1), a=factor)  # views: all arrays here are in C order
    return x


def multiply_matrices(alpha, A, transpose_a, B, transpose_b, beta, C):
    """``C = alpha * A @ B + beta * C`` in place, with A or B transposed where so flagged; all are C ordered.

    BLAS reads arrays by columns, where ours are by rows: it sees every one transposed. So it is given the transposed
    problem, ``C.T = alpha * B.T @ A.T + beta * C.T``, and nothing is copied.
    """
    _GEMM[C.dtype](alpha, B.T, A.T, beta, C.T, transpose_b, transpose_a, overwrite_c=True)


def _where(condition, x, y, out):
    """``x`` where the condition holds, else ``y``; of two numbers by arithmetic, which is several times as fast."""
    if isinstance(x, float) and isinstance(y, float):
        np.copyto(out, condition)
        if (x, y) != (1.0, 0.0):
            out *= x - y
            out += y
    else:
        out[...] = np.where(condition, x, y)
    return out


_UFUNCS = "add subtract multiply divide greater less exp expm1 log log1p sqrt tanh absolute sign maximum minimum"
_NAMES = {
    **{name: getattr(np, name) for name in _UFUNCS.split()},
    **{f"f_{name}": function for name, function in FUNCTIONS.items()},  # of numbers
    **{"sigmoid": scipy.special.expit, "normal_cdf": scipy.special.ndtr, "where": _where, "add_multiple": add_multiple},
}


@functools.cache
def _compile(program: Program, over: tuple[str, ...] = ()) -> Formula:
    names = dict(_NAMES)
    exec(compile(source(program, over), "<formula>", "exec"), names)  # text of our own making, from a list of steps
    formula: Formula = names["formula"]
    return formula


def source(program: Program, over: tuple[str, ...] = ()) -> str:
    """A function ``formula(outs, scratch, **symbols)`` of arrays of one shape and dtype; uniform symbols are floats.

    Parameters
    ----------
    program : Program
    over : tuple of str
        For each of the arrays `outs`, where the first results are to be, the symbol whose values may lie in the same
        memory, and are overwritten then. Other results lie in scratch arrays; those that are 1 or 0 may be booleans.
    """
    steps, results = _fuse(program, over)
    places = _places(steps, results, over)
    memory_of = places | {symbol: f"outs[{i}]" for i, symbol in enumerate(over)}
    lines = [line for line in program.text(PYTHON).uniform if line.partition(" ")[0] in program.steps]
    for name, step in steps.items():
        out = places[name]
        if step.operation != "add_multiple":
            lines.append(f"{name} = {step.operation}({', '.join(map(str, step.operands))}, out={out})")
        elif memory_of.get(str(step.operands[0])) == out:
            lines.append(f"{name} = add_multiple({', '.join(map(str, step.operands))})")
        else:
            x, factor, y = step.operands
            lines.append(f"{name} = add({x}, multiply({factor}, {y}, out={out}), out={out})")
    for i, result in enumerate(results[: len(over)]):
        if places.get(str(result)) != f"outs[{i}]":
            lines.append(f"if outs[{i}] is not {result}: outs[{i}][...] = {result}")
    lines.append(f"return ({', '.join(map(str, results))},)")
    parameters = dict.fromkeys(name.partition("[")[0] for name in program.symbols)
    head = f"def formula({', '.join(['outs', 'scratch', *parameters, '**others'])}):"
    return "\n    ".join([head, *lines])


def _fuse(program: Program, over: tuple[str, ...]) -> tuple[dict[str, Step], list[str | float]]:
    """The steps over arrays, and the results: a sum with a multiple is one step, a choice of 1 or 0 its condition."""
    steps = {name: step for name, step in program.steps.items() if not step.uniform}
    results = list(program.results)
    uses = Counter([*results, *(operand for step in steps.values() for operand in step.operands)])

    def is_array(operand: str | float) -> bool:
        return operand in steps or program.symbols.get(str(operand)) is False

    for name, (operation, operands, _) in list(steps.items()):
        if operation == "where" and operands[1:] == (1.0, 0.0) and name in results[len(over) :] and uses[name] == 1:
            results[results.index(name)] = operands[0]
            del steps[name]
        if operation not in ("add", "subtract"):
            continue
        for x, product in (operands, operands[::-1])[: 2 if operation == "add" else 1]:
            multiple = steps.get(str(product))
            if is_array(x) and multiple and multiple.operation == "multiply" and uses[product] == 1:
                numbers = [operand for operand in multiple.operands if not is_array(operand)]
                if numbers:
                    (array,) = (operand for operand in multiple.operands if is_array(operand))
                    factor = numbers[0] if operation == "add" else f"-{numbers[0]}"
                    steps[name] = Step("add_multiple", (x, factor, array), False)
                    del steps[str(product)]
                    break
    return steps, results


def _places(steps: dict[str, Step], results: Sequence[str | float], over: tuple[str, ...]) -> dict[str, str]:
    """Where each step writes, as few different arrays as possible: what is in place is in the cache."""
    number = {name: i for i, name in enumerate(steps)}
    last_use = {operand: number[name] for name, step in steps.items() for operand in step.operands}
    last_use |= dict.fromkeys(results, len(steps))

    places: dict[str, str] = {}
    for i, (symbol, result) in enumerate(zip(over, results, strict=False)):
        following = [result]  # the result, and back from it those that it is made of, while nobody needs the symbol
        while following:
            name = str(following[0])
            if name in places or name not in steps or last_use.get(symbol, 0) > number[name]:
                break
            places[name] = f"outs[{i}]"
            following = [
                operand
                for operand in steps[name].operands
                if last_use[operand] == number[name]
                and getattr(steps.get(str(operand)), "operation", "") not in COMPARISONS
            ]
    free: list[int] = []
    taken: dict[str | float, int] = {}
    for name, step in steps.items():
        free += [
            taken[operand]
            for operand in dict.fromkeys(step.operands)
            if operand in taken and last_use[operand] == number[name]
        ]
        if name not in places:
            taken[name] = free.pop() if free else len(set(taken.values()))
            places[name] = f"scratch[{'~' * (step.operation in COMPARISONS)}{taken[name]}]"
    return places
