"""The result of `fastnn bench` as a terminal shows it: in a few short lines of ASCII."""

from collections.abc import Sequence

from fastnn.bench.report.findings import control_state, title, warnings
from fastnn.bench.report.formatting import case, number, several
from fastnn.bench.report.results import Results, clean, comparable, controls, main_case
from fastnn.bench.report.sections import overview
from fastnn.bench.verdicts import LEVEL

WIDTH, LINES = 100, 14


def table(results: Results) -> str:
    """The result in at most 14 lines of at most 100 ASCII characters."""
    results = comparable(clean(results))
    main, environment = main_case(results), results.get("environment") or {}
    goals = (results.get("accuracy") or {}).get("goals") or []
    lines = [f"{title(results)}, {environment.get('threads', '?')} threads, {number(results.get('seconds'))} s"]
    rows = list(overview(results))
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


def ascii_line(line: str) -> str:
    return shortened(
        line.replace("±", "+-").replace("µ", "u").encode("ascii", "replace").decode("ascii").rstrip(), WIDTH
    )


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."
