"""Figures of the report of `fastnn bench`: each a function of (results, theme), None where nothing was measured.

A contender has one colour and one marker in all figures. The hues are those of Okabe and Ito (Color Universal Design,
2008), lightened for the dark theme. matplotlib is an extra, imported when the first figure is made; it is used without
pyplot, so that nothing outside a figure changes.
"""

import math
import statistics
import textwrap
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from fastnn.bench.verdicts import LEVEL

INTERVAL = f"{100 * LEVEL:g} % interval"
WIDTH = 9.0  # inches of a figure; at 96 px an inch a little less than the text column of report.html
SMALL, TEXT = 8.5, 9.5  # points


class Theme(NamedTuple):
    """Colours of everything but the data."""

    name: str
    background: str
    text: str
    muted: str
    grid: str


class Style(NamedTuple):
    """How a contender is drawn."""

    colour: tuple[float, float, float]
    marker: str


LIGHT = Theme("light", "#ffffff", "#1c2024", "#5b646d", "#d9dde1")
DARK = Theme("dark", "#14171a", "#e4e7ea", "#9aa3ac", "#353b42")
FAMILIES = {  # (light, dark, marker)
    "numpy": ("#0072b2", "#4ba3e3", "o"),
    "numba": ("#d55e00", "#f28a3c", "s"),
    "cupy": ("#009e73", "#2fc79a", "^"),
    "control": ("#808890", "#8b949e", "D"),
    "yardstick": ("#3a4048", "#cfd4d9", "X"),
    "jax": ("#a4508b", "#d98fc4", "v"),
    "pytorch": ("#b07c00", "#e6b422", "P"),
    "scikit-learn": ("#3f9fd0", "#a3d8f4", "p"),
    "others": ("#7a5230", "#c39a74", "h"),
}
PEERS = ("jax", "pytorch", "scikit-learn", "others")
DRAWN = ("throughput", "control", "accuracy", "loss_curves", "crossover", "roofline")  # of the functions below


# ---- words ----------------------------------------------------------------------------------------------------------


def si(value: float, unit: str = "", *, plain: bool = False) -> str:
    """612 k, 1.23 GB/s: a prefix, and three figures, or as few as they need where `plain`."""
    value = float(f"{value:.3g}")
    if not value or not math.isfinite(value):
        return f"{value:g} {unit}".rstrip()
    power = max(-9, min(12, math.floor(math.log10(abs(value)) / 3 + 1e-9) * 3))
    prefix = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}[power]
    scaled = value / 10**power
    figures = f"{scaled:g}" if plain else f"{scaled:.{max(0, 3 - len(str(int(abs(scaled)))))}f}"
    return f"{figures} {prefix}{unit}".rstrip()


def network(sizes: Sequence[int]) -> str:
    return "-".join(map(str, sizes))


def case(row: Mapping[str, Any]) -> str:
    return f"{network(row['sizes'])}, batch {row['batch_size']}"


def ordered(results: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Names as `results` lists its contenders; those it does not list come last."""
    listed = list(results.get("contenders") or {})
    return sorted(dict.fromkeys(names), key=lambda name: listed.index(name) if name in listed else len(listed))


# ---- looks ----------------------------------------------------------------------------------------------------------


def _family(results: Mapping[str, Any], name: str) -> str:
    contender = (results.get("contenders") or {}).get(name) or {}
    kind, first = contender.get("kind"), name.split()[0].rstrip(",").lower() if name.split() else ""
    if kind in ("control", "yardstick"):
        return kind
    key = contender.get("backend") or first
    return key if key in FAMILIES else PEERS[zlib.crc32(name.encode()) % len(PEERS)]


def style(results: Mapping[str, Any], name: str, theme: Theme) -> Style:
    """The family's colour; its second and third member are nearer to the background."""
    from matplotlib.colors import to_rgb

    family = _family(results, name)
    light, dark, marker = FAMILIES[family]
    before = [other for other in ordered(results, [*(results.get("contenders") or {}), name]) if other != name]
    rank = sum(_family(results, other) == family for other in before[: ordered(results, [*before, name]).index(name)])
    share = 1 - min(0.6, 0.35 * rank)
    pairs = zip(to_rgb(light if theme.name == "light" else dark), to_rgb(theme.background), strict=True)
    mixed = [a * share + b * (1 - share) for a, b in pairs]
    return Style((mixed[0], mixed[1], mixed[2]), marker)


def _wrapped(name: str, width: int = 20) -> str:
    """A name for an axis: no mathematics in dollar signs, two lines at most."""
    return textwrap.fill(name, width, max_lines=2, placeholder=" ...").replace("$", r"\$")


def _label(name: str) -> str:
    """A name in a legend, without mathematics in dollar signs."""
    return (name if len(name) <= 32 else name[:29] + "...").replace("$", r"\$")


def _figure(theme: Theme, height: float) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.03)
    return Figure(figsize=(WIDTH, height), facecolor=theme.background, layout=layout)


