"""The sweep itself: data and settings to runs, runs to a `Sweep`, in the way that the backend is fastest."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arguments import check_count, check_finite, check_seed, check_validation_data
from fastnn.backends import BackendChoice, resolve_backend
from fastnn.callbacks import Callback
from fastnn.console import is_terminal, progress_bar, say
from fastnn.datasets.holding_out import hold_out
from fastnn.errors import DataError, DivergedError
from fastnn.history import History
from fastnn.many import train_many
from fastnn.network import Network
from fastnn.optional import require
from fastnn.sweeps.hyperparameters import Space, list_settings, make_arguments
from fastnn.sweeps.ranking import Row, Sweep, Trial
from fastnn.threads import resolve_threads

if TYPE_CHECKING:
    from fastnn.callbacks import Run

__all__ = ["sweep"]

_TOGETHER = 64  # networks in memory at a time, where they are trained side by side


def sweep(
    space: Space,
    x: Any,
    y: Any,
    *,
    validation_data: tuple[Any, ...] | None = None,
    validation_fraction: float = 0.1,
    sample_weight: Any = None,
    random: int | None = None,
    repeats: int = 1,
    seed: int = 0,
    jobs: int | None = None,
    backend: str | None = None,
    threads: int | None = None,
    verbose: bool | str = "auto",
    **fixed: Any,
) -> Sweep:
    """Train a network with every setting of a space, and rank the settings by validation accuracy.

    Parameters
    ----------
    space : mapping of str to list or distribution, or sequence of such mappings
        Values of hyperparameters, see `HYPERPARAMETERS`: ``{"learning_rate": [0.01, 0.1], "width": [32, "128-64"]}``.
        `width` is the number of hidden units: of one layer or, with `depth`, of each of so many; "128-64" are two
        layers. A distribution, for `random` draws, is one of scipy.stats: ``loguniform(0.001, 1)``. A parameter of one
        optimizer is left out of the settings of those that have it not.
    x, y
        As for `Network.fit`. The networks have as many inputs as there are features; with labels an output for each
        up to the largest, with rows of targets one for each column.
    validation_data : (x, y) or (x, y, sample_weight), or None
        By which settings are ranked; by default a part of the training data, which is then not trained on.
    validation_fraction : float
        Size of that part, drawn by `seed`; of labels it has the same shares as the rest.
    sample_weight : array_like, (n,)
    random : int or None
        Draw so many settings at random, instead of trying all combinations.
    repeats : int
        Runs of every setting, with the seeds `seed`, ``seed + 1``, ...
    seed : int
    jobs : int or None
        Runs at a time on a CPU; by default as many as `threads`.
    backend : str or None
        Of all runs; as for `Network`.
    threads : int or None
        CPU threads for all runs together; by default FASTNN_NUM_THREADS, or the cores this process may use.
    verbose : bool or "auto"
        Progress on stderr, where that is no terminal a single line; auto: if it is one.
    **fixed
        Hyperparameters that are the same for all, ``epochs=10``; the others are as `Network` and `Network.fit` have
        them, with one hidden layer of 128 units.

    Returns
    -------
    Sweep
        After Ctrl-C with what was done by then, and `interrupted`. Runs whose loss became NaN or infinite are marked.

    Raises
    ------
    ValueError
        If the space, or a value in it, is not one of those above; before anything is trained.
    DataError
        If the data do not fit together.
    BackendError
        If the backend asked for is unknown or not ready.

    Notes
    -----
    Interpreted backends hold Python's lock, so their runs have processes; others are trained side by side by
    `fastnn.train_many`. The results are those of one run after the other: to the last bit if each has the same number
    of threads, and on numba anyway.

    References
    ----------
    Bergstra & Bengio, "Random search for hyper-parameter optimization", JMLR 13, 2012: why `random` is the better
    choice beyond two or three hyperparameters.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.sweeps import sweep
    >>> data = fastnn.datasets.load("digits")
    >>> space = {"learning_rate": [0.001, 0.1], "width": [16, 32]}
    >>> result = sweep(space, data.x_train, data.y_train, epochs=2, backend="numpy", jobs=1)
    >>> result.best.settings["learning_rate"]
    0.1
    >>> len(result.ranked())
    4
    """
    start = time.perf_counter()
    if not 0 < check_finite("validation_fraction", validation_fraction) < 1:
        raise ValueError(f"validation_fraction must be more than 0 and less than 1, got {validation_fraction!r}")
    settings = list_settings(space, random=random, seed=check_seed(seed), fixed=fixed)
    options = [fixed | setting for setting in settings]
    choice, threads = resolve_backend(backend), resolve_threads(threads)
    jobs, repeats = None if jobs is None else check_count("jobs", jobs), check_count("repeats", repeats)
    regression = any(one.get("output") == "identity" for one in options)
    data = _prepare_data(x, y, sample_weight, validation_data, validation_fraction, seed, regression)
    runs = _list_runs(options, data, choice.name, threads, range(seed, seed + repeats))
    way = _choose_way(choice, runs, jobs, threads)
    result = Sweep(
        rows=[Row(_plain(setting)) for setting in settings],
        fixed=_plain(fixed),
        training_samples=len(data["x"]),
        validation_samples=len(data["validation_data"][0]),
        backend=choice.name,
        way=way.words,
        repeats=repeats,
    )
    with _progress(len(runs), way, verbose) as report:
        try:
            for row, network in way.train(runs, data, report):
                result.add(result.rows[row], Trial.of(network))
        except KeyboardInterrupt:
            result.interrupted = True
    for one in result.rows:
        one.trials.sort(key=lambda trial: trial.seed)
    result.seconds = time.perf_counter() - start
    return result


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values that JSON has, and the words of others."""
    return {k: v if isinstance(v, str | int | float | None) else str(v) for k, v in options.items()}


