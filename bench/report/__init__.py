"""The report of `fastnn bench`, made from nothing but its results: ``python -m fastnn.bench.report results.json``.

Results (`results`) become sentences (`findings`), tables (`sections`, `appendix`) and figures (`plots`); `writing` and
`terminal` show them.
"""

from fastnn.bench.report.results import load_results, read_results
from fastnn.bench.report.terminal import table
from fastnn.bench.report.writing import write_report

__all__ = ["load_results", "read_results", "table", "write_report"]
