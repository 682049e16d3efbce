"""The level for a CUDA device, without one: other backends and trainers take its place.

Workers are processes of their own: what a test changes here is as it was there, so trainers are functions of this
module.
"""

import contextlib
import dataclasses
import functools
import os
import signal
import sys
import time
import types

import numpy as np
import pytest

import fastnn
from fastnn import backends
from fastnn.bench import contenders, device, harness, jobs, levels, machine, recipe, sections, trainers
from fastnn.bench.contenders import Contender
from fastnn.bench.levels import Case
from fastnn.bench.report import plots, write_report
from fastnn.bench.workers import LateError, RefusalError, WorkerError
from fastnn.cli import main
from fastnn.presets import PRESETS

GIT = """#!/bin/sh
case "$*" in
  *rev-parse*) echo 0123abcd ;;
  *status*) echo " M bench/harness.py" ;;
esac
"""
SMALL = Case((784, 12, 10), 64, 640)
LEVEL = levels.LEVELS["gpu"]._replace(cases=(SMALL,), budget=20, launches=1, peers="", backends="numpy")


@pytest.fixture(autouse=True)
def _main_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # workers would import pytest's
    monkeypatch.setattr(device, "reference_backend", lambda: "numpy")  # no process waits for a compiler


@pytest.fixture
def digits():
    return fastnn.datasets.load("digits")


@pytest.fixture
def setting(digits):
    field = contenders.find_field("numpy", "", 1, LEVEL)
    fixed = 1, np.random.default_rng(0), lambda what: None, lambda: None
    return sections.Setting(LEVEL, field, digits, "digits", *fixed)


def soon(seconds=300):
    return time.monotonic() + seconds


# ---- who takes part -------------------------------------------------------------------------------------------------


def test_plans_of_a_device_are_contenders(monkeypatch):
    monkeypatch.setattr(contenders, "_asked", lambda text: [("cupy", None)])
    field = contenders.find_field(None, None, 1, levels.LEVELS["gpu"])
    ours = ["cupy graph", "cupy persistent", "cupy eager"]
    peers = ["PyTorch eager", "PyTorch CUDA graph", "PyTorch compiled", "JAX scan"]
    assert list(field.entries) == [*ours, "cupy graph, again", *peers]
    assert (field.reference, field.control) == ("cupy graph", ("cupy graph", "cupy graph, again"))
    assert field.entries["cupy eager"].environment["FASTNN_CUDA_PLAN"] == "eager"
    assert field.entries["JAX scan"].environment["JAX_PLATFORMS"] == "cuda"
    assert field.entries["PyTorch eager"].make.keywords == {"device": "cuda"}
    (own,) = field.backends().items()
    assert (own[0], own[1].environment["FASTNN_CUDA_PLAN"]) == ("cupy", "")  # it chooses its own plan


def test_peers_train_on_the_cpu_without_a_device():
    field = contenders.find_field("numpy", "torch,sklearn", 1, levels.LEVELS["gpu"])
    assert list(field.of("peer")) == ["PyTorch eager", "PyTorch compiled", "scikit-learn"]
    assert field.entries["PyTorch eager"].environment["JAX_PLATFORMS"] == "cpu"


def test_a_backend_that_is_not_ready_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(backends._BUILTIN, "cupy", ("fastnn.kernels.cupy_kernels", "no_such_library", "get it"))
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "gpu", "--dataset", "digits"]) == 3
    assert "backend 'cupy' (asked for by argument) is not ready" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---- who fails ------------------------------------------------------------------------------------------------------


def make_wrong(task):
    return trainers.make_plain_numpy(task._replace(weights=[(-W, b) for W, b in task.weights]))


def make_choosy(task):
    if task.precision:
        raise fastnn.BackendError("there is\nno such precision")
    return trainers.make_plain_numpy(task)


def make_dying(task):
    os._exit(7)


def make_tiring(task, epochs):
    """Fails, or hangs, after so many epochs, of which the first is told apart from mini-batches."""
    loop, left = trainers.make_plain_numpy(task), [abs(epochs)]

    def run(order):
        left[0] -= len(order) == len(task.x)
        if left[0] < 0 and epochs > 0:
            raise fastnn.DivergedError("lost the device")
        if left[0] < 0 and task.precision:
            time.sleep(600)
        return loop.run(order)

    return trainers.Loop(run, {"how": "plain"})


