"""The look that all figures of the report share: themes, a colour and a marker for each contender, axes, legends.

Themes, and how axes look, are those of `fastnn.plots`.
"""

import math
import textwrap
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastnn.bench.report.results import Results, ordered

from fastnn.plots.figures import SMALL, THEMES, Theme, plain

WIDTH = 9.0  # inches of a figure; at 96 px an inch a little less than the text column of report.html
LIGHT, DARK = THEMES["light"], THEMES["dark"]
_PALETTE = tuple(zip(LIGHT.colours, DARK.colours, strict=True))
FAMILIES = {  # of contenders: (light, dark, marker)
    "numpy": (*_PALETTE[0], "o"),
    "numba": (*_PALETTE[1], "s"),
    "cupy": (*_PALETTE[2], "^"),
    "jax": (*_PALETTE[3], "v"),
    "pytorch": (*_PALETTE[4], "P"),
    "scikit-learn": (*_PALETTE[5], "p"),
    "others": (*_PALETTE[6], "h"),
    "control": ("#808890", "#8b949e", "D"),
    "yardstick": ("#3a4048", "#cfd4d9", "X"),
}
PEERS = ("jax", "pytorch", "scikit-learn", "others")


class Style(NamedTuple):
    """How a contender is drawn."""

    colour: tuple[float, float, float]
    marker: str


# ---- contenders -----------------------------------------------------------------------------------------------------


def _family(results: Results, name: str) -> str:
    contender = (results.get("contenders") or {}).get(name) or {}
    kind, first = contender.get("kind"), name.split()[0].rstrip(",").lower() if name.split() else ""
    if kind in ("control", "yardstick"):
        return kind
    key = contender.get("backend") or first
    return key if key in FAMILIES else PEERS[zlib.crc32(name.encode()) % len(PEERS)]


def style(results: Results, name: str, theme: Theme) -> Style:
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


def axis_name(name: str, width: int = 20) -> str:
    """A name for an axis: no mathematics in dollar signs, two lines at most."""
    return textwrap.fill(name, width, max_lines=2, placeholder=" ...").replace("$", r"\$")


# ---- figures and axes -----------------------------------------------------------------------------------------------


def new_figure(theme: Theme, height: float) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.03)
    return Figure(figsize=(WIDTH, height), facecolor=theme.background, layout=layout)


def add_legend(holder: Any, theme: Theme, **where: Any) -> None:
    where = {"frameon": False, "fontsize": SMALL, "labelcolor": theme.text, "handlelength": 2.2} | where
    holder.legend(**where)


def legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), int(105 / (max(len(plain(name)) for name in names) + 7))))


def panel_columns(count: int) -> int:
    return 2 if count in (2, 4) else min(3, count)


def add_panels(figure: Any, count: int, names: Sequence[str], below: bool = False) -> tuple[list[Any], Any]:
    """A panel for each of `count` cases, all with a row for each name, and one below them over the whole width."""
    columns = panel_columns(count)
    rows = math.ceil(count / columns)
    grid = figure.add_gridspec(rows + below, columns)
    panels: list[Any] = []
    for i in range(count):
        axes = figure.add_subplot(grid[i // columns, i % columns])
        axes.set_yticks(range(len(names)), [axis_name(name) if i % columns == 0 else "" for name in names])
        axes.tick_params(axis="y", left=i % columns == 0)
        axes.set_ylim(len(names) - 0.4, -0.6)
        panels.append(axes)
    return panels, figure.add_subplot(grid[rows, :]) if below else None


def panels_height(count: int, names: Sequence[str]) -> float:
    """Inches of the panels of so many cases."""
    line = 0.36 if any("\n" in axis_name(name) for name in names) else 0.25
    return math.ceil(count / panel_columns(count)) * (0.75 + line * max(2, len(names)))


def log_marks(axis: Any, text: Callable[[float, int], str]) -> None:
    """Each decade of a logarithmic axis; where there are few, 2 and 5 between them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_major_formatter(text)
    axis.set_minor_formatter(NullFormatter())


def ratio_axis(axes: Any, values: Sequence[float]) -> None:
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
