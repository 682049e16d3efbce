"""The result of `fastnn bench` as a terminal shows it: in a few short lines of ASCII."""

from collections.abc import Mapping, Sequence

from fastnn.bench.report.findings import control_state, title, warnings
from fastnn.bench.report.formatting import case, number, several
from fastnn.bench.report.results import complete, controls, main_case
from fastnn.bench.report.schema import Results
from fastnn.bench.report.sections import overview
from fastnn.bench.verdicts import LEVEL

WIDTH, LINES = 100, 14
COLUMNS = (9, 20, 9, 9, 9, 9)


def table(results: Mapping[str, object]) -> str:
    """The result in at most 14 lines of at most 100 ASCII characters."""
    found = complete(results)
    main, rows, notes = main_case(found), list(overview(found)), [control_line(found), *warning_lines(found)]
    lines = [f"{title(found)}, {found['environment'].get('threads', '?')} threads, {number(found['seconds'])} s"]
    if main and rows:
        lines[0] += f"; samples/s: {case(main)}"
        goals = [f"s to {100 * goal:g} %" for goal in found["accuracy"]["goals"]]
        reference = f"x {found['reference']} [{100 * LEVEL:g} %]"
        lines.append(columns("", ["samples/s", reference, "all cases", "accuracy", *goals]))
        most = LINES - len(lines) - len(notes)
        shown = rows if len(rows) <= most else rows[: most - 1]
        lines += [columns(name, cells) for name, cells in shown]
        lines += [f"  and {len(rows) - len(shown)} more, in the report"] if len(shown) < len(rows) else []
    else:
        lines.append("no throughput was measured")
    return "\n".join(map(ascii_line, lines + notes))


def columns(name: str, cells: Sequence[str]) -> str:
    return f"  {shortened(name, 22):22s}" + "".join(f" {cell:>{n}s}" for cell, n in zip(cells, COLUMNS, strict=False))


def control_line(results: Results) -> str:
    """The control and the gate."""
    rows, gate = controls(results), results["gate"]
    farthest = 100 * max((abs(entry["ratio"] - 1) for entry in rows), default=0)
    where, passed = several(len(rows), "case"), sum(check["passed"] for check in gate)
    control = (
        f"A/A {control_state(results)[0]}, at most {farthest:.1f} % apart in {where}" if rows else "no A/A control"
    )
    checks = f"gate: {passed} of {several(len(gate), 'check')} passed" if gate else "no gate"
    return f"{control}; {checks}" + (", NOT ALL" if passed < len(gate) else "")


def warning_lines(results: Results) -> list[str]:
    said = warnings(results)
    more = [f"! and {several(len(said) - 2, 'more warning')}, in the report"] if len(said) > 2 else []
    return [f"! {line}" for line in said[:2]] + more


def ascii_line(line: str) -> str:
    text = line.replace("±", "+-").replace("µ", "u").encode("ascii", "replace").decode("ascii")
    return shortened(text.rstrip(), WIDTH)


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 2] + ".."
