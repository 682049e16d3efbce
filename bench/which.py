"""``fastnn which``: the fastest backend here for a network, measured for some seconds; and where the time goes."""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

import fastnn
from fastnn import measured

__all__ = ["add_options", "run"]

SCHEMA_VERSION = 1
EPOCH = 60_000  # samples, for the times of an epoch
LAUNCHES = 2
PARTS = {  # of a step, and the kernels that are counted to them
    "GEMM": ("dense", "input_gradient", "dense_sgd"),  # with bias, activation and update, which are fused
    "elementwise": ("loss_gradient", "gather_targets"),
    "gather": ("gather",),
}
LAUNCH = "launch and other"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.description = (
        "Measure the backends on a network of random weights and samples, trained by plain SGD: who is the fastest "
        "here, where the time of a step goes, and after how many epochs a slower start is paid back."
    )
    parser.add_argument("--layers", default="784,128,10", metavar="N,N,...", help="default: 784,128,10")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="default: 64")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: FASTNN_NUM_THREADS, or all")
    parser.add_argument("--backends", metavar="NAME,...", help="as numpy,numba:bf16; default: all that are ready")
    parser.add_argument("--seconds", type=float, default=6.0, metavar="X", help="to measure the steps for; default: 6")
    parser.add_argument("--save", action="store_true", help="let backend 'auto' take the answer for such networks")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """``fastnn which``."""
    from fastnn.arguments import check_count, check_finite, check_sizes
    from fastnn.bench.contenders import find_field
    from fastnn.commands.options import UsageError, parse_layers
    from fastnn.threads import resolve_threads

    try:
        sizes = check_sizes(parse_layers(options.layers))
        if sizes[-1] < 2:
            raise ValueError("the network is trained to tell classes apart: it needs two outputs or more")
        batch_size = check_count("--batch-size", options.batch_size)
        seconds = check_finite("--seconds", options.seconds)
        threads = resolve_threads(options.threads)
        field = find_field(options.backends, None, threads)
    except ValueError as error:
        raise UsageError(error) from error
    answer = measure(sizes, batch_size, field.without(set(field.entries) - set(field.of("backend"))), threads, seconds)
    if options.save:
        answer["saved"] = save(answer)
    if options.json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "command": "which", **answer}, allow_nan=False))
    else:
        show(answer)
    return 0


# ---- measurement ----------------------------------------------------------------------------------------------------