# ---- data and runs --------------------------------------------------------------------------------------------------


def _prepare_data(
    x: Any, y: Any, sample_weight: Any, validation_data: Any, fraction: float, seed: int, regression: bool
) -> dict[str, Any]:
    """What `Network.fit` wants of data; where there are none for validation, some are held out."""
    try:
        arrays = [np.asarray(array) for array in (x, y, sample_weight) if array is not None]
    except (TypeError, ValueError) as error:
        raise DataError(f"samples, labels and weights must be arrays in the host's memory ({error})") from None
    if arrays[0].ndim < 2 or len({array.shape[:1] for array in arrays}) > 1:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise DataError(f"expected samples (n, n_features), as many labels, and weights if any; got shapes {shapes}")
    if validation_data is None:
        labels = None if regression or arrays[1].ndim > 1 else arrays[1]
        arrays, held_out = hold_out(arrays, fraction, seed, labels)
        validation_data = tuple(held_out)
    data = dict(zip(("x", "y", "sample_weight"), arrays, strict=False))
    return {**data, "validation_data": check_validation_data(validation_data)}


@dataclass(frozen=True)
class _Plan:
    """One training: of a row of the sweep, with the arguments of its network and of `Network.fit`."""

    row: int
    network: dict[str, Any]
    fit: dict[str, Any]


def _list_runs(
    options: Sequence[Mapping[str, Any]], data: Mapping[str, Any], backend: str, threads: int, seeds: Sequence[int]
) -> list[_Plan]:
    runs = []
    features = int(np.prod(data["x"].shape[1:]))
    labels = np.asarray(data["y"])
    for row, one in enumerate(options):
        network, fit = make_arguments(one, features, labels)
        network |= {"backend": backend, "threads": threads}
        Network(**network)  # says what is wrong with a setting before the first of them is trained
        runs += [_Plan(row, network | {"seed": seed}, fit) for seed in seeds]
    return runs


# ---- ways to run them -----------------------------------------------------------------------------------------------

Report = Callable[[History], None]  # called when a run is done
Trained = Iterator[tuple[int, Network]]  # row, and network


@dataclass(frozen=True)
class _Way:
    """How runs are trained: in words, how many at once, and by which function of runs, data and "one is done"."""

    words: str
    at_once: int
    train: Callable[[Sequence[_Plan], Mapping[str, Any], Report], Trained]


