"""What ``fastnn doctor`` checks: packages, settings, backends, the CPU, timing; see `file_checks`, `kernel_checks` too.

Each check is a generator of findings, and none needs another to have been run.
"""

import difflib
import itertools
import math
import os
import platform
import re
import time
from collections.abc import Iterator
from importlib import metadata
from typing import NamedTuple

from fastnn.backends import IMPORT_FAILED, READY, WRONG_SETTING, BackendInfo, available_backends, resolve_backend
from fastnn.bench import machine
from fastnn.errors import BackendError, SettingError
from fastnn.threads import resolve_threads

OK, NOTE, PROBLEM = "ok", "note", "problem"
DISTRIBUTION = "fastnn-mlp"
EXTRAS = {  # what they are for
    "matplotlib": "figures",
    "jinja2": "reports in HTML",
    "psutil": "the memory in records of benchmarks",
    "pooch": "downloads of data sets",
    "scikit-learn": "fastnn.sklearn, samples held out, sweeps and the report of classes",
    "joblib": "sweeps",
    "pytest-benchmark": "benchmark suites",
    "torch": "comparisons with PyTorch",
    "jax": "comparisons with JAX",
}
VARIABLES = {  # all that are read, and what they are for; a test holds this complete
    "FASTNN_BACKEND": "the backend of networks that name none",
    "FASTNN_CACHE_DIR": "the folder for compiled code and downloads",
    "FASTNN_CUDA_DATA_LIMIT": "bytes of samples that are kept on the device; larger data is streamed",
    "FASTNN_CUDA_PLAN": "how a device runs an epoch: persistent, graph or eager",
    "FASTNN_DATA_DIR": "the folder where data sets are looked for first",
    "FASTNN_GEMM": "matrix products of the numba backend: simd or blas",
    "FASTNN_NUM_THREADS": "CPU threads",
    "FASTNN_REQUIRE": "backends whose absence fails the tests",
}
COARSE = 1e-6  # seconds: a clock for epochs of milliseconds should tell less apart


class Finding(NamedTuple):
    """What a check says of one thing."""

    subject: str
    state: str  # ok, note or problem
    text: str
    remedy: str = ""  # what to do; empty if nothing has to be done


def one_line(error: object) -> str:
    return " ".join(str(error).split())


