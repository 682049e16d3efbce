"""The sections of the report: each yields paragraphs, tables and names of figures, and nothing if it was not measured.

`make_sections` puts them together. Contenders and cases are those of the results, in their order.
"""

import functools
import re
import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from fastnn.bench.report import findings, formatting
from fastnn.bench.report.formatting import INTERVAL, case, network, number, percent, plain, ratio, several, si, spread
from fastnn.bench.report.results import cases, main_case, measured, measured_peaks, ordered, overall
from fastnn.bench.report.schema import Case, Check, Distance, Kernel, Reached, Results, Summary
from fastnn.bench.verdicts import LEAST_DIFFERENCE, LEVEL, quartiles

Entry = TypeVar("Entry")


class Table(NamedTuple):
    """Cells as text; a row of one cell is a heading of the rows below it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    left: int = 1  # columns that are aligned at the left


class Figure(NamedTuple):
    """The name of a figure of `plots`."""

    figure: str


class Bullets(NamedTuple):
    """Lines of a list."""

    bullets: list[str]


class Code(NamedTuple):
    """Commands of a shell."""

    code: str


Item = str | Bullets | Table | Figure | Code  # a str is a paragraph


class Section(NamedTuple):
    """A part of the report."""

    id: str
    title: str
    items: list[Item]


def make_sections(results: Results, figures: Collection[str]) -> Iterator[Section]:
    """The sections that have something to say, with those of the figures that were drawn."""
    for name, (title, make) in SECTIONS.items():
        full = (item for item in make(results) if not isinstance(item, Table) or item.rows)
        items = [item for item in full if not isinstance(item, Figure) or item.figure in figures]
        if items:
            yield Section(name, title, items)


def by_contender(
    results: Results, found: Mapping[str, Entry], cells: Callable[[Entry], list[str]], suffix: str = ""
) -> list[list[str]]:
    """A row for each contender."""
    return [[name + suffix, *cells(found[name])] for name in ordered(results, found)]


def by_case(results: Results, columns: Sequence[tuple[Case, Mapping[str, str]]], caption: str) -> Table:
    """A row for each contender, a column for each case."""
    names = ordered(results, (name for _, cells in columns for name in cells))
    rows = [[name, *(cells.get(name, "-") for _, cells in columns)] for name in names]
    return Table(["contender", *(case(row, "\n") for row, _ in columns)], rows, caption)


# ---- the result -----------------------------------------------------------------------------------------------------


def answer(results: Results) -> Iterator[Item]:
    yield from findings.answer(results)
    main, goals = main_case(results), results["accuracy"]["goals"]
    head = ["contender", "samples/s", f"times as fast as {results['reference'] or 'reference'}", "all cases"]
    head += ["test accuracy", *(f"s to {100 * goal:g} %" for goal in goals)]
    caption = f"Samples/s and ratio with its {INTERVAL}: {case(main)}. " if main else ""
    caption += f"All cases: geometric mean of the ratios of {several(len(cases(results)), 'case')}."
    yield Table(head, [[name, *cells] for name, cells in overview(results)], caption)


def overview(results: Results) -> Iterator[tuple[str, list[str]]]:
    """(contender, cells): what the first table and the terminal's show of each."""
    main, accuracy = main_case(results), results["accuracy"]
    for name in measured(results):
        entry, reached = main and main["summary"].get(name), accuracy["summary"].get(name)
        comparison = "1" if name == results["reference"] else ratio(main and main["comparisons"].get(name))
        times = [reached["seconds_to"].get(str(goal)) if reached else None for goal in accuracy["goals"]]
        mean = overall(results, name)
        cells = [si(entry["samples_per_second"] if entry else None), comparison if entry else "-"]
        cells += ["-" if mean is None else f"{mean:.2f}", percent(reached["accuracy"][0] if reached else None, 2)]
        yield name, cells + [number(quartiles[1] if quartiles else None) for quartiles in times]


def warnings(results: Results) -> Iterator[Item]:
    if said := findings.warnings(results):
        yield Bullets(said)


# ---- times ----------------------------------------------------------------------------------------------------------


def throughput(results: Results) -> Iterator[Item]:
    rows = []
    for row in cases(results):
        peaks = measured_peaks(row)
        peak = f"; the machine's peak: {si(statistics.median(peaks), 'FLOP/s')}" if peaks else ""
        rows.append([f"{case(row)}: {row['steps']} steps an epoch{peak}"])
        rows += by_contender(results, row["summary"], functools.partial(speed_cells, steps=row["steps"]))
    if rows:
        yield "Medians of epochs of training, with quartiles. n counts the epochs or groups of epochs measured."
    yield Figure("throughput")
    yield Table(["contender", "s an epoch [quartiles]", "µs a step", "samples/s", "FLOP/s", "of peak", "n"], rows)


