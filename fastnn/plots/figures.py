"""The common look of figures: two themes, with hues that readers of all kinds tell apart.

The hues are those of Okabe and Ito (Color Universal Design, 2008), lightened for the dark theme. matplotlib, which is
the extra ``plot``, is imported when the first figure is made, and used without pyplot, so that nothing outside a figure
changes.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastnn.choices import check_choice
from fastnn.files import atomic_path
from fastnn.optional import require_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SMALL", "TEXT", "THEMES", "Theme", "dress", "find_theme", "legend", "new_figure", "plain", "save_figure"]

SMALL, TEXT = 8.5, 9.5  # points


class Theme(NamedTuple):
    """Colours of a figure."""

    name: str
    background: str
    text: str
    muted: str
    grid: str
    colours: tuple[str, ...]  # of the data, in the order in which they are used


THEMES = {
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
    return THEMES[check_choice("theme", name, THEMES)]


def new_figure(theme: Theme, width: float, height: float) -> "Figure":
    """An empty figure of so many inches, whose parts make room for each other.

    Raises
    ------
    MissingLibraryError
        If matplotlib is not installed.
    """
    require_matplotlib()
    from fastnn.plots.notebook import NotebookFigure

    return NotebookFigure(figsize=(width, height), facecolor=theme.background, layout="constrained")


def dress(axes: Any, theme: Theme, title: str = "", grid: str = "both") -> None:
    """Give axes the theme's colours, a title at the left, and a grid behind the data."""
    axes.set_facecolor(theme.background)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme.muted)
    axes.tick_params(which="both", colors=theme.muted, labelcolor=theme.text, labelsize=SMALL, length=3)
    axes.grid(axis=grid, color=theme.grid, linewidth=0.7)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=theme.text, fontsize=TEXT)
    if title:
        axes.set_title(title, loc="left", fontsize=TEXT, fontweight="bold", color=theme.text)


def legend(figure: "Figure", theme: Theme, **where: Any) -> None:
    """A legend above everything else, or elsewhere."""
    look = {"loc": "outside upper left", "frameon": False, "fontsize": SMALL, "labelcolor": theme.text}
    figure.legend(**look | {"handlelength": 2.6} | where)


def plain(text: str, width: int = 32) -> str:
    """A name as it is, where matplotlib would read mathematics between dollar signs; shortened if it is long."""
    return (text if len(text) <= width else f"{text[: width - 3]}...").replace("$", r"\$")


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure to `path`, whole or not at all, in the format that its suffix names; an SVG the same each time.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    from matplotlib import rc_context

    kind = path.suffix[1:].lower()
    same_each_time: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {}
    with atomic_path(path) as temporary, rc_context({"svg.hashsalt": "fastnn"}):
        figure.savefig(temporary, format=kind, dpi=150, **same_each_time)
