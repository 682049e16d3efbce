"""What is wrong with an installation, and what to do about it: ``fastnn doctor``.

Each check is a generator of findings. One that itself fails is a finding too: the others go on. Nothing is downloaded,
and nothing written but, for a moment, an empty file in the cache folder. The last check runs every kernel of every
backend that is ready.
"""

import argparse
import difflib
import itertools
import json
import math
import os
import platform
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import fastnn
from fastnn.backends import IMPORT_FAILED, READY, BackendInfo, available_backends, resolve_backend
from fastnn.errors import BackendError, FastnnError, SettingError
from fastnn.files import CACHE_VARIABLE, cache_dir
from fastnn.threads import resolve_threads

__all__ = ["CHECKS", "Finding", "add_options", "run"]

OK, NOTE, PROBLEM = "ok", "note", "problem"
DISTRIBUTION = "fastnn-mlp"
SCHEMA_VERSION = 1
"""Of the JSON: raised when a field changes its meaning or goes."""

EXTRAS = {  # what they are for
    "matplotlib": "figures",
    "jinja2": "reports in HTML",
    "psutil": "the memory in records of benchmarks",
    "pytest-benchmark": "benchmark suites",
    "torch": "comparisons with PyTorch",
    "jax": "comparisons with JAX",
}
OTHER_VARIABLES = ("FASTNN_REQUIRE",)  # read by the tests
SELF_CHECKS = (((33, 17, 10), 7), ((784, 128, 10), 64))  # layers and rows: no multiple of a vector; work for a team
DTYPES = ("float32", "float64")
COARSE = 1e-6  # seconds: a clock for epochs of milliseconds should tell less apart


class Finding(NamedTuple):
    """What a check says of one thing."""

    subject: str
    state: str  # ok, note or problem
    text: str
    remedy: str = ""  # what to do; empty if nothing has to be done


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
            yield _compare(package, _version(package), least, PROBLEM)


def check_extras() -> Iterator[Finding]:
    """What only some commands need."""
    least = {needed.package: needed.least for needed in requirements()}
    for package, purpose in EXTRAS.items():
        finding = _compare(package, _version(package), least.get(package, ""), NOTE)
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


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()


# ---- settings and backends ------------------------------------------------------------------------------------------


def check_settings() -> Iterator[Finding]:
    """The variables FASTNN_...: a misspelt one would do nothing, and say nothing."""
    known = _known_variables()
    names = sorted(name for name in os.environ if name.startswith("FASTNN_"))
    if not names:
        yield Finding("FASTNN_...", OK, "no variable is set")
    for name in names:
        text = f"{name}={os.environ[name]}"
        if name in known:
            yield Finding(name, OK, os.environ[name] or "empty, which is as if it were not set")
            continue
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"is {near[0]} meant?" if near else f"there are {', '.join(sorted(known))}"
        yield Finding(name, NOTE, f"fastnn reads no such variable ({text})", remedy)


