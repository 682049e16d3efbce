"""Settings in words that are the same in another process, and other words for other settings."""

import dataclasses
import functools
import hashlib
import re
import reprlib
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["describe"]


_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


@reprlib.recursive_repr("itself")
def describe(value: Any) -> str:
    """What `value` is and does, without where it lies in memory.

    A function is its name and a digest of its bytecode, its constants, and the values of its defaults and of its
    closure: so two lambdas that do different things are told apart. Another version of Python has other bytecode. An
    object is its class and its attributes. Sets are sorted: their order is another in every process. What refers to
    itself, as a function that calls itself, is described once.
    """
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = map(describe, [value.__code__, value.__defaults__, value.__kwdefaults__, cells])
        return f"{value.__qualname__} {_digest(' '.join(parts).encode())}"
    if isinstance(value, types.CodeType):
        return f"{value.co_code.hex()} {value.co_names} {describe(value.co_consts)}"
    if isinstance(value, types.MethodType):
        return f"{describe(value.__func__)} of {describe(value.__self__)}"
    if isinstance(value, functools.partial):
        return f"partial({describe(value.func)}, {describe(value.args)}, {describe(value.keywords)})"
    if isinstance(value, np.ndarray):
        return f"array {value.dtype.str} {value.shape} {_digest(np.ascontiguousarray(value).tobytes())}"
    if isinstance(value, list | tuple):
        return f"({', '.join(map(describe, value))})"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} {sorted(map(describe, value))}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {describe(item)}' for key, item in value.items())}}}"
    if isinstance(value, type | types.BuiltinFunctionType | types.ModuleType | np.ufunc):
        return str(value.__name__)
    if hasattr(value, "__dataclass_fields__"):
        fields = ((one.name, getattr(value, one.name)) for one in dataclasses.fields(value) if one.repr)
        return f"{type(value).__qualname__}({', '.join(f'{name}={describe(item)}' for name, item in fields)})"
    text = repr(value)
    if not _ADDRESS.search(text):
        return text
    state = object.__getstate__(value)  # its attributes, those in slots too
    return _ADDRESS.sub("", text) if state is None else f"{type(value).__qualname__}{describe(state)}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
