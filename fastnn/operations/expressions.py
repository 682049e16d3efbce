"""Formulas that are written once and run on every backend.

A formula is a Python function of numbers. `trace` calls it once with symbols in their place, which record what is done
with them, and returns a `Program`: a list of single operations. numpy executes that list on whole arrays; numba and the
CUDA compiler get it as source text, for which all they have to supply are the functions named in `FUNCTIONS`.

>>> program = trace(lambda z: z * sigmoid(z), ["z"])
>>> program.text(PYTHON).elements
['t0 = real(f_sigmoid(z))', 't1 = (z * t0)']
>>> program.evaluate({"z": np.array([0.0, 2.0])})[0].round(3)
array([0.   , 1.762])
"""

import functools
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "CUDA",
    "FUNCTIONS",
    "PYTHON",
    "Dialect",
    "Expression",
    "Program",
    "Text",
    "Value",
    "exp",
    "expm1",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "normal_cdf",
    "sigmoid",
    "sign",
    "sqrt",
    "tanh",
    "trace",
    "where",
]

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_INFIX = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "greater": ">", "less": "<"}
_COMPARISONS = ("greater", "less")
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "exp": math.exp,
    "expm1": math.expm1,
    "log": math.log,
    "log1p": math.log1p,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
    "absolute": abs,
    "sign": lambda x: math.copysign(1.0, x) if x else x,
    "sigmoid": lambda x: 0.5 * (1 + math.tanh(x / 2)),
    "normal_cdf": lambda x: 0.5 * (1 + math.erf(x * math.sqrt(0.5))),
    "maximum": max,
    "minimum": min,
}
FUNCTIONS = tuple(_FUNCTIONS)
"""What a compiler of the text has to supply under these names with ``f_`` before them, for its real types."""


def _binary(operation: str, swapped: bool = False) -> Callable[["Expression", "Value"], "Expression"]:
    if swapped:
        return lambda self, other: Expression(operation, (other, self))
    return lambda self, other: Expression(operation, (self, other))


class Expression:
    """The result of an operation on other expressions and numbers; a symbol where there are no operands.

    It is uniform if it is the same for all elements, as a learning rate is: then it is computed once, in float64.
    """

    def __init__(self, operation: str, operands: "tuple[Value, ...]" = (), uniform: bool = False) -> None:
        self.operation, self.operands = operation, operands
        parts = [operand.uniform for operand in operands if isinstance(operand, Expression)]
        self.uniform = all(parts) if parts else uniform

    __add__, __radd__ = _binary("add"), _binary("add", swapped=True)
    __sub__, __rsub__ = _binary("subtract"), _binary("subtract", swapped=True)
    __mul__, __rmul__ = _binary("multiply"), _binary("multiply", swapped=True)
    __truediv__, __rtruediv__ = _binary("divide"), _binary("divide", swapped=True)
    __gt__, __lt__ = _binary("greater"), _binary("less")

    def __neg__(self) -> "Expression":
        return Expression("multiply", (-1.0, self))

    def __abs__(self) -> "Expression":
        return Expression("absolute", (self,))

    def __bool__(self) -> bool:
        raise TypeError("a formula has to be the same for all elements: use where(condition, x, y) instead of an if")


Value: TypeAlias = Expression | float


def _function(name: str) -> Callable[..., Any]:
    def apply(*operands: Value) -> Value:
        if any(isinstance(operand, Expression) for operand in operands):
            return Expression(name, operands)
        return _FUNCTIONS[name](*operands)

    apply.__name__, apply.__doc__ = name, f"The function {name} of numbers or symbols."
    return apply


exp, expm1, log, log1p = _function("exp"), _function("expm1"), _function("log"), _function("log1p")
sqrt, tanh, sign = _function("sqrt"), _function("tanh"), _function("sign")
maximum, minimum = _function("maximum"), _function("minimum")
sigmoid, normal_cdf = _function("sigmoid"), _function("normal_cdf")


def where(condition: Value | bool, x: Value, y: Value) -> Value:
    """``x`` where the condition, a comparison, holds, else ``y``."""
    if isinstance(condition, Expression):
        return Expression("where", (condition, x, y))
    return x if condition else y


class Step(NamedTuple):
    """One operation of a program; its operands are names of symbols or earlier steps, and constants."""

    operation: str
    operands: tuple["str | float", ...]
    uniform: bool


class Dialect(NamedTuple):
    """How a programming language writes what is not the same in all of them."""

    assign: str
    cast: str  # to the type of the elements
    call: str  # of a function of elements
    where: str


class Text(NamedTuple):
    """A formula in a programming language."""

    uniform: list[str]  # assignments of what is the same for all elements, in double precision
    elements: list[str]  # then those for each element
    results: list[str]  # names or constants


PYTHON = Dialect("{} = {}", "real({})", "real({})", "({1} if {0} else {2})")
CUDA = Dialect("const auto {} = {};", "(Real){}", "{}", "({0} ? {1} : {2})")


