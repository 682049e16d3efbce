"""The report of `fastnn bench`, from its results: ``python -m fastnn.bench.report results.json``.

`write_report` writes results.json, plots as PNG, report.md and report.html, which needs no other file. The content is
put together here once, as sections of text and tables; the templates only lay it out. `table` is the short form for a
terminal. Any part of the results may be missing: what was not measured is not shown, and is said.
"""

import argparse
import base64
import io
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastnn.bench import plots
from fastnn.bench.plots import INTERVAL, case, network, ordered, si
from fastnn.bench.verdicts import LEAST_DIFFERENCE, LEVEL

from fastnn.errors import FastnnError, FileFormatError

__all__ = ["read_results", "table", "write_report"]

KIND, SCHEMA_VERSION = "fastnn bench", 1
SAME = "no difference"
NOISY = 0.1  # reach of the control's intervals above which its finding nothing says little
WIDTH, LINES = 100, 14  # of the terminal's table

Results = Mapping[str, Any]


class Table(NamedTuple):
    """Cells as text; a row of one cell is a heading of the rows below it."""

    head: list[str]
    rows: list[list[str]]
    align: str  # l or r for each column
    caption: str = ""


class Section(NamedTuple):
    """A part of the report; parts without tables, figures and text are left out."""

    id: str
    title: str
    text: list[str]
    tables: list[Table] = []  # noqa: RUF012 - a NamedTuple's default, never changed
    figures: list[str] = []  # noqa: RUF012 - names in `FIGURES`
    code: str = ""


FIGURES = {  # the text in place of a figure
    "throughput": "Training samples a second of each contender, with quartiles; a panel for each network and batch.",
    "control": f"Ratio of each contender to the reference with its {INTERVAL}; the A/A control, magnified.",
    "accuracy": "Test accuracy against seconds of training: seeds as thin lines, their median thick.",
    "loss_curves": "Training loss of each mini-batch, laid over each other; its distance from the float64 reference.",
    "crossover": "Fastest contender for each width of the hidden layer and each batch, and how far it is ahead.",
    "roofline": "Floating-point operations a second of each kernel over its arithmetic intensity; the roofline.",
}


# ---- files ----------------------------------------------------------------------------------------------------------


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
        import jinja2
        import matplotlib  # noqa: F401 - to know it before the first figure
    except ImportError as error:
        raise FastnnError(
            f"{files[0]} is written, but the report needs {error.name}: pip install 'fastnn-mlp[bench]', then "
            f"python -m fastnn.bench.report {files[0]}"
        ) from error
    results = comparable(results)
    figures, drawn = draw(results, folder / "plots")
    content = {"title": title(results), "sections": list(sections(results, figures)), "figures": figures}
    for name in ("report.md", "report.html"):
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("fastnn.bench"),
            autoescape=name.endswith(".html"),
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"inline": inline, "markdown": markdown}
        files.append(folder / name)
        files[-1].write_text(environment.get_template(name).render(content), encoding="utf-8")
    return files + drawn


def draw(results: Results, folder: Path, dpi: int = 150) -> tuple[dict[str, dict[str, str]], list[Path]]:
    """Each figure there is: its file, the text in its place, and SVG in base64 for light and dark; PNGs in `folder`."""
    figures, files = {}, []
    for name in plots.DRAWN:
        make = getattr(plots, name)
        light, dark = make(results, plots.LIGHT), make(results, plots.DARK)
        if light is None:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        files.append(folder / f"{name}.png")
        light.savefig(files[-1], dpi=dpi)
        entry = {"file": f"{folder.name}/{name}.png", "alt": FIGURES[name]}
        figures[name] = entry | {"light": _svg(light), "dark": _svg(dark)}
    return figures, files


