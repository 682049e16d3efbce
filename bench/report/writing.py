"""The files of the report: results.json, the figures as PNG, report.md, and report.html, which needs no other file.

The content is put together once (`sections`); the templates only lay it out.
"""

import base64
import functools
import json
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fastnn.bench.report import plots
from fastnn.bench.report.findings import title
from fastnn.bench.report.results import clean, complete
from fastnn.bench.report.schema import Results
from fastnn.bench.report.sections import make_sections
from fastnn.errors import FastnnError, MissingLibraryError
from fastnn.optional import require, require_matplotlib
from fastnn.plots.figures import THEMES

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["template", "write_report"]


def write_report(results: Mapping[str, object], folder: str | Path) -> list[Path]:
    """Write all forms of the report; the folder is made if it is not there.

    Returns
    -------
    list of Path
        The files: results.json first, which is written before anything else can fail.

    Raises
    ------
    fastnn.FastnnError
        If matplotlib or jinja2 is missing; results.json is there then.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "results.json"]
    files[0].write_text(json.dumps(clean(results), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    try:
        require("jinja2", "bench")  # before the first figure
        require_matplotlib("bench")
    except MissingLibraryError as error:
        raise FastnnError(
            f"{files[0]} is written; for the report, {error}, then python -m fastnn.bench.report {files[0]}"
        ) from error
    found = complete(results)
    figures = {name: figure for name in plots.DRAWN if (figure := draw(name, found, folder))}
    content = {"title": title(found), "sections": list(make_sections(found, figures)), "figures": figures}
    for name in ("report.md", "report.html"):
        files.append(folder / name)
        files[-1].write_text(template(name).render(content), encoding="utf-8")
    return files + [folder / figure["file"] for figure in figures.values()]


def draw(name: str, results: Results, folder: Path) -> dict[str, str] | None:
    """Its PNG in `folder`, the text in its place, and SVG in base64 for each theme; None where nothing was measured."""
    drawn = {"file": f"plots/{name}.png", "alt": plots.TEXTS[name]}
    for theme in THEMES.values():
        figure = plots.DRAWN[name](results, theme)
        if figure is None:
            return None
        if theme.name == "light":
            (folder / "plots").mkdir(exist_ok=True)
            figure.savefig(folder / drawn["file"], dpi=150)
        buffer = BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        drawn[theme.name] = base64.b64encode(buffer.getvalue()).decode("ascii")
    return drawn


@functools.cache
def template(name: str) -> "Template":
    """One of the folder `templates`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fastnn.bench.report"),
        autoescape=name.endswith(".html"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"inline": inline, "markdown": markdown}
    return environment.get_template(name)


def inline(text: str) -> str:
    """HTML of a line of text, with what stands in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def markdown(text: str) -> str:
    """A cell or line in which a name makes no markup."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", "<br>")