def speed_cells(entry: Summary, steps: int) -> list[str]:
    speeds = [si(entry["samples_per_second"]), si(entry["flops_per_second"]), percent(entry["share_of_peak"])]
    return [spread(entry["seconds"]), number(1e6 * entry["seconds"][1] / steps), *speeds, str(entry["n"])]


def comparison(results: Results) -> Iterator[Item]:
    """The matrix of ratios, and the control with them."""
    controls = [(case(row), row["control"]) for row in results["throughput"] if row["control"]]
    if controls:
        yield findings.control_text(results)
        yield f"Of all {INTERVAL}s, {100 * (1 - LEVEL):g} % miss the true ratio by chance."
    yield Figure("control")
    columns = [
        (row, {name: f"{ratio(entry)}\n{entry['verdict']}" for name, entry in row["comparisons"].items()})
        for row in cases(results)
        if row["comparisons"]
    ]
    reference, (one, other) = results["reference"] or "the reference", results["control"] or ("", "")
    yield by_case(results, columns, f"Times as fast as {reference} [{INTERVAL}], and the verdict.")
    rows = [[where, ratio(entry, 3), entry["verdict"]] for where, entry in controls]
    head, caption = f"ratio [{INTERVAL}]", f"{other} against {one}: the same program, in another process."
    yield Table(["A/A control", head, "verdict"], rows, caption)


def crossover(results: Results) -> Iterator[Item]:
    section = results["crossover"]
    cells = {(cell["width"], cell["batch_size"]): cell for cell in section["cells"]}
    if not cells:
        return
    yield (
        "The fastest contender by width of the hidden layer and size of the mini-batch, and how many times as fast it "
        "is as the second. Undecided: the interval does not exclude that the second is as fast."
    )
    yield Figure("crossover")
    rows = []
    for batch_size in section["batch_sizes"]:
        found = [cells.get((width, batch_size)) for width in section["widths"]]
        text = [f"{cell['fastest'] or 'undecided'}\n{ratio(cell['ahead'])}" if cell else "not run" for cell in found]
        rows.append([str(batch_size), *text])
    yield Table(["batch", *(f"{width} units" for width in section["widths"])], rows, left=0)


# ---- accuracy and losses --------------------------------------------------------------------------------------------


def accuracy(results: Results) -> Iterator[Item]:
    section = results["accuracy"]
    if not section["summary"] and not section["runs"]:
        return
    recipe = ", ".join(f"{key.replace('_', ' ')} {plain(value)}" for key, value in section["recipe"].items())
    yield (
        f"Recipe: {recipe or 'not recorded'}. Seconds are those of training alone; a goal counts from the end of the "
        "epoch that reached it, and only if all runs did."
    )
    yield Figure("accuracy")

    def cells(entry: Reached) -> list[str]:
        mean, _, least, most = (percent(value, 2) for value in entry["accuracy"])
        times = [spread(entry["seconds_to"].get(str(goal))) for goal in section["goals"]]
        reached = f"{mean} {formatting.deviation(entry)}".rstrip()
        return [reached, f"{least.removesuffix(' %')} to {most}", *times, str(entry["n"])]

    goals = [f"s to {100 * goal:g} % [quartiles]" for goal in section["goals"]]
    head = ["contender", "test accuracy", "least to most", *goals, "runs"]
    yield Table(head, by_contender(results, section["summary"], cells))


def curves(results: Results) -> Iterator[Item]:
    section = results["curves"]
    if not section["losses"]:
        return
    yield (
        f"Loss of each mini-batch of {case(section)}, seed {section['seed']}, {section['optimizer']}: the same weights "
        f"and samples for all, and for the reference ({section['reference']}). "
        + ("Each stays within the tolerance." if section["passed"] else "NOT all stay within the tolerance.")
    )
    yield (
        "In float32 a run follows the reference until rounding takes a unit to the other side of the corner of a "
        "ReLU; from there on the distance grows, and where that happens differs from machine to machine."
    )
    yield Figure("loss_curves")

    def cells(tolerance: float | None, entry: Distance) -> list[str]:
        return [formatting.error(entry["largest"]), str(entry["step"]), f"{tolerance:g}" if tolerance else "-"]

    single, double = (functools.partial(cells, section[key]) for key in ("tolerance", "tolerance_float64"))
    rows = by_contender(results, section["divergence"], single)
    rows += by_contender(results, section["divergence_float64"], double, ", float64")
    yield Table(["contender", "largest relative distance", "at mini-batch", "tolerance"], rows)


# ---- kernels, start-up, memory --------------------------------------------------------------------------------------


