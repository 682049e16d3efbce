"""The look that all figures of the report share: a colour and a marker for each contender, panels, axes.

Themes, and how axes look, are those of `fastnn.plots`.
"""

import functools
import math
import textwrap
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.bench.report.formatting import case
from fastnn.bench.report.results import ordered
from fastnn.bench.report.schema import Case, Results
from fastnn.optional import require_matplotlib
from fastnn.plots.figures import SMALL, TEXT, Theme, dress, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 9.0  # inches of a figure; at 96 px an inch a little less than the text column of report.html
FAMILIES = {  # of contenders: their markers; colours are those of the theme, in the same order
    "numpy": "o",
    "numba": "s",
    "cupy": "^",
    "jax": "v",
    "pytorch": "P",
    "scikit-learn": "p",
    "others": "h",
}
PEERS = tuple(FAMILIES)[3:]

Draw = Callable[[Results, Theme], "Figure | None"]


class Style(NamedTuple):
    """How a contender is drawn."""

    colour: str
    marker: str


# ---- contenders -----------------------------------------------------------------------------------------------------


def family(results: Results, name: str) -> str:
    """The kind of a control or yardstick, the backend, or the first word of a name; one by chance for unknown names."""
    contender = results["contenders"].get(name)
    if contender and contender["kind"] in ("control", "yardstick"):
        return contender["kind"]
    key = (contender and contender["backend"]) or (name.split() or [""])[0].rstrip(",").lower()
    return key if key in FAMILIES else PEERS[zlib.crc32(name.encode()) % len(PEERS)]


def style(results: Results, name: str, theme: Theme) -> Style:
    """The family's colour; each further member is nearer to the background."""
    ours = family(results, name)
    if ours in FAMILIES:
        colour, marker, share = theme.colours[list(FAMILIES).index(ours)], FAMILIES[ours], 1.0
    else:
        colour, marker, share = (theme.muted, "D", 0.8) if ours == "control" else (theme.text, "X", 0.85)
    names = ordered(results, [*results["contenders"], name])
    rank = sum(family(results, other) == ours for other in names[: names.index(name)])
    return Style(mixed(colour, theme.background, share * max(0.3, 0.65**rank)), marker)


def mixed(colour: str, background: str, share: float) -> str:
    from matplotlib.colors import to_hex, to_rgb

    pairs = zip(to_rgb(colour), to_rgb(background), strict=True)
    red, green, blue = (share * ours + (1 - share) * behind for ours, behind in pairs)
    return to_hex((red, green, blue))


# ---- figures and axes -----------------------------------------------------------------------------------------------


def themed(draw: Draw) -> Draw:
    """`draw` with all its text small and in the theme's colour, unless it says otherwise."""

    @functools.wraps(draw)
    def themed_draw(results: Results, theme: Theme) -> "Figure | None":
        spaces = {"w_pad": 0.08, "h_pad": 0.08, "wspace": 0.03, "hspace": 0.03}
        look = {"text.color": theme.text, "font.size": SMALL, "figure.labelsize": TEXT}
        look |= {f"figure.constrained_layout.{name}": space for name, space in spaces.items()}
        with require_matplotlib("bench").rc_context(look):
            return draw(results, theme)

    return themed_draw


def note(axes: "Axes", text: str, at: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """Text beside a point: `offset` is in points."""
    axes.annotate(text, at, offset, textcoords="offset points", **{"va": "center", **look})


def legend_columns(names: Sequence[str]) -> int:
    return max(1, min(len(names), int(105 / (max(len(plain(name)) for name in names) + 7))))


def with_legend(theme: Theme, height: float, names: Sequence[str]) -> "Figure":
    """A figure with room for a legend of so many names."""
    return new_figure(theme, WIDTH, height + 0.2 * math.ceil(len(names) / legend_columns(names)))


class Panels:
    """A panel for each case, all with a row for each name, and maybe one below over the whole width."""

    def __init__(self, rows: Sequence[Case], names: Sequence[str], below: float = 0) -> None:
        self.cases, self.names = rows, [textwrap.fill(name, 20, max_lines=2, placeholder=" ...") for name in names]
        self.columns = 2 if len(rows) in (2, 4) else max(1, min(3, len(rows)))
        self.heights = [0.75 + (0.36 if "\n" in "".join(self.names) else 0.25) * max(2, len(names))]  # inches
        self.heights = self.heights * math.ceil(len(rows) / self.columns) + [below] * bool(below)

    def draw(self, theme: Theme) -> "tuple[Figure, list[Axes]]":
        """Figure and panels; the panel below is the last."""
        figure, panels = new_figure(theme, WIDTH, 0.3 + sum(self.heights)), []
        grid = figure.add_gridspec(len(self.heights), self.columns, height_ratios=self.heights)
        for i, row in enumerate(self.cases):
            panels.append(figure.add_subplot(grid[i // self.columns, i % self.columns]))
            dress(panels[-1], theme, case(row), grid="x")
            rows_axis(panels[-1], self.names if i % self.columns == 0 else [""] * len(self.names))
            panels[-1].tick_params(axis="y", left=i % self.columns == 0)
        if len(self.heights) * self.columns >= len(self.cases) + self.columns:
            panels.append(figure.add_subplot(grid[-1, :]))
        return figure, panels


def rows_axis(axes: "Axes", names: Sequence[str]) -> None:
    """A row for each name, the first at the top."""
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)


def log_marks(axis: "Axis") -> None:
    """Each decade of a logarithmic axis; where there are few, 2 and 5 between them."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 60 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def ratio_axis(axes: "Axes", values: Sequence[float]) -> None:
    """Logarithmic, with plain numbers; linear where a decade has no room for marks."""
    low, high = min(values), max(values)
    margin = (high / low) ** 0.08
    axes.set_xlim(low / margin, high * margin)
    if high < 1.8 * low:
        axes.locator_params(axis="x", nbins=4)
        return
    axes.set_xscale("log")
    log_marks(axes.xaxis)
    axes.minorticks_off()