def with_type(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


# ---- packages -------------------------------------------------------------------------------------------------------


class Requirement(NamedTuple):
    """Of this package, as its installed metadata has it."""

    package: str
    least: str  # version
    extra: str  # that it belongs to; empty if it is always needed


def requirements() -> list[Requirement]:
    """Those of the form ``package>=version``."""
    found = []
    for line in metadata.requires(DISTRIBUTION) or ():
        match = re.match(r"([\w.-]+)(?:\[.*?\])?>=([\d.]+)", line)
        if match:
            extra = re.search(r"""extra == ["']([\w-]+)["']""", line)
            found.append(Requirement(match[1], match[2], extra[1] if extra else ""))
    return found


def check_packages() -> Iterator[Finding]:
    """Python, and what fastnn cannot do without."""
    python, wanted = platform.python_version(), metadata.metadata(DISTRIBUTION).json.get("requires_python", "")
    yield _compare("python", python, str(wanted).lstrip(">= "), PROBLEM)
    for package, least, extra in requirements():
        if not extra:
            yield _compare(package, machine.package_version(package), least, PROBLEM)


def check_extras() -> Iterator[Finding]:
    """What only some commands need."""
    least = {needed.package: needed.least for needed in requirements()}
    for package, purpose in EXTRAS.items():
        finding = _compare(package, machine.package_version(package), least.get(package, ""), NOTE)
        yield finding if finding.state == OK else finding._replace(text=f"{finding.text}: for {purpose}")


def _compare(package: str, version: str | None, least: str, state: str) -> Finding:
    """What a package's version is worth; `state` if it is not there or too old."""
    remedy = f"pip install '{package}{f'>={least}' if least else ''}'"
    if package == "python":
        remedy = f"make the virtual environment with Python {least} or newer"
    if version is None:
        return Finding(package, state, "not installed", remedy)
    if _numbers(version) < _numbers(least):
        return Finding(package, state, f"{version} is older than {least}", remedy)
    return Finding(package, OK, f"{version}{f' (at least {least})' if least else ''}")


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


# ---- settings and backends ------------------------------------------------------------------------------------------


def check_settings() -> Iterator[Finding]:
    """The variables FASTNN_...: a misspelt one would do nothing, and say nothing."""
    names = sorted(name for name in os.environ if name.startswith("FASTNN_"))
    if not names:
        yield Finding("FASTNN_...", OK, "no variable is set")
    for name in names:
        if name in VARIABLES:
            yield Finding(name, OK, os.environ[name] or "empty, which is as if it were not set")
            continue
        near = difflib.get_close_matches(name, VARIABLES, n=1)
        remedy = f"is {near[0]} meant?" if near else f"there are {', '.join(VARIABLES)}"
        yield Finding(name, NOTE, f"fastnn reads no such variable ({name}={os.environ[name]})", remedy)


def check_backends() -> Iterator[Finding]:
    """Each of them, and the one that networks get."""
    infos = available_backends()
    for info in infos.values():
        versions = ", ".join(f"{name} {number}" for name, number in info.versions.items())
        text = info.reason if info.state == READY else f"{info.state}: {info.reason}"
        state = {READY: OK, IMPORT_FAILED: PROBLEM, WRONG_SETTING: PROBLEM}.get(info.state, NOTE)
        yield Finding(info.name, state, f"{text}{f' ({versions})' if versions else ''}", info.remedy)
    try:
        choice = resolve_backend()
    except SettingError:  # a line above says so
        return
    except BackendError as error:
        ready = [name for name, info in infos.items() if info.state == READY]
        remedy = f"unset FASTNN_BACKEND, or set it to one that is ready: {', '.join([*ready, 'auto'])}"
        yield Finding("chosen", PROBLEM, str(error).partition("\n")[0], remedy)
    else:
        yield Finding("chosen", OK, f"{choice.name}, by {choice.origin}")


def check_devices() -> Iterator[Finding]:
    """What networks can run on besides the CPU."""
    device = machine.device() if ready_backends() else None
    if device is None:
        yield Finding("CUDA device", NOTE, "none that can be used: networks run on the CPU")
        return
    words = f"compute capability {device['compute_capability']}, {device['memory']}, driver {device['driver']}"
    yield Finding("CUDA device", OK, f"{device['name']}, {words}")


def check_precisions() -> Iterator[Finding]:
    """What matrix products can be computed in."""
    for name in ready_backends():
        precisions = resolve_backend(name).kernels.precisions()
        reduced = f"; products of float32 also in {', '.join(precisions)}" if precisions else ""
        yield Finding(name, OK, f"float32, float64{reduced}")


def ready_backends() -> dict[str, BackendInfo]:
    return {name: info for name, info in available_backends().items() if info.state == READY}


# ---- the CPU --------------------------------------------------------------------------------------------------------


def check_threads() -> Iterator[Finding]:
    """How many there are, and whether as many can run."""
    usable, quota = machine.usable_cores(), machine.cpu_quota()
    words = "no limit of time" if quota is None else f"a container's limit of {quota:g} cores' time"
    yield Finding("cores", OK, f"{os.cpu_count()}, of which {usable} may be used; {words}; {machine.cpu_model()}")
    most = usable if quota is None else min(usable, max(1, math.ceil(quota)))
    remedy = f"unset FASTNN_NUM_THREADS, or set it to a number from 1 to {most}"
    try:
        threads = resolve_threads(None)
    except ValueError as error:
        yield Finding("threads", PROBLEM, one_line(error), remedy)
        return
    if threads > most:
        why = "the container has time for" if most < usable else "this process may use"
        yield Finding("threads", PROBLEM, f"{threads}, and {most} is what {why}: they wait for each other", remedy)
    else:
        origin = "FASTNN_NUM_THREADS" if os.environ.get("FASTNN_NUM_THREADS") else "the cores that there are"
        yield Finding("threads", OK, f"{threads}, by {origin}")


def check_blas() -> Iterator[Finding]:
    """The libraries that numpy and scipy multiply with, and numba's threads."""
    builds = machine.blas_builds()
    for build in builds:
        version, kernels = build["version"] or "of unknown version", build["architecture"] or "unknown"
        threads = f"{build['num_threads']} threads ({build['threading_layer'] or 'its own'})"
        yield Finding(build["internal_api"], OK, f"{version}, for {kernels}, {threads}")
    counts = sorted({build["num_threads"] for build in builds})
    if len(counts) > 1:
        text = f"{len(builds)} BLAS libraries with {' and '.join(map(str, counts))} threads; fastnn limits all alike"
        yield Finding("BLAS", NOTE, text, "for programs of your own set OMP_NUM_THREADS or OPENBLAS_NUM_THREADS")
    layer = machine.threading_layer()
    if layer:
        yield Finding("numba's threads", OK, f"layer {layer['chosen']}; fastnn has teams of its own and uses none")


def check_vectors() -> Iterator[Finding]:
    """Whether numba's matrix products have vector instructions for this CPU."""
    if "numba" not in ready_backends():
        return
    from fastnn.kernels.numba_simd import find_isa

    isa, products = find_isa(), os.environ.get("FASTNN_GEMM")
    if isa is None:
        yield Finding("vector kernels", NOTE, "none for this CPU: products by scipy's BLAS, on one thread a network")
    elif products == "blas":
        text = f"{isa.name} is there, and FASTNN_GEMM=blas takes scipy's BLAS instead"
        yield Finding("vector kernels", NOTE, text, "unset FASTNN_GEMM")
    else:
        yield Finding("vector kernels", OK, f"{isa.name}, tiles of {isa.rows} rows, {isa.vectors} vectors")


def check_timing() -> Iterator[Finding]:
    """Whether times measured now would mean something."""
    step = _smallest_step()
    state = OK if step <= COARSE else NOTE
    remedy = "" if state == OK else "measure many epochs at a time"
    yield Finding("clock", state, f"tells {step * 1e9:.0f} ns apart", remedy)
    load, cores = machine.load_average(), machine.usable_cores()
    if load is None:
        yield Finding("load", NOTE, "this system counts none: whether others use the cores is not known")
    elif load[0] > max(0.5, cores / 4):
        text = f"{load[0]:.2f} in the last minute, on {cores} cores: measurements will be noisy"
        yield Finding("load", NOTE, text, "end other programs, or wait")
    else:
        yield Finding("load", OK, f"{load[0]:.2f} in the last minute, on {cores} cores")


def _smallest_step() -> float:
    """Seconds between two readings of the clock that differ."""
    readings = [time.perf_counter() for _ in range(2000)]
    steps = [after - before for before, after in itertools.pairwise(readings) if after > before]
    return min(steps, default=math.inf)
