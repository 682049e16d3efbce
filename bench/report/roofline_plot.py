"""The figure of the roofline: kernels between what memory and what arithmetic units deliver."""

import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.bench.report.formatting import si
from fastnn.bench.report.plot_style import WIDTH, legend_columns, log_marks, note, style, themed
from fastnn.bench.report.results import ordered
from fastnn.bench.report.schema import Kernel, Results
from fastnn.plots.figures import SMALL, Theme, dress, legend, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

PLACES = (  # of a kernel's name: at the slowest (0) or fastest (-1) contender, offset, and which side is at the point
    *((0, (0, -9), "center", "top"), (-1, (0, 9), "center", "bottom")),
    *((0, (9, -2), "left", "top"), (0, (-9, -2), "right", "top")),
    *((-1, (9, 0), "left", "center"), (-1, (-9, 0), "right", "center")),
)


@themed
def roofline(results: Results, theme: Theme) -> "Figure | None":
    """Kernels under what memory and arithmetic units deliver (Williams, Waterman, Patterson, 2009)."""
    from matplotlib.ticker import EngFormatter

    section = results["roofline"]
    kernels = [row for row in section["kernels"] if row["seconds"] and row["bytes"] and row["flops"]]
    peaks, bandwidths = section["peaks"], section["bandwidths"]
    if not kernels and not (peaks and bandwidths):
        return None
    figure = new_figure(theme, WIDTH, 5.2)
    axes = figure.add_subplot()
    dress(axes, theme)
    axes.set(xscale="log", yscale="log", xlabel="arithmetic intensity in FLOP a byte", ylabel="FLOP/s")
    intensities = [row["flops"] / row["bytes"] for row in kernels] or [0.1, 100]
    ends = np.geomspace(min(intensities) / 3, max(intensities) * 4, 400)
    if peaks and bandwidths:
        _roof(axes, ends, peaks, bandwidths, theme)
    names = ordered(results, (row["contender"] for row in kernels))
    for name in names:
        look = style(results, name, theme)
        mine = [row for row in kernels if row["contender"] == name]
        x = [row["flops"] / row["bytes"] for row in mine]
        slow, median, fast = np.array([row["flops"] / np.quantile(row["seconds"], [0.75, 0.5, 0.25]) for row in mine]).T
        axes.vlines(x, slow, fast, color=look.colour, linewidth=1.4)
        axes.plot(x, median, look.marker, color=look.colour, markersize=6.5, label=plain(name))
    axes.set_xlim(ends[0], ends[-1])
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.5, high * 1.5)  # room for the names of the outermost
    log_marks(axes.yaxis)
    log_marks(axes.xaxis)
    axes.yaxis.set_major_formatter(EngFormatter())
    if names:
        legend(figure, theme, ncols=legend_columns(names), handlelength=2.2)
        _label_kernels(figure, axes, kernels)
    return figure


def _roof(axes: "Axes", ends: np.ndarray, peaks: Sequence[float], bandwidths: Sequence[float], theme: Theme) -> None:
    def attainable(pick: Callable[[Sequence[float]], float]) -> np.ndarray:
        return np.minimum(pick(peaks), pick(bandwidths) * ends)

    axes.fill_between(ends, attainable(min), attainable(max), color=theme.muted, alpha=0.25, linewidth=0)
    axes.plot(ends, attainable(statistics.median), color=theme.text, linewidth=1.6)
    peak, bandwidth = statistics.median(peaks), statistics.median(bandwidths)
    note(axes, si(peak, "FLOP/s"), (ends[-1], peak), (-4, 7), ha="right", va="baseline")
    note(axes, si(bandwidth, "B/s"), (ends[0], bandwidth * ends[0]), (16, 0), va="top")


def _label_kernels(figure: "Figure", axes: "Axes", kernels: Sequence[Kernel]) -> None:
    """Name kernels, those of most work first, where the name covers no point and no other name; else leave it out."""
    work: dict[str, float] = {}
    points: dict[str, list[tuple[float, float]]] = {}
    for row in kernels:
        text = f"{row['kernel']}\n{row['shape']}".replace("$", r"\$")
        work.setdefault(text, row["flops"])
        speed = row["flops"] / statistics.median(row["seconds"])
        points.setdefault(text, []).append((row["flops"] / row["bytes"], speed))
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    taken = [text.get_window_extent() for text in axes.texts]
    for line in axes.lines:  # the roof is thin, a marker is not
        radius = 3 if line.get_marker() == "None" else 6
        taken += [_around(point, radius) for point in axes.transData.transform(line.get_xydata())]
    for bars in axes.collections:
        taken += [path.get_extents(axes.transData) for path in bars.get_paths() if len(path) == 2]
    for text in sorted(work, key=lambda text: -work[text]):
        ends = sorted(points[text], key=lambda point: point[1])
        for which, offset, across, along in PLACES:
            note(axes, text, ends[which], offset, ha=across, va=along, fontsize=SMALL - 0.5, linespacing=1.05)
            label = axes.texts[-1]
            label.set_in_layout(False)
            box = label.get_window_extent()
            if (
                frame.containsx(box.x0)
                and frame.containsx(box.x1)
                and frame.containsy(box.y0)
                and frame.containsy(box.y1)
                and not box.count_overlaps(taken)
            ):
                taken.append(box)
                break
            label.remove()


def _around(point: Any, radius: float) -> "Bbox":
    from matplotlib.transforms import Bbox

    return Bbox.from_extents(point[0] - radius, point[1] - radius, point[0] + radius, point[1] + radius)