FAILING = {
    "right": functools.partial(make_tiring, epochs=10**9),
    "wrong": make_wrong,
    "choosy": make_choosy,
    "dying": make_dying,
    "failing": functools.partial(make_tiring, epochs=2),
    "hanging": functools.partial(make_tiring, epochs=-1),
}


def test_who_fails_in_a_case_is_left_out_of_it_and_the_others_go_on(setting):
    low = SMALL._replace(precision="bf16")
    entries = {name: Contender("peer", make, {}) for name, make in FAILING.items()}
    field = contenders.Field(entries, "right", None, {}, {})
    level = LEVEL._replace(cases=(low, SMALL), patience=20.0, launches=2, strict=False)
    setting = setting._replace(field=field, level=level)
    first, second = cases = sections.throughput(setting, soon(0.5))
    assert first["precision"] == "bf16"
    assert list(first["summary"]) == ["right"]
    assert list(second["summary"]) == ["right", "choosy", "hanging"]
    assert second["settings"]["right"] == {"how": "plain"}
    for result in cases:
        assert [list(launch["seconds"]) for launch in result["launches"]] == [list(result["summary"])] * 2
        skipped = dict(result["skipped"])
        assert "mini-batches are off by" in skipped.pop("wrong")
        assert skipped.pop("choosy", "BackendError: there is") == "BackendError: there is"
        assert skipped == {
            "dying": "died with exit code 7",
            "failing": "DivergedError: lost the device",
            **({"hanging": "no answer in the time that there was"} if result["precision"] else {}),
        }
    told = sections.skipped_cases(cases, setting.level)
    assert told["choosy"] == "784-12-10, batch 64, bf16: BackendError: there is"
    assert told["dying"].count("exit code 7") == 2


def test_a_strict_budget_that_is_spent_leaves_out_the_rest(setting):
    (result,) = sections.throughput(setting, time.monotonic() - 1)
    assert set(result["skipped"].values()) == {sections.NO_TIME}
    assert (result["launches"], result["summary"], result["comparisons"]) == ([], {}, {})
    assert set(device.agreement(setting, time.monotonic() - 1)["skipped"]) == {"numpy float32"}
    assert device.many(setting, time.monotonic() - 1)["skipped"] == {"2 networks at once": sections.NO_TIME}
    assert sections.accuracy(setting, time.monotonic() - 1)["runs"] == []


def test_workers_leave_the_interrupt_to_the_parent(setting):
    with setting.crew({"one": setting.field.entries["numpy"]}) as workers:
        workers.call("one", jobs.peak_memory)
        os.kill(workers._workers["one"]._process.pid, signal.SIGINT)
        assert workers.call("one", jobs.peak_memory)


# ---- agreement ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"loss": [0.5, 0.3003]}, True),
        ({"loss": [0.5, 0.3005]}, False),
        ({"loss": [0.5, float("nan")]}, False),
        ({"loss": [0.5, 0.31], "precision": "tf32"}, True),
        ({"accuracy": 0.976}, True),
        ({"accuracy": 0.9761}, False),
        ({"accuracy": 0.9739, "precision": "bf16"}, False),
    ],
)
def test_limits_of_agreement(changes, passed):
    reference = {"precision": "float32", "loss": [0.5, 0.3001], "accuracy": 0.975}
    rows = device.agreement_checks("it", SMALL, reference | changes, reference)
    assert all(row["passed"] for row in rows) is passed


def test_agreement_with_another_backend(setting):
    result = device.agreement(setting, soon())
    assert [(run["backend"], run["precision"], run["passed"]) for run in result["runs"]] == [("numpy", "float32", True)]
    assert len(result["reference"]["loss"]) == device.EPOCHS
    accuracy, losses = result["checks"]
    assert accuracy["passed"]
    assert losses["passed"]
    assert (losses["contender"], losses["sizes"]) == ("numpy float32", [784, 12, 10])
    assert losses["error"] == 0 < losses["tolerance"] == 1e-3
    assert list(result["skipped"]) == ["numpy tf32", "numpy bf16"]
    assert all("BackendError" in why for why in result["skipped"].values())


