"""``fastnn bench``, ``fastnn which`` and what they are made of: in small, and with backends that are wrong on purpose.

Workers are processes of their own, so a backend made for a test is an installed package to them: an entry point in a
folder on PYTHONPATH.
"""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import joblib
import low_precision
import numpy as np
import pytest
from threadpoolctl import threadpool_info

import fastnn
from fastnn import backends, measured
from fastnn.backends import resolve_backend
from fastnn.bench import command, contenders, jobs, levels, readme, reference, sections, trainers, which
from fastnn.bench.levels import Case
from fastnn.bench.report import plots
from fastnn.bench.workers import Worker, WorkerError
from fastnn.cli import main
from fastnn.files import CACHE_VARIABLE
from fastnn.step import KERNELS

WRONG = """
from fastnn.kernels.numpy_kernels import *
from fastnn.kernels import numpy_kernels


def dense(x, W, b, activation, z, a, team):
    numpy_kernels.dense(x, W, b, activation, z, a, team)
    a *= a.dtype.type(1.001)
"""
TINY = levels.LEVELS["quick"]._replace(
    budget=1, cases=(Case((784, 12, 10), 64, 640),), launches=2, widths=(8, 16), batch_sizes=(32,)
)


class Run(NamedTuple):
    """What ``fastnn bench`` made of three backends, one of them wrong."""

    code: int
    results: dict
    errors: str
    folder: Path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One for all tests: most of it is the start of some twenty processes."""
    pytest.importorskip("matplotlib", reason="the report needs matplotlib, of the extra 'bench'")
    folder, options = tmp_path_factory.mktemp("bench"), ["--backends", "numpy,numba,wrong"]
    output, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        install(patch, folder, "wrong", WRONG)
        patch.setitem(levels.LEVELS, "quick", TINY)
        patch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: None)  # test_report looks at files
        patch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # workers would import pytest's
        code = bench(*options, "--out", str(folder / "report"))
    backends._registered.cache_clear()
    assert output.getvalue(), errors.getvalue()
    return Run(code, json.loads(output.getvalue()), errors.getvalue(), folder / "report")


def bench(*options):
    """The exit code of the command in small."""
    return main(["bench", "quick", "--dataset", "digits", "--threads", "1", "--json", *options])


def install(patch, folder, name, source):
    """Register a backend of that source, here and in processes that are started."""
    (folder / f"{name}_kernels.py").write_text(source)
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[fastnn.backends]\n{name} = {name}_kernels\n")
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    patch.setenv("PYTHONPATH", path)
    patch.syspath_prepend(str(folder))
    backends._registered.cache_clear()


# ---- workers --------------------------------------------------------------------------------------------------------


def add(kept, n):
    kept["sum"] = kept.get("sum", 0) + n
    return kept["sum"]


def fail(kept):
    raise fastnn.BackendError("no such thing\nmore of it")


def die(kept):
    os._exit(7)


def hang(kept):
    time.sleep(60)


def read(kept, name):
    return os.environ.get(name)


def test_a_worker_keeps_what_it_was_told_and_has_its_own_environment():
    worker = Worker({"FASTNN_TEST": "yes"})
    try:
        assert [worker.call(add, n) for n in (1, 2)] == [1, 3]
        assert worker.call(read, "FASTNN_TEST") == "yes"
        assert "FASTNN_TEST" not in os.environ
    finally:
        worker.close()


def count_blas_threads(kept):
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


@pytest.mark.alone
@pytest.mark.skipif(joblib.cpu_count() < 2, reason="needs two cores")
def test_a_worker_s_variables_hold_for_the_blas_that_comes_with_numpy(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    worker = Worker({"OMP_NUM_THREADS": "1"})
    try:
        assert set(worker.call(count_blas_threads)) == {1}
    finally:
        worker.close()
    assert os.environ["OMP_NUM_THREADS"] == "2"


@pytest.mark.parametrize(
    ("function", "words"), [(fail, "BackendError: no such thing$"), (die, "exit code 7"), (hang, "in the time")]
)
def test_a_worker_that_fails_says_why(function, words):
    worker = Worker({})
    try:
        with pytest.raises(WorkerError, match=words):
            worker.call(function, deadline=time.monotonic() + (0.2 if function is hang else 60))
    finally:
        worker.close()


def spin(kept):
    threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()


def used(kept):
    return time.process_time()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="the system cannot suspend processes")
def test_who_waits_takes_no_core():
    worker = Worker({})
    try:
        worker.call(spin)
        before = worker.call(used)
        time.sleep(0.5)
        assert worker.call(used) - before < 0.4
    finally:
        worker.close()  # though it is suspended


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a suspended process that its parent was killed")
def test_a_suspended_worker_ends_with_its_parent():
    program = (
        "import os, signal; from fastnn.bench.workers import Worker\n"
        "if __name__ == '__main__':\n"
        "    import test_harness; worker = Worker({}); worker.call(test_harness.used)\n"
        "    print(worker._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pid, end = int(done.stdout), time.monotonic() + 10
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(pid)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---- the gate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_gate_lets_backends_pass(backend):
    task = trainers.Task(*digits(), (784, 12, 10), 64, 1, weights())
    errors = jobs.check({}, backend, None, task)
    assert errors.keys() == sections.GATE[None].keys()
    assert all(error <= sections.GATE[None][what] for what, error in errors.items())


@pytest.mark.parametrize(
    ("kernel", "quantities"),
    [
        ("dense", {"outputs", "loss", "gradients", "updates"}),
        ("dense_gradient", {"gradients"}),
        ("dense_sgd", {"updates"}),
        ("input_gradient", {"gradients", "updates"}),
        ("gather", {"outputs", "loss", "gradients", "updates"}),
    ],
)
def test_the_gate_rejects_each_wrong_kernel(monkeypatch, kernel, quantities):
    """A kernel whose every result is a thousandth too large."""
    from fastnn import step
    from fastnn.kernels import numpy_kernels

    right = getattr(numpy_kernels, kernel)
    place = {"dense": -2, "dense_gradient": 2, "dense_sgd": 5, "input_gradient": 5, "gather": 6}[kernel]

    def wrong(*arguments):
        right(*arguments)
        arguments[place][...] *= 1.001

    monkeypatch.setattr(numpy_kernels, kernel, wrong)
    step.bind.cache_clear()
    try:
        errors = jobs.check({}, "numpy", None, trainers.Task(*digits(), (784, 12, 10), 64, 1, weights()))
    finally:
        step.bind.cache_clear()
    rejected = {what for what, error in errors.items() if not error <= sections.GATE[None][what]}
    assert quantities <= rejected


def check_in(precision, monkeypatch, *fault):
    """Quantities that the gate rejects, of a backend whose products round their operands."""
    monkeypatch.setitem(sys.modules, "low_precision_kernels", low_precision.make_kernels(precision, *fault))
    monkeypatch.setitem(backends._BUILTIN, "low_precision", ("low_precision_kernels", "numpy", ""))
    monkeypatch.setattr(backends, "_inspect", backends._inspect.__wrapped__)  # which would remember the first of them
    sizes = (784, 12, 12, 10)  # one of them square
    network = fastnn.Network(sizes, backend="numpy")
    errors = jobs.check({}, "low_precision", precision, trainers.Task(*digits(), sizes, 64, 1, network.get_weights()))
    return {what for what, error in errors.items() if not error <= sections.GATE[precision][what]}


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_the_gate_lets_low_precision_pass(monkeypatch, precision):
    assert not check_in(precision, monkeypatch)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("fault", low_precision.FAULTS)
@pytest.mark.parametrize(
    ("kernel", "quantities"),
    [
        ("dense", {"outputs", "loss", "gradients", "updates"}),
        ("input_gradient", {"gradients", "updates"}),
        ("dense_gradient", {"gradients"}),
        ("dense_sgd", {"updates"}),
    ],
)
def test_the_gate_rejects_each_wrong_product_of_low_precision(monkeypatch, kernel, quantities, fault, precision):
    assert check_in(precision, monkeypatch, kernel, fault) == quantities


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_the_reference_rounds_to_nearest(precision):
    bits = np.random.default_rng(0).integers(0, 2**32, 10_000, np.uint32)
    bits[:5000] &= np.uint32(0xFFFF8000 if precision == "bf16" else 0xFFFFF000)  # ties among them
    values = bits.view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) > 1e-37) & (np.abs(values) < 1e38)]
    np.testing.assert_array_equal(reference.rounded(values, precision), low_precision.rounded(values, precision))


def test_nan_does_not_pass():
    assert not sections.gate_row("x", (2, 2), "outputs", float("nan"), 1e-5)["passed"]


def digits():
    data = fastnn.datasets.load("digits")
    return data.x_train[:640].reshape(640, -1), data.y_train[:640].astype(np.int64)


def weights():
    return list(fastnn.Network((784, 12, 10), backend="numpy").get_weights())


# ---- the command ----------------------------------------------------------------------------------------------------


def test_bench_measures_and_reports(run, monkeypatch, tmp_path, capsys):
    results = run.results
    assert {"report.html", "report.md", "results.json"} <= {file.name for file in run.folder.iterdir()}
    assert json.loads((run.folder / "results.json").read_text()) == results
    (case,) = results["throughput"]
    assert set(case["summary"]) == {"numpy", "numba", "numpy, again", contenders.YARDSTICK}
    assert [len(launch["seconds"]) for launch in case["launches"]] == [4, 4]
    assert case["control"]["verdict"] in ("no difference", "faster", "slower")
    assert set(case["comparisons"]) == {"numba", "numpy, again", contenders.YARDSTICK}
    assert results["curves"]["passed"]
    assert set(results["accuracy"]["summary"]) == {"numpy", "numba"}
    assert len(results["crossover"]["cells"]) == 2
    assert results["dataset"]["name"] == "digits"
    assert case["settings"]["numba"]["backend"] == "numba"
    assert results["agreement"] is results["many"] is None  # those are for devices
    right = [row for row in results["gate"] if row["contender"] != "wrong"]
    assert {row["contender"] for row in right} == {"numpy", "numba"}
    assert all(row["passed"] for row in right)
    assert {row["quantity"].split(" ")[0] for row in right} >= set(KERNELS)
    monkeypatch.setattr(plots, "DRAWN", {})
    assert command.finish(results | {"gate": right}, tmp_path, argparse.Namespace(json=True)) == 0
    assert capsys.readouterr().err == ""


def test_a_wrong_backend_is_caught_before_anything_is_timed(run):
    assert run.code == 1
    assert "gate: wrong: outputs of 784-12-10 are off by" in run.errors
    assert "it was not timed" in run.errors
    results = run.results
    assert results["skipped"]["wrong"] == "failed the correctness gate"
    assert "wrong" not in results["throughput"][0]["summary"]
    assert all("wrong" not in launch["seconds"] for launch in results["throughput"][0]["launches"])
    assert {row["contender"] for row in results["roofline"]["kernels"]} == {"numpy", "numba"}
    assert {row["contender"] for row in results["startup"]} == {"numpy", "numba"}


def test_compare_tells_what_became_slower(run, tmp_path, capsys):
    """One file against itself, and against one where a backend took twice as long."""
    results = json.loads(json.dumps(run.results))
    same, other = tmp_path / "same.json", tmp_path / "other.json"
    same.write_text(json.dumps(results))
    assert main(["bench", "compare", str(same), str(same)]) == 0
    assert "0 regressions" in capsys.readouterr().out
    (case,) = results["throughput"]
    quieten(case)
    same.write_text(json.dumps(results))
    for launch in case["launches"]:
        launch["seconds"]["numba"] = [2 * took for took in launch["seconds"]["numba"]]
    other.write_text(json.dumps(results))
    assert main(["bench", "compare", str(same), str(other)]) == 1
    assert "0.50 times as fast" in capsys.readouterr().out
    assert main(["bench", "compare", str(other), str(same)]) == 0
    results["environment"]["cpu"] = "another"
    other.write_text(json.dumps(results))
    capsys.readouterr()
    assert main(["bench", "compare", str(same), str(other)]) == 1
    assert "not of the same machine" in capsys.readouterr().err
    assert main(["bench", "compare", str(same), str(other), "--other-machine"]) == 1


def quieten(case):
    """Give each contender's samples of a case the same value: so few of a busy machine hide a factor of two."""
    for name, summary in case["summary"].items():
        for launch in case["launches"]:
            launch["seconds"][name] = [summary["seconds"][1]] * len(launch["seconds"][name])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["slow"], "expected one of quick, standard, full"),
        (["quick", "extra.json"], "expected one of"),
        (["compare", "a.json"], "takes two files"),
        (["--backends", "theano"], "unknown backend 'theano'"),
        (["--backends", "numpy:bf8"], "unknown precision 'bf8'"),
        (["--peers", "keras"], "unknown peer 'keras'"),
        (["--threads", "0"], "at least 1"),
        (["--cases", "784-10"], "must be as 784-30-10:64"),
        (["--cases", "784-10:64:bf8"], "unknown precision 'bf8'"),
        (["--sections", "speed"], "unknown section 'speed'"),
        (["--budget", "nan"], "--budget must be a finite number"),
    ],
)
def test_wrong_options_are_named(options, words, capsys):
    assert main(["bench", *options]) == 2
    assert words in capsys.readouterr().err


