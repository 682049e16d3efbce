"""What a sweep has found, by hyperparameter."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.errors import DataError
from fastnn.plots import figures
from fastnn.plots.figures import SMALL
from fastnn.sweeps.hyperparameters import SHARES
from fastnn.sweeps.ranking import Row, Sweep, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["sweep_panels"]

_FEW = 12  # values of a hyperparameter that are named one by one on its axis
_WIDE = 5  # from here on, highest over lowest, a scale is logarithmic


def sweep_panels(sweep: Sweep, *, theme: figures.ThemeName = "light") -> "Figure":
    """Validation error, or loss for regression, over each hyperparameter of a sweep; of two on a grid as a map.

    A dot is a setting, a line joins the best at each value, a band reaches one standard error from the best of all,
    and a cross is a setting that diverged. With one hyperparameter there are bars of one standard deviation over the
    seeds.

    Parameters
    ----------
    sweep : Sweep
        As `fastnn.sweeps.sweep` returns it, or `Sweep.load`.
    theme : {"light", "dark"}

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    DataError
        If no setting has come to an end.
    MissingLibraryError
        If matplotlib is not installed.

    Examples
    --------
    >>> import fastnn.plots
    >>> from fastnn.plots.sweep import sweep_panels
    >>> from fastnn.sweeps import sweep
    >>> data = fastnn.datasets.load("digits")
    >>> x, y = data.x_train[:500], data.y_train[:500]
    >>> result = sweep({"learning_rate": [0.01, 0.1, 1.0]}, x, y, epochs=1, backend="numpy", jobs=1)
    >>> figure = sweep_panels(result)
    >>> figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()
    ('learning rate', 'validation error in %')
    """
    look = figures.find_theme(theme)
    if sweep.best is None:
        raise DataError("nothing to draw: no setting of the sweep has come to an end")
    scales = [_scale(name, sweep.rows) for name in sweep.names]
    scales = [one for one in scales if len(one.places) > 1] or scales[:1]
    if len(scales) == 2 and _is_grid(sweep, scales):
        return _draw_map(sweep, scales, look)
    columns = min(3, len(scales))
    lines = math.ceil(len(scales) / columns)
    figure = figures.new_figure(look, max(6.4, 3.2 * columns), 0.6 + 3.1 * lines)
    panels: Any = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for scale, axes in zip(scales, panels.flat, strict=False):
        _panel(axes, sweep, scale, look, bars=len(scales) == 1)
    for axes in panels.flat[len(scales) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel(_error_name(sweep))
    if _is_far([_error(row, sweep) for row in sweep.ranked() if not row.diverged]):
        panels[0, 0].set_yscale("log")  # the axis is shared by all
        figures.log_axis(panels[0, 0].yaxis, (1, 2, 5))
    shown: dict[str, Any] = {}  # a key for what is in any of the panels
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        shown = dict(zip(labels, handles, strict=True)) | shown
    ncols = 3 if figure.get_figwidth() < 7 else 6
    figures.legend(figure, look, handles=list(shown.values()), labels=list(shown), ncols=ncols)
    return figure


class _Scale(NamedTuple):
    """Where the values of a hyperparameter are on an axis."""

    name: str
    places: dict[Any, float]
    logarithmic: bool

    @property
    def ticks(self) -> tuple[list[float], list[str]]:
        return list(self.places.values()), [figures.plain(short(value), 16) for value in self.places]


def _scale(name: str, rows: Sequence[Row]) -> _Scale:
    """Numbers at their place, on a logarithmic scale if they reach far; others, and those with a 0, one by one."""
    values = sorted({row.settings[name] for row in rows if name in row.settings}, key=_numbers_first)
    numbers = all(_is_number(value) for value in values)
    positive = [value for value in values if numbers and value > 0]
    far = len(positive) > 1 and name not in SHARES and positive[-1] >= _WIDE * positive[0]
    logarithmic = far and len(positive) == len(values)
    if numbers and (logarithmic or not far or len(values) > _FEW):
        return _Scale(name, {value: float(value) for value in values}, logarithmic)
    return _Scale(name, {value: float(i) for i, value in enumerate(values)}, False)


def _numbers_first(value: Any) -> tuple[bool, float, str]:
    return (False, value, "") if _is_number(value) else (True, 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _error(row: Row, sweep: Sweep) -> float:
    """What is to be small: the error in %, or the loss."""
    return row.mean("loss") if sweep.metric == "loss" else 100 * (1 - row.mean("accuracy"))


def _spread(row: Row, sweep: Sweep) -> float:
    return row.spread(sweep.metric) * (1 if sweep.metric == "loss" else 100)


def _error_name(sweep: Sweep) -> str:
    return "validation loss" if sweep.metric == "loss" else "validation error in %"


def _is_far(errors: Sequence[float]) -> bool:
    return min(errors) > 0 and max(errors) >= _WIDE * min(errors)


def _panel(axes: "Axes", sweep: Sweep, scale: _Scale, theme: figures.Theme, bars: bool) -> None:
    figures.dress(axes, theme)
    axes.set_xlabel(scale.name.replace("_", " "))
    ranked = [row for row in sweep.ranked() if scale.name in row.settings]
    places = {id(row): scale.places[row.settings[scale.name]] for row in ranked}
    ended = [row for row in ranked if not row.diverged]
    x, errors = [places[id(row)] for row in ended], [_error(row, sweep) for row in ended]
    colour, best_colour = theme.colours[:2]
    if bars and sweep.repeats > 1:
        look: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 1.2, "capsize": 3}
        axes.errorbar(x, errors, [_spread(row, sweep) for row in ended], label="deviation over seeds", **look)
    alpha = 1.0 if len(ended) <= 2 * _FEW else 0.6
    axes.plot(x, errors, "o", color=colour, markersize=5, mec="none", alpha=alpha, label="setting")
    if len(scale.places) <= _FEW:
        least = {place: min(e for at, e in zip(x, errors, strict=True) if at == place) for place in sorted({*x})}
        axes.plot([*least], [*least.values()], color=colour, linewidth=1.4, zorder=1, label="best at each value")
    lost = [places[id(row)] for row in ranked if row.diverged]
    if lost:
        above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "markersize": 7, "mew": 1.6}
        axes.plot(lost, [1.0] * len(lost), "x", color=theme.muted, label="diverged", **above)
    best = sweep.best
    if best is not None and id(best) in places:
        ring: dict[str, Any] = {"markersize": 12, "mfc": "none", "mec": best_colour, "mew": 1.8, "linestyle": ""}
        axes.plot(places[id(best)], _error(best, sweep), "o", label="best", **ring)
        reach = sweep.standard_error * (1 if sweep.metric == "loss" else 100)
        if reach > 0:
            ends = _error(best, sweep), _error(best, sweep) + reach
            axes.axhspan(*ends, color=best_colour, alpha=0.15, linewidth=0, label="standard error")
    axes.margins(x=0.08)
    if scale.logarithmic:
        axes.set_xscale("log")
        figures.log_axis(axes.xaxis)
    if len(scale.places) <= _FEW:  # else matplotlib chooses
        axes.set_xticks(*scale.ticks)
        axes.set_xticks([], minor=True)


def _is_grid(sweep: Sweep, scales: Sequence[_Scale]) -> bool:
    """Whether every combination was tried, of few values each."""
    pairs = {tuple(row.settings.get(scale.name) for scale in scales) for row in sweep.ranked()}
    sizes = [len(scale.places) for scale in scales]
    return len(pairs) == math.prod(sizes) == len(sweep.ranked()) and max(sizes) <= 2 * _FEW


def _draw_map(sweep: Sweep, scales: Sequence[_Scale], theme: figures.Theme) -> "Figure":
    """A square for each setting: its colour is the error, a frame the best one and those that are as good."""
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.patches import Rectangle

    down, across = sorted(scales, key=lambda scale: len(scale.places))
    figure = figures.new_figure(theme, 2.0 + 0.95 * max(4, len(across.places)), 1.4 + 0.62 * max(2, len(down.places)))
    axes = figure.add_subplot()
    figures.dress(axes, theme, _error_name(sweep), grid=None)
    errors = [_error(row, sweep) for row in sweep.ranked() if not row.diverged]
    norm = (LogNorm if _is_far(errors) else Normalize)(min(errors), max(errors))
    colours = figures.shades(theme.colours[0], theme.background)
    rivals = [id(row) for row in sweep.rivals()]
    for row in sweep.ranked():
        x, y = (list(scale.places).index(row.settings[scale.name]) for scale in (across, down))
        colour: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0) if row.diverged else colours(norm(_error(row, sweep)))
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor=theme.grid, linewidth=0.7))
        if row is sweep.best or id(row) in rivals:  # inset, so that frames of neighbours do not hide each other
            look: dict[str, Any] = {"edgecolor": theme.colours[1], "linewidth": 2.4, "zorder": 3}
            style = "-" if row is sweep.best else (0, (2, 2))
            axes.add_patch(Rectangle((x - 0.47, y - 0.47), 0.94, 0.94, facecolor="none", linestyle=style, **look))
        ink = theme.muted if row.diverged else figures.ink_on(colour)
        axes.text(x, y, _cell_text(row, sweep), ha="center", va="center", fontsize=SMALL, color=ink)
    axes.set_xticks(range(len(across.places)), across.ticks[1])
    axes.set_yticks(range(len(down.places)), down.ticks[1])
    axes.set(xlabel=across.name.replace("_", " "), ylabel=down.name.replace("_", " "))
    axes.set(xlim=(-0.52, len(across.places) - 0.48), ylim=(-0.52, len(down.places) - 0.48))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figures.remark(axes, "framed: best" + ("; dashed: within one standard error" if rivals else ""), theme)
    return figure


def _cell_text(row: Row, sweep: Sweep) -> str:
    if row.diverged:
        return "diverged"
    digits, spread = 2 if sweep.metric == "accuracy" else 4, _spread(row, sweep)
    return f"{_error(row, sweep):.{digits}f}" + (f"\n± {spread:.{digits}f}" if math.isfinite(spread) else "")
