"""The command ``fastnn bench``: its options, and what it does with them. ``fastnn bench compare`` is here too."""

import argparse
import importlib.util
import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastnn
from fastnn.bench.levels import LEVELS, SECTIONS, Level, parse_cases
from fastnn.console import say
from fastnn.datasets import DATASETS

__all__ = ["add_options", "run"]

DONE, FAILED, INTERRUPTED = 0, 1, 130
NEEDED = ("matplotlib", "jinja2", "psutil")
PEERS = ("torch", "jax", "sklearn", "onnxruntime")
PREDICTION_SHARE = 0.2  # of the time that is left, where other libraries predict, too


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Compare the backends on this machine: correctness first, then throughput, accuracy and start-up.\n"
        "With compare, two files of results: which contenders became slower or faster.\n\n"
        "  fastnn bench [quick|standard|full]      about 1, 8 or 45 minutes\n"
        "  fastnn bench gpu                        about 4 minutes on a CUDA device, with PyTorch and JAX on it\n"
        "  fastnn bench compare A.json B.json      exit code 1 where B is slower than A"
    )
    parser.add_argument("level", nargs="?", default="quick", metavar="LEVEL", help=f"{', '.join(LEVELS)}, or compare")
    parser.add_argument("files", nargs="*", metavar="FILE", help="with compare: the results before and after")
    parser.add_argument(
        "--backends", metavar="NAME,...", help="as numpy,numba:bf16; default: all that are ready, or cupy"
    )
    parser.add_argument(
        "--peers", metavar="NAME,...", help=f"other libraries, of {', '.join(PEERS)}; default: none, or all on a device"
    )
    parser.add_argument("--cases", metavar="N-N-N:ROWS,...", help="networks and batch sizes, as 784-128-10:64[:bf16]")
    parser.add_argument("--sections", metavar="NAME,...", help=f"what to measure, of {', '.join(SECTIONS)}")
    words = "the recipe of `fastnn train` whose time to an accuracy is measured; default: quick"
    parser.add_argument("--preset", metavar="NAME", help=words)
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="for all of it; default: the level's")
    parser.add_argument("--dataset", default="auto", help=f"{', '.join(DATASETS)}; default: auto")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads; default: FASTNN_NUM_THREADS, or all")
    parser.add_argument("--out", metavar="DIR", help="where the report is written; default: a new folder here")
    parser.add_argument("--other-machine", action="store_true", help="with compare: though they are of two machines")
    parser.add_argument("--json", action="store_true", help="print the results, or the comparison, as JSON")


def run(options: argparse.Namespace) -> int:
    """``fastnn bench``."""
    from fastnn.commands.options import UsageError

    if options.level == "compare":
        return compare(options)
    if options.level not in LEVELS or options.files:
        words = " ".join([options.level, *options.files])
        raise UsageError(f"expected one of {', '.join(LEVELS)}, or compare A.json B.json, got {words!r}")
    return measure(options)


def measure(options: argparse.Namespace) -> int:
    """Measure, write the report, say the same in ten lines."""
    from fastnn.bench.contenders import find_field
    from fastnn.commands.options import UsageError, load_dataset
    from fastnn.threads import resolve_threads

    require_libraries()
    try:
        threads = resolve_threads(options.threads)
        data = load_dataset(options.dataset)
        level = choose_level(options)
        field = find_field(options.backends, options.peers, threads, level)
        if options.sections is None and any(entry.kind == "peer" for entry in field.predictors.values()):
            level = level._replace(sections={**level.sections, "prediction": PREDICTION_SHARE})
    except ValueError as error:
        raise UsageError(error) from error
    folder = check_folder(options.out)
    results: dict[str, Any] = {}
    say(f"bench {options.level}: {', '.join(field.entries)}; {data.name}; {threads} threads")
    from fastnn.bench import harness
    from fastnn.bench.report.results import clean

    def save() -> None:
        (folder / "results.json").write_text(json.dumps(clean(results), allow_nan=False), encoding="utf-8")

    harness.measure(results, options.level, level, field, data, options.dataset, threads, typed(options), save)
    return finish(results, folder, options)


def choose_level(options: argparse.Namespace) -> Level:
    """The level with what other options change of it."""
    from fastnn.arguments import check_finite
    from fastnn.bench.recipe import read_recipe
    from fastnn.choices import check_choice

    level = LEVELS[options.level]
    if options.preset is not None:
        read_recipe(options.preset)  # says what is wrong with it
        level = level._replace(preset=options.preset)
    if options.cases is not None:
        level = level._replace(cases=parse_cases(options.cases))
    if options.sections is not None:
        names = [check_choice("section", name.strip(), SECTIONS) for name in options.sections.split(",")]
        level = level._replace(sections={name: level.sections.get(name, 0.2) for name in names})
    if options.budget is not None:
        level = level._replace(budget=check_finite("--budget", options.budget))
    return level


def typed(options: argparse.Namespace) -> str:
    """The command, to do it again."""
    words = ["fastnn", "bench", options.level]
    for name in ("backends", "peers", "cases", "sections", "preset", "budget", "dataset", "threads"):
        value = getattr(options, name)
        if value not in (None, "auto"):
            words += [f"--{name}", shlex.quote(str(value))]
    return " ".join(words)


def finish(results: dict[str, Any], folder: Path, options: argparse.Namespace) -> int:
    """Write and print what was found; the exit code says whether anything was wrong with it."""
    from fastnn.bench import harness
    from fastnn.bench.report import table, write_report
    from fastnn.bench.report.results import clean

    written = write_report(results, folder)
    if options.json:
        print(json.dumps(clean(results), allow_nan=False))
    else:
        print(table(results))
        print(f"report: {next(file for file in written if file.name == 'report.html')}")
    for row in results["gate"] or []:
        if not row["passed"]:
            untimed = "; it was not timed" if row["contender"] in results["skipped"] else ""
            say(f"gate: {row['contender']}: {tell(row)}{untimed}")
    if results["interrupted"]:
        say("interrupted: the report has what was measured until then")
        return INTERRUPTED
    return FAILED if harness.has_failed(results) else DONE


def tell(row: dict[str, Any]) -> str:
    if not row["sizes"]:
        return row["quantity"]  # why it could not be checked
    where = "-".join(map(str, row["sizes"]))
    return f"{row['quantity']} of {where} are off by {row['error']:.1e}, allowed is {row['tolerance']:.0e}"


def require_libraries() -> None:
    """What the report is drawn with, asked for before anything is measured."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise fastnn.FastnnError(
            f"the report needs {', '.join(missing)}, not installed here: pip install 'fastnn-mlp[bench]', or in a "
            "clone pip install -e '.[bench]'"
        )


def check_folder(out: str | None) -> Path:
    """The folder for the report, made; what cannot be written should fail before an hour of measuring."""
    folder = Path(out) if out else Path(f"fastnn-bench-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / "results.json"
    probe.touch()
    return folder


def compare(options: argparse.Namespace) -> int:
    """``fastnn bench compare``."""
    from fastnn.bench import comparison
    from fastnn.commands.options import UsageError

    if len(options.files) != 2:
        raise UsageError(f"compare takes two files of results, as A.json B.json, got {len(options.files)}")
    return comparison.run(*options.files, other_machine=options.other_machine, as_json=options.json)
