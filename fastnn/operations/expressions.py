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

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np

__all__ = [
    "COMPARISONS",
    "CUDA",
    "FUNCTIONS",
    "PYTHON",
    "Dialect",
    "Expression",
    "Program",
    "Text",
    "Value",
    "absolute",
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
COMPARISONS = ("greater", "less")
FUNCTIONS: dict[str, Callable[..., float]] = {
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
"""Of numbers; what a compiler of the text has to supply under these names with ``f_`` before them."""


def _binary(operation: str, swapped: bool = False) -> Callable[["Expression", "Value"], "Expression"]:
    def apply(self: "Expression", other: "Value") -> Any:
        if operation == "multiply" and not isinstance(other, Expression) and other == 0:
            return 0.0  # as weight decay is, of what has none
        if not isinstance(other, Expression) and (operation, float(other)) in (("add", 0.0), ("multiply", 1.0)):
            return self
        return Expression(operation, (other, self) if swapped else (self, other))

    return apply


class Expression:
    """The result of an operation on other expressions and numbers; a symbol where there are no operands.

    It is uniform if it is the same for all elements, as a learning rate is: then it is computed once, in float64.
    """

    def __init__(self, operation: str, operands: "tuple[Value, ...]" = (), uniform: bool = False) -> None:
        self.operation, self.operands = operation, operands
        parts = [operand.uniform for operand in operands if isinstance(operand, Expression)]
        self.uniform: bool = all(parts) if parts else uniform

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


def _function(name: str) -> Callable[..., Value]:
    def apply(*operands: Value) -> Value:
        if any(isinstance(operand, Expression) for operand in operands):
            return Expression(name, operands)
        return FUNCTIONS[name](*operands)

    apply.__name__, apply.__doc__ = name, f"The function {name} of numbers or symbols."
    return apply


exp, expm1, log, log1p = _function("exp"), _function("expm1"), _function("log"), _function("log1p")
sqrt, tanh, sign, absolute = _function("sqrt"), _function("tanh"), _function("sign"), _function("absolute")
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
        uniform: list[str] = []
        elements: list[str] = []
        rounded: dict[str, str] = {}  # what is uniform, to the type of the elements: once, outside the loop over them

        def name_of(operand: str | float, for_uniform: bool) -> str:
            if isinstance(operand, float):
                return str(operand) if for_uniform else dialect.cast.format(operand)
            if for_uniform or not self._is_uniform(operand):
                return operand
            if operand not in rounded:
                rounded[operand] = f"r{len(rounded)}"
                uniform.append(dialect.assign.format(rounded[operand], dialect.cast.format(operand)))
            return rounded[operand]

        for name, step in self.steps.items():
            operands = [name_of(operand, step.uniform) for operand in step.operands]
            if step.operation in _INFIX:
                value = f"({operands[0]} {_INFIX[step.operation]} {operands[1]})"
            elif step.operation == "where":
                value = dialect.where.format(*operands)
            else:
                value = f"f_{step.operation}({', '.join(operands)})"
                value = value if step.uniform else dialect.call.format(value)
            (uniform if step.uniform else elements).append(dialect.assign.format(name, value))
        return Text(uniform, elements, [name_of(result, False) for result in self.results])

    def _is_uniform(self, name: str) -> bool:
        return self.steps[name].uniform if name in self.steps else self.symbols[name]

    # ---- on numpy's arrays ----

    def evaluate(self, values: Mapping[str, Any]) -> list[Any]:
        """The results, a step at a time: for arrays of one shape, and numbers for uniform symbols."""
        known: dict[Any, Any] = dict(values)
        for name, step in self.steps.items():
            function = _array_function(step.operation)
            known[name] = function(*(known.get(operand, operand) for operand in step.operands))
        return [known.get(result, result) for result in self.results]


def trace(formula: Callable[..., Any], symbols: Iterable[Any]) -> Program:
    """The program of a formula that returns a value or a tuple of them; `symbols` are its arguments, or their names."""
    values = formula(*(Expression(symbol) if isinstance(symbol, str) else symbol for symbol in symbols))
    return Program(values if isinstance(values, tuple) else (values,))


def _array_function(operation: str) -> Callable[..., Any]:
    if operation in ("sigmoid", "normal_cdf"):
        import scipy.special  # heavy, and not needed where nothing is computed

        return {"sigmoid": scipy.special.expit, "normal_cdf": scipy.special.ndtr}[operation]
    function: Callable[..., Any] = getattr(np, operation)
    return function
