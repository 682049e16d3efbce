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
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    def apply(self: "Expression", other: "Value") -> Any:
        if operation == "multiply" and not isinstance(other, Expression) and other == 0:
            return 0.0  # as weight decay is, of what has none
        if operation == "add" and not isinstance(other, Expression) and other == 0:
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
        return _FUNCTIONS[name](*operands)

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


class _Plan(NamedTuple):
    """How numpy executes a program: on a list of registers, which hold constants, symbols and the results of steps."""

    constants: list[Any]  # the registers at the beginning
    symbols: list[tuple[str, int]]
    # Function, registers of the operands and of the result, and where that goes: the number of a scratch array, or ~i
    # for result i in its own place, if nothing reads later what it overwrites; None if it is uniform. And whether it is
    # an array of booleans.
    steps: list[tuple[Callable[..., Any], tuple[int, ...], int, int | None, bool]]
    results: list[int]


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
        self._plans: dict[tuple[str, ...], _Plan] = {}
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

    def evaluate(
        self,
        values: Mapping[str, Any],
        outs: Sequence[Array] = (),
        over: tuple[str, ...] = (),
        scratch: Callable[[int, bool], Array] | None = None,
    ) -> list[Any]:
        """The results for arrays of one shape and dtype, and floats for uniform symbols.

        Parameters
        ----------
        values : mapping of str to array or float
        outs : sequence of arrays
            Where the results are to be, if they are not to be new arrays.
        over : tuple of str
            For each of `outs` the symbol whose values may lie in the same memory, and are overwritten then.
        scratch : callable, or None
            ``scratch(number, of_booleans)`` gives an array of that shape, the same each time, for intermediate results
            and for those that have no place in `outs`. None: they are allocated.
        """
        plan = self._plan(over)
        registers = plan.constants.copy()
        for name, register in plan.symbols:
            registers[register] = values[name]
        for function, operands, target, place, of_booleans in plan.steps:
            arguments = [registers[operand] for operand in operands]
            if place is None or (scratch is None and place >= 0):
                registers[target] = function(*arguments)
            else:
                out = outs[~place] if place < 0 else scratch(place, of_booleans)  # type: ignore[misc]  # not None here
                registers[target] = function(*arguments, out=out)
        results = [registers[register] for register in plan.results]
        for out, result in zip(outs, results, strict=False):
            if result is not out:
                out[...] = result
        return results

    def _plan(self, over: tuple[str, ...]) -> "_Plan":
        if over not in self._plans:
            constants = {value for step in self.steps.values() for value in step.operands if isinstance(value, float)}
            constants |= {value for value in self.results if isinstance(value, float)}
            names: list[Any] = [*constants, *self.symbols, *self.steps]
            register = {name: i for i, name in enumerate(names)}
            last_uses, places, free = self._last_uses(), dict[str, int](), list[int]()
            steps = []
            for name, step in self.steps.items():
                place: int | None = None
                function: Callable[..., Any] = _uniform_function(step.operation)
                if not step.uniform:
                    function = _array_function(step.operation)
                    place = self._place_of_result(name, over)
                    if place is None:
                        place = places[name] = free.pop() if free else len(set(places.values()))
                operands = tuple(register[operand] for operand in step.operands)
                steps.append((function, operands, register[name], place, step.operation in _COMPARISONS))
                free += [places[operand] for operand in last_uses[name] if operand in places]
            self._plans[over] = _Plan(
                [*constants, *[None] * (len(names) - len(constants))],
                [(name, register[name]) for name in self.symbols],
                steps,
                [register[result] for result in self.results],
            )
        return self._plans[over]

    def _place_of_result(self, name: str, over: tuple[str, ...]) -> int | None:
        if name not in self.results[: len(over)]:
            return None
        number = self.results.index(name)
        names = list(self.steps)
        later = [self.steps[other].operands for other in names[names.index(name) + 1 :]]
        return None if any(over[number] in operands for operands in later) else ~number

    def _last_uses(self) -> dict[str, list[str]]:
        """For each step, the names of what nobody needs after it."""
        needed, ends = set(self.results), {}
        for name, step in reversed(self.steps.items()):
            ends[name] = [operand for operand in set(step.operands) - needed if isinstance(operand, str)]
            needed |= set(step.operands)
        return ends


def trace(formula: Callable[..., Any], symbols: Iterable[Any]) -> Program:
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

        functions: dict[str, Callable[..., Array]] = {"sigmoid": scipy.special.expit, "normal_cdf": scipy.special.ndtr}
        return functions[operation]
    function: Callable[..., Array] = _select if operation == "where" else getattr(np, operation)
    return function


def _select(condition: Array, x: Any, y: Any, out: Array | None = None) -> Array:
    """``x`` where the condition holds, else ``y``; of two numbers by arithmetic, which is several times as fast."""
    if out is None:
        chosen: Array = np.where(condition, x, y)
        return chosen
    if isinstance(x, float) and isinstance(y, float):
        np.copyto(out, condition)
        if (x, y) != (1.0, 0.0):
            out *= x - y
            out += y
    else:
        out[...] = np.where(condition, x, y)
    return out
