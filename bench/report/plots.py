"""Figures of the report of `fastnn bench`: each a function of (results, theme), None where nothing was measured.

A contender has one colour and one marker in all figures (`plot_style`). matplotlib is an extra, imported when the first
figure is made; it is used without pyplot, so that nothing outside a figure changes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from fastnn.bench.report.formatting import INTERVAL, case, si
from fastnn.bench.report.plot_style import (
    Style,
    add_legend,
    add_panels,
    legend_columns,
    log_marks,
    new_figure,
    panel_columns,
    panels_height,
    ratio_axis,
    style,
)
from fastnn.bench.report.results import Results, ordered
from fastnn.bench.report.roofline_plot import roofline
from fastnn.bench.verdicts import SAME

from fastnn.plots.figures import SMALL, TEXT, Theme, dress, plain

# ---- throughput and ratios ------------------------------------------------------------------------------------------


def throughput(results: Results, theme: Theme) -> Any:
    """Samples a second of each contender in each case, with quartiles."""
    cases = [row for row in results.get("throughput") or [] if row.get("summary")]
    if not cases:
        return None
    names = ordered(results, (name for row in cases for name in row["summary"]))
    rates = [[rate for entry in row["summary"].values() for rate in _rates(row, entry)] for row in cases]
    logarithmic = any(max(each[1::3]) > 25 * min(each[1::3]) for each in rates)  # the shortest bars would vanish
    figure = new_figure(theme, 0.3 + panels_height(len(cases), names))
    for axes, row, each in zip(add_panels(figure, len(cases), names)[0], cases, rates, strict=True):
        dress(axes, theme, case(row), grid="x")
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(min(each) / 1.5, max(each) * (max(each) / min(each)) ** 0.4)
            log_marks(axes.xaxis, lambda value, _: si(value, plain=True))
        else:
            axes.set_xlim(0, max(each) * 1.32)
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter(lambda value, _: si(value, plain=True))
        for y, name in enumerate(names):
            _throughput_row(axes, y, row, name, style(results, name, theme), theme, logarithmic)
    figure.supxlabel(
        "training samples a second" + (" (log scale)" if logarithmic else ""), fontsize=TEXT, color=theme.text
    )
    return figure


def _rates(row: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[float, float, float]:
    """Samples a second: lower quartile, median, upper quartile."""
    return row["samples"] / entry["seconds"][2], entry["samples_per_second"], row["samples"] / entry["seconds"][0]


def _throughput_row(
    axes: Any, y: int, row: Mapping[str, Any], name: str, look: Style, theme: Theme, logarithmic: bool
) -> None:
    if name not in row["summary"]:
        axes.annotate("not measured", (0, y), (4, 0), axes.get_yaxis_transform(), "offset points", va="center")
        axes.texts[-1].set(color=theme.muted, fontsize=SMALL)
        return
    low, value, high = _rates(row, row["summary"][name])
    if logarithmic:
        axes.plot(value, y, look.marker, color=look.colour, markersize=6)
    else:
        axes.barh(y, value, 0.66, color=look.colour)
    axes.plot([low, high], [y, y], color=theme.text, linewidth=1.6, solid_capstyle="butt")
    weight = "bold" if name == row.get("fastest") else "normal"
    axes.annotate(si(value), (max(value, high), y), (5, 0), textcoords="offset points", va="center", fontweight=weight)
    axes.texts[-1].set(color=theme.text, fontsize=SMALL)


def control(results: Results, theme: Theme) -> Any:
    """Ratios to the reference with their intervals; below them those of the A/A control, magnified."""
    cases = [row for row in results.get("throughput") or [] if row.get("comparisons")]
    controls = [row for row in results.get("throughput") or [] if row.get("control")]
    if not cases and not controls:
        return None
    names = ordered(results, (name for row in cases for name in row["comparisons"]))
    height = panels_height(len(cases), names) if cases else 0
    figure = new_figure(theme, height + (1.0 + 0.25 * len(controls) if controls else 0.3))
    if not cases:
        _magnified(figure.add_subplot(), controls, results, theme)
        return figure
    panels, below = add_panels(figure, len(cases), names, below=bool(controls))
    if controls:
        rows = math.ceil(len(cases) / panel_columns(len(cases)))
        below.get_gridspec().set_height_ratios([height / rows] * rows + [0.8 + 0.25 * len(controls)])
        _magnified(below, controls, results, theme)
    ends = [entry[end] for row in cases for entry in row["comparisons"].values() for end in ("low", "high")]
    reference = results.get("reference") or "the reference"
    for axes, row in zip(panels, cases, strict=True):
        dress(axes, theme, case(row), grid="x")
        ratio_axis(axes, [*ends, 1.0])
        axes.axvline(1, color=theme.text, linewidth=1)
        for y, name in enumerate(names):
            if name in row["comparisons"]:
                _forest_row(axes, y, row["comparisons"][name], style(results, name, theme), theme)
    for axes in panels[-panel_columns(len(cases)) :]:
        axes.set_xlabel(f"times as fast as {reference}".replace("$", r"\$"))
    return figure


def _forest_row(axes: Any, y: float, entry: Mapping[str, Any], look: Style, theme: Theme, digits: int = 2) -> None:
    axes.plot([entry["low"], entry["high"]], [y, y], color=look.colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(entry["ratio"], y, look.marker, color=look.colour, markersize=5.5)
    place = {"xycoords": axes.get_yaxis_transform(), "va": "center", "ha": "left"}
    axes.annotate(f"{entry['ratio']:.{digits}f}", (1.01, y), **place)
    axes.texts[-1].set(color=theme.text, fontsize=SMALL)


def _magnified(axes: Any, rows: Sequence[Mapping[str, Any]], results: Results, theme: Theme) -> None:
    """The A/A control: the same program against itself; what differs from 1 here is noise or a fault."""
    one, other = results.get("control") or ("a contender", "itself")
    dress(axes, theme, f"A/A control, magnified: {other} against {one}".replace("$", r"\$"), grid="x")
    ends = [row["control"][end] for row in rows for end in ("low", "high")]
    farthest = 1.25 * max(0.01, max(ends) - 1, 1 - min(ends))
    if farthest < 0.6:
        axes.set_xlim(1 - farthest, 1 + farthest)
    else:
        ratio_axis(axes, [*ends, 1.0])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [case(row) for row in rows])
    axes.axvline(1, color=theme.text, linewidth=1)
    for y, row in enumerate(rows):
        clean = row["control"]["verdict"] == SAME
        colour = style(results, other, theme) if clean else Style((0.84, 0.15, 0.16), "D")
        _forest_row(axes, y, row["control"], colour, theme, digits=3)
    axes.set_xlabel(f"ratio, with its {INTERVAL}")


# ---- accuracy and losses --------------------------------------------------------------------------------------------


def accuracy(results: Results, theme: Theme) -> Any:
    """Test accuracy against seconds of training: every seed thin, the median of the seeds thick."""
    section = results.get("accuracy") or {}
    runs = [run for run in section.get("runs") or [] if run["seconds"] and run["accuracy"]]
    if not runs:
        return None
    names = ordered(results, (run["contender"] for run in runs))
    figure = new_figure(theme, 4.4 + 0.2 * math.ceil(len(names) / legend_columns(names)))
    axes = figure.add_subplot()
    dress(axes, theme)
    for name in names:
        look = style(results, name, theme)
        mine = [np.array([run["seconds"], run["accuracy"]], float) for run in runs if run["contender"] == name]
        for seconds, reached in mine:
            axes.plot(seconds, 100 * reached, color=look.colour, linewidth=0.7, alpha=0.5)
        shortest = min(run.shape[1] for run in mine)  # an interrupted run has fewer epochs
        seconds, reached = np.median([run[:, :shortest] for run in mine], axis=0)
        line = {"color": look.colour, "linewidth": 2.2, "markersize": 5, "label": plain(name)}
        axes.plot(seconds, 100 * reached, look.marker + "-", **line)
    times = [seconds for run in runs for seconds in run["seconds"]]
    if max(times) > 8 * min(times):
        ratio_axis(axes, times)
    axes.set_xlabel(
        "seconds of training, without start-up and evaluation" + (" (log scale)" if axes.get_xscale() == "log" else "")
    )
    axes.set_ylabel("test accuracy in %")
    for goal in section.get("goals") or []:
        axes.axhline(100 * goal, color=theme.text, linewidth=1, linestyle=(0, (4, 3)))
        place = {"xycoords": axes.get_yaxis_transform(), "xytext": (5, 0), "textcoords": "offset points"}
        axes.annotate(f"{100 * goal:g} %", (1, 100 * goal), **place, va="center", color=theme.text, fontsize=SMALL)
    add_legend(figure, theme, loc="outside upper left", ncols=legend_columns(names))
    return figure


def loss_curves(results: Results, theme: Theme) -> Any:
    """The loss of each mini-batch, laid over each other; below, how far each is from the float64 reference."""
    section = results.get("curves") or {}
    losses = {name: np.array(values, float) for name, values in (section.get("losses") or {}).items() if values}
    if not losses:
        return None
    reference = section.get("reference")
    names = sorted(ordered(results, losses), key=lambda name: name != reference)
    columns = legend_columns(names)
    figure = new_figure(theme, 5.4 + 0.2 * math.ceil(len(names) / columns))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    window = max(1, max(map(len, losses.values())) // 60)
    dashes: list[Any] = ["-", "-", (0, (4, 3)), (0, (1.2, 1.8)), (0, (6, 2, 1.2, 2))]
    for i, name in enumerate(names):  # the widest below: curves that coincide are all seen
        colour = theme.muted if name == reference else style(results, name, theme).colour
        smooth, line = _smooth(losses[name], window), dashes[i if i < 2 else 2 + (i - 2) % 3]
        width, label = 8 * 0.2 ** (i / max(1, len(names) - 1)), plain(name)
        look = {"color": colour, "linestyle": line, "linewidth": width, "alpha": 0.5 if name == reference else 1}
        axes.plot(np.arange(len(smooth)) + window / 2, smooth, **look, label=label)
    dress(axes, theme)
    axes.set_yscale("log")
    log_marks(axes.yaxis, lambda value, _: f"{value:g}")
    axes.set_ylabel(f"loss, mean of {window}\nmini-batches" if window > 1 else "loss of a mini-batch")
    _divergence_panel(below, section, losses, results, theme, window)
    add_legend(figure, theme, loc="outside upper left", ncols=columns, handlelength=3.5)
    return figure


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    window = min(window, len(values))
    return np.convolve(values, np.ones(window) / window, "valid")


def _divergence_panel(
    axes: Any,
    section: Mapping[str, Any],
    losses: Mapping[str, np.ndarray],
    results: Results,
    theme: Theme,
    window: int,
) -> None:
    expected = losses.get(section.get("reference") or "")
    for name in ordered(results, losses):
        if expected is None or losses[name] is expected:
            continue
        n = min(len(expected), len(losses[name]))
        apart = np.abs(losses[name][:n] - expected[:n]) / np.maximum(np.abs(expected[:n]), np.finfo(float).tiny)
        middles, largest = _block_maxima(apart, max(1, window // 3))
        axes.plot(middles, largest, color=style(results, name, theme).colour, linewidth=1.1)
    dress(axes, theme)
    axes.set_yscale("log")
    axes.set_xlabel("mini-batch")
    axes.set_ylabel("distance from\nthe float64 loss, relative")
    if tolerance := section.get("tolerance"):
        axes.axhline(tolerance, color=theme.text, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"tolerance {tolerance:g}", (0.01, tolerance), (0, -4), axes.get_yaxis_transform(), "offset points"
        )
        axes.texts[-1].set(color=theme.text, fontsize=SMALL, va="top")


def _block_maxima(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """(middle, largest) of each block of `window` values: no peak is lost, as smoothing would lose it."""
    starts = np.arange(0, len(values), window)
    largest = np.fmax.reduceat(values, starts)
    return starts + window // 2, np.where(largest > 0, largest, np.nan)  # no distance has no place on a log axis


# ---- crossover ------------------------------------------------------------------------------------------------------


def crossover(results: Results, theme: Theme) -> Any:
    """Which contender is fastest at which width and mini-batch, and how far it is ahead."""
    from matplotlib.patches import Patch

    section = results.get("crossover") or {}
    cells = {(cell["width"], cell["batch_size"]): cell for cell in section.get("cells") or []}
    if not cells:
        return None
    widths, batch_sizes = section["widths"], section["batch_sizes"]
    names = ordered(results, (cell["fastest"] for cell in cells.values() if cell.get("fastest")))
    figure = new_figure(theme, 1.3 + 0.62 * len(batch_sizes))
    axes = figure.add_subplot()
    dress(axes, theme, grid="x")
    axes.grid(False)
    for i, width in enumerate(widths):
        for j, batch_size in enumerate(batch_sizes):
            _cell(axes, i, j, cells.get((width, batch_size)), results, theme)
    axes.set_xlim(-0.5, len(widths) - 0.5)
    axes.set_ylim(len(batch_sizes) - 0.5, -0.5)
    axes.set_xticks(range(len(widths)), [str(width) for width in widths])
    axes.set_yticks(range(len(batch_sizes)), [str(size) for size in batch_sizes])
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    layers = section.get("hidden_layers") or 1
    axes.set_xlabel("units of the hidden layer" if layers == 1 else f"units of each of {layers} hidden layers")
    axes.set_ylabel("samples of a mini-batch")
    handles = [Patch(color=style(results, name, theme).colour, label=plain(name)) for name in names]
    handles.append(Patch(facecolor=theme.grid, edgecolor=theme.muted, hatch="////", label="? undecided"))
    add_legend(figure, theme, loc="outside upper left", ncols=legend_columns([*names, "? undecided"]), handles=handles)
    return figure


def _cell(axes: Any, x: int, y: int, cell: Mapping[str, Any] | None, results: Results, theme: Theme) -> None:
    from matplotlib.patches import Rectangle

    if cell is None:
        axes.text(x, y, "not run", ha="center", va="center", color=theme.muted, fontsize=SMALL)
        return
    box: dict[str, Any] = {"linewidth": 2, "edgecolor": theme.background}
    ahead, fastest = cell.get("ahead"), cell.get("fastest")
    text = f"{ahead['ratio']:.2f}" if ahead else ""
    if fastest:
        colour = style(results, fastest, theme).colour
        ink = "#ffffff" if np.dot(colour, (0.299, 0.587, 0.114)) < 0.5 else "#111111"
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, **box))
    else:
        ink, text = theme.text, f"? {text}".strip()
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=theme.grid, **box))
        axes.add_patch(
            Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fill=False, hatch="////", edgecolor=theme.muted, linewidth=0)
        )
    label = axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=TEXT + 0.5, fontweight="bold")
    if not fastest:
        label.set_bbox({"facecolor": theme.grid, "edgecolor": "none", "pad": 2})


DRAWN: dict[str, Callable[[Results, Theme], Any]] = {
    "throughput": throughput,
    "control": control,
    "accuracy": accuracy,
    "loss_curves": loss_curves,
    "crossover": crossover,
    "roofline": roofline,
}
"""By name, in the order of the report."""
