"""The files of the report: results.json, plots, Markdown, HTML.

`write_report` writes results.json, plots as PNG, report.md and report.html, which needs no other file. The content is
put together once, as sections of text and tables (`sections`, `appendix`); the templates only lay it
out. Any part of the results may be missing: what was not measured is not shown, and is said.
"""

import base64
import functools
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastnn.bench.report import appendix, plots, sections
from fastnn.bench.report.findings import title
from fastnn.bench.report.formatting import INTERVAL
from fastnn.bench.report.plot_style import DARK, LIGHT
from fastnn.bench.report.results import Results, clean, comparable
from fastnn.bench.report.sections import Section

from fastnn.errors import FastnnError, MissingLibraryError
from fastnn.optional import require, require_matplotlib

__all__ = ["FIGURES", "write_report"]

FIGURES = {  # the text in place of a figure
    "throughput": "Training samples a second of each contender, with quartiles; a panel for each network and batch.",
    "control": f"Ratio of each contender to the reference with its {INTERVAL}; the A/A control, magnified.",
    "accuracy": "Test accuracy against seconds of training: seeds as thin lines, their median thick.",
    "loss_curves": "Training loss of each mini-batch, laid over each other; its distance from the float64 reference.",
    "crossover": "Fastest contender for each width of the hidden layer and each batch, and how far it is ahead.",
    "roofline": "Floating-point operations a second of each kernel over its arithmetic intensity; the roofline.",
}


def write_report(results: Results, folder: str | Path) -> list[Path]:
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
    folder, results = Path(folder), clean(results)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "results.json"]
    files[0].write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    try:
        require("jinja2", "bench")  # before the first figure
        require_matplotlib("bench")
    except MissingLibraryError as error:
        raise FastnnError(
            f"{files[0]} is written; for the report, {error}, then python -m fastnn.bench.report {files[0]}"
        ) from error
    results = comparable(results)
    figures, drawn = draw(results, folder / "plots")
    content = {"title": title(results), "sections": list(make_sections(results, figures)), "figures": figures}
    for name in ("report.md", "report.html"):
        files.append(folder / name)
        files[-1].write_text(template(name).render(content), encoding="utf-8")
    return files + drawn


# ---- content --------------------------------------------------------------------------------------------------------


def make_sections(results: Results, figures: Mapping[str, Any]) -> Iterator[Section]:
    """The parts of the report that have something to say."""
    for make in (*sections.SECTIONS, *appendix.SECTIONS):
        section = make(results)
        section = section._replace(
            tables=[table for table in section.tables if table.rows],
            figures=[name for name in section.figures if name in figures],
        )
        if section.text or section.tables or section.figures or section.code:
            yield section


# ---- figures --------------------------------------------------------------------------------------------------------


def draw(results: Results, folder: Path) -> tuple[dict[str, dict[str, str]], list[Path]]:
    """Each figure there is: its file, the text in its place, and SVG in base64 for light and dark; PNGs in `folder`."""
    figures, files = {}, []
    for name, make in plots.DRAWN.items():
        light, dark = make(results, LIGHT), make(results, DARK)
        if light is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{name}.png")
        light.savefig(files[-1], dpi=150)
        entry = {"file": f"{folder.name}/{name}.png", "alt": FIGURES[name]}
        figures[name] = entry | {"light": _svg(light), "dark": _svg(dark)}
    return figures, files


def _svg(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


# ---- templates ------------------------------------------------------------------------------------------------------


@functools.cache
def template(name: str) -> Any:
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


def inline(text: str) -> Any:
    """HTML of a line of text, with what stands in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def markdown(text: str) -> str:
    """A cell or line in which a name makes no markup."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", "<br>")