def test_missing_libraries_are_named_before_anything_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDED", ("matplotlib", "no_such_library"))
    assert main(["bench"]) == 1
    assert "the report needs no_such_library" in capsys.readouterr().err


def test_compare_refuses_other_files(tmp_path, capsys):
    file = tmp_path / "x.json"
    file.write_text("{}")
    assert main(["bench", "compare", str(file), str(file)]) == 1
    assert str(file) in capsys.readouterr().err


def test_an_interrupt_leaves_a_report_of_what_there_is(monkeypatch, tmp_path, capsys):
    def interrupt(setting):
        raise KeyboardInterrupt

    pytest.importorskip("matplotlib", reason="the report needs matplotlib, of the extra 'bench'")
    monkeypatch.setattr(sections, "gate", interrupt)
    assert bench("--backends", "numpy", "--out", str(tmp_path / "report")) == 130
    output = capsys.readouterr()
    assert json.loads(output.out)["interrupted"] is True
    assert "interrupted" in output.err
    assert (tmp_path / "report" / "report.html").exists()


def test_the_precision_is_part_of_the_name():
    field = contenders.find_field("numpy", "sklearn", 1)
    assert list(field.entries) == ["numpy", "numpy, again", contenders.YARDSTICK, "scikit-learn"]
    assert field.control == ("numpy", "numpy, again")
    assert field.without({"numpy"}).control is None


