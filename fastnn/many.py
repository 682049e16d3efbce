"""Many independent networks trained side by side."""

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from fastnn.callbacks import as_callbacks
from fastnn.console import progress_bar, wants_progress
from fastnn.errors import DivergedError
from fastnn.history import History
from fastnn.interruption import Interruption
from fastnn.network import Network
from fastnn.threads import resolve_threads

__all__ = ["train_many"]


def train_many(
    networks: Sequence[Network | Mapping[str, Any]],
    x: Any,
    y: Any,
    *,
    each: Sequence[Mapping[str, Any]] | None = None,
    threads: int | None = None,
    verbose: bool | str = "auto",
    **options: Any,
) -> list[History]:
    """Train independent networks on the same data at the same time; each does as it would by `Network.fit` alone.

    On a CPU each has a core, or several where there are more cores than networks. On a GPU those that fit the plan
    "persistent" share one launch, each on multiprocessors of its own. A network of more than one hidden layer would
    take another plan by itself, "graph", whose results differ by rounding.

    Parameters
    ----------
    networks : sequence of Network, or of mappings
        A mapping holds the arguments of a `Network`, for whom the curves are enough.
    x, y
        As for `Network.fit`.
    each : sequence of mapping, or None
        Arguments of `Network.fit` for each network, beside or instead of `options`: its optimizer, for example.
    threads : int or None
        CPU threads for all of them; by default FASTNN_NUM_THREADS, or the cores this process may use.
    verbose : bool or "auto"
        Progress of all together on stderr; auto: if that is a terminal.
    **options
        Arguments of `Network.fit` for all networks. Each gets its own copies of the callbacks; functions are shared.

    Returns
    -------
    list of History
        In the networks' order. One whose loss became NaN or infinite does not stop the others: its history says
        `diverged`, and ends with the last good epoch.

    Raises
    ------
    ValueError
        If `each` is not one for each network, a network is given twice, or as `Network` and `Network.fit` do.
    KeyboardInterrupt
        On Ctrl-C; every network is left as `Network.fit` leaves it.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> networks = [fastnn.Network([2, 8, 2], seed=seed, backend="numpy") for seed in range(3)]
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    >>> histories = fastnn.train_many(networks, x, [0, 1, 1, 0], epochs=5)
    >>> [history.epochs for history in histories]
    [5, 5, 5]
    """
    made = [network if isinstance(network, Network) else Network(**network) for network in networks]
    arguments = [{"callbacks": (), **options, **own} for own in ([{}] * len(made) if each is None else each)]
    if len(arguments) != len(made):
        raise ValueError(f"each must have arguments for {len(made)} networks, got {len(arguments)}")
    if len({id(network) for network in made}) < len(made):
        raise ValueError("a network is given twice: it cannot be trained in two ways at the same time")
    if not made:
        return []
    arguments = _with_own_callbacks(arguments)
    threads, places = resolve_threads(threads), _places(made, resolve_threads(threads))
    at_once = max(number for number, _ in places)
    share = max(1, threads // at_once)
    with _progress(verbose, made, arguments) as callback, ThreadPoolExecutor(at_once) as pool:
        runs = [
            _Run(network, context, share, {**own, "verbose": False, "callbacks": [*own["callbacks"], callback]})
            for network, (_, context), own in zip(made, places, arguments, strict=True)
        ]
        _train(runs, x, y, pool)
    return [run.history() for run in runs]


def _with_own_callbacks(arguments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Callbacks that several networks were given, copied for each: what remembers must not hear of all of them.

    An iterator is read once, whoever was given it. Copies of functions are the functions themselves.
    """
    given = {id(one["callbacks"]): one["callbacks"] for one in arguments}
    listed = {key: list(one) if isinstance(one, Iterable) else one for key, one in given.items()}
    lists = [listed[id(one["callbacks"])] for one in arguments]
    for callbacks in lists:
        as_callbacks(callbacks)  # an error where something is not a callback
    uses = Counter(id(callback) for callbacks in lists for callback in callbacks)
    files = Counter(
        Path(getattr(callback, name)).resolve()
        for callbacks in lists
        for callback in callbacks
        for name in ("path", "folder")
        if isinstance(getattr(callback, name, None), str | Path)
    )
    for file, count in files.items():
        if count > 1:
            raise ValueError(
                f"{count} networks would write to {file} at the same time: give each a callback with its own file, "
                "each=[{'callbacks': [...]}, ...]"
            )

    def own(callbacks: list[Any]) -> list[Any]:
        memo: dict[int, Any] = {}  # what two callbacks of a network have in common, their copies have too
        return [copy.deepcopy(one, memo) if uses[id(one)] > 1 else one for one in callbacks]

    try:
        return [{**one, "callbacks": own(callbacks)} for one, callbacks in zip(arguments, lists, strict=True)]
    except Exception as error:  # whatever the object's own copying raises
        raise ValueError(
            f"a callback that several networks share must be one that can be copied ({error}): give each network its "
            "own, each=[{'callbacks': [...]}, ...]"
        ) from error


def _places(networks: Sequence[Network], threads: int) -> list[tuple[int, AbstractContextManager[None]]]:
    """For each network how many of its backend are trained at once, and in which context."""
    counts = Counter(network.backend for network in networks)
    kernels = {network.backend: network.kernels for network in networks}
    places = {name: kernels[name].side_by_side(count, threads) for name, count in counts.items()}
    return [places[network.backend] for network in networks]


class _Run:
    """The training of one network in a thread of its own."""

    def __init__(
        self, network: Network, context: AbstractContextManager[None], threads: int, options: Mapping[str, Any]
    ) -> None:
        self.network, self._context, self._threads, self._options = network, context, threads, options
        self._interruption = Interruption()

    def train(self, x: Any, y: Any) -> None:
        before, self.network.threads = self.network.threads, min(self._threads, self.network.threads)
        try:
            with self._interruption, self._context, contextlib.suppress(DivergedError):  # which its history tells
                self.network.fit(x, y, **self._options)
        finally:
            self.network.threads = before

    def history(self) -> History:
        """What it saw."""
        assert self.network.history is not None
        return self.network.history

    def interrupt(self) -> None:
        """Have the thread meet a KeyboardInterrupt, as `Network.fit` would in the main thread."""
        self._interruption.ask()


def _train(runs: Sequence[_Run], x: Any, y: Any, pool: ThreadPoolExecutor) -> None:
    """Train all and wait for them; an interrupt, or an error of one, ends the others too."""
    futures: list[Future[None]] = []
    try:
        for run in runs:
            futures.append(pool.submit(run.train, x, y))
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException:
        for run in runs:
            run.interrupt()
        wait(futures)
        raise


@contextmanager
def _progress(
    verbose: bool | str, networks: Sequence[Network], arguments: Sequence[Mapping[str, Any]]
) -> Iterator[Callable[[Network, History], None]]:
    """A callback that shows, on stderr, how many epochs all have done together."""
    if not wants_progress(verbose):
        yield lambda network, history: None
        return
    epochs = sum(options.get("epochs", 5) for options in arguments)
    with progress_bar(total=epochs, desc=f"{len(networks)} networks", unit=" epochs") as bar:
        yield lambda network, history: bar.update() and None