def measure(sizes: tuple[int, ...], batch_size: int, field: Any, threads: int, seconds: float) -> dict[str, Any]:
    """Steps, kernels and start-up of each backend: a level of one case, on random samples."""
    from fastnn.bench import sections, startup
    from fastnn.bench.levels import Case, Level

    case = Case(sizes, batch_size, batch_size * max(8, 4096 // batch_size))
    level = Level(budget=seconds, sections={}, cases=(case,), launches=LAUNCHES, kernel_networks=(sizes,))
    quiet = {"tick": lambda what: None, "peak": lambda: None}
    setting = sections.Setting(level, field, None, "", threads, np.random.default_rng(), **quiet)
    (result,) = sections.throughput(setting, time.monotonic() + seconds)
    if not result["summary"]:
        reasons = "; ".join(f"{name}: {why}" for name, why in result["skipped"].items())
        raise fastnn.FastnnError(f"no backend could be measured: {reasons}")
    rows = {}
    for name, summary in result["summary"].items():
        entry, took = field.entries[name], [second / result["steps"] for second in summary["seconds"]]
        rows[name] = {
            "seconds_a_step": took,
            "parts": divide(took[1], time_kernels(setting, name, case)),
            "startup": startup.measure(entry.backend, entry.precision, threads, sizes, batch_size),
            "versus": result["comparisons"].get(name),
        }
    return {
        "layers": list(sizes),
        "batch_size": batch_size,
        "threads": threads,
        "backends": rows,
        "reference": field.reference,
        "fastest": result["fastest"] or (next(iter(rows)) if len(rows) == 1 else None),
        "ahead": result["ahead"],
        "paid_back": {name: paid_back(rows, name, batch_size) for name in rows},
        "skipped": result["skipped"] | field.skipped,
        "saved": None,
    }


def time_kernels(setting: Any, name: str, case: Any) -> dict[str, float]:
    """Seconds of a step in each kernel: medians."""
    from fastnn.bench import jobs, sections

    only, entry = [kernel for kernels in PARTS.values() for kernel in kernels], setting.field.entries[name]
    result = dict.fromkeys(only, 0.0)
    with setting.crew({name: entry}) as workers:
        asked = (entry.backend, entry.precision, case.sizes, case.batch_size, setting.threads, only)
        for row in sections.attempt(workers, name, jobs.prepare_kernels, *asked) or []:
            samples = [workers.call(name, jobs.time_kernel, row["index"], 2e-3) for _ in range(7)]
            result[row["kernel"]] += statistics.median(samples)
    return result


def divide(step: float, kernels: dict[str, float]) -> dict[str, float]:
    """Shares of a step; what its kernels do not take, each timed by itself, is the rest."""
    seconds = {part: sum(kernels[kernel] for kernel in names) for part, names in PARTS.items()}
    whole = max(step, sum(seconds.values()))  # the machine may have been slower when it timed the kernels
    return {part: took / whole for part, took in seconds.items()} | {LAUNCH: 1 - sum(seconds.values()) / whole}


def paid_back(rows: dict[str, Any], name: str, batch_size: int) -> float | None:
    """Epochs after which a backend has made up for starting later than the quickest starter; None if never."""
    first = min(rows, key=lambda other: total(rows[other]["startup"]))
    late = total(rows[name]["startup"]) - total(rows[first]["startup"])
    steps = EPOCH / batch_size
    gain = steps * (rows[first]["seconds_a_step"][1] - rows[name]["seconds_a_step"][1])
    if name == first:
        return 0.0
    return late / gain if gain > 0 else None


def total(start: dict[str, float]) -> float:
    return sum(took for part, took in start.items() if part.endswith("_seconds"))


# ---- the answer -----------------------------------------------------------------------------------------------------


def save(answer: dict[str, Any]) -> str | None:
    """Have auto take it; the file, or None where nobody is surely the fastest."""
    if answer["fastest"] is None:
        return None
    backend = answer["fastest"].split(" ")[0]
    return str(measured.save_fastest(answer["layers"], answer["batch_size"], answer["threads"], backend))


def show(answer: dict[str, Any]) -> None:
    sizes, rows = "-".join(map(str, answer["layers"])), answer["backends"]
    print(f"network  {sizes}, batches of {answer['batch_size']}, plain SGD, float32; {answer['threads']} threads\n")
    width = max(map(len, rows))
    print(f"{'':{width}s}  us a step [quartiles]     samples/s  times as fast as {answer['reference']} [99 %]")
    for name, row in rows.items():
        low, middle, high = (1e6 * took for took in row["seconds_a_step"])
        times = f"{middle:.0f} [{low:.0f}, {high:.0f}]"
        print(f"{name:{width}s}  {times:22s} {answer['batch_size'] / middle * 1e6:12,.0f}  {describe(row['versus'])}")
    parts = [*PARTS, LAUNCH]
    print(f"\n{'':{width}s}  {'  '.join(f'{part:>11s}' for part in parts)}   compile   import  of a step; s")
    for name, row in rows.items():
        shares = (row["parts"] or {}).get
        cells = "  ".join(f"{share:11.0%}" if (share := shares(p)) is not None else f"{'-':>11s}" for p in parts)
        start = row["startup"]
        print(f"{name:{width}s}  {cells}   {start['compile_seconds']:7.2f}  {start['import_seconds']:7.2f}")
    print("kernels were timed each by itself, which leaves them more of the caches than a step does\n")
    print("\n".join(conclusion(answer)))


def describe(versus: dict[str, Any] | None) -> str:
    if versus is None:
        return "1"
    return f"{versus['ratio']:.2f} [{versus['low']:.2f}, {versus['high']:.2f}] {versus['verdict']}"


def conclusion(answer: dict[str, Any]) -> list[str]:
    """Who is the fastest, when its start is paid back, and what auto makes of it."""
    lines = []
    for name, epochs in answer["paid_back"].items():
        if epochs and epochs > 0:
            lines.append(f"{name} starts later, which is paid back after {epochs:.1f} epochs of {EPOCH:,} samples")
    lines += [f"{name} left out: {why}" for name, why in answer["skipped"].items()]
    if answer["fastest"] is None:
        lines.append("fastest  no difference that these seconds show; --seconds gives it more")
    else:
        lines.append(f"fastest  {answer['fastest']}")
    if answer["saved"]:
        lines.append(f"auto takes it for networks of these layers from now on: {answer['saved']}")
    return lines
