"""The common look of figures: two themes, with hues that readers of all kinds tell apart.

The hues are those of Okabe and Ito (Color Universal Design, 2008), lightened for the dark theme. matplotlib, which is
the extra ``plot``, is imported when the first figure is made, and used without pyplot, so that nothing outside a figure
changes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fastnn.choices import check_choice
from fastnn.files import atomic_path
from fastnn.optional import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = [
    "SMALL",
    "TEXT",
    "THEMES",
    "Theme",
    "ThemeName",
    "colour_bar",
    "dress",
    "dress_tile",
    "find_theme",
    "headline",
    "ink_on",
    "legend",
    "log_axis",
    "new_figure",
    "plain",
    "remark",
    "save_figure",
    "shades",
]

SMALL, TEXT = 8.5, 9.5  # points
ThemeName = Literal["light", "dark"]


class Theme(NamedTuple):
    """Colours of a figure."""

    name: ThemeName
    background: str
    text: str
    muted: str
    grid: str
    colours: tuple[str, ...]  # of the data, in the order in which they are used


THEMES: dict[ThemeName, Theme] = {
    "light": Theme(
        *("light", "#ffffff", "#1c2024", "#5b646d", "#d9dde1"),
        ("#0072b2", "#d55e00", "#009e73", "#a4508b", "#b07c00", "#3f9fd0", "#7a5230"),
    ),
    "dark": Theme(
        *("dark", "#14171a", "#e4e7ea", "#9aa3ac", "#353b42"),
        ("#4ba3e3", "#f28a3c", "#2fc79a", "#d98fc4", "#e6b422", "#a3d8f4", "#c39a74"),
    ),
}


def find_theme(name: str) -> Theme:
    """The theme of that name; a ValueError names those there are."""
    check_choice("theme", name, THEMES)
    return THEMES["dark" if name == "dark" else "light"]


def new_figure(theme: Theme, width: float, height: float) -> "Figure":
    """An empty figure of so many inches, which lays out its parts and which a notebook shows by itself."""
    require_matplotlib()
    from fastnn.plots.notebook import NotebookFigure

    return NotebookFigure(figsize=(width, height), facecolor=theme.background, layout="constrained")


def headline(figure: "Figure", text: str, theme: Theme) -> None:
    """A title at the left of the whole figure."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=TEXT, fontweight="bold", color=theme.text)


def dress(axes: "Axes", theme: Theme, title: str = "", grid: Literal["x", "y", "both"] | None = "both") -> None:
    """Give axes the theme's colours, a title at the left, and a grid behind the data, if there is to be one."""
    axes.set_facecolor(theme.background)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.muted)
    axes.tick_params(which="both", colors=theme.muted, labelcolor=theme.text, labelsize=SMALL, length=3)
    if grid:
        axes.grid(axis=grid, color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.text, fontsize=TEXT)
    if title:
        axes.set_title(title, loc="left", fontsize=TEXT, fontweight="bold", color=theme.text)


def dress_tile(axes: "Axes", theme: Theme) -> None:
    """A frame without ticks, for one picture among many."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_color(theme.grid)


def remark(axes: "Axes", text: str, theme: Theme) -> None:
    """A small line above axes at the right, beside their title."""
    axes.set_title(text, loc="right", fontsize=SMALL, color=theme.muted)


def legend(figure: "Figure", theme: Theme, **where: Any) -> None:
    """A legend above everything else, or elsewhere."""
    look = {"loc": "outside upper left", "frameon": False, "fontsize": SMALL, "labelcolor": theme.text}
    figure.legend(**look | {"handlelength": 2.6} | where)


def colour_bar(drawn: "ScalarMappable", label: str, theme: Theme, figure: "Figure", **where: Any) -> None:
    """What the colours of `drawn` mean."""
    bar = figure.colorbar(drawn, **where)
    bar.outline.set_edgecolor(theme.grid)
    bar.minorticks_off()
    bar.ax.tick_params(colors=theme.muted, labelcolor=theme.text, labelsize=SMALL, length=3)
    bar.set_label(label, color=theme.text, fontsize=SMALL)


def shades(*colours: str) -> "Colormap":
    """A colour map through these colours."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", colours)


def ink_on(colour: tuple[float, ...]) -> str:
    """The colour of text on that colour: light on dark ones, dark on light ones."""
    red, green, blue, *_ = colour
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.52 else "#101214"


def log_axis(axis: "Axis", subs: tuple[int, ...] | None = None) -> None:
    """Plain numbers on a logarithmic scale; `subs` are the multiples of powers of 10 that have one."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    if subs:
        axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def plain(text: str, width: int = 32) -> str:
    """A name as it is, where matplotlib would read mathematics between dollar signs; shortened if it is long."""
    return (text if len(text) <= width else f"{text[: width - 3]}...").replace("$", r"\$")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure to `path`, whole or not at all, in the format that its suffix names; an SVG the same each time."""
    from matplotlib import rc_context

    kind = path.suffix[1:].lower()
    same_each_time: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}
    with atomic_path(path) as temporary, rc_context({"svg.hashsalt": "fastnn"}):
        figure.savefig(temporary, format=kind, dpi=150, **same_each_time)
