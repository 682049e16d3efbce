"""Who is compared by ``fastnn bench``: backends, one of them twice, a plain numpy loop, and other libraries."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import fastnn
from fastnn.backends import READY, available_backends, resolve_backend
from fastnn.bench import predictors
from fastnn.bench.levels import LEVELS, Level
from fastnn.bench.trainers import Make, Task, make_fastnn, make_jax, make_plain_numpy, make_sklearn, make_torch
from fastnn.choices import check_choice
from fastnn.kernels.codes import PRECISIONS

__all__ = ["AGAIN", "PEERS", "PREDICTORS", "YARDSTICK", "Contender", "Field", "find_field"]

YARDSTICK = "plain numpy loop"
AGAIN = ", again"
DEVICE_BACKEND = "cupy"
PLANS = ("graph", "persistent", "eager")  # how that backend can run an epoch; see FASTNN_CUDA_PLAN
PEERS: dict[str, dict[str, Make]] = {  # what --peers names: the trainers behind it
    "torch": {
        "PyTorch eager": make_torch,
        "PyTorch CUDA graph": functools.partial(make_torch, how="graph"),
        "PyTorch compiled": functools.partial(make_torch, how="compiled"),
    },
    "jax": {"JAX scan": make_jax},
    "sklearn": {"scikit-learn": make_sklearn},
    "onnxruntime": {},
}
PREDICTORS = {  # which of them predict, too, on the CPU
    "onnxruntime": ("ONNX Runtime", predictors.make_onnxruntime),
    "torch": ("PyTorch", predictors.make_torch),
}
ON_CPU_ONLY, ON_DEVICE_ONLY = ("scikit-learn",), ("PyTorch CUDA graph",)


class Contender(NamedTuple):
    """One who is compared; it is sent to another process, so `make` is a function of a module or a partial of one."""

    kind: Literal["backend", "control", "yardstick", "peer"]
    make: Callable[[Task], Any]  # a `trainers.Loop`, or a function that predicts
    environment: dict[str, str]  # variables of its process
    backend: str | None = None
    precision: str | None = None  # of matrix products; None: that of the case
    plan: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("kind", "backend", "precision", "plan")}


class Field(NamedTuple):
    """All who are compared, by name."""

    entries: dict[str, Contender]
    reference: str  # whom the others are compared with
    control: tuple[str, str] | None  # the same one under two names
    skipped: dict[str, str]
    predictors: dict[str, Contender]  # who is compared in the section prediction

    def of(self, *kinds: str) -> dict[str, Contender]:
        return {name: entry for name, entry in self.entries.items() if entry.kind in kinds}

    def backends(self) -> dict[str, Contender]:
        """Each backend and precision once, which chooses its own plan."""
        result = {}
        for name, entry in self.of("backend").items():
            if entry.plan:
                name = name.removesuffix(f" {entry.plan}")
                entry = entry._replace(plan=None, environment=entry.environment | {"FASTNN_CUDA_PLAN": ""})
            result[name] = entry
        return result

    def without(self, names: Iterable[str]) -> "Field":
        """Those who are left, with another reference and no control where these went."""
        gone = set(names)
        entries = {name: entry for name, entry in self.entries.items() if name not in gone}
        reference = self.reference if self.reference in entries else next(iter(entries), "")
        control = self.control if self.control and not gone.intersection(self.control) else None
        left = {name: entry for name, entry in self.predictors.items() if name not in gone}
        return self._replace(entries=entries, reference=reference, control=control, predictors=left)


def find_field(backends: str | None, peers: str | None, threads: int, level: Level = LEVELS["quick"]) -> Field:
    """Who takes part.

    Parameters
    ----------
    backends : str or None
        Names separated by commas, each maybe with a precision, as ``numpy,numba,numba:bf16``; None: those of the level.
    peers : str or None
        Of `PEERS`, separated by commas; None: those of the level.
    threads : int
    level : Level

    Raises
    ------
    ValueError
        For an unknown name.
    fastnn.BackendError
        If a backend asked for by name is not ready.
    """
    skipped: dict[str, str] = {}
    entries: dict[str, Contender] = {}
    backends, peers = backends or level.backends, level.peers if peers is None else peers
    asked = _asked(backends) if backends else _ready(skipped, level.precisions)
    for backend, precision in asked:
        for plan in PLANS if level.device and backend == DEVICE_BACKEND else (None,):
            make = functools.partial(make_fastnn, backend=backend, precision=precision)
            environment = _environment(threads) | ({"FASTNN_CUDA_PLAN": plan} if plan else {})
            name = " ".join(filter(None, (backend, precision, plan)))
            entries[name] = Contender("backend", make, environment, backend, precision, plan)
    # auto's choice is the one whose small differences matter
    first = next((name for name, entry in entries.items() if not entry.precision), next(iter(entries)))
    entries[first + AGAIN] = entries[first]._replace(kind="control")
    if not level.device:
        entries[YARDSTICK] = Contender("yardstick", make_plain_numpy, _environment(threads))
    device = "cuda" if level.device and any(name == DEVICE_BACKEND for name, _ in asked) else "cpu"
    for peer in _names(peers):
        for name, make in PEERS[check_choice("peer", peer, PEERS)].items():
            if name not in (ON_DEVICE_ONLY if device == "cpu" else ON_CPU_ONLY):
                on_device = functools.partial(make, device=device) if device != "cpu" else make
                entries[name] = Contender("peer", on_device, _environment(threads, device))
    reference = "numpy" if "numpy" in entries else first
    predicting = {} if level.device else _find_predictors(entries, _names(peers), threads)
    return Field(entries, reference, (first, first + AGAIN), skipped, predicting)


def _find_predictors(entries: dict[str, Contender], peers: list[str], threads: int) -> dict[str, Contender]:
    """Backends in float32, the plain numpy lines, and those of the peers that predict."""
    found = {}
    for name, entry in entries.items():
        if entry.kind == "backend" and entry.backend and not entry.precision:
            found[name] = entry._replace(make=functools.partial(predictors.make_fastnn, backend=entry.backend))
        elif entry.kind == "yardstick":
            found[name] = entry._replace(make=predictors.make_plain_numpy)
    for name, make in (PREDICTORS[peer] for peer in PREDICTORS if peer in peers):
        found[name] = Contender("peer", make, _environment(threads))
    return found


def _names(text: str | None) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in (text or "").split(",") if name.strip()))


def _asked(text: str) -> list[tuple[str, str | None]]:
    """Backends by name, each of which has to be ready."""
    infos, result = available_backends(), []
    for word in _names(text):
        backend, _, precision = word.partition(":")
        check_choice("backend", backend, infos)
        if precision:
            check_choice("precision", precision, PRECISIONS)
        fastnn.Network([2, 2], backend=backend, precision=precision or None)  # says why not, if it cannot be had
        result.append((backend, precision or None))
    if not result:
        raise ValueError(f"no backend in {text!r}; there are {', '.join(infos)}")
    return result


def _ready(skipped: dict[str, str], precisions: bool) -> list[tuple[str, str | None]]:
    result: list[tuple[str, str | None]] = []
    for name, info in available_backends().items():
        if info.state != READY:
            skipped[name] = f"{info.state}: {info.reason}"
            continue
        more = resolve_backend(name).kernels.precisions() if precisions else ()
        result += [(name, None), *((name, precision) for precision in more)]
    if not result:
        raise fastnn.BackendError("no backend is ready. `fastnn doctor` says what to do.")
    return result


def _environment(threads: int, device: str = "cpu") -> dict[str, str]:
    variables = {variable: str(threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
    return variables | {"JAX_PLATFORMS": device, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
