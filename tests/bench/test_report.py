"""The report of `fastnn bench`: it says what the results say, whatever is missing, and needs no other file."""

import json
import math
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bench_results import SPEED, make_results, only

import fastnn
from fastnn.bench import report
from fastnn.bench.report import __main__ as report_again
from fastnn.bench.report import findings, formatting, plots, roofline_plot, sections, terminal
from fastnn.bench.report.plot_style import style
from fastnn.bench.report.results import complete, measured_peaks
from fastnn.plots.figures import THEMES

for _name in ("matplotlib", "jinja2"):
    pytest.importorskip(_name, reason=f"{_name} is an extra: pip install 'fastnn-mlp[bench]'")

SECTIONS = ("gate", "throughput", "roofline", "accuracy", "curves", "crossover", "startup")
HEADERS = ("environment", "dataset", "backends", "contenders", "skipped")
VOID = {"meta", "img", "source"}
FIGURES = dict(plots.DRAWN)
LIGHT, DARK = THEMES["light"], THEMES["dark"]


class Page(HTMLParser):
    """Tags that are not closed, texts, loads and alternative texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.loads, self.pictures, self.alts, self.words = [], [], 0, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.loads += [attributes[key] for key in ("src", "srcset", "href") if key in attributes]
        self.pictures += tag == "picture"
        if tag == "img":
            assert "picture" in self.open
            self.alts.append(attributes["alt"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def results():
    return make_results()


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    """A complete report."""
    folder = tmp_path_factory.mktemp("report")
    files = report.write_report(results, folder)
    assert files[0] == folder / "results.json"
    assert sorted(files) == sorted(file for file in folder.rglob("*") if file.is_file())
    return folder


@pytest.fixture
def text_only(monkeypatch):
    """Figures are what takes long; they have tests of their own."""
    monkeypatch.setattr(plots, "DRAWN", {})


@pytest.fixture
def unsaved(monkeypatch):
    """Figures are made, and not written."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)


def render(results, folder):
    """(report.md, page) of results, after the terminal's table, which has to be there as well."""
    lines = report.table(results).splitlines()
    assert 2 <= len(lines) <= terminal.LINES
    assert all(line.isascii() and len(line) <= terminal.WIDTH for line in lines)
    report.write_report(results, folder)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    return (folder / "report.md").read_text(encoding="utf-8"), page


def draw(results, names=tuple(FIGURES)):
    """Names of the figures that there are; each is laid out, in which fonts and sizes could fail."""
    drawn = []
    for name in names:
        figure = FIGURES[name](complete(results), LIGHT)
        if figure is not None:
            figure.draw_without_rendering()
            drawn.append(name)
    return drawn


# ---- a complete report ----------------------------------------------------------------------------------------------


