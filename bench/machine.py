"""The machine that figures come from: what they depend on, and which of it must be equal for two runs to compare.

Results are committed, so nothing here tells a host's name, a user's name or a path.
"""

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fastnn.threads import cpu_quota, usable_cores

__all__ = [
    "cpu_model",
    "cpu_quota",
    "device",
    "environment",
    "identity",
    "load_average",
    "package_version",
    "revision",
    "usable_cores",
]

PACKAGES = (
    "fastnn-mlp",
    "numpy",
    "scipy",
    "numba",
    "llvmlite",
    "jax",
    "jaxlib",
    "torch",
    "scikit-learn",
    "matplotlib",
    "pytest-benchmark",
    "threadpoolctl",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "cupy",
)
PREFIXES = ("FASTNN_", "OMP_", "OPENBLAS_", "MKL_", "NUMBA_")
VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE")
_PATHS = re.compile(r"_(DIR|PATH|FILE|HOME)$")  # ends of the names of variables that hold paths


def environment(threads: int) -> dict[str, Any]:
    """What figures measured with so many threads depend on; all of it can be written as JSON."""
    from fastnn.backends import READY, available_backends

    backends = available_backends()
    ready = {name: info for name, info in backends.items() if info.state == READY}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **revision(),
        "platform": f"{platform.system()} {platform.machine()}",
        "kernel": _leading_number(platform.release()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": cpu_model(),
        "cpu_features": ready["numba"].reason if "numba" in ready else None,
        "cores": {"logical": os.cpu_count(), "usable": usable_cores(), "quota": cpu_quota()},
        "memory": memory(),
        "load_average": load_average(),
        "threads": threads,
        "blas": blas_builds(),
        "numba_threading_layer": threading_layer(),
        "device": device(),
        "backends": {name: info.state for name, info in backends.items()},
        "versions": {package: package_version(package) for package in PACKAGES},
        "variables": variables(os.environ),
    }


def revision() -> dict[str, Any]:
    """Commit of the code that runs, and whether it has been changed since; None where git does not know it."""

    def git(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # it may be installed somewhere in another repository
        changes = git("status", "--porcelain", "--untracked-files=no")
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(changes)}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "dirty": None}


def identity(environment: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an `environment` that are equal in two runs on the same machine, and in no others."""
    memory, device = environment["memory"], environment["device"]
    return {
        "cpu": environment["cpu"],
        "cores": environment["cores"]["usable"],
        "threads": environment["threads"],
        "memory_gib": memory and round(memory / 2**30),
        "platform": environment["platform"],
        "device": device and device["name"],
    }


# ---- the CPU --------------------------------------------------------------------------------------------------------


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The name that its maker gives it, as far as the system tells."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(encoding="utf-8", errors="replace"), re.M)
    except OSError:
        match = None
    if match:
        return match[1].strip()
    name = _output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else None
    return name or platform.processor() or platform.machine()


def load_average() -> list[float] | None:
    """Of the last 1, 5 and 15 minutes; None where the system counts none."""
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except (AttributeError, OSError):
        return None


def memory() -> int | None:
    """Bytes in all; None without psutil."""
    try:
        import psutil
    except ImportError:
        return None
    return int(psutil.virtual_memory().total)


# ---- libraries and devices ------------------------------------------------------------------------------------------


def blas_builds() -> list[dict[str, Any]]:
    """Every BLAS that this process has loaded: numpy's and scipy's may be two."""
    import numpy  # noqa: F401  for its BLAS
    import threadpoolctl

    with contextlib.suppress(ImportError):  # where it is broken, numpy's is told all the same
        import scipy.linalg.blas  # noqa: F401  for its BLAS
    fields = ("internal_api", "prefix", "version", "architecture", "num_threads", "threading_layer")
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    return [{name: pool.get(name) for name in fields} for pool in pools]


def threading_layer() -> dict[str, str | None] | None:
    """The layer that numba's own parallel loops would take, and the one they have taken; None without numba."""
    try:
        import numba
    except ImportError:
        return None
    try:
        taken = numba.threading_layer()
    except ValueError:  # none has run: fastnn's teams are no such loops
        taken = None
    return {"chosen": numba.config.THREADING_LAYER, "taken": taken}


def device() -> dict[str, Any] | None:
    """The CUDA device that networks run on, if the cupy backend is ready."""
    from fastnn.backends import READY, available_backends

    info = available_backends().get("cupy")
    if info is None or info.state != READY:
        return None
    from fastnn.kernels.cuda_device import capability, multiprocessors

    words = info.reason.split(", ")
    return {
        "name": words[0],
        "compute_capability": ".".join(map(str, capability())),
        "multiprocessors": multiprocessors(),
        "memory": words[-1],
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "versions": info.versions,
    }


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that change how fast things are, paths left out."""
    names = [name for name in sorted(environ) if name in VARIABLES or name.startswith(PREFIXES)]
    return {
        name: environ[name] for name in names if not _PATHS.search(name) and not re.search(r"[/\\~]", environ[name])
    }


def package_version(package: str) -> str | None:
    """None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _leading_number(release: str) -> str:
    """Without what a builder appended, which may be a name."""
    match = re.match(r"[\d.]+", release)
    return match[0].rstrip(".") if match else ""


def _output(*command: str) -> str | None:
    """The first line that a command prints; None if there is no such command or it fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip().partition("\n")[0] or None
