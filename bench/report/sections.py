"""The main sections of the report, as text and tables: what was measured. The rest is in `report_appendix`."""

import statistics
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastnn.bench.report.findings import answer, control_text, warnings
from fastnn.bench.report.formatting import (
    INTERVAL,
    case,
    deviation_text,
    network,
    number,
    percent,
    plain,
    ratio,
    several,
    si,
    spread,
    unit,
)
from fastnn.bench.report.results import Results, cases, main_case, measured, measured_peaks, ordered, overall
from fastnn.bench.verdicts import LEVEL


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


# ---- the result -----------------------------------------------------------------------------------------------------


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


# ---- times ----------------------------------------------------------------------------------------------------------


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


# ---- accuracy and losses --------------------------------------------------------------------------------------------


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


SECTIONS = (
    answer_section,
    warning_section,
    throughput_section,
    comparison_section,
    accuracy_section,
    curves_section,
    crossover_section,
)
"""In the order of the report: each a function of the results."""
