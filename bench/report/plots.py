"""Figures of the report of `fastnn bench`: each a function of (results, theme), None where nothing was measured.

A contender has one colour and one marker in all figures (`plot_style`). matplotlib is an extra, imported when the first
figure is made; it is used without pyplot, so that nothing outside a figure changes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.bench.report.formatting import INTERVAL, case, si
from fastnn.bench.report.plot_style import (
    WIDTH,
    Draw,
    Panels,
    Style,
    legend_columns,
    log_marks,
    note,
    ratio_axis,
    rows_axis,
    style,
    themed,
    with_legend,
)
from fastnn.bench.report.results import cases, ordered
from fastnn.bench.report.roofline_plot import roofline
from fastnn.bench.report.schema import Case, Cell, Comparison, Results, Summary
from fastnn.bench.verdicts import SAME
from fastnn.plots.figures import TEXT, Theme, dress, legend, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (4, 3))
DASHES: list[Any] = ["-", "-", DASHED, (0, (1.2, 1.8)), (0, (6, 2, 1.2, 2))]
BAD = Style("#d62629", "D")  # a control that finds a difference

# ---- throughput and ratios ------------------------------------------------------------------------------------------


@themed
def throughput(results: Results, theme: Theme) -> "Figure | None":
    """Samples a second of each contender in each case, with quartiles."""
    from matplotlib.ticker import EngFormatter

    rows = cases(results)
    if not rows:
        return None
    names = ordered(results, (name for row in rows for name in row["summary"]))
    rates = [{name: _rates(row, entry) for name, entry in row["summary"].items()} for row in rows]
    medians = [[rate[1] for rate in found.values()] for found in rates]
    logarithmic = any(max(each) > 25 * min(each) for each in medians)  # the shortest bars would vanish
    figure, panels = Panels(rows, names).draw(theme)
    for axes, row, found in zip(panels, rows, rates, strict=True):
        least, most = min(map(min, found.values())), max(map(max, found.values()))
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(least / 1.5, most * (most / least) ** 0.4)
            log_marks(axes.xaxis)
        else:
            axes.set_xlim(0, most * 1.32)
            axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter(EngFormatter())
        for y, name in enumerate(names):
            if name not in found:
                note(axes, "not measured", (0, y), (4, 0), xycoords=axes.get_yaxis_transform(), color=theme.muted)
                continue
            (low, median, high), look = found[name], style(results, name, theme)
            if logarithmic:
                axes.plot(median, y, look.marker, color=look.colour, markersize=6)
            else:
                axes.barh(y, median, 0.66, color=look.colour)
            axes.plot([low, high], [y, y], color=theme.text, linewidth=1.6, solid_capstyle="butt")
            weight = "bold" if name == row["fastest"] else "normal"
            note(axes, si(median), (max(median, high), y), (5, 0), fontweight=weight)
    figure.supxlabel("training samples a second" + (" (log scale)" if logarithmic else ""))
    return figure


def _rates(row: Case, entry: Summary) -> tuple[float, float, float]:
    """Samples a second: lower quartile, median, upper quartile."""
    return row["samples"] / entry["seconds"][2], entry["samples_per_second"], row["samples"] / entry["seconds"][0]


@themed
def control(results: Results, theme: Theme) -> "Figure | None":
    """Ratios to the reference with their intervals; below them those of the A/A control, magnified."""
    rows = [row for row in results["throughput"] if row["comparisons"]]
    controls = [(case(row), row["control"]) for row in results["throughput"] if row["control"]]
    if not rows and not controls:
        return None
    names = ordered(results, (name for row in rows for name in row["comparisons"]))
    layout = Panels(rows, names, 0.8 + 0.25 * len(controls) if controls else 0)
    figure, panels = layout.draw(theme)
    ends = [end for row in rows for entry in row["comparisons"].values() for end in (entry["low"], entry["high"])]
    for axes, row in zip(panels, rows, strict=False):
        ratio_axis(axes, [*ends, 1.0])
        axes.axvline(1, color=theme.text, linewidth=1)
        for y, name in enumerate(names):
            if name in row["comparisons"]:
                _interval(axes, y, row["comparisons"][name], style(results, name, theme))
    for axes in panels[: len(rows)][-layout.columns :]:
        axes.set_xlabel(f"times as fast as {results['reference'] or 'the reference'}".replace("$", r"\$"))
    if controls:
        _magnified(panels[-1], controls, results, theme)
    return figure


def _interval(axes: "Axes", y: float, entry: Comparison, look: Style, digits: int = 2) -> None:
    axes.plot([entry["low"], entry["high"]], [y, y], color=look.colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(entry["ratio"], y, look.marker, color=look.colour, markersize=5.5)
    note(axes, f"{entry['ratio']:.{digits}f}", (1.01, y), (0, 0), xycoords=axes.get_yaxis_transform())


def _magnified(axes: "Axes", controls: Sequence[tuple[str, Comparison]], results: Results, theme: Theme) -> None:
    """The A/A control: the same program against itself; what differs from 1 here is noise or a fault."""
    one, other = results["control"] or ("a contender", "itself")
    dress(axes, theme, f"A/A control, magnified: {other} against {one}".replace("$", r"\$"), grid="x")
    ends = [end for _, entry in controls for end in (entry["low"], entry["high"])]
    farthest = 1.25 * max(0.01, max(ends) - 1, 1 - min(ends))
    if farthest < 0.6:
        axes.set_xlim(1 - farthest, 1 + farthest)
    else:
        ratio_axis(axes, [*ends, 1.0])
    rows_axis(axes, [where for where, _ in controls])
    axes.axvline(1, color=theme.text, linewidth=1)
    for y, (_, entry) in enumerate(controls):
        _interval(axes, y, entry, style(results, other, theme) if entry["verdict"] == SAME else BAD, digits=3)
    axes.set_xlabel(f"ratio, with its {INTERVAL}")


# ---- accuracy and losses --------------------------------------------------------------------------------------------


@themed
def accuracy(results: Results, theme: Theme) -> "Figure | None":
    """Test accuracy against seconds of training: every seed thin, the median of the seeds thick."""
    runs = [run for run in results["accuracy"]["runs"] if run["seconds"] and run["accuracy"]]
    if not runs:
        return None
    names = ordered(results, (run["contender"] for run in runs))
    figure = with_legend(theme, 4.4, names)
    axes = figure.add_subplot()
    dress(axes, theme)
    for name in names:
        look = style(results, name, theme)
        mine = [np.array([run["seconds"], run["accuracy"]]) for run in runs if run["contender"] == name]
        for seconds, reached in mine:
            axes.plot(seconds, 100 * reached, color=look.colour, linewidth=0.7, alpha=0.5)
        shortest = min(run.shape[1] for run in mine)  # an interrupted run has fewer epochs
        seconds, reached = np.median([run[:, :shortest] for run in mine], axis=0)
        axes.plot(
            seconds, 100 * reached, f"{look.marker}-", color=look.colour, linewidth=2.2, markersize=5, label=plain(name)
        )
    times = [seconds for run in runs for seconds in run["seconds"]]
    if max(times) > 8 * min(times):
        ratio_axis(axes, times)
    scale = " (log scale)" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"seconds of training, without start-up and evaluation{scale}")
    axes.set_ylabel("test accuracy in %")
    for goal in results["accuracy"]["goals"]:
        axes.axhline(100 * goal, color=theme.text, linewidth=1, linestyle=DASHED)
        note(axes, f"{100 * goal:g} %", (1, 100 * goal), (5, 0), xycoords=axes.get_yaxis_transform())
    legend(figure, theme, ncols=legend_columns(names), handlelength=2.2)
    return figure


@themed
def loss_curves(results: Results, theme: Theme) -> "Figure | None":
    """The loss of each mini-batch, laid over each other; below, how far each is from the float64 reference."""
    section = results["curves"]
    losses = {name: np.array(values, float) for name, values in section["losses"].items() if values}
    if not losses:
        return None
    reference = section["reference"]
    names = sorted(ordered(results, losses), key=lambda name: name != reference)
    figure = with_legend(theme, 5.4, names)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    dress(axes, theme)
    dress(below, theme)
    window = max(1, max(map(len, losses.values())) // 60)
    for i, name in enumerate(names):  # the widest below: curves that coincide are all seen
        colour = theme.muted if name == reference else style(results, name, theme).colour
        length = min(window, len(losses[name]))
        smooth = np.convolve(losses[name], np.ones(length) / length, "valid")
        look = {"linestyle": DASHES[i if i < 2 else 2 + (i - 2) % 3], "alpha": 0.5 if name == reference else 1}
        width = 8 * 0.2 ** (i / max(1, len(names) - 1))
        axes.plot(np.arange(len(smooth)) + window / 2, smooth, color=colour, linewidth=width, label=plain(name), **look)
        if reference in losses and name != reference:
            below.plot(*_distance(losses[name], losses[reference], max(1, window // 3)), color=colour, linewidth=1.1)
    axes.set_yscale("log")
    log_marks(axes.yaxis)
    axes.set_ylabel(f"loss, mean of {window}\nmini-batches" if window > 1 else "loss of a mini-batch")
    below.set_yscale("log")
    below.set(xlabel="mini-batch", ylabel="distance from\nthe float64 loss, relative")
    if tolerance := section["tolerance"]:
        below.axhline(tolerance, color=theme.text, linewidth=1, linestyle=DASHED)
        place = {"xycoords": below.get_yaxis_transform(), "va": "top"}
        note(below, f"tolerance {tolerance:g}", (0.01, tolerance), (0, -4), **place)
    legend(figure, theme, ncols=legend_columns(names), handlelength=3.5)
    return figure


def _distance(losses: np.ndarray, expected: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """(middle, largest relative distance) of each block of mini-batches: smoothing would lose the peaks."""
    n = min(len(expected), len(losses))
    apart = np.abs(losses[:n] - expected[:n]) / np.maximum(np.abs(expected[:n]), np.finfo(float).tiny)
    starts = np.arange(0, n, window)
    largest = np.fmax.reduceat(apart, starts)
    return starts + window // 2, np.where(largest > 0, largest, np.nan)  # no distance has no place on a log axis


# ---- crossover ------------------------------------------------------------------------------------------------------


@themed
def crossover(results: Results, theme: Theme) -> "Figure | None":
    """Which contender is fastest at which width and mini-batch, and how far it is ahead."""
    from matplotlib.patches import Patch

    section = results["crossover"]
    widths, batch_sizes, cells = section["widths"], section["batch_sizes"], section["cells"]
    if not cells:
        return None
    names = ordered(results, (cell["fastest"] for cell in cells if cell["fastest"]))
    figure = new_figure(theme, WIDTH, 1.3 + 0.62 * len(batch_sizes))
    axes = figure.add_subplot()
    dress(axes, theme)
    axes.grid(False)
    found = {(cell["width"], cell["batch_size"]): cell for cell in cells}
    for i, width in enumerate(widths):
        for j, batch_size in enumerate(batch_sizes):
            _cell(axes, i, j, found.get((width, batch_size)), results, theme)
    axes.set_xlim(-0.5, len(widths) - 0.5)
    axes.set_ylim(len(batch_sizes) - 0.5, -0.5)
    axes.set_xticks(range(len(widths)), map(str, widths))
    axes.set_yticks(range(len(batch_sizes)), map(str, batch_sizes))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    layers = section["hidden_layers"] or 1
    axes.set_xlabel("units of the hidden layer" if layers == 1 else f"units of each of {layers} hidden layers")
    axes.set_ylabel("samples of a mini-batch")
    handles = [Patch(color=style(results, name, theme).colour, label=plain(name)) for name in names]
    handles.append(Patch(facecolor=theme.grid, edgecolor=theme.muted, hatch="////", label="? undecided"))
    legend(figure, theme, ncols=legend_columns([*names, "? undecided"]), handlelength=2.2, handles=handles)
    return figure


def _cell(axes: "Axes", x: int, y: int, cell: Cell | None, results: Results, theme: Theme) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    if cell is None:
        axes.text(x, y, "not run", ha="center", va="center", color=theme.muted)
        return
    text = f"{cell['ahead']['ratio']:.2f}" if cell["ahead"] else ""
    colour, ink = theme.grid, theme.text
    if cell["fastest"]:
        colour = style(results, cell["fastest"], theme).colour
        ink = "#ffffff" if np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) < 0.5 else "#111111"
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor=theme.background, linewidth=2))
    if not cell["fastest"]:
        text, inner = f"? {text}".strip(), Rectangle((x - 0.48, y - 0.48), 0.96, 0.96, fill=False, hatch="////")
        inner.set(linewidth=0, edgecolor=theme.muted)
        axes.add_patch(inner)
    axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=TEXT + 0.5, fontweight="bold")
    if not cell["fastest"]:
        axes.texts[-1].set_bbox({"facecolor": theme.grid, "edgecolor": "none", "pad": 2})


DRAWN: dict[str, Draw] = {
    "throughput": throughput,
    "control": control,
    "accuracy": accuracy,
    "loss_curves": loss_curves,
    "crossover": crossover,
    "roofline": roofline,
}
"""By name, in the order of the report."""

TEXTS = {
    "throughput": "Training samples a second of each contender, with quartiles; a panel for each network and batch.",
    "control": f"Ratio of each contender to the reference with its {INTERVAL}; the A/A control, magnified.",
    "accuracy": "Test accuracy against seconds of training: seeds as thin lines, their median thick.",
    "loss_curves": "Training loss of each mini-batch, laid over each other; its distance from the float64 reference.",
    "crossover": "Fastest contender for each width of the hidden layer and each batch, and how far it is ahead.",
    "roofline": "Floating-point operations a second of each kernel over its arithmetic intensity; the roofline.",
}
"""What stands in place of each figure."""
