"""The later sections of the report: kernels, start-up, method, gate, environment, and how to measure the same again."""

import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fastnn.bench.report.formatting import (
    INTERVAL,
    bytes_text,
    flat,
    network,
    number,
    percent,
    plain,
    several,
    si,
    spread,
    unit,
)
from fastnn.bench.report.results import Results, ordered
from fastnn.bench.report.sections import Section, Table
from fastnn.bench.verdicts import LEAST_DIFFERENCE

# ---- kernels, start-up, memory --------------------------------------------------------------------------------------


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


# ---- method and gate ------------------------------------------------------------------------------------------------


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


# ---- this run -------------------------------------------------------------------------------------------------------


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


SECTIONS = (
    roofline_section,
    startup_section,
    method_section,
    gate_section,
    environment_section,
    skipped_section,
    reproduce_section,
)
"""In the order of the report, after those of `report_sections`."""
