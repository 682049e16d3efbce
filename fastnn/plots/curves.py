"""Loss and accuracy, epoch by epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from fastnn.errors import DataError
from fastnn.history import History
from fastnn.plots.figures import Theme, ThemeName, dress, find_theme, legend, log_axis, new_figure, plain, remark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]

Quantity = Literal["loss", "accuracy"]
_FEW = 30  # epochs that are marked one by one
_LOOKS: dict[str, dict[str, Any]] = {  # of the lines, and of the keys in the legend
    "training": {"marker": "o", "markersize": 4, "linestyle": "-", "linewidth": 1.6},
    "validation": {"marker": "s", "markersize": 4, "linestyle": (0, (4, 2)), "linewidth": 1.6},
    "interrupted": {"marker": "o", "markersize": 6, "linestyle": ":", "linewidth": 1.6},
    "best": {"marker": "o", "markersize": 11, "linestyle": "", "mfc": "none", "mew": 1.4},
    "diverged": {"linestyle": ":", "linewidth": 1.2},
}


def curves(histories: History | Sequence[History] | Mapping[str, History], *, theme: ThemeName = "light") -> "Figure":
    """Loss and accuracy of one run or several, epoch by epoch; the learning rate below, if it changes.

    Training is a solid line, validation a dashed one; a ring marks the best epoch, by validation where there is such
    data. The part of an epoch that an interrupted run ended with is hollow.

    Parameters
    ----------
    histories : History, sequence of History, or mapping of names to History
        Several runs are compared in one figure.
    theme : {"light", "dark"}

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If there is no epoch to draw.
    MissingLibraryError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn.plots
    >>> data = fastnn.datasets.load("digits")
    >>> net = fastnn.Network([784, 16, 10], backend="numpy")
    >>> history = net.fit(data.x_train[:500], data.y_train[:500], epochs=2)
    >>> [axes.get_title(loc="left") for axes in fastnn.plots.curves(history).axes]
    ['loss', 'accuracy in %']
    """
    look, runs = find_theme(theme), _named(histories)
    quantities: list[Quantity] = ["loss"]
    if any(np.isfinite(run.accuracy).any() for run in runs.values()):
        quantities.append("accuracy")
    rate_changes = any(len({rate for rate in run.learning_rate if math.isfinite(rate)}) > 1 for run in runs.values())
    figure = new_figure(look, 4.6 * len(quantities) + 0.4, 3.6 + 1.3 * rate_changes)
    rows = figure.add_gridspec(1 + rate_changes, len(quantities), height_ratios=[3, 1] if rate_changes else [1])
    for i, quantity in enumerate(quantities):
        _panel(figure.add_subplot(rows[0, i]), quantity, runs, look)
    if rate_changes:
        _learning_rates(figure.add_subplot(rows[1, :]), runs, look)
    _legend(figure, runs, look)
    return figure


def _named(histories: History | Sequence[History] | Mapping[str, History]) -> dict[str, History]:
    if isinstance(histories, History):
        histories = {"": histories}
    if not isinstance(histories, Mapping):
        histories = {f"run {i}": history for i, history in enumerate(histories, start=1)}
    for name, history in histories.items():
        if not isinstance(history, History):
            raise ValueError(f"expected a History, as fit returns it, got {type(history).__name__}")
        if history.epochs == 0:
            raise DataError(f"{name or 'the history'} has no epoch to draw")
    if not histories:
        raise DataError("no history to draw: got none")
    return dict(histories)


def _panel(axes: "Axes", quantity: Quantity, runs: Mapping[str, History], theme: Theme) -> None:
    percent = quantity == "accuracy"
    logarithmic = quantity == "loss" and _is_wide(runs)
    dress(axes, theme, "accuracy in %" if percent else f"loss{' (log scale)' if logarithmic else ''}")
    for i, run in enumerate(runs.values()):
        own = theme.colours[i % len(theme.colours)]  # a single run has two colours, several have one each
        colours = dict(zip(_LOOKS, (own, own) if len(runs) > 1 else theme.colours, strict=False))
        for name, kind in ((quantity, "training"), (f"val_{quantity}", "validation")):
            values = np.array(getattr(run, name), float) * (100 if percent else 1)
            _line(axes, values, run.finished_epochs, name, _LOOKS[kind] | {"color": colours[kind]}, theme)
        best = run.best_epoch(quantity)
        if best and run.epochs > 1:
            epoch, value, kind = best
            value *= 100 if percent else 1
            axes.plot(epoch, value, **_LOOKS["best"], color=colours[kind], gid=f"best {quantity}")
            if len(runs) == 1:
                remark(axes, f"best {kind}: {f'{value:.2f} %' if percent else f'{value:.4g}'}, epoch {epoch}", theme)
        if run.diverged:
            axes.axvline(run.epochs + 1, color=theme.muted, **_LOOKS["diverged"])
    if logarithmic:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        log_axis(axes.yaxis, (1, 2, 5) if high < 1000 * low else (1,))
    elif not percent:
        axes.set_ylim(bottom=0)
    _epoch_axis(axes, runs)


def _line(
    axes: "Axes", values: npt.NDArray[np.float64], finished: int, name: str, look: dict[str, Any], theme: Theme
) -> None:
    """A quantity of a run: whole epochs, then the part of an epoch at the end of an interrupted one."""
    epochs = np.arange(1, len(values) + 1)
    marker = look["marker"] if len(values) <= _FEW else ""
    axes.plot(epochs[:finished], values[:finished], **look | {"marker": marker, "gid": name})
    if np.isfinite(values[finished:]).any():
        look = look | _LOOKS["interrupted"] | {"mfc": theme.background, "markevery": [-1]}
        start = max(finished - 1, 0)
        axes.plot(epochs[start:], values[start:], **look, gid=f"{name}, interrupted")


def _is_wide(runs: Mapping[str, History]) -> bool:
    """Whether on a linear scale the small losses would lie on the axis."""
    values = np.concatenate([np.array([*run.loss, *run.val_loss], float) for run in runs.values()])
    values = values[np.isfinite(values)]
    return bool(values.size and 0 < 50 * values.min() < values.max())


def _epoch_axis(axes: "Axes", runs: Mapping[str, History]) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(run.epochs + run.diverged for run in runs.values())
    margin = max(0.03 * (last - 1), 0.1 if last > 1 else 0.5)
    axes.set_xlim(max(0.5, 1 - margin), last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def _learning_rates(axes: "Axes", runs: Mapping[str, History], theme: Theme) -> None:
    dress(axes, theme, "learning rate")
    for i, run in enumerate(runs.values()):
        colour = theme.muted if len(runs) == 1 else theme.colours[i % len(theme.colours)]
        marker = "o" if run.epochs <= _FEW else ""
        axes.plot(np.arange(1, run.epochs + 1), run.learning_rate, color=colour, marker=marker, markersize=3)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="y", nbins=3)
    _epoch_axis(axes, runs)


def _legend(figure: "Figure", runs: Mapping[str, History], theme: Theme) -> None:
    """Keys of what is drawn, and of nothing else."""
    from matplotlib.lines import Line2D

    several, histories = len(runs) > 1, runs.values()
    looks: dict[str, dict[str, Any]] = {}
    if several:
        looks = {plain(name): {"color": theme.colours[i % len(theme.colours)]} for i, name in enumerate(runs)}
    keys = [Line2D([], [], label=label, linewidth=4, **look) for label, look in looks.items()]
    looks = {"training": _LOOKS["training"] | ({} if several else {"color": theme.colours[0]})}
    if any(run.val_loss for run in histories):
        looks["validation"] = _LOOKS["validation"] | ({} if several else {"color": theme.colours[1]})
    if any(run.epochs > 1 for run in histories):
        looks["best epoch"] = _LOOKS["best"] | {"markersize": 9}
    if any(run.finished_epochs < run.epochs for run in histories):
        looks["interrupted: part of an epoch"] = _LOOKS["interrupted"] | {"mfc": theme.background}
    if any(run.diverged for run in histories):
        looks["diverged: the loss was no longer finite"] = _LOOKS["diverged"]
    keys += [Line2D([], [], label=label, **{"color": theme.muted} | look) for label, look in looks.items()]
    legend(figure, theme, handles=keys, ncols=min(len(keys), 5))