@contextlib.contextmanager
def answering(monkeypatch, answer):
    """Workers that answer what a function of the job and its arguments returns, in this process."""

    class Crew:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def start(self, *_):
            pass

        def call(self, name, function, *arguments, patience=None):
            return answer(function, *arguments)

    monkeypatch.setattr(sections.Setting, "crew", lambda setting, entries: Crew())
    yield


@pytest.mark.parametrize(
    ("error", "failures"),
    [(WorkerError("DivergedError: so it is"), 3), (RefusalError("no such"), 0), (LateError("late"), 0)],
)
def test_a_run_that_fails_does_not_agree(error, failures, setting, monkeypatch):
    """It diverges, or a kernel does not compile; what a backend does not have, or has no time for, is left out."""
    calls = []

    def answer(function, *arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise error
        return {"plan": "none", "loss": [0.5], "accuracy": 0.9}

    with answering(monkeypatch, answer):
        result = device.agreement(setting, soon())
    assert [row["passed"] for row in result["checks"]] == [False] * failures
    assert len(result["skipped"]) == 3 - failures


# ---- many networks at once ------------------------------------------------------------------------------------------


def run_many(setting, monkeypatch, change=lambda answer, seeds, number: answer, calls=10**6):
    """The section, whose answers are made up and changed."""
    done = []

    def answer(function, backend, case, seeds, *rest):
        done.append(seeds)
        if len(done) > calls:
            raise LateError("no answer")
        losses = [[1.0 + seed, 0.5 + seed] for seed in seeds]
        made = {"clock": 0.1 * (1 + len(seeds) / 8), "history": 0.1, "plan": "graph", "losses": losses}
        return change(made, seeds, len(done))

    with answering(monkeypatch, answer):
        return device.many(setting, soon())


def slow_by(measure):
    def change(answer, seeds, number):
        return answer | ({measure: 1.0} if len(seeds) > 1 else {})

    return change


def wrong_losses(answer, seeds, number):
    return answer | {"losses": answer["losses"][::-1]}


def diverging(answer, seeds, number):
    raise WorkerError("DivergedError: one of the networks diverged")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (slow_by("clock"), "times as long as one, many at once by the clock"),
        (slow_by("history"), "times as long as one, many at once by the history"),
        (diverging, "DivergedError: one of the networks diverged"),
        (wrong_losses, "losses of networks trained at once"),
    ],
)
def test_many_that_fail(change, what, setting, monkeypatch):
    monkeypatch.setattr(device, "TIMED", "numpy")
    monkeypatch.setattr(device, "count_networks", lambda *_: 4)
    checks = run_many(setting, monkeypatch, change)["checks"]
    assert [row["quantity"] for row in checks if not row["passed"]] == [what]
    assert harness.has_failed({"gate": checks, "curves": None})
    assert not harness.has_failed({"gate": run_many(setting, monkeypatch)["checks"], "curves": None})


@pytest.mark.parametrize(("calls", "rounds"), [(7, None), (8, 3), (9, 3), (10**6, device.MOST_ROUNDS)])
def test_rounds_of_many_until_the_end(calls, rounds, setting, monkeypatch):
    """Of two calls each, the first is not counted; less than three say nothing."""
    result = run_many(setting, monkeypatch, calls=calls)
    if rounds is None:
        assert (result["checks"], result["skipped"]) == ([], {"2 networks at once": sections.NO_TIME})
    else:
        assert (result["skipped"], len(result["rounds"])) == ({}, rounds)
        assert [row["passed"] for row in result["checks"]] == [True]  # on a CPU losses alone are judged
        assert set(result["ratios"]) == set(result["medians"]) == {"clock", "history"}


def test_many_networks_train_as_each_alone(digits):
    kept = {"data": digits}
    alone = jobs.train_some(kept, "numpy", SMALL, [2], 2, 1, "")
    many = jobs.train_some(kept, "numpy", SMALL, [0, 1, 2], 2, 1, "")
    assert many["losses"][2] == alone["losses"][0]
    assert many["clock"] > many["history"] / 2 > 0


