"""What is wrong with an installation, and what to do about it: ``fastnn doctor``.

A check that itself fails is a finding too: the others go on. Nothing is downloaded, and nothing written but, for a
moment, an empty file in the cache folder. The last check runs every kernel of every backend that is ready.
"""

import argparse
import json
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import fastnn
from fastnn.bench.checks import (
    PROBLEM,
    Finding,
    check_backends,
    check_blas,
    check_devices,
    check_extras,
    check_packages,
    check_precisions,
    check_settings,
    check_threads,
    check_timing,
    check_vectors,
    with_type,
)
from fastnn.bench.file_checks import check_caches, check_mnist
from fastnn.bench.kernel_checks import check_kernels

__all__ = ["CHECKS", "add_options", "run"]

SCHEMA_VERSION = 1
"""Of the JSON: raised when a field changes its meaning or goes."""

CHECKS: dict[str, tuple[Callable[[], Iterator[Finding]], ...]] = {
    "Python and packages": (check_packages,),
    "Settings": (check_settings,),
    "Backends": (check_backends, check_devices),
    "Precisions": (check_precisions,),
    "CPU": (check_threads, check_blas, check_vectors),
    "Timing": (check_timing,),  # before the self-check, which is load itself
    "Files": (check_caches, check_mnist),
    "Optional packages": (check_extras,),
    "Self-check": (check_kernels,),  # last: it may have to compile for half a minute
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of the command."""
    parser.set_defaults(run=run)
    parser.description = "Check the installation, and every kernel of every backend."
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Check everything and print what was found, each part as it is done; 1 if there is a problem, else 0."""
    report, problems = [], 0
    for heading, checks in CHECKS.items():
        with _heeding_interrupts():
            findings = [finding for check in checks for finding in _findings(check)]
        problems += sum(finding.state == PROBLEM for finding in findings)
        if options.json:
            report.append({"heading": heading, "findings": [finding._asdict() for finding in findings]})
        else:
            print(_describe(heading, findings), flush=True)
    if options.json:
        head = {"schema_version": SCHEMA_VERSION, "command": "doctor", "fastnn": fastnn.__version__}
        print(json.dumps(head | {"problems": problems, "sections": report}, indent=2, allow_nan=False))
    else:
        print({0: "no problems", 1: "1 problem"}.get(problems, f"{problems} problems"))
    return 1 if problems else 0


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A check's, and one more if it fails."""
    try:
        yield from check()
    except Exception as error:
        remedy = "report this, with what `fastnn doctor --json` prints"
        yield Finding(check.__name__, PROBLEM, f"the check itself failed: {with_type(error)}", remedy)


@contextmanager
def _heeding_interrupts() -> Iterator[None]:
    """Ctrl-C is raised at the end of the block if not before.

    Python drops what is raised while an object is finalized, as llvmlite's many are while numba compiles.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = []

    def press(*_: Any) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _describe(heading: str, findings: Sequence[Finding]) -> str:
    """The part of the report under a heading; what to do stands below what is wrong."""
    width = max((len(finding.subject) for finding in findings), default=0)
    lines = [heading]
    for subject, state, text, remedy in findings:
        lines.append(f"  {state.upper() if state == PROBLEM else state:7s}  {subject:{width}s}  {text}")
        if remedy:
            lines.append(f"  {'':7s}  {'':{width}s}  -> {remedy}")
    return "\n".join([*lines, ""])