def test_options_change_a_level():
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    words = ["gpu", "--cases", "784-30-10:64,784-9-9-10:256:bf16", "--sections", "many,throughput"]
    options = parser.parse_args(words)
    level = command.choose_level(options)
    assert level.cases == (Case((784, 30, 10), 64), Case((784, 9, 9, 10), 256, precision="bf16"))
    assert list(level.sections) == ["many", "throughput"]
    assert level.budget == levels.LEVELS["gpu"].budget
    assert command.typed(options) == " ".join(["fastnn", "bench", *words])


# ---- which ----------------------------------------------------------------------------------------------------------


def test_which_measures_and_auto_takes_its_answer(monkeypatch, tmp_path, capsys):
    answer = {"layers": [784, 9, 10], "batch_size": 64, "threads": 1, "fastest": "numpy"}
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert resolve_backend(None, (784, 9, 10)).name != "numpy"
    assert which.save(answer) == str(tmp_path / "which.json")
    choice = fastnn.Network([784, 9, 10]).backend_choice
    assert (choice.name, choice.origin) == ("numpy", "auto (default)")
    assert "measured by `fastnn which` on" in choice.reason
    assert "batch size 64" in choice.reason
    assert fastnn.Network([784, 8, 10]).backend != "numpy"  # which was not measured
    assert fastnn.Network([784, 9, 10], backend="numba").backend == "numba"
    assert which.save(answer | {"fastest": None}) is None