def roofline(results: Results) -> Iterator[Item]:
    section = results["roofline"]
    peaks, bandwidths = section["peaks"], section["bandwidths"]
    if peaks and bandwidths:
        yield (
            f"Measured on {several(section['threads'] or 1, 'thread')}: {si(statistics.median(peaks), 'FLOP/s')} "
            f"({si(min(peaks))} to {si(max(peaks))}) and {si(statistics.median(bandwidths), 'B/s')} "
            f"({si(min(bandwidths))} to {si(max(bandwidths))}). Bytes are those that a kernel has to move if nothing "
            "is in a cache, so a kernel whose operands stay in one may lie above the slope."
        )
    yield Figure("roofline")
    groups: dict[str, list[list[str]]] = {}
    for row in section["kernels"]:
        if row["seconds"]:
            cells = [row["contender"], *kernel_cells(row, peaks, bandwidths)]
            groups.setdefault(f"{row['kernel']}, {row['shape']}", []).append(cells)
    rows = [line for name, lines in groups.items() for line in ([name], *lines)]
    head = ["µs a call [quartiles]", "FLOP/s", "B/s", "FLOP/byte", "of the roof", "error", "tolerance"]
    yield Table(["kernel", *head], rows)


def kernel_cells(row: Kernel, peaks: Sequence[float], bandwidths: Sequence[float]) -> list[str]:
    flops, moved, (low, median, high) = row["flops"], row["bytes"], quartiles(row["seconds"])
    share = None
    if peaks and bandwidths:
        share = max(flops / statistics.median(peaks), moved / statistics.median(bandwidths)) / median
    cells = [spread((low, median, high), 1e6), si(flops / median), si(moved / median)]
    errors = ["-" if value is None else f"{value:.1e}" for value in (row["error"], row["tolerance"])]
    return [*cells, number(flops / moved if moved else None), percent(share, 0), *errors]


def startup(results: Results) -> Iterator[Item]:
    """What is paid before the first mini-batch, and memory."""
    head, rows = ["contender", "import", "compile, cold", "compile, from cache", "first mini-batch"], []
    for row in results["startup"]:
        compiling = row["compile_cold_seconds"], row["compile_warm_seconds"]
        times = row["import_seconds"], *compiling, row["first_batch_seconds"]
        rows.append([row["contender"], *(si(value, "s") for value in times)])
    yield Table(head, rows, "Start-up; a dash where nothing is compiled.")
    with_memory = [row for row in results["throughput"] if row["memory"]]
    columns = [(row, {name: memory(entry) for name, entry in row["memory"].items()}) for row in with_memory]
    yield by_case(results, columns, "Most memory of the whole process.")


def memory(entry: Mapping[str, float | None]) -> str:
    device = entry.get("device_peak")
    host = formatting.mebibytes(entry.get("host_peak"))
    return f"{host}\ndevice {formatting.mebibytes(device)}" if device else host


def prediction(results: Results) -> Iterator[Item]:
    """A column for each number of samples: microseconds of a call, and the ratio."""
    section = results["prediction"]
    columns = section["rows"]
    if not columns:
        return
    yield (
        f"Labels of some samples at once by a network {network(section['sizes'])}: medians of the microseconds of a "
        "call, with quartiles. Samples are float32; on fastnn it is `net.predict`, checks of the input included."
    )
    rows = []
    for name in ordered(results, columns[0]["seconds"]):
        pairs = [(row["seconds"].get(name), row["comparisons"].get(name)) for row in columns]
        rows.append([name, *(f"{spread(seconds, 1e6)}\n{ratio(entry)}" for seconds, entry in pairs)])
    head = ["contender", *(f"{row['samples']:,}" for row in columns)]
    yield Table(head, rows, f"µs a call, and how many times as fast as {section['reference']} [{INTERVAL}].")


# ---- method and gate ------------------------------------------------------------------------------------------------


METHOD = (
    "Each contender trains in a process of its own, so that no thread pool, allocator or cache of one disturbs "
    "another; only one runs at a time, all on the same cores with as many threads. Those that are not running are "
    "suspended: the threads of a BLAS look for work for up to 0.2 s after the last product, and would take a core from "
    "the next. All begin with the same weights and see the same samples in the same order; scikit-learn alone draws an "
    "order of its own.",
    "Before anything is timed, outputs, loss, gradients and updates of the weights of each backend, and each of its "
    "kernels, are compared with a float64 reference in plain numpy (the gate). A backend that fails is not timed. The "
    "losses of every contender's first 20 mini-batches have to be those of a plain float32 training in the same order.",
    "Measurements are interleaved: in each round every contender trains in turn, in an order drawn anew, so that what "
    "slows the machine for a while slows all of them. Processes are started anew for each launch, because the layout "
    "of memory and the place on the cores stay the same within one. Compilation and the first epochs are left out.",
    "A time is the median over all rounds of all launches, with quartiles. A ratio is the median of the ratios of "
    f"times that were measured in the same round. Its {INTERVAL} is a bootstrap that draws launches first, then rounds "
    "within each (Kalibera and Jones, 2013).",
    "The verdict is faster or slower if the interval excludes 1 and the ratio differs from 1 by more than "
    f"{100 * LEAST_DIFFERENCE:g} %; else it is no difference, which means that none was found, not that there is none.",
    "The A/A control is a second process of a contender, measured like all others. A difference found there is not "
    "real: it shows the size of differences that this machine shows between equal programs. The machine's peak is "
    "measured beside the contenders, because that of a shared machine changes.",
)


