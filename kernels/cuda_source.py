"""The CUDA C++ sources, made ready for a compiler.

Needs neither CuPy nor a device: the same text goes to NVRTC for a GPU and, in the tests, to a C++ compiler for the CPU.
"""

import functools
import importlib.resources
import re
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastnn.kernels import codes

__all__ = ["Module"]

# codes.py as macros: what the kernels branch on is written down once
_CODES = tuple(f"{name}={value}" for name, value in sorted(vars(codes).items()) if isinstance(value, (int, float)))


class Module(NamedTuple):
    """A source file and the macros it is compiled with."""

    file: str
    macros: tuple[str, ...]
    together: bool = False  # its kernels' blocks wait for each other, so all have to be on the device at once

    def text(self) -> str:
        """The whole source, without any ``#include`` left but those of the platform's own headers."""
        lines = [f"#define {macro.replace('=', ' ', 1)}" for macro in (*_CODES, *self.macros)]
        return "\n".join(lines) + "\n" + _inline(self.file)


def _inline(file: str) -> str:
    """A file with those it includes in their places, each once; CuPy's cache of compiled code sees the text alone."""
    seen: set[str] = set()

    def lines(name: str) -> Iterator[str]:
        if name in seen:
            return
        seen.add(name)
        yield f'#line 1 "{name}"\n'
        for number, line in enumerate(_read(name).splitlines(keepends=True), start=1):
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
        "expected the CUDA sources in the folder cuda of fastnn.kernels, which was bundled without them: have its data "
        "files added (PyInstaller: --collect-data fastnn.kernels)"
    )