def _dress(axes: Any, theme: Theme, title: str = "", grid: str = "both") -> None:
    axes.set_facecolor(theme.background)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.muted)
    axes.tick_params(which="both", colors=theme.muted, labelcolor=theme.text, labelsize=SMALL, length=3)
    axes.grid(axis=grid, color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=theme.text, fontsize=TEXT)
    axes.yaxis.label.set(color=theme.text, fontsize=TEXT)
    if title:
        axes.set_title(title, loc="left", fontsize=TEXT, fontweight="bold", color=theme.text)


def _legend(holder: Any, theme: Theme, **where: Any) -> None:
    where = {"frameon": False, "fontsize": SMALL, "labelcolor": theme.text, "handlelength": 2.2} | where
    holder.legend(**where)


def _legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), int(105 / (max(len(_label(name)) for name in names) + 7))))


def _columns(count: int) -> int:
    return 2 if count in (2, 4) else min(3, count)


def _panels(figure: Any, count: int, names: Sequence[str], theme: Theme, below: bool = False) -> tuple[list[Any], Any]:
    """A panel for each of `count` cases, all with a row for each name, and one below them over the whole width."""
    columns = _columns(count)
    rows = math.ceil(count / columns)
    grid = figure.add_gridspec(rows + below, columns)
    panels: list[Any] = []
    for i in range(count):
        axes = figure.add_subplot(grid[i // columns, i % columns])
        axes.set_yticks(range(len(names)), [_wrapped(name) if i % columns == 0 else "" for name in names])
        axes.tick_params(axis="y", left=i % columns == 0)
        axes.set_ylim(len(names) - 0.4, -0.6)
        panels.append(axes)
    return panels, figure.add_subplot(grid[rows, :]) if below else None


def _rows_height(count: int, names: Sequence[str]) -> float:
    """Inches of the panels of so many cases."""
    line = 0.36 if any("\n" in _wrapped(name) for name in names) else 0.25
    return math.ceil(count / _columns(count)) * (0.75 + line * max(2, len(names)))


def _log_marks(axis: Any, text: Callable[[float, int], str]) -> None:
    """Each decade of a logarithmic axis; where there are few, 2 and 5 between them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_major_formatter(text)
    axis.set_minor_formatter(NullFormatter())


# ---- throughput and ratios ------------------------------------------------------------------------------------------


def throughput(results: Mapping[str, Any], theme: Theme) -> Any:
    """Samples a second of each contender in each case, with quartiles."""
    cases = [row for row in results.get("throughput") or [] if row.get("summary")]
    if not cases:
        return None
    names = ordered(results, (name for row in cases for name in row["summary"]))
    rates = [[rate for entry in row["summary"].values() for rate in _rates(row, entry)] for row in cases]
    logarithmic = any(max(each[1::3]) > 25 * min(each[1::3]) for each in rates)  # the shortest bars would vanish
    figure = _figure(theme, 0.3 + _rows_height(len(cases), names))
    for axes, row, each in zip(_panels(figure, len(cases), names, theme)[0], cases, rates, strict=True):
        _dress(axes, theme, case(row), grid="x")
        if logarithmic:
            axes.set_xscale("log")
            axes.set_xlim(min(each) / 1.5, max(each) * (max(each) / min(each)) ** 0.4)
            _log_marks(axes.xaxis, lambda value, _: si(value, plain=True))
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


def control(results: Mapping[str, Any], theme: Theme) -> Any:
    """Ratios to the reference with their intervals; below them those of the A/A control, magnified."""
    cases = [row for row in results.get("throughput") or [] if row.get("comparisons")]
    controls = [row for row in results.get("throughput") or [] if row.get("control")]
    if not cases and not controls:
        return None
    names = ordered(results, (name for row in cases for name in row["comparisons"]))
    height = _rows_height(len(cases), names) if cases else 0
    figure = _figure(theme, height + (1.0 + 0.25 * len(controls) if controls else 0.3))
    if not cases:
        _magnified(figure.add_subplot(), controls, results, theme)
        return figure
    panels, below = _panels(figure, len(cases), names, theme, below=bool(controls))
    if controls:
        rows = math.ceil(len(cases) / _columns(len(cases)))
        below.get_gridspec().set_height_ratios([height / rows] * rows + [0.8 + 0.25 * len(controls)])
        _magnified(below, controls, results, theme)
    ends = [entry[end] for row in cases for entry in row["comparisons"].values() for end in ("low", "high")]
    reference = results.get("reference") or "the reference"
    for axes, row in zip(panels, cases, strict=True):
        _dress(axes, theme, case(row), grid="x")
        _ratio_axis(axes, [*ends, 1.0])
        axes.axvline(1, color=theme.text, linewidth=1)
        for y, name in enumerate(names):
            if name in row["comparisons"]:
                _forest_row(axes, y, row["comparisons"][name], style(results, name, theme), theme)
    for axes in panels[-_columns(len(cases)) :]:
        axes.set_xlabel(f"times as fast as {reference}".replace("$", r"\$"))
    return figure


def _ratio_axis(axes: Any, values: Sequence[float]) -> None:
    """Logarithmic, with plain numbers; linear where a decade has no room for marks."""
    low, high = min(values), max(values)
    room = (high / low) ** 0.08
    if high < 1.8 * low:
        axes.set_xlim(low / room, high * room)
        axes.locator_params(axis="x", nbins=4)
        return
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    marks = [
        digit * 10.0**power
        for power in range(-4, 5)
        for digit in (1, 2, 5)
        if low / room <= digit * 10.0**power <= high * room
    ]
    axes.set_xticks(marks if len(marks) < 7 else [mark for mark in marks if f"{mark:e}"[0] == "1"])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()


def _forest_row(axes: Any, y: float, entry: Mapping[str, Any], look: Style, theme: Theme, digits: int = 2) -> None:
    axes.plot([entry["low"], entry["high"]], [y, y], color=look.colour, linewidth=2.2, solid_capstyle="butt")
    axes.plot(entry["ratio"], y, look.marker, color=look.colour, markersize=5.5)
    place = {"xycoords": axes.get_yaxis_transform(), "va": "center", "ha": "left"}
    axes.annotate(f"{entry['ratio']:.{digits}f}", (1.01, y), **place)
    axes.texts[-1].set(color=theme.text, fontsize=SMALL)


def _magnified(axes: Any, rows: Sequence[Mapping[str, Any]], results: Mapping[str, Any], theme: Theme) -> None:
    """The A/A control: the same program against itself; what differs from 1 here is noise or a fault."""
    one, other = results.get("control") or ("a contender", "itself")
    _dress(axes, theme, f"A/A control, magnified: {other} against {one}".replace("$", r"\$"), grid="x")
    ends = [row["control"][end] for row in rows for end in ("low", "high")]
    farthest = 1.25 * max(0.01, max(ends) - 1, 1 - min(ends))
    if farthest < 0.6:
        axes.set_xlim(1 - farthest, 1 + farthest)
    else:
        _ratio_axis(axes, [*ends, 1.0])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [case(row) for row in rows])
    axes.axvline(1, color=theme.text, linewidth=1)
    for y, row in enumerate(rows):
        clean = row["control"]["verdict"] == "no difference"
        colour = style(results, other, theme) if clean else Style((0.84, 0.15, 0.16), "D")
        _forest_row(axes, y, row["control"], colour, theme, digits=3)
    axes.set_xlabel(f"ratio, with its {INTERVAL}")


# ---- accuracy and losses --------------------------------------------------------------------------------------------


def accuracy(results: Mapping[str, Any], theme: Theme) -> Any:
    """Test accuracy against seconds of training: every seed thin, the median of the seeds thick."""
    section = results.get("accuracy") or {}
    runs = [run for run in section.get("runs") or [] if run["seconds"] and run["accuracy"]]
    if not runs:
        return None
    names = ordered(results, (run["contender"] for run in runs))
    figure = _figure(theme, 4.4 + 0.2 * math.ceil(len(names) / _legend_columns(names)))
    axes = figure.add_subplot()
    _dress(axes, theme)
    for name in names:
        look = style(results, name, theme)
        mine = [np.array([run["seconds"], run["accuracy"]], float) for run in runs if run["contender"] == name]
        for seconds, reached in mine:
            axes.plot(seconds, 100 * reached, color=look.colour, linewidth=0.7, alpha=0.5)
        shortest = min(run.shape[1] for run in mine)  # an interrupted run has fewer epochs
        seconds, reached = np.median([run[:, :shortest] for run in mine], axis=0)
        line = {"color": look.colour, "linewidth": 2.2, "markersize": 5, "label": _label(name)}
        axes.plot(seconds, 100 * reached, look.marker + "-", **line)
    times = [seconds for run in runs for seconds in run["seconds"]]
    if max(times) > 8 * min(times):
        _ratio_axis(axes, times)
    axes.set_xlabel(
        "seconds of training, without start-up and evaluation" + (" (log scale)" if axes.get_xscale() == "log" else "")
    )
    axes.set_ylabel("test accuracy in %")
    for goal in section.get("goals") or []:
        axes.axhline(100 * goal, color=theme.text, linewidth=1, linestyle=(0, (4, 3)))
        place = {"xycoords": axes.get_yaxis_transform(), "xytext": (5, 0), "textcoords": "offset points"}
        axes.annotate(f"{100 * goal:g} %", (1, 100 * goal), **place, va="center", color=theme.text, fontsize=SMALL)
    _legend(figure, theme, loc="outside upper left", ncols=_legend_columns(names))
    return figure


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
    window = min(window, len(values))
    return np.convolve(values, np.ones(window) / window, "valid")


def _block_maxima(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """(middle, largest) of each block of `window` values: no peak is lost, as smoothing would lose it."""
    starts = np.arange(0, len(values), window)
    largest = np.fmax.reduceat(values, starts)
    return starts + window // 2, np.where(largest > 0, largest, np.nan)  # no distance has no place on a log axis


def loss_curves(results: Mapping[str, Any], theme: Theme) -> Any:
    """The loss of each mini-batch, laid over each other; below, how far each is from the float64 reference."""
    section = results.get("curves") or {}
    losses = {name: np.array(values, float) for name, values in (section.get("losses") or {}).items() if values}
    if not losses:
        return None
    reference = section.get("reference")
    names = sorted(ordered(results, losses), key=lambda name: name != reference)
    columns = _legend_columns(names)
    figure = _figure(theme, 5.4 + 0.2 * math.ceil(len(names) / columns))
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    window = max(1, max(map(len, losses.values())) // 60)
    dashes: list[Any] = ["-", "-", (0, (4, 3)), (0, (1.2, 1.8)), (0, (6, 2, 1.2, 2))]
    for i, name in enumerate(names):  # the widest below: curves that coincide are all seen
        colour = theme.muted if name == reference else style(results, name, theme).colour
        smooth, line = _smooth(losses[name], window), dashes[i if i < 2 else 2 + (i - 2) % 3]
        width, label = 8 * 0.2 ** (i / max(1, len(names) - 1)), _label(name)
        look = {"color": colour, "linestyle": line, "linewidth": width, "alpha": 0.5 if name == reference else 1}
        axes.plot(np.arange(len(smooth)) + window / 2, smooth, **look, label=label)
    _dress(axes, theme)
    axes.set_yscale("log")
    _log_marks(axes.yaxis, lambda value, _: f"{value:g}")
    axes.set_ylabel(f"loss, mean of {window}\nmini-batches" if window > 1 else "loss of a mini-batch")
    _divergence_panel(below, section, losses, results, theme, window)
    _legend(figure, theme, loc="outside upper left", ncols=columns, handlelength=3.5)
    return figure


def _divergence_panel(
    axes: Any,
    section: Mapping[str, Any],
    losses: Mapping[str, np.ndarray],
    results: Mapping[str, Any],
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
    _dress(axes, theme)
    axes.set_yscale("log")
    axes.set_xlabel("mini-batch")
    axes.set_ylabel("distance from\nthe float64 loss, relative")
    if tolerance := section.get("tolerance"):
        axes.axhline(tolerance, color=theme.text, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"tolerance {tolerance:g}", (0.01, tolerance), (0, -4), axes.get_yaxis_transform(), "offset points"
        )
        axes.texts[-1].set(color=theme.text, fontsize=SMALL, va="top")


# ---- crossover ------------------------------------------------------------------------------------------------------


def crossover(results: Mapping[str, Any], theme: Theme) -> Any:
    """Which contender is fastest at which width and mini-batch, and how far it is ahead."""
    from matplotlib.patches import Patch

    section = results.get("crossover") or {}
    cells = {(cell["width"], cell["batch_size"]): cell for cell in section.get("cells") or []}
    if not cells:
        return None
    widths, batch_sizes = section["widths"], section["batch_sizes"]
    names = ordered(results, (cell["fastest"] for cell in cells.values() if cell.get("fastest")))
    figure = _figure(theme, 1.3 + 0.62 * len(batch_sizes))
    axes = figure.add_subplot()
    _dress(axes, theme, grid="x")
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
    handles = [Patch(color=style(results, name, theme).colour, label=_label(name)) for name in names]
    handles.append(Patch(facecolor=theme.grid, edgecolor=theme.muted, hatch="////", label="? undecided"))
    _legend(figure, theme, loc="outside upper left", ncols=_legend_columns([*names, "? undecided"]), handles=handles)
    return figure


def _cell(axes: Any, x: int, y: int, cell: Mapping[str, Any] | None, results: Mapping[str, Any], theme: Theme) -> None:
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


# ---- roofline -------------------------------------------------------------------------------------------------------


def roofline(results: Mapping[str, Any], theme: Theme) -> Any:
    """Kernels under what memory and arithmetic units deliver (Williams, Waterman, Patterson, 2009)."""
    section = results.get("roofline") or {}
    kernels = [row for row in section.get("kernels") or [] if row["seconds"] and row["bytes"] and row["flops"]]
    peaks, bandwidths = section.get("peaks") or [], section.get("bandwidths") or []
    if not kernels and not (peaks and bandwidths):
        return None
    names = ordered(results, (row["contender"] for row in kernels))
    figure = _figure(theme, 5.2)
    axes = figure.add_subplot()
    _dress(axes, theme)
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
    _log_marks(axes.yaxis, lambda value, _: si(value, plain=True))
    _log_marks(axes.xaxis, lambda value, _: f"{value:g}")
    axes.set_xlabel("arithmetic intensity in FLOP a byte")
    axes.set_ylabel("FLOP/s")
    if names:
        _legend(figure, theme, loc="outside upper left", ncols=_legend_columns(names))
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
    label = _label(name)
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
