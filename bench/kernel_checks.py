"""The self-check of ``fastnn doctor``: every kernel of every backend that is ready, against formulas in float64."""

import itertools
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from fastnn.backends import resolve_backend
from fastnn.bench.checks import OK, PROBLEM, Finding, ready_backends, with_type
from fastnn.threads import resolve_threads

SELF_CHECKS = (((33, 17, 10), 7), ((784, 128, 10), 64))  # layers and rows: no multiple of a vector; work for a team
DTYPES = ("float32", "float64")


def check_kernels() -> Iterator[Finding]:
    """Every kernel of every backend that is ready, against formulas in float64."""
    try:
        threads = resolve_threads(None)
    except ValueError:  # `check_threads` says so
        threads = 1
    ready = ready_backends()
    for name in ready:
        kernels = resolve_backend(name).kernels
        others = " or ".join(other for other in ready if other != name) or "another machine"
        remedy = f"results of {name} are wrong: take {others}, and report this with what `fastnn doctor --json` prints"
        for dtype in DTYPES:
            options = {"dtype": dtype, "threads": threads}
            yield from _check_kernels(f"{name} {dtype}", kernels, options, remedy)
        for precision in kernels.precisions():
            options = {"dtype": "float32", "threads": threads, "precision": precision}
            yield from _check_kernels(f"{name} {precision}", kernels, options, remedy)


def _check_kernels(subject: str, kernels: ModuleType, options: dict[str, Any], remedy: str) -> Iterator[Finding]:
    """A line for each that is wrong, or one for all."""
    from fastnn.bench.kernel_calls import calls
    from fastnn.step import KERNELS

    seen, worst, problems = set(), (0.0, 0.0, 0.0), 0
    try:
        for call in itertools.chain.from_iterable(calls(kernels, sizes=s, rows=n, **options) for s, n in SELF_CHECKS):
            seen.add(call.kernel)
            error = _error_of(call)
            if isinstance(error, float) and error <= call.tolerance:  # NaN is not
                worst = max(worst, (error / call.tolerance, error, call.tolerance))
                continue
            problems += 1
            words = error if isinstance(error, str) else f"error {error:.0e}, {call.tolerance:.0e} is the most allowed"
            yield Finding(subject, PROBLEM, f"{call.kernel} ({call.shape}): {words}", remedy)
    except Exception as error:
        problems += 1
        yield Finding(subject, PROBLEM, f"the self-check stopped: {with_type(error)}", remedy)
    if problems:
        return
    missed = [kernel for kernel in KERNELS if kernel not in seen]
    if missed:
        text = f"not checked: {', '.join(missed)}"
        yield Finding(subject, PROBLEM, text, "report this: the self-check is incomplete")
    else:
        _, most, tolerance = worst
        yield Finding(subject, OK, f"{len(seen)} kernels, worst error {most:.0e} of {tolerance:.0e}")


def _error_of(call: Any) -> float | str:
    """Of a `kernel_calls.KernelCall`; in words if it fails, whatever the reason."""
    try:
        return float(call.error())
    except Exception as error:
        return f"fails: {with_type(error)}"
