"""The CUDA C++ sources, made ready for a compiler.

Needs neither CuPy nor a device: the same text goes to NVRTC for a GPU and, in the tests, to a C++ compiler for the CPU.
"""

import functools
import importlib.resources
import re
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastnn.kernels import codes
from fastnn.operations import ACTIVATIONS, LOSSES, Optimizer
from fastnn.operations.expressions import CUDA, Program

__all__ = ["Module", "code_of", "update_text"]

# codes.py as macros: the codes that kernels branch on are defined once
_CODES = tuple(f"{name}={value}" for name, value in sorted(vars(codes).items()) if isinstance(value, int))
_OF = ("output", "logit", "log_probability")  # see Loss.of; loss.cuh has the same


class Module(NamedTuple):
    """A source file and the macros it is compiled with."""

    file: str
    macros: tuple[str, ...]
    cooperative: bool = False  # a barrier spans all blocks of a kernel, so they have to be resident at once
    update: str = ""  # of optimizers.cu: the function that `update_text` makes of an optimizer
    operations: tuple[str, ...] = ()  # names of all that are registered: part of the key of compiled modules

    def text(self) -> str:
        """The whole source, without any ``#include`` left but those of the platform's own headers."""
        lines = [f"#define {macro.replace('=', ' ', 1)}" for macro in (*_CODES, *self.macros)]
        generated = {"operations.cuh": _operations_text(), "update.cuh": self.update}
        return "\n".join(lines) + "\n" + _inline(self.file, generated)


# ---- operations -----------------------------------------------------------------------------------------------------


def code_of(name: str, table: Mapping[str, object]) -> int:
    """The number that stands for an activation or a loss in the kernels: its place among the registered ones."""
    return list(table).index(name)


def _operations_text() -> str:
    """C++ functions of all registered activations and losses, chosen by their codes."""
    elementwise = {code_of(name, ACTIVATIONS): one for name, one in ACTIVATIONS.items() if name != "softmax"}
    values = {code: one.value_program for code, one in elementwise.items()}
    slopes = {code: one.derivative_program for code, one in elementwise.items()}
    losses = {code_of(name, LOSSES): one.program for name, one in LOSSES.items()}
    kinds = " ".join(f"case {code_of(name, LOSSES)}: return {_OF.index(one.of)};" for name, one in LOSSES.items())
    return "\n".join(
        (
            f"#define SOFTMAX {code_of('softmax', ACTIVATIONS)}",
            "enum Of { OF_OUTPUT, OF_LOGIT, OF_LOG_PROBABILITY };",
            f"__device__ __forceinline__ int loss_of(int code) {{ switch (code) {{ {kinds} default: return 0; }} }}",
            *_switch("Real activate(int code, Real z)", values, "z"),
            *_switch("Real derivative(int code, Real z, Real a)", slopes, "1"),
            "template <class Real> struct LossAndGradient { Real value, gradient; };",
            *_switch("LossAndGradient<Real> evaluate_loss(int code, Real z, Real a, Real t, Real n)", losses, "{0, 0}"),
            "",
        )
    )


def _switch(signature: str, programs: Mapping[int, Program], otherwise: str) -> Iterator[str]:
    kind = signature.partition(" ")[0]
    yield f"template <class Real> __device__ __forceinline__ {signature} {{"
    yield "  switch (code) {"
    for code, program in programs.items():
        text = program.text(CUDA)
        yield f"    case {code}: {{ {' '.join(text.elements)} return {kind}{{{', '.join(text.results)}}}; }}"
    yield f"    default: return {otherwise};"
    yield "  }"
    yield "}"


def update_text(optimizer: Optimizer) -> str:
    """A C++ function that updates parameters `first` to ``last - 1`` by a step of an optimizer."""
    text, names = optimizer.program.text(CUDA), [f"s{i}" for i in range(len(optimizer.state))]
    arrays = ["params[i]", *(f"state[{number} * size + i]" for number in range(len(names)))]
    lines = (
        "__device__ void update(REAL* params, const REAL* grads, REAL* state, const double* rates,",
        "                       const double* constants, double decay, long long first, long long last,",
        "                       long long size) {",
        "  using Real = REAL;",
        *(f"  {line}" for line in text.uniform),
        "#pragma unroll 1  // bound by memory: many threads are better than many registers for each",
        "  for (long long i = first + first_element(); i < last; i += all_threads()) {",
        "    const REAL p = params[i], g = grads[i];",
        *(f"    const REAL {name} = {array};" for name, array in zip(names, arrays[1:], strict=True)),
        *(f"    {line}" for line in text.elements),
        *(f"    {array} = {result};" for array, result in zip(arrays, text.results, strict=True)),
        "  }",
        "}",
    )
    return "\n".join((*lines, ""))


# ---- files ----------------------------------------------------------------------------------------------------------


def _inline(file: str, generated: Mapping[str, str]) -> str:
    """A file with its includes in their places, each once; CuPy's cache of compiled code knows the text alone."""
    seen: set[str] = set()

    def lines(name: str) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        yield f'#line 1 "{name}"\n'
        text = generated[name] if name in generated else _read(name)
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            included = re.fullmatch(r'#include "(\w+\.cuh)"\n', line)
            if included:
                yield from lines(included[1])
                yield f'#line {number + 1} "{name}"\n'
            else:
                yield line

    return "".join(lines(file))


@functools.cache
def _read(name: str) -> str:
    return (_folder() / name).read_text(encoding="utf-8")


def _folder() -> Traversable:
    return importlib.resources.files("fastnn.kernels") / "cuda"


if not _folder().is_dir():
    raise ImportError(
        "expected the CUDA sources in the folder cuda of fastnn.kernels, which was bundled without them; add its data "
        "files (PyInstaller: --collect-data fastnn.kernels)"
    )