def method(results: Results) -> Iterator[Item]:
    yield from METHOD


def gate(results: Results) -> Iterator[Item]:
    """Each error and its tolerance: networks, then kernels, whose names tell their shape."""
    checks = [check for check in results["gate"] if check["sizes"]]
    if checks:
        yield "Largest error relative to the largest value of the float64 reference, and the tolerance."
    for check in results["gate"]:
        if not check["sizes"]:
            yield f"{check['contender']} could not be checked: {check['quantity']}"
    networks: dict[tuple[str, ...], dict[str, Check]] = {}
    kernels: dict[tuple[str, ...], dict[str, Check]] = {}
    for check in checks:
        name, quantity = check["contender"], check["quantity"]
        if re.search(r"\d", quantity):
            kernels.setdefault((quantity,), {})[name] = check
        else:
            networks.setdefault((name, network(check["sizes"])), {})[quantity] = check
    yield gate_table(["contender", "network"], networks)
    yield gate_table(["kernel"], kernels)


def gate_table(head: Sequence[str], found: Mapping[tuple[str, ...], Mapping[str, Check]]) -> Table:
    columns = list(dict.fromkeys(column for row in found.values() for column in row))
    rows = [[*names, *(gate_cell(row.get(column)) for column in columns)] for names, row in found.items()]
    return Table([*head, *columns], rows, left=len(head))


def gate_cell(check: Check | None) -> str:
    if check is None:
        return "-"
    failed = "" if check["passed"] else " FAILED"
    return f"{formatting.error(check['error'])} of {check['tolerance']:.0e}{failed}"


# ---- this run -------------------------------------------------------------------------------------------------------


def environment(results: Results) -> Iterator[Item]:
    run = {key: results.get(key) for key in ("command", "level", "seconds", "budget") if results.get(key) is not None}
    told = run | {"data set": results["dataset"]} | results["environment"]
    yield Table(["", ""], [[key.replace("_", " "), plain(value, key)] for key, value in told.items()], left=2)
    rows = [
        [name, *(plain(entry.get(key)) for key in ("state", "reason", "remedy"))]
        for name, entry in results["backends"].items()
    ]
    yield Table(["backend", "state", "reason", "remedy"], rows, left=4)


def skipped(results: Results) -> Iterator[Item]:
    measured = {
        "gate": results["gate"],
        "throughput": results["throughput"],
        "roofline": results["roofline"]["kernels"],
        "accuracy": results["accuracy"]["runs"],
        "curves": results["curves"]["losses"],
        "crossover": results["crossover"]["cells"],
        "startup": results["startup"],
    }
    missing = {part: "not measured in this run" for part, found in measured.items() if not found}
    yield Table(["what", "why"], list((results["skipped"] | missing).items()), left=2)


def limits(results: Results) -> Iterator[Item]:
    if said := findings.limits(results):
        yield Bullets(said)


def reproduce(results: Results) -> Iterator[Item]:
    yield "All samples are in `results.json`, beside this file."
    commit = results["environment"].get("commit")
    lines = [f"git checkout {commit}"] if commit else []
    lines += ["pip install -e '.[bench]'", results["command"] or "fastnn bench"]
    lines += ["", "# this report again, from its figures", "python -m fastnn.bench.report results.json"]
    yield Code("\n".join(lines))


SECTIONS: dict[str, tuple[str, Callable[[Results], Iterator[Item]]]] = {
    "answer": ("Result", answer),
    "warnings": ("Warnings", warnings),
    "throughput": ("Throughput", throughput),
    "comparison": ("Comparison and control", comparison),
    "accuracy": ("Accuracy", accuracy),
    "curves": ("Loss curves", curves),
    "crossover": ("Fastest by width and batch size", crossover),
    "prediction": ("Prediction", prediction),
    "limits": ("Checks on the device", limits),
    "roofline": ("Kernels and roofline", roofline),
    "startup": ("Start-up and memory", startup),
    "method": ("Method", method),
    "gate": ("Correctness gate", gate),
    "environment": ("Environment", environment),
    "skipped": ("Left out", skipped),
    "reproduce": ("Reproduce", reproduce),
}
"""By anchor, in the order of the report."""