def _choose_way(choice: BackendChoice, runs: Sequence[_Plan], jobs: int | None, threads: int) -> _Way:
    at_once = min(jobs or threads, len(runs))
    if at_once > 1 and not _is_interpreted(choice, runs[0]):
        at_once, _ = choice.kernels.side_by_side(len(runs), at_once)
        return _Way(f"{at_once} side by side", at_once, partial(_train_together, threads=jobs or threads))
    each = max(1, threads // at_once)
    words = f"{at_once} processes" if at_once > 1 else "one after the other"
    words += f", {each} thread{'s' if each > 1 else ''} each"
    return _Way(words, at_once, partial(_train_apart, jobs=at_once, threads=each))


def _is_interpreted(choice: BackendChoice, run: _Plan) -> bool:
    """Whether training holds Python's lock, so that it takes processes to train two networks at once."""
    kernels = choice.kernels
    (member, *_) = kernels.make_team(1, run.network["sizes"], 1, np.dtype(run.network.get("dtype", "float32")), None)
    return bool(kernels.plan(member) == "interpreted")


def _train_apart(runs: Sequence[_Plan], data: Mapping[str, Any], report: Report, *, jobs: int, threads: int) -> Trained:
    """Each in one of so many processes, to which joblib maps the data; one job stays in this process."""
    joblib = require("joblib", "sklearn")
    parallel = joblib.Parallel(jobs, backend="loky", return_as="generator_unordered")
    for row, network in parallel(joblib.delayed(_train)(run, data, threads) for run in runs):
        assert network.history is not None
        report(network.history)
        yield row, network


def _train(run: _Plan, data: Mapping[str, Any], threads: int) -> tuple[int, Network]:
    network = Network(**run.network | {"threads": threads})
    with contextlib.suppress(DivergedError):  # which its history tells
        network.fit(**data, **run.fit, verbose=False)
    return run.row, network


def _train_together(runs: Sequence[_Plan], data: Mapping[str, Any], report: Report, *, threads: int) -> Trained:
    """By `train_many`, which a group of runs at a time is given; after an interrupt those that were done come, too."""
    for start in range(0, len(runs), _TOGETHER):
        group, interrupted = runs[start : start + _TOGETHER], False
        networks = [Network(**run.network) for run in group]
        each = [{**run.fit, "callbacks": [_Finish(report)]} for run in group]
        try:
            train_many(networks, **data, each=each, threads=threads, verbose=False)
        except KeyboardInterrupt:
            interrupted = True
        for run, network in zip(group, networks, strict=True):
            if network.history and _is_done(network.history, run.fit["epochs"]):
                yield run.row, network
        if interrupted:
            raise KeyboardInterrupt


class _Finish(Callback):
    """Reports a run that has come to its end."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def end(self, run: "Run") -> None:
        if _is_done(run.history, run.epochs):
            self._report(run.history)


def _is_done(history: History, epochs: int) -> bool:
    return history.diverged or (history.epochs == epochs and not history.interrupted)


@contextlib.contextmanager
def _progress(n_runs: int, way: _Way, verbose: bool | str) -> Iterator[Report]:
    """A function to call when a run is done: draws a bar on a terminal, elsewhere gives one estimate of the time."""
    terminal, start = is_terminal(sys.stderr), time.perf_counter()
    with progress_bar(total=n_runs, desc=way.words, unit=" runs", disable=not (terminal and verbose)) as bar:
        is_due = verbose is True and not terminal

        def report(history: History) -> None:
            nonlocal is_due
            bar.update()
            if is_due:
                now = time.perf_counter() - start
                left = (n_runs - way.at_once) / way.at_once * sum(history.seconds)
                say(f"first run done after {_interval(now)}, all in about {_interval(now + left)}")
            is_due = False

        yield report


def _interval(seconds: float) -> str:
    from tqdm import tqdm

    return f"{seconds:.1f} s" if seconds < 60 else str(tqdm.format_interval(seconds))
