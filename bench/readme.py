"""The figures in README, from a committed file of results: ``python -m fastnn.bench.readme`` writes them anew.

README names the file, in a comment above the figures; ``--check`` says whether they are those of the file. The picture
of them is drawn anew, too.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastnn.bench.report import plots
from fastnn.bench.report.formatting import network, number, percent, ratio
from fastnn.bench.report.results import controls, ordered, read_results
from fastnn.bench.report.schema import Results
from fastnn.bench.report.sections import Bullets, Item, Table
from fastnn.bench.report.writing import template
from fastnn.bench.verdicts import SAME
from fastnn.cli import exit_code
from fastnn.plots.figures import THEMES, save_figure

FOLDER = Path(__file__).resolve().parent.parent  # of a clone
BLOCK = re.compile(r"(<!-- (figures|accuracy): (\S+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def figures(results: Results) -> Iterator[Item]:
    """What was measured where, a row for each network, and accuracies."""
    environment, cases, reference = results["environment"], results["throughput"], results["reference"] or ""
    clean = sum(control["verdict"] == SAME for control in controls(results))
    yield (
        f"Measured by `fastnn bench {results['level']}` on {str(environment['date'])[:10]}: {environment['cpu']}, "
        f"{environment['threads']} threads, {str(results['dataset']['name']).upper()}, {len(cases[0]['launches'])} "
        "launches. In brackets are 99 % intervals; where one holds 1 there is no difference. The control, the same "
        f"backend under two names, showed no difference in {clean} of {len(cases)} cases."
    )
    compared = ordered(results, (name for case in cases for name in case["comparisons"]))
    names = [name for name in compared if results["contenders"][name]["kind"] != "control"]
    rows = []
    for case in cases:
        speed = f"{case['summary'][reference]['samples_per_second']:,.0f}"
        ratios = [ratio(case["comparisons"].get(name)) for name in names]
        rows.append([network(case["sizes"]), str(case["batch_size"]), speed, *ratios])
    yield Table(["network", "batch", f"{reference}, samples/s", *(f"{name}, times as fast" for name in names)], rows)
    lines = []
    for name, entry in results["accuracy"]["summary"].items():
        mean, _, least, most = (percent(value, 2) for value in entry["accuracy"])
        line = f"{name}: {mean} test accuracy on average ({least.removesuffix(' %')} to {most}, {entry['n']} seeds)"
        reached = entry["seconds_to"].get("0.98")
        lines.append(f"{line}, 98 % after {reached[1]:.2f} s of training, the median." if reached else f"{line}.")
    if lines:
        yield f"The recipe of `--preset quick`, {results['accuracy']['recipe']['epochs']} epochs:"
        yield Bullets(lines)


def times_to_accuracy(results: Results) -> Iterator[Item]:
    """A row for each contender: seconds to each goal."""
    environment, section = results["environment"], results["accuracy"]
    yield (
        f"Measured by `{results['command']}` on {str(environment['date'])[:10]}: {environment['cpu']}, "
        f"{environment['threads']} threads. Seconds are those of training alone, the median of the seeds, to the end "
        "of the epoch that reached the accuracy; a dash where not all seeds did."
    )
    rows = []
    for name in ordered(results, section["summary"]):
        entry = section["summary"][name]
        mean, _, least, most = (percent(value, 2) for value in entry["accuracy"])
        reached = (entry["seconds_to"].get(str(goal)) for goal in section["goals"])
        times = [number(quartiles[1]) if quartiles else "-" for quartiles in reached]
        last = [run["seconds"][-1] for run in section["runs"] if run["contender"] == name]
        whole = number(sorted(last)[len(last) // 2])
        spread = f"{least.removesuffix(' %')} to {most}, {entry['n']} seeds" if entry["n"] > 1 else "1 seed"
        rows.append([name, *times, whole, f"{mean} ({spread})"])
    goals = [f"s to {100 * goal:g} %" for goal in section["goals"]]
    yield Table(["contender", *goals, "s, the whole run", "test accuracy at the end"], rows)


KINDS = {"figures": (figures, plots.throughput, "throughput"), "accuracy": (times_to_accuracy, plots.accuracy, "time")}


def renew(text: str) -> str:
    """README's text with the figures that its files of results give."""

    def block(match: re.Match[str]) -> str:
        items = list(KINDS[match[2]][0](read_results(FOLDER / match[3])))
        return f"{match[1]}{template('items.md').render(items=items).rstrip()}\n{match[4]}"

    return BLOCK.sub(block, text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastnn.bench.readme", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the figures are others")
    options = parser.parse_args(arguments)
    file = FOLDER / "README.md"
    before = file.read_text(encoding="utf-8")
    after = renew(before)
    if options.check:
        print("README's figures are those of its results" if after == before else "README's figures are others")
        return int(after != before)
    file.write_text(after, encoding="utf-8")
    draw(after)
    return 0


def draw(text: str) -> None:
    """Each of README's results as a picture, light and dark."""
    for match in BLOCK.finditer(text):
        _, plot, name = KINDS[match[2]]
        for theme in THEMES.values():
            if figure := plot(read_results(FOLDER / match[3]), theme):
                save_figure(figure, FOLDER / ".pictures" / f"{name}-{theme.name}.svg")


if __name__ == "__main__":
    sys.exit(exit_code(main))
