"""Who is compared by ``fastnn bench``: backends, one of them twice, a plain numpy loop, and other libraries."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

from fastnn.bench.runner import Contender
from fastnn.bench.trainers import make_fastnn, make_jax, make_plain_numpy, make_sklearn, make_torch
from fastnn.kernels.codes import PRECISIONS

import fastnn
from fastnn.backends import READY, available_backends
from fastnn.choices import check_choice

__all__ = ["PEERS", "YARDSTICK", "Entry", "Field", "find_field"]

YARDSTICK = "plain numpy loop"
AGAIN = ", again"
REFERENCE_TOLERANCE = 5e-3  # of the first epoch's mean loss, relative to the reference's; deep runs part by 2e-3
_TOLERANCES = {"bf16": 1e-2, "tf32": 5e-3, "scikit-learn": 0.1}  # products of fewer digits; its own order of samples
PEERS = {  # what --peers names: the trainers behind it
    "torch": {"PyTorch eager": make_torch, "PyTorch compiled": functools.partial(make_torch, how="compiled")},
    "jax": {"JAX scan": make_jax},
    "sklearn": {"scikit-learn": make_sklearn},
}


class Entry(NamedTuple):
    """One who is compared."""

    kind: str  # backend, control, yardstick, peer
    contender: Contender
    backend: str | None = None
    precision: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "backend": self.backend, "precision": self.precision}


class Field(NamedTuple):
    """All who are compared, by name."""

    entries: dict[str, Entry]
    reference: str  # whom the others are compared with
    control: tuple[str, str] | None  # the same one under two names
    skipped: dict[str, str]

    def of(self, *kinds: str) -> dict[str, Entry]:
        return {name: entry for name, entry in self.entries.items() if entry.kind in kinds}

    def without(self, names: Iterable[str]) -> "Field":
        """Those who are left, with another reference and no control where these went."""
        gone = set(names)
        entries = {name: entry for name, entry in self.entries.items() if name not in gone}
        reference = self.reference if self.reference in entries else next(iter(entries), "")
        control = self.control if self.control and not gone.intersection(self.control) else None
        return self._replace(entries=entries, reference=reference, control=control)


def find_field(backends: str | None, peers: str | None, threads: int, *, precisions: bool = False) -> Field:
    """Who takes part.

    Parameters
    ----------
    backends : str or None
        Names separated by commas, each maybe with a precision, as ``numpy,numba,numba:bf16``; None: all that are ready.
    peers : str or None
        Of `PEERS`, separated by commas.
    threads : int
    precisions : bool
        Where `backends` is None: each backend in the lower precisions that it has, too.

    Raises
    ------
    ValueError
        For an unknown name.
    fastnn.BackendError
        If a backend asked for by name is not ready.
    """
    skipped: dict[str, str] = {}
    entries = {}
    for backend, precision in _asked(backends) if backends else _ready(skipped, precisions):
        name = f"{backend} {precision}" if precision else backend
        entries[name] = _backend_entry(backend, precision, threads)
    # auto's choice is the one whose small differences matter
    first = next((name for name, entry in entries.items() if not entry.precision), next(iter(entries)))
    entries[first + AGAIN] = entries[first]._replace(kind="control")
    entries[YARDSTICK] = Entry("yardstick", _contender(make_plain_numpy, YARDSTICK, threads))
    for peer in _names(peers):
        for name, make in PEERS[check_choice("peer", peer, PEERS)].items():
            entries[name] = Entry("peer", _contender(make, name, threads))
    reference = "numpy" if "numpy" in entries else first
    return Field(entries, reference, (first, first + AGAIN), skipped)


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
    from fastnn.backends import resolve_backend

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


def _backend_entry(backend: str, precision: str | None, threads: int) -> Entry:
    make = functools.partial(make_fastnn, backend=backend, precision=precision)
    return Entry("backend", _contender(make, precision or backend, threads), backend, precision)


def _contender(make: Any, name: str, threads: int) -> Contender:
    environment = {variable: str(threads) for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC")}
    environment["JAX_PLATFORMS"] = "cpu"
    return Contender(make, environment, _TOLERANCES.get(name, REFERENCE_TOLERANCE))