def test_one_network_for_each_multiprocessor(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastnn.kernels.cuda_device", types.SimpleNamespace(multiprocessors=lambda: 132))
    assert device.count_networks("cupy", 2) == 132
    assert device.count_networks("numba", 2) == 4


# ---- the time to an accuracy ----------------------------------------------------------------------------------------


def test_training_ends_with_the_epoch_that_has_the_goal(digits):
    few = {name: getattr(digits, name)[:640] for name in ("x_train", "y_train")}
    history = recipe.train(0, "numpy", dataclasses.replace(digits, **few), periods=3, goal=0.8).history
    assert max(history.val_accuracy[:-1]) < 0.8 <= history.val_accuracy[-1]


def test_recipe_is_the_preset_s_again_and_again(digits):
    few = {name: getattr(digits, name)[:320] for name in ("x_train", "y_train", "x_test", "y_test")}
    data = dataclasses.replace(digits, **few)
    history = recipe.train(1, "numpy", data, periods=3, goal=1.1).history
    assert history.epochs == 12
    optimizer = fastnn.SGD(0.1, momentum=0.9, nesterov=True)
    options = {"epochs": 4, "optimizer": optimizer, "schedule": PRESETS["quick"]["schedule"]}
    expected = fastnn.Network([784, 128, 10], seed=1, backend="numpy").fit(data.x_train, data.y_train, **options).loss
    assert history.loss[:4] == expected == recipe.train(1, "numpy", data).history.loss
    steps = np.arange(8)
    np.testing.assert_array_equal(recipe.repeat(lambda steps, each, total: steps, 2, steps, 2, 8), [0, 1, 2, 3] * 2)


@pytest.mark.parametrize(("seconds", "passed"), [(0.04, True), (0.06, False), (None, False)])
def test_limit_of_the_time_to_an_accuracy(seconds, passed, setting, digits, monkeypatch):
    """On MNIST alone, and a device."""
    summary = {"numpy": {"seconds_to": {"0.98": seconds and [seconds] * 3}}}
    assert sections.judge_seconds(setting, summary) == []
    monkeypatch.setattr(sections, "TIMED", "numpy")
    assert sections.judge_seconds(setting, summary) == []
    setting = setting._replace(data=dataclasses.replace(digits, name="mnist"))
    (row,) = sections.judge_seconds(setting, summary)
    assert (row["tolerance"], row["passed"]) == (0.050, passed)


# ---- the command, and its record ------------------------------------------------------------------------------------


def test_the_level_runs_to_its_end(setting, monkeypatch, tmp_path):
    """On the CPU: three sections judge, and the file is complete after each of them."""
    saved, results = [], {}
    monkeypatch.setattr(device, "MOST_ROUNDS", 3)
    shares = {"throughput": 0, "agreement": 0.5, "many": 0.5}
    level = LEVEL._replace(sections=shares, strict=False, budget=300)
    field = contenders.find_field("numpy", "", 1, level)
    fixed = "gpu", level, field, setting.data, "digits", 1, "fastnn bench gpu"
    harness.measure(results, *fixed, save=lambda: saved.append(sum(value is not None for value in results.values())))
    assert saved == sorted(saved)
    assert len(saved) == 3
    assert results["many"]["networks"] == 2
    judged = {row["quantity"] for row in results["gate"]}
    assert {"losses of some epochs", "losses of networks trained at once"} <= judged
    assert "numpy bf16" in results["skipped"]
    monkeypatch.setattr(plots, "DRAWN", {})
    assert "report.md" in {file.name for file in write_report(results, tmp_path)}
    assert results["throughput"][0]["summary"].keys() == {"numpy", "numpy, again"}
    assert not harness.has_failed(results)


def test_commit_of_the_code(monkeypatch, tmp_path):
    folder = tmp_path / "git"
    folder.mkdir()
    (folder / "git").write_text(GIT)
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    assert machine.revision() == {"commit": "0123abcd", "dirty": True}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.revision() == {"commit": None, "dirty": None}
