"""Functions for compiled code that numba has no Python for, written as LLVM instructions: memory, calls, atomics."""

import functools
import platform
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")  # as `platform.machine` names them, in lower case
I32, I64 = ir.IntType(32), ir.IntType(64)
_BYTE = ir.IntType(8)


def emits(result: types.Type) -> Callable[[Callable[..., Any]], Any]:
    """Make a function that writes LLVM instructions callable from compiled code, where it returns a `result`.

    It is given the builder and the LLVM values of the arguments; whole numbers among them have 64 bits.
    """

    def decorate(write: Callable[..., Any]) -> Any:
        @functools.wraps(write)
        def define(typing_context: Any, *given: Any) -> tuple[Any, Callable[..., Any]]:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                value = write(builder, *values)
                return context.get_dummy_value() if value is None else value

            return result(*(types.intp if isinstance(kind, types.Integer) else kind for kind in given)), generate

        return intrinsic(define)

    return decorate


def call_llvm(builder: Any, name: str, result: ir.Type, *arguments: Any) -> Any:
    """Call one of LLVM's intrinsic functions, or a function of the system's C library."""
    type_ = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, type_, name), arguments)


# ---- memory ---------------------------------------------------------------------------------------------------------


@intrinsic  # not by `emits`: it needs numba's type of the array
def address_of(typing_context: Any, array: Any) -> Any:
    """Where an array begins; unlike ``array.ctypes.data`` without counting a reference, which locks the bus."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, values[0]).data, I64)

    return types.intp(array), generate


@emits(types.voidptr)
def pointer_to(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, cgutils.voidptr_t)


def emit_prefetch(builder: Any, address: Any, write: bool) -> None:
    """Have the cache fetch a line that will be read, or written."""
    hints = [I32(n) for n in (int(write), 3, 1)]  # 3: to be kept; 1: data
    call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), builder.inttoptr(address, _BYTE.as_pointer()), *hints)


@emits(types.void)
def prefetch(builder: Any, address: Any) -> None:
    """Have the cache fetch a line that will be read."""
    emit_prefetch(builder, address, write=False)


@emits(types.void)
def store_release(builder: Any, address: Any, value: Any) -> None:
    """Store so that a thread that loads the value, by `load_acquire`, sees all that was written before."""
    builder.store_atomic(value, builder.inttoptr(address, I64.as_pointer()), "release", 8)


@emits(types.int64)
def load_acquire(builder: Any, address: Any) -> Any:
    return builder.load_atomic(builder.inttoptr(address, I64.as_pointer()), "acquire", 8)


# ---- control --------------------------------------------------------------------------------------------------------


def _caller(result: types.Type, llvm_result: ir.Type) -> Any:
    @emits(result)
    def call_address(builder: Any, address: Any, arguments: Any) -> Any:
        given = cgutils.unpack_tuple(builder, arguments)
        function = ir.FunctionType(llvm_result, [value.type for value in given]).as_pointer()
        returned = builder.call(builder.inttoptr(address, function), given)
        return None if result == types.void else returned

    return call_address


call, call_for_float = _caller(types.void, ir.VoidType()), _caller(types.float64, ir.DoubleType())
"""``call(address, (argument, ...))`` of a C function that returns nothing, or a float64."""


@emits(types.void)
def pause(builder: Any) -> None:
    """Tell the core that this is a spin loop: it saves power, and leaves more to its other hardware thread."""
    machine = platform.machine().lower()
    if machine in X86:
        call_llvm(builder, "llvm.x86.sse2.pause", ir.VoidType())
    elif machine in ARM:
        call_llvm(builder, "llvm.aarch64.hint", ir.VoidType(), I32(1))  # the instruction YIELD


@emits(types.void)
def yield_core(builder: Any) -> None:
    """Let another thread that is ready run on this core."""
    call_llvm(builder, "SwitchToThread" if sys.platform == "win32" else "sched_yield", I32)


@emits(types.void)
def sleep(builder: Any, microseconds: Any) -> None:
    """For a millisecond on Windows, which has no shorter sleep."""
    if sys.platform == "win32":
        call_llvm(builder, "Sleep", ir.VoidType(), I32(1))
    else:
        call_llvm(builder, "usleep", I32, builder.trunc(microseconds, I32))
