"""The figure of the roofline: kernels between what memory and what arithmetic units deliver."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from fastnn.bench.report.formatting import si
from fastnn.bench.report.plot_style import Style, add_legend, legend_columns, log_marks, new_figure, style
from fastnn.bench.report.results import Results, ordered

from fastnn.plots.figures import SMALL, Theme, dress, plain


def roofline(results: Results, theme: Theme) -> Any:
    """Kernels under what memory and arithmetic units deliver (Williams, Waterman, Patterson, 2009)."""
    section = results.get("roofline") or {}
    kernels = [row for row in section.get("kernels") or [] if row["seconds"] and row["bytes"] and row["flops"]]
    peaks, bandwidths = section.get("peaks") or [], section.get("bandwidths") or []
    if not kernels and not (peaks and bandwidths):
        return None
    names = ordered(results, (row["contender"] for row in kernels))
    figure = new_figure(theme, 5.2)
    axes = figure.add_subplot()
    dress(axes, theme)
    axes.set(xscale="log", yscale="log")
    intensities = [row["flops"] / row["bytes"] for row in kernels] or [0.1, 100]
    ends = np.geomspace(min(intensities) / 3, max(intensities) * 4, 400)
    if peaks and bandwidths:
        _roof(axes, ends, peaks, bandwidths, "", theme)
    device = section.get("device") or {}
    if isinstance(device.get("peaks"), list) and isinstance(device.get("bandwidths"), list):
        _roof(axes, ends, device["peaks"], device["bandwidths"], "device: ", theme)
    for name in names:
        look = style(results, name, theme)
        mine = [row for row in kernels if row["contender"] == name]
        _points(axes, mine, look, name)
    axes.set_xlim(ends[0], ends[-1])
    low, high = axes.get_ylim()
    axes.set_ylim(low / 1.5, high * 1.5)  # room for the names of the outermost
    log_marks(axes.yaxis, lambda value, _: si(value, plain=True))
    log_marks(axes.xaxis, lambda value, _: f"{value:g}")
    axes.set_xlabel("arithmetic intensity in FLOP a byte")
    axes.set_ylabel("FLOP/s")
    if names:
        add_legend(figure, theme, loc="outside upper left", ncols=legend_columns(names))
        _label_kernels(figure, axes, kernels, theme)
    return figure


def _roof(
    axes: Any, ends: np.ndarray, peaks: Sequence[float], bandwidths: Sequence[float], prefix: str, theme: Theme
) -> None:
    def attainable(pick: Callable[[Sequence[float]], float]) -> np.ndarray:
        return np.minimum(pick(peaks), pick(bandwidths) * ends)

    axes.fill_between(ends, attainable(min), attainable(max), color=theme.muted, alpha=0.25, linewidth=0)
    middle = attainable(statistics.median)
    axes.plot(ends, middle, color=theme.text, linewidth=1.6)
    peak, bandwidth = statistics.median(peaks), statistics.median(bandwidths)
    offset = {"textcoords": "offset points", "color": theme.text, "fontsize": SMALL}
    axes.annotate(prefix + si(peak, "FLOP/s"), (ends[-1], peak), (-4, 7), ha="right", **offset)
    axes.annotate(prefix + si(bandwidth, "B/s"), (ends[0], bandwidth * ends[0]), (16, 0), va="top", **offset)


def _points(axes: Any, rows: Sequence[Mapping[str, Any]], look: Style, name: str) -> None:
    label = plain(name)
    for i, row in enumerate(rows):
        x = row["flops"] / row["bytes"]
        low, middle, high = np.quantile(row["seconds"], [0.25, 0.5, 0.75])
        axes.plot([x, x], [row["flops"] / high, row["flops"] / low], color=look.colour, linewidth=1.4)
        mark = {"label": label} if i == 0 else {}
        axes.plot(x, row["flops"] / middle, look.marker, color=look.colour, markersize=6.5, linestyle="", **mark)


def _label_kernels(figure: Any, axes: Any, kernels: Sequence[Mapping[str, Any]], theme: Theme) -> None:
    """Name kernels, those of most work first, where the name covers no point and no other name; else leave it out."""
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for row in kernels:
        place = (row["flops"] / row["bytes"], row["flops"] / statistics.median(row["seconds"]), row["flops"])
        groups.setdefault((row["kernel"], row["shape"]), []).append(place)
    figure.draw_without_rendering()
    to_pixels, frame = axes.transData.transform, axes.get_window_extent()
    taken = [_around(to_pixels(point[:2]), 6) for points in groups.values() for point in points]
    taken += [text.get_window_extent() for text in axes.texts]
    taken += [line.get_window_extent() for line in axes.lines if len(line.get_xdata()) == 2]  # the points' quartiles
    taken += [
        _around(point, 3)
        for line in axes.lines[:2]
        if len(line.get_xdata()) > 2
        for point in to_pixels(line.get_xydata())
    ]
    for (kernel, shape), points in sorted(groups.items(), key=lambda item: -item[1][0][2]):
        top, bottom = max(points, key=lambda point: point[1]), min(points, key=lambda point: point[1])
        text = f"{kernel}\n{shape}".replace("$", r"\$")
        for point, offset, across, along in (
            (bottom, (0, -9), "center", "top"),
            (top, (0, 9), "center", "bottom"),
            (bottom, (9, -2), "left", "top"),
            (bottom, (-9, -2), "right", "top"),
            (top, (9, 0), "left", "center"),
            (top, (-9, 0), "right", "center"),
        ):
            label = axes.annotate(text, point[:2], offset, textcoords="offset points", ha=across, va=along)
            label.set(color=theme.text, fontsize=SMALL - 0.5, linespacing=1.05, in_layout=False)
            box = label.get_window_extent()
            if (
                frame.contains(*box.min)
                and frame.contains(*box.max)
                and not any(box.overlaps(other) for other in taken)
            ):
                taken.append(box)
                break
            label.remove()


def _around(point: Sequence[float], radius: float) -> Any:
    from matplotlib.transforms import Bbox

    return Bbox([[point[0] - radius, point[1] - radius], [point[0] + radius, point[1] + radius]])