def _known_variables() -> set[str]:
    """Those that the sources name, and so no list that could be forgotten."""
    folders = {Path(module.__file__ or "").parent for module in _packages()}
    texts = (path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    return {name for text in texts for name in re.findall(r"\bFASTNN(?:_[A-Z]+)+\b", text)} | {*OTHER_VARIABLES}


def _packages() -> list[Any]:
    import fastnn.bench
    import fastnn.kernels

    return [fastnn, fastnn.bench, fastnn.kernels]


def check_backends() -> Iterator[Finding]:
    """Each of them, and the one that networks get."""
    try:
        infos = available_backends()
    except SettingError as error:
        yield Finding("backends", PROBLEM, _flat(error), "unset that variable, or correct it")
        return
    for info in infos.values():
        versions = ", ".join(f"{name} {number}" for name, number in info.versions.items())
        text = info.reason if info.state == READY else f"{info.state}: {info.reason}"
        state = {READY: OK, IMPORT_FAILED: PROBLEM}.get(info.state, NOTE)
        yield Finding(info.name, state, f"{text}{f' ({versions})' if versions else ''}", info.remedy)
    try:
        choice = resolve_backend()
    except BackendError as error:
        ready = [name for name, info in infos.items() if info.state == READY]
        remedy = f"unset FASTNN_BACKEND, or set it to one that is ready: {', '.join([*ready, 'auto'])}"
        yield Finding("chosen", PROBLEM, str(error).partition("\n")[0], remedy)
    else:
        yield Finding("chosen", OK, f"{choice.name}, by {choice.origin}")


def check_devices() -> Iterator[Finding]:
    """What networks can run on besides the CPU."""
    from fastnn.bench import machine

    device = machine.device() if _ready() else None
    if device is None:
        yield Finding("CUDA device", NOTE, "none that can be used: networks run on the CPU")
        return
    words = f"compute capability {device['compute_capability']}, {device['memory']}, driver {device['driver']}"
    yield Finding("CUDA device", OK, f"{device['name']}, {words}")


def check_precisions() -> Iterator[Finding]:
    """What matrix products can be computed in."""
    for name in _ready():
        precisions = resolve_backend(name).kernels.precisions()
        reduced = f"; products of float32 also in {', '.join(precisions)}" if precisions else ""
        yield Finding(name, OK, f"float32, float64{reduced}")


def _ready() -> dict[str, BackendInfo]:
    try:
        return {name: info for name, info in available_backends().items() if info.state == READY}
    except SettingError:  # `check_backends` says so
        return {}


def _flat(error: object) -> str:
    return " ".join(str(error).split())


# ---- the CPU --------------------------------------------------------------------------------------------------------


def check_threads() -> Iterator[Finding]:
    """How many there are, and whether as many can run."""
    from fastnn.bench import machine

    usable, quota = machine.usable_cores(), machine.cpu_quota()
    words = "no limit of time" if quota is None else f"a container's limit of {quota:g} cores' time"
    yield Finding("cores", OK, f"{os.cpu_count()}, of which {usable} may be used; {words}; {machine.cpu_model()}")
    most = usable if quota is None else min(usable, max(1, math.ceil(quota)))
    remedy = f"unset FASTNN_NUM_THREADS, or set it to a number from 1 to {most}"
    try:
        threads = resolve_threads(None)
    except ValueError as error:
        yield Finding("threads", PROBLEM, _flat(error), remedy)
        return
    if threads > most:
        why = "the container has time for" if most < usable else "this process may use"
        yield Finding("threads", PROBLEM, f"{threads}, and {most} is what {why}: they wait for each other", remedy)
    else:
        origin = "FASTNN_NUM_THREADS" if os.environ.get("FASTNN_NUM_THREADS") else "the cores that there are"
        yield Finding("threads", OK, f"{threads}, by {origin}")


def check_blas() -> Iterator[Finding]:
    """The libraries that numpy and scipy multiply with, and numba's threads."""
    from fastnn.bench import machine

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
    if "numba" not in _ready():
        return
    from fastnn.kernels.numba_simd import find_host

    host, products = find_host(), os.environ.get("FASTNN_GEMM")
    if host is None:
        yield Finding("vector kernels", NOTE, "none for this CPU: products by scipy's BLAS, on one thread a network")
    elif products == "blas":
        text = f"{host.instructions} is there, and FASTNN_GEMM=blas takes scipy's BLAS instead"
        yield Finding("vector kernels", NOTE, text, "unset FASTNN_GEMM")
    else:
        yield Finding("vector kernels", OK, f"{host.instructions}, tiles of {host.rows} rows, {host.vectors} vectors")


def check_timing() -> Iterator[Finding]:
    """Whether times measured now would mean something."""
    from fastnn.bench import machine

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


# ---- files ----------------------------------------------------------------------------------------------------------


def check_caches() -> Iterator[Finding]:
    """Where compiled code and downloads are kept, and whether they can be."""
    remedy = f"set {CACHE_VARIABLE} to a folder that can be written"
    try:
        folder = cache_dir()
        for each in (folder, folder / "numba"):
            _check_writable(each)
    except OSError as error:
        text = f"{_flat(error)}: numba's code is compiled anew in each process, and nothing can be downloaded"
        yield Finding("cache", PROBLEM, text, remedy)
        return
    yield Finding("cache", OK, f"{folder}, can be written")
    compiled = [path for path in (folder / "numba").rglob("*") if path.is_file()]
    versions = len({path.relative_to(folder / "numba").parts[0] for path in compiled})
    what = f"{sum(path.suffix == '.nbc' for path in compiled)} functions of {versions} versions of the sources"
    yield Finding("compiled code", OK, f"{folder / 'numba'}: {what}, {_size(compiled)}")
    names = [name for name in fastnn.datasets.DATASETS if any((folder / name).glob("*"))] if folder.is_dir() else []
    data = [path for name in names for path in (folder / name).iterdir() if path.is_file()]
    data += [path for path in folder.glob("*.npz") if path.is_file()]
    yield Finding("data", OK, f"{folder}: {len(data)} files, {_size(data)}")


def _check_writable(folder: Path) -> None:
    """In the nearest folder that exists; the others will be made in it."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written")
    with tempfile.TemporaryFile(dir=folder):
        pass


def _size(paths: Sequence[Path]) -> str:
    return f"{sum(path.stat().st_size for path in paths) / 1e6:.1f} MB"


def check_mnist() -> Iterator[Finding]:
    """Where `fastnn.datasets.load` would find MNIST without downloading it."""
    chosen = os.environ.get(fastnn.datasets.DATA_VARIABLE)
    if chosen:
        root = Path(os.path.expanduser(chosen))
        finding = _find_mnist([root / "mnist", root], f"in {fastnn.datasets.DATA_VARIABLE}={chosen}")
        yield finding
        if finding.state == OK:
            return
    try:
        cached = _find_mnist([cache_dir() / "mnist"], "in the cache")
    except OSError:  # `check_caches` says so
        cached = Finding("MNIST", NOTE, "there is no cache")
    get = "fastnn data mnist (downloads 11 MB), or name a folder with its four IDX files in FASTNN_DATA_DIR"
    yield cached if cached.state == OK else cached._replace(state=NOTE, remedy=get)


def _find_mnist(folders: Sequence[Path], where: str) -> Finding:
    from fastnn.datasets.catalogue import FILES
    from fastnn.datasets.folders import find_files, is_published, missing_files, read_arrays

    if not any(map(os.path.isdir, folders)):
        return Finding("MNIST", PROBLEM, f"{where}: there is no such folder", "correct or unset FASTNN_DATA_DIR")
    for folder in folders:
        files = find_files(folder, FILES["mnist"])
        if missing_files(files, FILES["mnist"]):
            continue
        try:
            arrays = read_arrays(files)
        except FastnnError as error:
            return Finding("MNIST", PROBLEM, _flat(error), "replace that file")
        if all(is_published(files[entry.array], arrays[entry.array], entry) for entry in FILES["mnist"]):
            return Finding("MNIST", OK, f"{where}: {folder}, its digests are right")
        return Finding("MNIST", NOTE, f"{where}: {folder} holds something else, by its digests")
    return Finding("MNIST", NOTE, f"{where}: not all of its four files are there")


# ---- self-check -----------------------------------------------------------------------------------------------------


def check_kernels() -> Iterator[Finding]:
    """Every kernel of every backend that is ready, against formulas in float64."""
    try:
        threads = resolve_threads(None)
    except ValueError:  # `check_threads` says so
        threads = 1
    ready = _ready()
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
        yield Finding(subject, PROBLEM, f"the self-check stopped: {_with_type(error)}", remedy)
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
        return f"fails: {_with_type(error)}"


def _with_type(error: Exception) -> str:
    return f"{type(error).__name__}: {_flat(error)}"


# ---- the command ----------------------------------------------------------------------------------------------------

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
        yield Finding(check.__name__, PROBLEM, f"the check itself failed: {_with_type(error)}", remedy)


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