def _svg(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def clean(value: Any) -> Any:
    """What JSON can hold: None for NaN and infinity, lists for arrays and tuples, text for keys."""
    if isinstance(value, Mapping):
        return {str(key): clean(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | None) else str(value)


def comparable(results: Results) -> dict[str, Any]:
    """The results without comparisons that have no interval: too little was measured when the run was interrupted."""

    def whole(entry: Mapping[str, Any] | None) -> bool:
        return entry is not None and None not in (entry.get("ratio"), entry.get("low"), entry.get("high"))

    rows = []
    for row in results.get("throughput") or []:
        found = {name: entry for name, entry in (row.get("comparisons") or {}).items() if whole(entry)}
        rows.append({**row, "comparisons": found, "control": row.get("control") if whole(row.get("control")) else None})
    return {**results, "throughput": rows}


def read_results(file: str | Path) -> dict[str, Any]:
    """Read results.json.

    Raises
    ------
    fastnn.FileFormatError
        If it is damaged, of something else, or of a newer version.
    OSError
        If it cannot be read.
    """
    try:
        results = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise FileFormatError(f"{file} is no JSON ({error}): give the results.json of a `fastnn bench`") from error
    kind = results.get("kind") if isinstance(results, dict) else None
    if kind != KIND:
        came = f"kind {kind!r}" if isinstance(results, dict) else f"a {type(results).__name__}"
        raise FileFormatError(f"{file} has {came}, expected kind {KIND!r}: give the results.json of a `fastnn bench`")
    version = results.get("schema_version")
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        remedy = "update fastnn to read it" if newer else "measure again"
        raise FileFormatError(f"{file} has schema_version {version!r}, this fastnn reads {SCHEMA_VERSION}: {remedy}")
    return results


# ---- words ----------------------------------------------------------------------------------------------------------


def number(value: float | None) -> str:
    """Three figures without an exponent, more only before the point."""
    if value is None:
        return "-"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2g}"
    return f"{value:.{max(0, min(4, 2 - math.floor(math.log10(abs(value) or 1))))}f}"


def spread(quartiles: Sequence[float] | None, scale: float = 1) -> str:
    """Median [lower quartile, upper quartile]."""
    if not quartiles:
        return "-"
    low, median, high = (number(None if value is None else value * scale) for value in quartiles)
    return f"{median} [{low}, {high}]"


def ratio(entry: Mapping[str, Any] | None, digits: int = 2) -> str:
    """Ratio [its interval]."""
    if not entry:
        return "-"
    value, low, high = (f"{entry[key]:.{digits}f}" for key in ("ratio", "low", "high"))
    return f"{value} [{low}, {high}]"


def unit(value: float | None, name: str) -> str:
    return "-" if value is None else si(value, name)


def bytes_text(value: float | None) -> str:
    return "-" if value is None else f"{value / 2**20:,.0f} MiB"


def percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"


def several(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def inline(text: str) -> Any:
    """HTML of a line of text, with what stands in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def markdown(text: str) -> str:
    """A cell or line in which a name makes no markup."""
    return text.replace("<", "&lt;").replace("|", "\\|").replace("\n", "<br>")


# ---- what follows from the results ----------------------------------------------------------------------------------


def cases(results: Results) -> list[Mapping[str, Any]]:
    """The networks and mini-batches of which there is a summary."""
    return [row for row in results.get("throughput") or [] if row.get("summary")]


def main_case(results: Results) -> Mapping[str, Any] | None:
    """The case that stands for all where there is room for one only: the network that accuracy was measured with."""
    rows = cases(results)
    layers = ((results.get("accuracy") or {}).get("recipe") or {}).get("layers") or [784, 128, 10]
    return next((row for row in rows if list(row["sizes"]) == list(layers)), rows[0] if rows else None)


def measured(results: Results) -> list[str]:
    """All contenders of which there is a time or an accuracy."""
    names = [name for row in cases(results) for name in row["summary"]]
    return ordered(results, names + list((results.get("accuracy") or {}).get("summary") or {}))


def overall(results: Results, name: str) -> float | None:
    """Geometric mean of a contender's ratios to the reference over all cases; None where one is missing."""
    if name == results.get("reference"):
        return 1.0
    ratios = [(row.get("comparisons") or {}).get(name) for row in cases(results)]
    known = [entry["ratio"] for entry in ratios if entry]
    return statistics.geometric_mean(known) if known and len(known) == len(ratios) else None


def plain_backends(results: Results) -> list[str]:
    """The backends in their own precision: bf16 and tf32 compute something else."""
    contenders = results.get("contenders") or {}
    entries = {name: contenders.get(name) or {} for name in measured(results)}
    return [name for name, entry in entries.items() if entry.get("kind") == "backend" and not entry.get("precision")]


def answer(results: Results) -> list[str]:
    """The result in a few sentences."""
    return [
        line for part in (fastest, fastest_by_case, control_text, gate_text, accuracy_text) if (line := part(results))
    ]


def fastest(results: Results) -> str:
    """Which backend is the fastest, by how much, and how sure that is."""
    means = {name: overall(results, name) for name in plain_backends(results)}
    known = sorted((name for name, mean in means.items() if mean), key=lambda name: -(means[name] or 0))
    reference, rows = results.get("reference"), cases(results)
    if not rows:
        return "Throughput was not measured."
    if len(known) < 2:
        return f"Only one backend was measured ({', '.join(means) or 'none'}): there is nothing to compare it with."
    others = "; ".join(f"{name} is {versus(results, name)}" for name in known if name != reference)
    best = known[0]
    if best == reference:
        return f"No backend is faster than {best}, the reference, here: {others}."
    if not any(row["comparisons"][best]["verdict"] == "faster" for row in rows):
        return f"No backend is measurably faster than {reference} here: {others}."
    return f"{best} is the fastest backend here: {others.removeprefix(f'{best} is ')}."


def versus(results: Results, name: str) -> str:
    """A backend against the reference over all cases."""
    entries = [row["comparisons"][name] for row in cases(results)]
    text = f"{overall(results, name):.2f} times as fast as {results.get('reference')}"
    low, high = min(entry["low"] for entry in entries), max(entry["high"] for entry in entries)
    verdicts = [entry["verdict"] for entry in entries]
    if len(entries) == 1:
        return f"{text} ({INTERVAL} {low:.2f} to {high:.2f}: {verdicts[0]}) with {case(cases(results)[0])}"
    counts = ", ".join(f"{word} in {verdicts.count(word)}" for word in ("faster", "slower", SAME) if word in verdicts)
    return f"{text}, geometric mean of {len(entries)} cases ({INTERVAL}s within {low:.2f} to {high:.2f}; {counts})"


def fastest_by_case(results: Results) -> str:
    """Who is surely ahead in each case, lower precisions included."""
    winners = [row.get("fastest") for row in cases(results)]
    contenders = results.get("contenders") or {}
    backends = [name for name in measured(results) if (contenders.get(name) or {}).get("kind") == "backend"]
    if len(backends) < 2 or not winners:
        return ""
    counts = {name: winners.count(name) for name in dict.fromkeys(winners) if name}
    said = [f"{name} in {count} of {several(len(winners), 'case')}" for name, count in counts.items()]
    said += [f"undecided in {winners.count(None)}"] if None in winners else []
    return f"Fastest of all backends and precisions, case by case: {', '.join(said)}."


def controls(results: Results) -> list[Mapping[str, Any]]:
    return [row["control"] for row in results.get("throughput") or [] if row.get("control")]


def control_state(results: Results) -> tuple[str, float]:
    """(clean, noisy or NOT clean; how far from 1 its intervals reach): a difference below that may be noise."""
    rows = controls(results)
    reach = max((abs(entry[end] - 1) for entry in rows for end in ("low", "high")), default=0.0)
    if any(entry["verdict"] != SAME for entry in rows):
        return "NOT clean", reach
    return ("noisy" if reach > NOISY else "clean"), reach


def reach_text(reach: float) -> str:
    return f"{100 * reach:.0f} %" if reach < 1 else f"a factor of {1 + reach:.1f}"


def control_text(results: Results) -> str:
    rows = controls(results)
    if not rows:
        return "No A/A control was measured, so it is not known how large a difference this machine makes up by itself."
    one, other = results.get("control") or ("a contender", "its copy")
    off = sum(entry["verdict"] != SAME for entry in rows)
    farthest = max(abs(entry["ratio"] - 1) for entry in rows)
    state, reach = control_state(results)
    text = f"The A/A control (`{other}` against `{one}`) differs by at most {100 * farthest:.1f} %"
    found = f"no difference is found in {several(len(rows), 'case')}"
    if state == "clean":
        return f"{text}; {found}: clean."
    if state == "noisy":
        return f"{text}; {found}, but intervals reach to {reach_text(reach)}: the machine was too noisy to tell more."
    return f"{text} and is NOT clean: in {off} of {several(len(rows), 'case')} a difference is found where none is."


def gate_text(results: Results) -> str:
    gate = results.get("gate") or []
    failed = [check for check in gate if not check["passed"]]
    if not gate:
        return "The results were not checked against a reference (no gate)."
    if not failed:
        return f"All {several(len(gate), 'check')} of networks and kernels against float64 passed."
    named = list(dict.fromkeys(f"{check['contender']} ({check['quantity']})" for check in failed))
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    return f"{len(failed)} of {several(len(gate), 'check')} against float64 FAILED: {', '.join(named[:4])}{more}."


def accuracy_text(results: Results) -> str:
    section = results.get("accuracy") or {}
    summary, said = section.get("summary") or {}, []
    for name in ordered(results, [name for name in summary if name in plain_backends(results)]):
        mean = summary[name]["accuracy"][0]
        said.append(
            f"{name} {percent(mean, 2)} ({deviation_text(summary[name], ', ')}{several(summary[name]['n'], 'run')})"
        )
    return (
        f"Test accuracy after {(section.get('recipe') or {}).get('epochs', '?')} epochs: {', '.join(said)}."
        if said
        else ""
    )


def deviation_text(entry: Mapping[str, Any], after: str = "") -> str:
    """The standard deviation of accuracies in points of a percent; a single run has none."""
    deviation = entry["accuracy"][1]
    return f"± {100 * deviation:.2f}{after}" if deviation is not None and entry["n"] > 1 else ""


def warnings(results: Results) -> list[str]:
    """What a reader should know before believing any figure."""
    environment, dataset = results.get("environment") or {}, results.get("dataset") or {}
    said = []
    if results.get("interrupted"):
        said.append("The run was interrupted: parts are missing, and others have fewer measurements than planned.")
    if dataset.get("note") or dataset.get("name") not in ("mnist", None):
        said.append(f"This is not MNIST but {dataset.get('name')}. {dataset.get('note') or ''}".strip())
    if any(not check["passed"] for check in results.get("gate") or []):
        said.append(gate_text(results))
    state, reach = control_state(results)
    if state != "clean":
        said.append(f"The A/A control is {state}: do not believe differences below {reach_text(reach)}.")
    if (results.get("curves") or {}).get("passed") is False:
        said.append("A loss curve leaves the float64 reference by more than the tolerance.")
    if environment.get("dirty"):
        said.append("The code has been changed since the commit it names: nobody else can measure the same.")
    cores = environment.get("cores")
    quota = environment.get("cgroup_quota") or (cores.get("quota") if isinstance(cores, Mapping) else None)
    if quota:
        said.append(f"The container may use {quota} cores' worth of time: threads are stopped when it is spent.")
    load = environment.get("load_average") or environment.get("load")
    load = load[0] if isinstance(load, list) and load else load
    if isinstance(load, int | float) and load > 1:
        said.append(f"Other programs were running: the load average was {load:.2f} before the first measurement.")
    return said


def title(results: Results) -> str:
    name = (results.get("dataset") or {}).get("name") or "no data"
    return f"fastnn bench {results.get('level') or ''}: training on {'MNIST' if name == 'mnist' else name}"


# ---- sections -------------------------------------------------------------------------------------------------------


def sections(results: Results, figures: Mapping[str, Any]) -> Iterator[Section]:
    """The parts of the report that have something to say."""
    makers: tuple[Callable[[Results], Section], ...] = (
        answer_section,
        warning_section,
        throughput_section,
        comparison_section,
        accuracy_section,
        curves_section,
        crossover_section,
        roofline_section,
        startup_section,
        method_section,
        gate_section,
        environment_section,
        skipped_section,
        reproduce_section,
    )
    for make in makers:
        section = make(results)
        section = section._replace(
            tables=[table for table in section.tables if table.rows],
            figures=[name for name in section.figures if name in figures],
        )
        if section.text or section.tables or section.figures or section.code:
            yield section


def answer_section(results: Results) -> Section:
    main, goals = main_case(results), (results.get("accuracy") or {}).get("goals") or []
    reference = results.get("reference") or "reference"
    head = ["contender", "samples/s", f"times as fast as {reference}", "all cases", "test accuracy"]
    head += [f"s to {100 * goal:g} %" for goal in goals]
    rows = [[name, *cells] for name, cells in overview(results)]
    caption = f"Samples/s and ratio with its {INTERVAL}: {case(main)}. " if main else ""
    caption += f"All cases: geometric mean of the ratios of {several(len(cases(results)), 'case')}."
    return Section("answer", "Result", answer(results), [Table(head, rows, "l" + "r" * (len(head) - 1), caption)])


def overview(results: Results) -> Iterator[tuple[str, list[str]]]:
    """(contender, cells): what the first table and the terminal's show of each."""
    main, accuracy = main_case(results) or {}, results.get("accuracy") or {}
    for name in measured(results):
        entry, reached = (main.get("summary") or {}).get(name), (accuracy.get("summary") or {}).get(name)
        comparison = "1" if name == results.get("reference") else ratio((main.get("comparisons") or {}).get(name))
        mean = overall(results, name)
        times = [(reached or {}).get("seconds_to", {}).get(str(goal)) for goal in accuracy.get("goals") or []]
        yield (
            name,
            [
                unit(entry and entry["samples_per_second"], ""),
                comparison if entry else "-",
                "-" if mean is None else f"{mean:.2f}",
                percent(reached and reached["accuracy"][0], 2),
                *(number(quartiles[1]) if quartiles else "-" for quartiles in times),
            ],
        )


def warning_section(results: Results) -> Section:
    return Section("warnings", "Warnings", warnings(results))


def throughput_section(results: Results) -> Section:
    head = ["contender", "s an epoch [quartiles]", "µs a step", "samples/s", "FLOP/s", "of peak", "n"]
    rows = []
    for row in cases(results):
        peaks = measured_peaks(row)
        peak = f"; the machine's peak: {si(statistics.median(peaks), 'FLOP/s')}" if peaks else ""
        rows.append([f"{case(row)}: {row['steps']} steps an epoch{peak}"])
        for name in ordered(results, row["summary"]):
            entry = row["summary"][name]
            cells = [unit(entry["samples_per_second"], ""), unit(entry["flops_per_second"], "")]
            step = number(1e6 * entry["seconds"][1] / row["steps"])
            share = percent(entry.get("share_of_peak"))
            rows.append([name, spread(entry["seconds"]), step, *cells, share, str(entry["n"])])
    text = (
        ["Medians of epochs of training, with quartiles. n counts the epochs or groups of epochs measured."]
        if rows
        else []
    )
    return Section("throughput", "Throughput", text, [Table(head, rows, "lrrrrrr")], ["throughput"])


def measured_peaks(row: Mapping[str, Any]) -> list[float]:
    """The machine's peaks in all launches of a case, beside whichever contender they were measured."""
    found: list[float | None] = []
    for launch in row.get("launches") or []:
        peaks = launch.get("peaks") or []
        found += [peak for each in peaks.values() for peak in each] if isinstance(peaks, Mapping) else peaks
    return [peak for peak in found if peak]


def comparison_section(results: Results) -> Section:
    """The matrix of ratios, and the control with them."""
    rows = [row for row in cases(results) if row.get("comparisons")]
    names = ordered(results, [name for row in rows for name in row["comparisons"]])
    head = ["contender", *(f"{network(row['sizes'])}\nbatch {row['batch_size']}" for row in rows)]
    body = []
    for name in names:
        entries = [row["comparisons"].get(name) for row in rows]
        body.append([name, *(f"{ratio(entry)}\n{entry['verdict']}" if entry else "-" for entry in entries)])
    with_control = [row for row in results.get("throughput") or [] if row.get("control")]
    one, other = results.get("control") or ("", "")
    caption = f"Times as fast as {results.get('reference') or 'the reference'} [{INTERVAL}], and the verdict."
    tables = [
        Table(head, body, "l" + "r" * len(rows), caption),
        Table(
            ["A/A control", f"ratio [{INTERVAL}]", "verdict"],
            [[case(row), ratio(row["control"], 3), row["control"]["verdict"]] for row in with_control],
            "lrl",
            f"{other} against {one}: the same program, in another process.",
        ),
    ]
    text = (
        [control_text(results), f"Of all {INTERVAL}s, {100 * (1 - LEVEL):g} % miss the truth by chance."]
        if with_control
        else []
    )
    return Section("comparison", "Comparison and control", text, tables, ["control"])


def accuracy_section(results: Results) -> Section:
    section = results.get("accuracy") or {}
    summary, goals, rows = section.get("summary") or {}, section.get("goals") or [], []
    if not summary and not section.get("runs"):
        return Section("accuracy", "Accuracy", [])
    for name in ordered(results, summary):
        entry = summary[name]
        mean, _, least, most = entry["accuracy"]
        times = [spread((entry.get("seconds_to") or {}).get(str(goal))) for goal in goals]
        extremes = f"{percent(least, 2)} to {percent(most, 2)}".replace(" % to", " to")
        rows.append([name, f"{percent(mean, 2)} {deviation_text(entry)}".rstrip(), extremes, *times, str(entry["n"])])
    head = [
        "contender",
        "test accuracy",
        "least to most",
        *(f"s to {100 * goal:g} % [quartiles]" for goal in goals),
        "runs",
    ]
    recipe = [f"{key.replace('_', ' ')} {plain(value)}" for key, value in (section.get("recipe") or {}).items()]
    text = [
        f"Recipe: {', '.join(recipe) or 'not recorded'}. Seconds are those of training alone; a goal counts from the "
        "end of the epoch that reached it, and only if all runs did."
    ]
    return Section("accuracy", "Accuracy", text, [Table(head, rows, "l" + "r" * (len(head) - 1))], ["accuracy"])


def curves_section(results: Results) -> Section:
    section = results.get("curves") or {}
    divergence, tolerance = section.get("divergence") or {}, section.get("tolerance")
    rows = [[name, *divergence_cells(divergence[name], tolerance)] for name in ordered(results, divergence)]
    if not section.get("losses"):
        return Section("curves", "Loss curves", [])
    text = [
        f"Loss of each mini-batch of {case(section)}, seed {section['seed']}, {section['optimizer']}: the same weights "
        f"and samples for all, and for the reference ({section['reference']}). "
        + ("Each stays within the tolerance." if section.get("passed") else "NOT all stay within the tolerance."),
        "In float32 a run follows the reference until rounding takes a unit to the other side of the corner of a "
        "ReLU; from there on the distance grows, and where that happens is a matter of the machine.",
    ]
    exact = section.get("divergence_float64") or {}
    for name in ordered(results, exact):
        rows.append([f"{name}, float64", *divergence_cells(exact[name], section.get("tolerance_float64"))])
    head = ["contender", "largest relative distance", "at mini-batch", "tolerance"]
    return Section("curves", "Loss curves", text, [Table(head, rows, "lrrr")], ["loss_curves"])


def divergence_cells(entry: Mapping[str, Any], tolerance: float | None) -> list[str]:
    far = "not finite" if entry["largest"] is None else f"{entry['largest']:.1e}"
    return [far, str(entry["step"]), f"{tolerance:g}" if tolerance else "-"]


def crossover_section(results: Results) -> Section:
    section = results.get("crossover") or {}
    cells = {(cell["width"], cell["batch_size"]): cell for cell in section.get("cells") or []}
    if not cells:
        return Section("crossover", "Crossover", [])
    rows = []
    for batch_size in section["batch_sizes"]:
        found = [cells.get((width, batch_size)) for width in section["widths"]]
        rows.append([str(batch_size), *(cell_text(cell) for cell in found)])
    head = ["batch", *(f"{width} units" for width in section["widths"])]
    text = [
        "The fastest contender by width of the hidden layer and size of the mini-batch, and how many times as fast it "
        "is as the second. Undecided: the interval does not exclude that the second is as fast."
    ]
    return Section(
        "crossover", "Crossover", text, [Table(head, rows, "r" + "r" * len(section["widths"]))], ["crossover"]
    )


def cell_text(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "not run"
    return f"{cell.get('fastest') or 'undecided'}\n{ratio(cell.get('ahead'))}"


def roofline_section(results: Results) -> Section:
    section = results.get("roofline") or {}
    peaks, bandwidths = section.get("peaks") or [], section.get("bandwidths") or []
    text = []
    if peaks and bandwidths:
        text = [
            f"Measured on {several(section.get('threads') or 1, 'thread')}: {si(statistics.median(peaks), 'FLOP/s')} "
            f"({si(min(peaks))} to {si(max(peaks))}) and {si(statistics.median(bandwidths), 'B/s')} "
            f"({si(min(bandwidths))} to {si(max(bandwidths))}). Bytes are those that a kernel has to move if nothing "
            "is in a cache, so a kernel whose operands stay in one may lie above the slope."
        ]
    if section.get("device"):
        text.append(f"Device: {plain({k: v for k, v in section['device'].items() if not isinstance(v, list)})}.")
    head = ["kernel", "µs a call [quartiles]", "FLOP/s", "B/s", "FLOP/byte", "of the roof", "error", "tolerance"]
    groups: dict[str, list[list[str]]] = {}
    for row in section.get("kernels") or []:
        if row["seconds"]:
            cells = [row["contender"], *kernel_cells(row, peaks, bandwidths)]
            groups.setdefault(f"{row['kernel']}, {row['shape']}", []).append(cells)
    rows = [line for name, lines in groups.items() for line in ([name], *lines)]
    return Section("roofline", "Kernels and roofline", text, [Table(head, rows, "lrrrrrrr")], ["roofline"])


def kernel_cells(row: Mapping[str, Any], peaks: Sequence[float], bandwidths: Sequence[float]) -> list[str]:
    values, flops, moved = row["seconds"], row["flops"], row["bytes"]
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    share = None
    if peaks and bandwidths:
        share = max(flops / statistics.median(peaks), moved / statistics.median(bandwidths)) / middle
    intensity = number(flops / moved if moved else None)
    cells = [spread((low, middle, high), 1e6), unit(flops / middle, ""), unit(moved / middle, ""), intensity]
    errors = [f"{row[key]:.1e}" if row.get(key) is not None else "-" for key in ("error", "tolerance")]
    return [*cells, percent(share, 0), *errors]


def startup_section(results: Results) -> Section:
    """What is paid before the first mini-batch, and memory."""
    keys = ("import_seconds", "compile_cold_seconds", "compile_warm_seconds", "first_batch_seconds")
    found = results.get("startup") or []
    head = ["contender", "import", "compile, cold", "compile, from cache", "first mini-batch"]
    rows = [[row["contender"], *(unit(row.get(key), "s") for key in keys)] for row in found]
    tables = [
        Table(head, rows, "lrrrr", "Start-up; a dash where nothing is compiled."),
        memory_table(results),
    ]
    return Section("startup", "Start-up and memory", [], tables)


def memory_table(results: Results) -> Table:
    rows = [row for row in results.get("throughput") or [] if row.get("memory")]
    body = []
    for name in ordered(results, [name for row in rows for name in row["memory"]]):
        entries = [row["memory"].get(name) or {} for row in rows]
        cells = [bytes_text(entry.get("host_peak")) for entry in entries]
        for i, entry in enumerate(entries):
            cells[i] += f"\ndevice {bytes_text(entry['device_peak'])}" if entry.get("device_peak") else ""
        body.append([name, *cells])
    head = ["contender", *(f"{network(row['sizes'])}\nbatch {row['batch_size']}" for row in rows)]
    return Table(head, body, "l" + "r" * len(rows), "Most memory of the whole process.")


METHOD = (
    "Each contender trains in a process of its own, so that no thread pool, allocator or cache of one disturbs "
    "another; only one runs at a time, all on the same cores with as many threads. Those who wait are suspended: the "
    "threads of a BLAS look for work for up to 0.2 s after the last product, and would take a core from whoever comes "
    "next. All begin with the same weights and see the same samples in the same order; scikit-learn alone draws an "
    "order of its own.",
    "Before anything is timed, outputs, loss, gradients and updates of the weights of each backend, and each of its "
    "kernels, are held against a float64 reference in plain numpy (the gate). A backend that fails is not timed. All "
    "contenders have to agree on the mean loss of their first epoch.",
    "Measurements are interleaved: in each round every contender trains in turn, in an order drawn anew, so that what "
    "slows the machine for a while slows all of them. Processes are started anew for each launch, because the layout "
    "of memory and the place on the cores stay the same within one. Compilation and the first epochs are left out.",
    "A time is the median over all rounds of all launches, with quartiles. A ratio is the median of the ratios of "
    f"times that were measured in the same round. Its {INTERVAL} is a bootstrap that draws launches first, then rounds "
    "within each (Kalibera and Jones, 2013).",
    "The verdict is faster or slower if the interval excludes 1 and the ratio differs from 1 by more than "
    f"{100 * LEAST_DIFFERENCE:g} %; else it is no difference, which means that none was found, not that there is none.",
    "The A/A control is a second process of a contender, measured like all others. A difference found there is not "
    "real: it shows what this machine makes up. The machine's peak is measured beside the contenders, because that of "
    "a shared machine changes.",
)


def method_section(results: Results) -> Section:
    return Section("method", "Method", list(METHOD))


def gate_section(results: Results) -> Section:
    """What each was off by, of what it may be: networks, then kernels, whose names tell their shape."""
    gate = results.get("gate") or []
    whole = [check for check in gate if check["sizes"]]
    kernels = [check for check in whole if re.search(r"\d", check["quantity"])]
    text = ["Largest error relative to the largest value of the float64 reference, and the tolerance."] if whole else []
    text += [f"{check['contender']} could not be checked: {check['quantity']}" for check in gate if not check["sizes"]]
    networks = gate_table([check for check in whole if check not in kernels], by_network=True)
    return Section("gate", "Gate", text, [networks, gate_table(kernels, by_network=False)])


def gate_table(checks: Sequence[Mapping[str, Any]], *, by_network: bool) -> Table:
    """Contenders and networks with a column for each quantity, or kernels with a column for each contender."""
    found: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for check in checks:
        name, quantity = check["contender"], check["quantity"]
        row, column = ((name, network(check["sizes"])), quantity) if by_network else ((quantity,), name)
        found.setdefault(row, {})[column] = check
    columns = list(dict.fromkeys(column for row in found.values() for column in row))
    rows = [[*names, *(gate_cell(row.get(column)) for column in columns)] for names, row in found.items()]
    head = ["contender", "network"] if by_network else ["kernel"]
    return Table([*head, *columns], rows, "l" * len(head) + "r" * len(columns))


def gate_cell(check: Mapping[str, Any] | None) -> str:
    if check is None:
        return "-"
    error = "not finite" if check["error"] is None else f"{check['error']:.1e}"
    return f"{error} of {check['tolerance']:.0e}" + ("" if check["passed"] else " FAILED")


def environment_section(results: Results) -> Section:
    told = {key: results.get(key) for key in ("command", "level", "seconds", "budget") if results.get(key) is not None}
    nested = {"run": told, "data set": results.get("dataset") or {}, "": results.get("environment") or {}}
    rows = [[key, value] for group, values in nested.items() for key, value in flat(values, group)]
    backends = [
        [name, entry.get("state") or "-", entry.get("reason") or "-", entry.get("remedy") or "-"]
        for name, entry in (results.get("backends") or {}).items()
    ]
    tables = [Table(["", ""], rows, "ll"), Table(["backend", "state", "what it says", "remedy"], backends, "llll")]
    return Section("environment", "Environment", [], tables)


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, text) of each value in nested dictionaries; the short ones of a list side by side."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}, {key}" if path else str(key))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for i, item in enumerate(value):
            yield path + (f" {i + 1}" if len(value) > 1 else ""), plain(item)
    else:
        isbytes = isinstance(value, int) and not isinstance(value, bool) and value >= 2**20
        yield path, f"{value / 2**20:,.0f} MiB" if isbytes and "memory" in path else plain(value)


def plain(value: Any) -> str:
    """A value as a reader writes it."""
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        whole = len(value) > 1 and all(isinstance(item, int) for item in value)
        return ("-" if whole else ", ").join(plain(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def skipped_section(results: Results) -> Section:
    rows = [[name, why] for name, why in (results.get("skipped") or {}).items()]
    parts = ("gate", "throughput", "roofline", "accuracy", "curves", "crossover", "startup")
    rows += [[part, "not measured in this run"] for part in parts if not results.get(part)]
    return Section("skipped", "Left out", [], [Table(["what", "why"], rows, "ll")])


def reproduce_section(results: Results) -> Section:
    commit = (results.get("environment") or {}).get("commit")
    lines = [f"git checkout {commit}"] if commit else []
    lines += ["pip install -e '.[bench]'", results.get("command") or "fastnn bench"]
    lines += ["", "# this report again, from its figures", "python -m fastnn.bench.report results.json"]
    text = ["All samples are in `results.json`, beside this file."]
    return Section("reproduce", "Reproduce", text, code="\n".join(lines))


# ---- terminal -------------------------------------------------------------------------------------------------------


def table(results: Results) -> str:
    """The result in at most 14 lines of at most 100 ASCII characters."""
    results = comparable(clean(results))
    main, environment = main_case(results), results.get("environment") or {}
    goals = (results.get("accuracy") or {}).get("goals") or []
    lines = [f"{title(results)}, {environment.get('threads', '?')} threads, {number(results.get('seconds'))} s"]
    rows = [(name, cells) for name, cells in overview(results)]
    notes = [*control_lines(results), *warning_lines(results)]
    if main and rows:
        lines[0] += f"; samples/s: {case(main)}"
        head = [
            "samples/s",
            f"x {results.get('reference')} [{100 * LEVEL:g} %]",
            "all cases",
            "accuracy",
            *(f"s to {100 * g:g} %" for g in goals[:2]),
        ]
        room = LINES - len(lines) - len(notes) - 2
        shown = rows if len(rows) <= room else rows[: room - 1]
        lines.append(columns("", head))
        lines += [columns(name, cells[: len(head)]) for name, cells in shown]
        lines += [f"  and {len(rows) - len(shown)} more, in the report"] if len(shown) < len(rows) else []
    else:
        lines.append("no throughput was measured")
    return "\n".join(ascii_line(line) for line in lines + notes)


def columns(name: str, cells: Sequence[str]) -> str:
    widths = (9, 20, 9, 9, 9, 9)
    return f"  {shortened(name, 22):22s}" + "".join(
        f" {cell:>{width}s}" for cell, width in zip(cells, widths, strict=False)
    )


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."


def ascii_line(line: str) -> str:
    return shortened(
        line.replace("±", "+-").replace("µ", "u").encode("ascii", "replace").decode("ascii").rstrip(), WIDTH
    )


def control_lines(results: Results) -> list[str]:
    """The control and the gate, in a line."""
    rows, gate = controls(results), results.get("gate") or []
    failed = sum(not check["passed"] for check in gate)
    farthest = max((abs(entry["ratio"] - 1) for entry in rows), default=0)
    control = f"A/A {control_state(results)[0]}"
    control += f", at most {100 * farthest:.1f} % apart in {several(len(rows), 'case')}"
    checked = f"gate: {len(gate) - failed} of {several(len(gate), 'check')} passed" + (", NOT ALL" if failed else "")
    return [f"{control if rows else 'no A/A control'}; {checked if gate else 'no gate'}"]


def warning_lines(results: Results) -> list[str]:
    said = warnings(results)
    lines = [f"! {line}" for line in said[:2]]
    return lines + ([f"! and {several(len(said) - 2, 'more warning')}, in the report"] if len(said) > 2 else [])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", metavar="RESULTS.json", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: the folder of the results")
    options = parser.parse_args(arguments)
    try:
        results = read_results(options.results)
        files = write_report(results, options.out or options.results.parent)
    except (FastnnError, OSError) as error:
        print(f"fastnn: {error}", file=sys.stderr)
        return 1
    print(table(results))
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