def test_page_is_whole_and_loads_nothing(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.pictures == len(page.alts) == len(FIGURES)
    assert all(page.alts)
    assert all(load.startswith(("data:image/", "#")) for load in page.loads)
    assert not re.search(r"https?://|url\(|@import", text)


def test_anchors_lead_to_sections(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    anchors = [load[1:] for load in Page(text).loads if load.startswith("#")]
    assert len(anchors) >= 12
    assert all(f'<section id="{anchor}"' in text for anchor in anchors)


def test_page_has_both_themes(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert text.count('<source media="(prefers-color-scheme: dark)"') == len(FIGURES)
    assert "@media (prefers-color-scheme: dark)" in text


def test_markdown_links_the_plots(folder):
    links = re.findall(r"!\[.+\]\((.+)\)", (folder / "report.md").read_text(encoding="utf-8"))
    assert {link.removeprefix("plots/").removesuffix(".png") for link in links} == set(FIGURES)
    for link in links:
        assert (folder / link).read_bytes().startswith(b"\x89PNG")


def test_markdown_tables_have_equal_rows(folder):
    tables = re.findall(r"(?:^\|.*\|\n)+", (folder / "report.md").read_text(encoding="utf-8"), re.M)
    assert len(tables) >= 10
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_results_come_back(folder, results):
    assert report.load_results(folder / "results.json") == json.loads(json.dumps(results))
    assert report.read_results(folder / "results.json") == complete(results)


def test_report_is_made_anew_from_its_results(folder, tmp_path, capsys, text_only):
    assert report_again.main([str(folder / "results.json"), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.json").read_bytes() == (folder / "results.json").read_bytes()
    assert "784-128-10, batch 64" in capsys.readouterr().out


def test_a_reader_who_leaves_is_no_error(folder, tmp_path):
    command = [sys.executable, "-m", "fastnn.bench.report", str(folder / "results.json"), "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 1


def test_answer_comes_first_and_is_that_of_the_results(folder, results):
    words = "".join(Page((folder / "report.html").read_text(encoding="utf-8")).words)
    ratios = [row["comparisons"]["numba"]["ratio"] for row in results["throughput"]]
    claim = f"numba is the fastest backend here: {statistics.geometric_mean(ratios):.2f} times as fast as numpy"
    assert words.index(claim) < words.index("Throughput\n") < words.index("Method\n")
    assert f"All {len(results['gate'])} checks" in words
    assert "The A/A control (numba, again against numba) differs" in words  # as code, no markup
    assert "clean" in words


# ---- the terminal's table -------------------------------------------------------------------------------------------


def test_table_says_the_medians_of_the_results(results):
    text = report.table(results)
    main = next(row for row in results["throughput"] if row["sizes"] == [784, 128, 10])
    assert "784-128-10, batch 64" in text
    for name in SPEED:
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        seconds = [value for launch in main["launches"] for value in launch["seconds"][name]]
        said = re.search(r"([\d.]+) k", line)
        assert float(said[1]) * 1000 == pytest.approx(main["samples"] / statistics.median(seconds), rel=0.01)
        if name != "numpy":
            assert f"{main['comparisons'][name]['ratio']:.2f} [" in line


def test_table_stays_short(results):
    many = make_results()
    for row in many["throughput"]:
        for i in range(20):
            row["summary"][f"peer of a rather long name, number {i}"] = row["summary"]["numba"]
    many |= {"interrupted": True, "dataset": {"name": "digits", "note": "no network " * 20}}
    many["environment"] |= {"dirty": True, "cgroup_quota": 1.5}
    lines = report.table(many).splitlines()
    assert len(lines) <= terminal.LINES
    assert all(len(line) <= terminal.WIDTH for line in lines)
    assert any("more, in the report" in line for line in lines)


# ---- parts are missing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [None, "empty"])
@pytest.mark.parametrize("name", [*SECTIONS, *HEADERS])
def test_each_section_may_be_missing(results, name, nothing, tmp_path, text_only):
    empty = None if nothing is None else type(results[name])()
    text, page = render(results | {name: empty}, tmp_path)
    if name in SECTIONS:
        assert f"| {name} | not measured in this run |" in text
        assert "not measured in this run" in page.words


@pytest.mark.parametrize("name", SECTIONS)
def test_figures_without_a_section(results, name, monkeypatch):
    monkeypatch.setattr(roofline_plot, "_label_kernels", lambda *_: None)  # which lays the figure out
    missing = {"throughput": {"throughput", "control"}, "curves": {"loss_curves"}, "gate": set(), "startup": set()}
    without = results | {name: None}
    none = {figure for figure, make in FIGURES.items() if make(complete(without), LIGHT) is None}
    assert none == missing.get(name, {name})


def test_nothing_measured_at_all(tmp_path):
    bare = {"schema_version": 1, "kind": "fastnn bench"}
    text, _ = render(bare | dict.fromkeys((*SECTIONS, *HEADERS, "reference", "control")), tmp_path)
    assert "Throughput was not measured" in text
    render(bare, tmp_path)
    assert draw(bare) == []


def test_only_numpy(results, tmp_path, unsaved):
    alone = only(results, ["numpy"])
    text, _ = render(alone, tmp_path)
    assert "Only one backend was measured (numpy)" in text
    assert "No A/A control" in text
    assert "control.png" not in text
    assert "numba |" not in text


def test_contender_missing_from_some_parts(results, tmp_path, text_only):
    partial = json.loads(json.dumps(results))
    for part in ("summary", "comparisons"):
        del partial["throughput"][1][part]["numba"]
    partial["throughput"][2]["control"] = None
    partial["throughput"][3] |= {"fastest": None, "comparisons": {}}
    del partial["accuracy"]["summary"]["JAX scan"]
    partial["curves"]["divergence"]["numba"]["largest"] = None
    text, _ = render(partial, tmp_path)
    assert "undecided in 1." in text
    assert draw(partial) == list(FIGURES)


def test_interrupted(results, tmp_path, text_only):
    cut = json.loads(json.dumps(results)) | {"interrupted": True, "startup": [], "curves": None}
    cut["throughput"] = [
        *cut["throughput"][:1],
        cut["throughput"][1] | {"summary": {}, "comparisons": {}, "control": None},
    ]
    cut["throughput"][0]["comparisons"]["numba"] |= {"low": math.nan, "high": math.nan}
    cut["throughput"][0]["control"] |= {"low": math.nan}
    cut["accuracy"]["runs"] = cut["accuracy"]["runs"][:4]
    cut["accuracy"]["runs"][3] |= {"seconds": [0.5], "accuracy": [0.95]}
    cut["crossover"]["cells"] = cut["crossover"]["cells"][:5]
    text, page = render(cut, tmp_path)
    assert "interrupted" in text
    assert any("interrupted" in word for word in page.words)
    assert "not run" in text
    assert set(draw(cut)) == set(FIGURES) - {"loss_curves"}


def test_long_names_and_low_precisions(results):
    names = {
        "numba, bf16": "numba, bf16 products with float32 sums, on two threads",
        "JAX scan": "JAX $scan$ & <jit>_{x}",
    }
    text = json.dumps(results)
    for name, longer in names.items():
        text = text.replace(f'"{name}"', json.dumps(longer))
    renamed = json.loads(text)
    assert draw(renamed) == list(FIGURES)
    assert all(len(line) <= terminal.WIDTH for line in report.table(renamed).splitlines())


def test_curves_that_are_equal_diverge_or_end_early(results):
    curves = results["curves"]
    expected = curves["losses"]["float64, plain numpy"]
    losses = {"numba": expected, "numba, bf16": [*expected[:50], None, None], "JAX scan": [math.nan], "numpy": []}
    changed = make_results(curves=curves | {"losses": {"float64, plain numpy": expected} | losses})
    assert draw(changed, ["loss_curves"]) == ["loss_curves"]
    alone = make_results(curves=curves | {"losses": {"numba": expected}, "reference": None, "tolerance": None})
    assert draw(alone, ["loss_curves"]) == ["loss_curves"]


def test_wide_spread_of_speeds(results):
    """Bars from zero would vanish, ratios have no room on a linear axis."""
    spread = json.loads(json.dumps(results))
    for row in spread["throughput"]:
        row["summary"]["numba"]["samples_per_second"] *= 300
        row["comparisons"]["numba"] |= {"ratio": 570.0, "low": 560.0, "high": 580.0}
    assert {axes.get_xscale() for axes in plots.throughput(complete(spread), LIGHT).axes} == {"log"}
    assert draw(spread, ["throughput", "control"]) == ["throughput", "control"]


# ---- what it says ---------------------------------------------------------------------------------------------------


def test_names_make_no_markup(results, tmp_path, text_only):
    evil = "<script>alert('x')</script> | & \"peer\""
    renamed = json.loads(json.dumps(results).replace('"JAX scan"', json.dumps(evil)))
    renamed["dataset"] |= {"name": "<b>", "note": "<i>"}
    text, page = render(renamed, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html + text
    assert "<i>" not in html + text
    assert evil in page.words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"interrupted": True}, "interrupted"),
        ({"dataset": {"name": "digits", "note": "no network"}}, "not MNIST but digits. no network"),
        ({"environment": {"dirty": True}}, "uncommitted changes"),
        ({"environment": {"cores": {"quota": 1.5}}}, "1.5 cores"),
        ({"environment": {"load_average": [3.2, 1, 1]}}, "load average was 3.20"),
    ],
)
def test_warnings(change, said):
    assert [said in line for line in findings.warnings(complete(make_results(**change)))] == [True]


def test_complete_results_warn_of_nothing(results):
    assert findings.warnings(complete(results)) == []


def test_limits_of_a_device_are_said(results, tmp_path, text_only):
    run = {"backend": "cupy", "precision": "float32", "loss_difference": 2e-4, "accuracy": 0.975}
    run |= {"accuracy_difference": 0.05, "passed": True}
    failed = {"backend": "cupy", "precision": "bf16", "error": "it diverged", "passed": False}
    limits = {"loss_difference": 1e-3, "accuracy_difference": 0.1}
    agreement = {"epochs": 5, "case": "784-128-10, batch 64", "limits": limits, "runs": [run, failed]}
    many = {"networks": 132, "case": "784-30-10, batch 64", "limits": {"ratio": 2.0, "loss_difference": 1e-3}}
    many |= {"rounds": [{}] * 3, "loss_difference": 0.0, "passed": True}
    many |= {"medians": {"clock": {"one": 0.01, "many": 0.015}}}
    many |= {"ratios": {"clock": {"median": 1.5, "interval": [1.4, 1.6]}}}
    accuracy = results["accuracy"] | {"limit": 0.05, "passed": True}
    measured = make_results(accuracy=accuracy, agreement=agreement | {"skipped": {"cupy, tf32": "none"}}, many=many)
    text, page = render(measured, tmp_path)
    for line in (
        "float32: PASS: losses within 2.0e-04 (limit 1.0e-03); test accuracy 97.50 %, 0.0500 points off (limit 0.1)",
        "cupy bf16: FAIL: it diverged",
        "cupy, tf32: left out: none",
        "132 networks at once, 784-30-10, batch 64: PASS: by the clock 15.00 ms, 1.50 x 10.00 ms [1.40, 1.60]",
        "Seconds of training to 98 %: PASS, limit 50 ms",
    ):
        assert line in text
        assert line in "".join(page.words)
    assert [line for line in findings.warnings(complete(measured)) if "it diverged" in line]


def test_cases_of_another_precision_are_told_apart(results, tmp_path, text_only):
    rows = [results["throughput"][0], results["throughput"][0] | {"precision": "bf16"}]
    text, _ = render(results | {"throughput": rows}, tmp_path)
    assert "**784-30-10, batch 64: 937 steps" in text
    assert "**784-30-10, batch 64, bf16: 937 steps" in text


def test_a_failed_gate_is_said(results):
    gate = [results["gate"][0] | {"passed": False, "error": math.nan}, *results["gate"][1:]]
    failed = complete(make_results(gate=gate))
    assert f"1 of {len(results['gate'])} checks against float64 FAILED: numpy (outputs)" in findings.warnings(failed)[0]
    assert "NOT ALL" in report.table(failed)
    _, networks, kernels = sections.gate(failed)
    assert networks.rows[0][:3] == ["numpy", "784-30-10", "not finite of 1e-05 FAILED"]
    assert kernels.rows[0][:2] == ["dense 64 x 784 x 128", "2.1e-07 of 1e-05"]


def test_a_backend_that_could_not_be_checked_is_said(results):
    row = {"contender": "numba", "sizes": [], "quantity": "it has stopped", "error": math.nan, "tolerance": 0.0}
    stopped = complete(make_results(gate=[*results["gate"], row | {"passed": False}]))
    assert "numba could not be checked: it has stopped" in sections.gate(stopped)
    assert "numba (it has stopped)" in findings.gate_text(stopped)


def test_a_control_that_is_not_clean_is_said(results):
    unclean = complete(results)
    unclean["throughput"][0]["control"] |= {"ratio": 1.05, "low": 1.02, "high": 1.08, "verdict": "faster"}
    assert any("differences below 8 %" in line for line in findings.warnings(unclean))
    assert "A/A NOT clean" in report.table(unclean)
    assert "in 1 of 4 cases a difference is found" in findings.control_text(unclean)


def test_a_control_of_wide_intervals_is_not_called_clean(results):
    noisy = complete(results)
    noisy["throughput"][1]["control"] |= {"ratio": 1.3, "low": 0.7, "high": 1.5}
    assert "noisy: do not believe differences below 50 %" in findings.warnings(noisy)[0]
    assert "A/A noisy" in report.table(noisy)
    assert findings.control_text(noisy).endswith("too noisy to tell more.")
    noisy["throughput"][1]["control"] |= {"high": 8.8}
    assert "below a factor of 8.8" in findings.warnings(noisy)[0]
    lowest = plots.control(noisy, LIGHT).axes[-1].get_xlim()[0]
    assert 0 < lowest < 0.7


def test_the_peak_is_that_of_all_launches(results):
    row = complete(results)["throughput"][0]
    assert len(measured_peaks(row)) == sum(len(p) for launch in row["launches"] for p in launch["peaks"].values())
    row = results["throughput"][0] | {"launches": [{"peaks": {"numpy": [1e9, None]}}, {"peaks": {}}, {}]}
    assert measured_peaks(complete(make_results(throughput=[row]))["throughput"][0]) == [1e9]


def test_no_winner_is_claimed_without_a_verdict(results):
    close = complete(results)
    for row in close["throughput"]:
        row["comparisons"]["numba"] = {"ratio": 1.01, "low": 0.98, "high": 1.03, "verdict": "no difference"}
    assert findings.fastest(close).startswith("No backend is measurably faster than numpy here")
    for row in close["throughput"]:
        row["comparisons"]["numba"] = {"ratio": 0.5, "low": 0.48, "high": 0.52, "verdict": "slower"}
    assert findings.fastest(close).startswith("No backend is faster than numpy")


def test_a_contender_keeps_its_colour(results):
    for theme in (LIGHT, DARK):
        styles = [style(complete(results), name, theme) for name in SPEED]
        assert len(set(styles)) == len(SPEED)
        assert style(complete(only(results, ["numba"])), "numba", theme) == styles[1]
        assert style(complete({"kind": "fastnn bench", "schema_version": 1}), "numba", theme) == styles[1]


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0 B"), (612345, "612 kB"), (999.96e3, "1.00 MB"), (5, "5.00 B"), (1.2e-5, "12.0 µB")]
)
def test_prefixes(value, said):
    assert formatting.si(value, "B") == said


def test_marks_of_an_axis_say_their_value():
    from matplotlib.ticker import EngFormatter

    assert [EngFormatter()(value) for value in (5e5, 1e6, 1.5e6, 2e9)] == ["500 k", "1 M", "1.5 M", "2 G"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0.00"), (0.341, "0.341"), (1.283, "1.28"), (8455.2, "8455"), (None, "-"), (2.2e-7, "2.2e-07")],
)
def test_numbers(value, said):
    assert formatting.number(value) == said


# ---- files that are something else ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no JSON"),
        ("[1, 2]", "a list"),
        ('{"kind": "peers", "schema_version": 1}', "kind 'peers'"),
        ('{"kind": "fastnn bench", "schema_version": 2}', "update fastnn"),
        ('{"kind": "fastnn bench"}', "measure again"),
    ],
)
def test_wrong_files_are_refused(content, said, tmp_path, capsys):
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(fastnn.FileFormatError, match=said):
        report.read_results(file)
    assert report_again.main([str(file)]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"throughput": {}}, "throughput has dict {}, expected list"),
        ({"seconds": "long"}, "seconds has str 'long', expected number"),
        ({"gate": [{"contender": "numpy", "sizes": []}]}, "gate 0 has no quantity"),
        ({"curves": {"divergence": {"numba": {"largest": 1.0, "step": "first"}}}}, "numba step has str 'first'"),
    ],
)
def test_results_of_another_shape_are_refused(results, change, said, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(results | change))
    with pytest.raises(fastnn.FileFormatError, match=said) as caught:
        report.read_results(file)
    assert str(file) in str(caught.value)


def test_committed_results_are_complete():
    """Nothing of a file that was measured before is left out."""
    files = sorted((Path(__file__).parents[2] / "bench" / "results").glob("cpu-*.json"))
    assert files
    for file in files:
        content = json.loads(file.read_text(encoding="utf-8"))
        assert has_all(report.read_results(file), content)


def has_all(found, content):
    """Whether what is in `content` is in `found` as well, which may have more keys."""
    if isinstance(content, dict):
        return all(key in found and has_all(found[key], value) for key, value in content.items())
    if isinstance(content, list):
        return len(found) == len(content) and all(map(has_all, found, content))
    return found == content


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "results.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(fastnn.FileFormatError, match="no JSON"):
        report.read_results(tmp_path / "results.json")


def test_missing_file_is_said(tmp_path, capsys):
    assert report_again.main([str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err


def test_nan_becomes_null(tmp_path, text_only):
    report.write_report(make_results(seconds=math.nan, extra=(math.inf, 1.5)), tmp_path)
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert (content["seconds"], content["extra"]) == (None, [None, 1.5])
