"""The figures in README, from a committed file of results: ``python -m fastnn.bench.readme`` writes them anew.

README names the file, in a comment above the figures; ``--check`` says whether they are those of the file. The picture
of them is drawn anew, too.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastnn.bench.contenders import AGAIN
from fastnn.bench.report.formatting import network, ratio
from fastnn.bench.report.plots import throughput
from fastnn.bench.report.results import read_results

from fastnn.cli import exit_code
from fastnn.plots.figures import THEMES, save_figure

FOLDER = Path(__file__).resolve().parent.parent  # of a clone
BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def figures(results: dict[str, Any]) -> str:
    """Markdown: what was measured where, and a row for each network."""
    cases, reference = results["throughput"], results["reference"]
    names = [name for name in results["contenders"] if not name.endswith(AGAIN) and name != reference]
    names = [name for name in names if any(name in case["comparisons"] for case in cases)]
    head = ["network", "batch", f"{reference}, samples/s", *(f"{name}, times as fast" for name in names)]
    lines = [paragraph(results), "", row(head), row(["---", *["---:"] * (len(head) - 1)])]
    for case in cases:
        cells = [ratio(case["comparisons"].get(name)) for name in names]
        speed = f"{case['summary'][reference]['samples_per_second']:,.0f}"
        lines.append(row([network(case["sizes"]), str(case["batch_size"]), speed, *cells]))
    return "\n".join([*lines, "", *accuracies(results)]) + "\n"


def paragraph(results: dict[str, Any]) -> str:
    environment, data = results["environment"], results["dataset"]
    launches, controls = len(results["throughput"][0]["launches"]), [case["control"] for case in results["throughput"]]
    clean = sum(control is not None and control["verdict"] == "no difference" for control in controls)
    where = f"{environment['cpu']}, {environment['threads']} threads, {data['name'].upper()}, {launches} launches"
    return (
        f"Measured by `fastnn bench {results['level']}` on {environment['date'][:10]}: {where}. In brackets are 99 % "
        "intervals; where one holds 1 there is no difference. The control, the same backend under two names, showed no "
        f"difference in {clean} of {len(controls)} cases."
    )


def accuracies(results: dict[str, Any]) -> list[str]:
    """A sentence for each backend."""
    lines = []
    for name, summary in ((results["accuracy"] or {}).get("summary") or {}).items():
        mean, _, least, most = summary["accuracy"]
        spread = f"{100 * least:.2f} to {100 * most:.2f} %, {summary['n']} seeds"
        each = f"{name}: {100 * mean:.2f} % test accuracy on average ({spread})"
        reached = summary["seconds_to"].get("0.98")
        lines.append(f"- {each}{f', 98 % after {reached[1]:.2f} s of training, the median' if reached else ''}.")
    recipe = (results["accuracy"] or {}).get("recipe")
    head = f"The recipe of `--preset quick`, {recipe['epochs']} epochs:\n" if recipe and lines else ""
    return [head, *lines] if head else []


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def renew(text: str) -> str:
    """README's text with the figures that its files of results give."""
    return BLOCK.sub(lambda match: match[1] + figures(read_results(FOLDER / match[2])) + match[3], text)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fastnn.bench.readme", description=__doc__.splitlines()[0])
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
    """The speeds of README's results as a picture, light and dark."""
    for match in BLOCK.finditer(text):
        for theme in THEMES.values():
            figure = throughput(read_results(FOLDER / match[2]), theme)
            save_figure(figure, FOLDER / ".pictures" / f"throughput-{theme.name}.svg")


if __name__ == "__main__":
    sys.exit(exit_code(main))