def test_an_answer_of_another_machine_or_a_damaged_file_does_not_count(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    measured.save_fastest((784, 9, 10), 64, 1, "numpy")
    assert measured.find_fastest((784, 9, 10))[0] == "numpy"
    monkeypatch.setattr("os.cpu_count", lambda: 999)
    assert measured.find_fastest((784, 9, 10)) is None
    (tmp_path / "which.json").write_text("{")
    assert measured.find_fastest((784, 9, 10)) is None


def test_which_answers(monkeypatch, capsys):
    options = ["--layers", "20,8,3", "--batch-size", "16", "--seconds", "0.3", "--backends", "numpy", "--threads", "1"]
    assert main(["which", *options, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sum(answer["backends"]["numpy"]["parts"].values()) == pytest.approx(1)
    monkeypatch.setattr(which, "measure", lambda *_: answer)  # once is enough
    assert main(["which", *options]) == 0
    out = capsys.readouterr().out
    assert "fastest  numpy" in out
    assert "launch and other" in out
    assert main(["which", "--layers", "20,x"]) == 2
    assert main(["which", "--layers", "20,1"]) == 2


def test_epochs_until_a_slow_start_is_paid_back():
    def row(step, start):
        return {"seconds_a_step": [step] * 3, "startup": {"import_seconds": start}}

    rows = {"a": row(1e-3, 0.5), "b": row(5e-4, 1.0), "c": row(2e-3, 2.0)}
    assert which.paid_back(rows, "a", 60) == 0.0
    assert which.paid_back(rows, "b", 60) == pytest.approx(1.0)  # 1000 steps an epoch save half a second
    assert which.paid_back(rows, "c", 60) is None


# ---- README ---------------------------------------------------------------------------------------------------------


def test_the_figures_in_readme_are_those_of_its_results(monkeypatch):
    monkeypatch.setattr(readme, "FOLDER", Path(__file__).parents[2])  # the package may be installed elsewhere
    text = (readme.FOLDER / "README.md").read_text(encoding="utf-8")
    assert readme.BLOCK.search(text)
    assert readme.renew(text) == text
    figure = readme.BLOCK.search(text)[0]
    digit = figure.rindex(".") - 1
    assert readme.renew(text.replace(figure, figure[:digit] + "x" + figure[digit + 1 :])) == text
