"""``python -m fastnn.bench.report``: the report again, from a file of results."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fastnn.bench.report import read_results, table, write_report

from fastnn.errors import FastnnError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fastnn.bench.report", description="The report of `fastnn bench` again, from a file of results."
    )
    parser.add_argument("results", metavar="RESULTS.json", type=Path)
    parser.add_argument("--out", metavar="DIR", type=Path, help="default: the folder of the results")
    options = parser.parse_args(arguments)
    try:
        results = read_results(options.results)
        files = write_report(results, options.out or options.results.parent)
    except (FastnnError, OSError) as error:
        print(f"fastnn: {error}", file=sys.stderr)
        return 1
    print(table(results))
    print("\n".join(map(str, files)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