class Program:
    """A traced formula.

    Attributes
    ----------
    symbols : dict of str to bool
        Those that the results depend on, and whether they are uniform.
    steps : dict of str to Step
        Each operation once, by the name of its result, after those whose results it takes.
    results : tuple of str or float
        A name or a constant for each value that the formula returned.
    """

    def __init__(self, values: Iterable[Value]) -> None:
        self.symbols: dict[str, bool] = {}
        self.steps: dict[str, Step] = {}
        known: dict[Step, str] = {}

        def enter(value: Value) -> str | float:
            if not isinstance(value, Expression):
                return float(value)
            if not value.operands:
                self.symbols[value.operation] = value.uniform
                return value.operation
            step = Step(value.operation, tuple(map(enter, value.operands)), value.uniform)
            name = known.setdefault(step, f"t{len(known)}")
            self.steps[name] = step
            return name

        self.results = tuple(map(enter, values))

    # ---- as source text ----

    def text(self, dialect: Dialect) -> Text:
        """The formula in a programming language."""
        text = Text([], [], [self._operand_text(result, dialect, False) for result in self.results])
        for name, step in self.steps.items():
            operands = [self._operand_text(operand, dialect, step.uniform) for operand in step.operands]
            if step.operation in _INFIX:
                value = f"({operands[0]} {_INFIX[step.operation]} {operands[1]})"
            elif step.operation == "where":
                value = dialect.where.format(*operands)
            else:
                value = f"f_{step.operation}({', '.join(operands)})"
                value = value if step.uniform else dialect.call.format(value)
            (text.uniform if step.uniform else text.elements).append(dialect.assign.format(name, value))
        return text

    def _operand_text(self, operand: str | float, dialect: Dialect, uniform: bool) -> str:
        is_double = isinstance(operand, float) or self._is_uniform(operand)
        return dialect.cast.format(operand) if is_double and not uniform else str(operand)

    def _is_uniform(self, name: str) -> bool:
        return self.steps[name].uniform if name in self.steps else self.symbols[name]

    # ---- on numpy's arrays ----

    def evaluate(
        self, values: Mapping[str, Any], out: Array | None = None, scratch: Callable[[int, bool], Array] | None = None
    ) -> list[Any]:
        """The results for arrays of one shape and dtype, and floats for uniform symbols.

        Parameters
        ----------
        values : mapping of str to array or float
        out : array, or None
            Where the first result is to be; it may be one of `values`.
        scratch : callable, or None
            ``scratch(number, of_booleans)`` gives an array of that shape, the same each time, in which results may be
            returned. None: they are allocated.
        """
        known: dict[Any, Any] = dict(values)
        places: dict[str, int] = {}  # the scratch array that holds a step's result
        free: list[int] = []
        for name, step in self.steps.items():
            arguments = [known.get(operand, operand) for operand in step.operands]
            if step.uniform:
                known[name] = _uniform_function(step.operation)(*arguments)
                continue
            options = {}
            if out is not None and name == self._last and step.operation != "where":
                options["out"] = out
            elif scratch is not None:
                places[name] = free.pop() if free else len(set(places.values()))
                options["out"] = scratch(places[name], step.operation in _COMPARISONS)
            known[name] = _array_function(step.operation)(*arguments, **options)
            free += [places[operand] for operand in self._last_uses[name] if operand in places]
        results = [known.get(result, result) for result in self.results]
        if out is not None and results[0] is not out:
            out[...] = results[0]
        return results

    @functools.cached_property
    def _last(self) -> str | None:
        """The last step, if it computes the first result: nothing is read after it."""
        last = next(reversed(self.steps), None)
        return last if last == self.results[0] else None

    @functools.cached_property
    def _last_uses(self) -> dict[str, list[str]]:
        """For each step, the names of what nobody needs after it."""
        needed, ends = set(self.results), {}
        for name, step in reversed(self.steps.items()):
            ends[name] = [operand for operand in set(step.operands) - needed if isinstance(operand, str)]
            needed |= set(step.operands)
        return ends


def trace(formula: Callable[..., Any], symbols: Iterable[Value | str]) -> Program:
    """The program of a formula that returns a value or a tuple of them; `symbols` are its arguments, or their names."""
    values = formula(*(Expression(symbol) if isinstance(symbol, str) else symbol for symbol in symbols))
    return Program(values if isinstance(values, tuple) else (values,))


def _uniform_function(operation: str) -> Callable[..., float]:
    names = {"subtract": "sub", "multiply": "mul", "divide": "truediv", "greater": "gt", "less": "lt"}
    if operation == "where":
        return lambda condition, x, y: x if condition else y
    return _FUNCTIONS[operation] if operation in _FUNCTIONS else getattr(operator, names.get(operation, operation))


@functools.cache
def _array_function(operation: str) -> Callable[..., Array]:
    if operation in ("sigmoid", "normal_cdf"):
        import scipy.special  # heavy, and not needed where nothing is computed

        return {"sigmoid": scipy.special.expit, "normal_cdf": scipy.special.ndtr}[operation]
    return _select if operation == "where" else getattr(np, operation)


def _select(condition: Array, x: Any, y: Any, out: Array | None = None) -> Array:
    if out is None:
        return np.where(condition, x, y)
    np.copyto(out, y)
    np.copyto(out, x, where=condition)
    return out
