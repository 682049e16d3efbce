"""``python -m fastnn.bench.report``: the report again, from a file of results."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fastnn.bench.report import load_results, table, write_report
from fastnn.cli import exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastnn.bench.report", description="The report of `fastnn bench` again, from a file of results."
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: the folder of the results")
    options = parser.parse_args(arguments)
    return exit_code(lambda: make_again(options.results, options.out or options.results.parent))


def make_again(file: Path, folder: Path) -> int:
    results = load_results(file)
    files = write_report(results, folder)
    print(table(results))
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
