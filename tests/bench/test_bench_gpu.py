"""The comparison on a CUDA device, without one: other backends and trainers take its place.

Workers are processes of their own: what a test changes here is as it was there, so trainers are functions of this
module.
"""

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from fastnn.bench import gpu, machine, runner, trainers
from fastnn.bench.workers import WorkerError

import fastnn
from fastnn.backends import BackendChoice
from fastnn.presets import PRESETS

GIT = """#!/bin/sh
case "$*" in
  *rev-parse*) echo 0123abcd ;;
  *status*) echo " M bench/gpu.py" ;;
esac
"""
SMALL = gpu.Case((784, 12, 10), 64)
CASES_ALONE = ("--no-agreement", "--no-many", "--no-accuracy")


@pytest.fixture
def git(tmp_path, monkeypatch):
    """A repository with changes, whatever there is."""
    folder = tmp_path / "git"
    folder.mkdir()
    (folder / "git").write_text(GIT)
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def digits():
    return fastnn.datasets.load("digits")


@pytest.fixture
def task(digits):
    return runner.make_task(SMALL.sizes, SMALL.batch_size, 320, 1, digits)


@pytest.fixture
def quick(monkeypatch):
    """Cases and measurements of no length."""
    monkeypatch.setattr(gpu, "CASES", {1: SMALL, 2: SMALL._replace(with_tf32=True)})
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(gpu, "MOST_ROUNDS", 4)
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))  # workers would import pytest's


@pytest.fixture
def numpy_alone(monkeypatch):
    """No process waits for a compiler, or for what it has left."""
    monkeypatch.setattr(gpu, "reference_backend", lambda: "numpy")


def float64_losses(task):
    """Of two epochs, by fastnn's numpy backend."""
    network = fastnn.Network(task.sizes, backend="numpy", dtype="float64")
    network.set_weights(task.weights)
    options = {"epochs": 2, "batch_size": task.batch_size, "optimizer": fastnn.SGD(trainers.LEARNING_RATE)}
    return network.fit(task.x, task.y, **options).loss


def losses_of(loop, task):
    return [loop.run(order) for _, order in zip(range(2), runner.orders(task.sizes, len(task.x)), strict=False)]


def command(*options):
    return [sys.executable, "-m", "fastnn.bench.gpu", "--dataset", "digits", "--samples", "640", *options]


def run_main(tmp_path, *options):
    """What the command returns, in this process, and its JSON."""
    file = tmp_path / "folder" / "gpu.json"
    code = gpu.main(["--dataset", "digits", "--samples", "640", "--json", str(file), *options])
    return code, json.loads(file.read_text())


# ---- the command ----------------------------------------------------------------------------------------------------


def test_command_compares_and_writes(tmp_path, quick, git, capsys):
    names = "fastnn graph; fastnn graph, again; fastnn graph, tf32"
    code, content = run_main(tmp_path, "--backend", "numba", "--only", names)
    agreement = content["agreement"]
    assert code == (not all(run["passed"] for run in agreement["runs"]))  # bf16 may not, where the CPU has it
    output = capsys.readouterr().out
    assert "784-12-10, batch 64, float32: 10 steps an epoch" in output
    assert output.count("x fastnn graph [") == 2
    assert "numba, float32           PASS" in output
    assert "fastnn graph, tf32       left out: BackendError" in output
    assert content["schema_version"] == 1
    assert content["environment"]["commit"] == "0123abcd"
    assert content["environment"]["dirty"] is True
    assert [result["case"] for result in content["results"]] == [1, 2]
    for result in content["results"]:
        assert list(result["seconds"]) == ["fastnn graph", "fastnn graph, again"]
        assert {len(values) for values in result["seconds"].values()} == {result["rounds"]}
        assert result["rounds"] == 4
        assert list(result["ratios"]) == ["fastnn graph, again"]
        assert result["ratios"]["fastnn graph, again"]["to"] == "fastnn graph"
        assert result["reference"] == "numba"
        assert result["settings"]["fastnn graph"] == {"backend": "numba", "plan": "compiled", "precision": None}
    assert agreement["reference"]["backend"] == "numba"
    assert len(agreement["runs"][0]["loss"]) == 5
    many, accuracy = content["many"], content["accuracy"]
    assert many["passed"] is True
    assert [row["seed"] for row in many["rounds"]] == [0, many["networks"] - 1] * 2
    assert many["plans"] == {"one": "compiled", "many": "compiled"}
    assert accuracy["passed"] is None  # it is neither MNIST nor a CUDA device
    assert [run["seed"] for run in accuracy["runs"]] == [0, 1, 2]
    assert "losses equal to those of two trained alone" in output
    assert "to 98% on digits: 784-128-10" in output


def test_backend_that_is_not_ready_is_named(tmp_path):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command(), capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 3
    assert "backend 'cupy' (asked for by argument) is not ready" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert not list(tmp_path.iterdir())


def test_interrupt_writes_what_there_is(tmp_path, quick, numpy_alone, monkeypatch):
    """In the third round of the first case."""
    train, calls = gpu.train, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        return train(*arguments)

    monkeypatch.setattr(gpu, "train", interrupted)
    code, content = run_main(tmp_path, "--backend", "numpy", "--only", "fastnn graph; fastnn graph, again")
    assert code == 130
    assert content["interrupted"] is True
    assert [result["rounds"] for result in content["results"]] == [2]
    assert "fastnn graph, again" in content["results"][0]["ratios"]
    assert [content[name] for name in gpu.SECTIONS] == [None] * 3


def test_workers_leave_the_interrupt_to_the_parent(task):
    contenders = {"one": gpu.contender("fastnn graph", None, "numpy")}
    with runner.contest(contenders, task) as contest:
        os.kill(contest.workers._workers["one"]._process.pid, signal.SIGINT)
        assert contest.run("one", 2) > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only", "Theano"], "no trainer Theano"),
        (["--cases", "1,9"], "no case 9"),
        (["--cases", "one"], "must be numbers"),
        (["--cases", "4", "--samples", "511"], "at least 512"),
    ],
)
def test_wrong_options_are_named(options, words, capsys):
    with pytest.raises(SystemExit) as error:
        gpu.main(options)
    assert error.value.code == 2
    assert words in capsys.readouterr().err


# ---- who fails ------------------------------------------------------------------------------------------------------


def make_wrong(task, device, precision):
    return trainers.make_plain_numpy(task._replace(weights=[(W * 1.05, b) for W, b in task.weights]))


def make_broken(task, device, precision):
    raise fastnn.BackendError("there is\nno such device")


def make_dying(task, device, precision):
    os._exit(7)


def make_tiring(task, device, precision, epochs):
    """Fails, or hangs, after so many epochs."""
    loop, left = trainers.make_plain_numpy(task), [abs(epochs)]

    def run(order):
        left[0] -= 1
        if left[0] < 0 and epochs > 0:
            raise fastnn.BackendError("lost the device")
        if left[0] < 0:
            time.sleep(60)
        return loop.run(order)

    return trainers.Loop(run, {})


FAILING = {
    "right": functools.partial(make_tiring, epochs=10**9),
    "wrong": make_wrong,
    "broken": make_broken,
    "dying": make_dying,
    "failing": functools.partial(make_tiring, epochs=2),
    "hanging": functools.partial(make_tiring, epochs=-2),
}


def test_who_fails_is_left_out_and_the_others_go_on(tmp_path, quick, numpy_alone, monkeypatch):
    monkeypatch.setattr(gpu, "PEERS", FAILING)
    monkeypatch.setattr(gpu, "NAMES", ("fastnn graph", *FAILING))
    monkeypatch.setattr(gpu, "PATIENCE", 1.0)
    code, content = run_main(tmp_path, "--backend", "numpy", "--cases", "1", *CASES_ALONE)
    assert code == 0
    (result,) = content["results"]
    assert result["rounds"] == 4
    assert list(result["seconds"]) == ["fastnn graph", "right"]
    skipped = result["skipped"]
    assert "is not" in skipped.pop("wrong")
    assert skipped == {
        "broken": "BackendError: there is",
        "dying": "died with exit code 7",
        "failing": "BackendError: lost the device",
        "hanging": "no answer in the time that there was",
    }


def test_who_hangs_at_once_is_left_out(task):
    contenders = {"hanging": runner.Contender(functools.partial(make_tiring, device="", precision="", epochs=0), {}, 0)}
    with runner.contest(contenders, task, together=True, deadline=time.monotonic() + 1) as contest:
        assert contest.workers.skipped == {"hanging": "no answer in the time that there was"}
        assert list(contest.workers) == []


def test_budget_that_is_spent(tmp_path, quick, capsys):
    code, content = run_main(tmp_path, "--backend", "numpy", "--budget", "0.001")
    assert code == 0
    assert content["seconds"] < 2
    assert [set(result["skipped"].values()) for result in content["results"]] == [{"no time left"}] * 2
    assert content["agreement"]["skipped"] == {"numba": "no time left"}
    assert content["many"]["skipped"] == content["accuracy"]["skipped"] == "no time left"
    assert capsys.readouterr().out.count("\n  left out: no time left\n") == 3


def test_budget_bounds_the_rounds(tmp_path, quick, numpy_alone, monkeypatch):
    """However many are wanted."""
    monkeypatch.setattr(gpu, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(gpu, "MOST_ROUNDS", 10**6)
    options = ["--backend", "numpy", "--cases", "1", "--only", "fastnn graph", "--budget", "3", *CASES_ALONE]
    _, content = run_main(tmp_path, *options)
    assert content["seconds"] < 5


def test_round_that_is_cut_off_does_not_count():
    def run(name, epochs, deadline):
        if name == "slow":
            time.sleep(0.1)
            raise WorkerError("no answer")
        return 1.0

    workers = types.SimpleNamespace(leave_out=lambda name, why: pytest.fail("it is not its fault"))
    contest = types.SimpleNamespace(run=run, workers=workers)
    assert gpu.train(contest, ["fast", "slow"], {"fast": 1, "slow": 1}, 1.0, time.monotonic() + 0.05) == {}


def test_reference_of_the_largest_network_is_the_median():
    losses = {"a": 0.50, "b": 0.51, "c": 7.0, "d": float("nan")}
    contest = types.SimpleNamespace(workers={}, losses=losses)
    assert gpu.reference_loss(contest) == ("median", 0.51)
    contest.losses = {"d": float("nan")}
    _, expected = gpu.reference_loss(contest)
    assert list(runner.disagreeing(contest.losses, expected, {"d": runner.Contender(None, {}, 1e-2)})) == ["d"]


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
    assert gpu.check(reference | changes, reference)["passed"] is passed


def test_agreement_with_another_backend(digits, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "EPOCHS", 2)
    result = {}
    gpu.agree(result, "numpy", digits, 1280, time.monotonic() + 60)
    assert [(run["precision"], run["passed"]) for run in result["runs"]] == [("float32", True)]
    assert 0 < result["runs"][0]["loss_difference"] < 1e-3
    assert list(result["skipped"]) == ["numpy, tf32", "numpy, bf16"]
    assert capsys.readouterr().out.count("PASS") == 1


def test_disagreement_is_the_command_s_too(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(gpu, "EPOCHS", 1)
    monkeypatch.setattr(gpu, "ACCURACY_LIMIT", -1.0)
    options = ["--cases", "1", "--only", "fastnn graph, tf32", "--no-many", "--no-accuracy"]
    code, content = run_main(tmp_path, "--backend", "numpy", *options)
    assert code == 1
    assert content["results"] == []  # there is no tf32 in this case
    assert [run["passed"] for run in content["agreement"]["runs"]] == [False]


@pytest.mark.parametrize("error", [fastnn.DivergedError, fastnn.BackendError])
def test_run_that_fails_does_not_agree(error, digits, monkeypatch, capsys):
    """It diverges, or a kernel does not compile."""
    monkeypatch.setattr(gpu, "EPOCHS", 1)
    fit = gpu.fit

    def fail(backend, *rest):
        if backend == "numpy":
            raise error("so it is\nas the log says")
        return fit(backend, *rest)

    monkeypatch.setattr(gpu, "fit", fail)
    result = {}
    gpu.agree(result, "numpy", digits, 320, time.monotonic() + 60)
    assert [run["passed"] for run in result["runs"]] == [False] * 3
    assert capsys.readouterr().out.count("FAIL: so it is\n") == 3


# ---- many networks at once, and the time to an accuracy -------------------------------------------------------------


NO_CASE = ("--cases", "1", "--only", "fastnn graph, tf32", "--no-agreement")


def run_section(fill, data, samples=320):
    """What a section fills in, on numba."""
    result = {}
    fill(result, "numba", data, samples, time.monotonic() + 60)
    return result


def with_histories(change):
    """A `train_many` whose histories are changed."""
    train_many = fastnn.train_many

    def changed(*arguments, **options):
        histories = train_many(*arguments, **options)
        change(histories)
        return histories

    return changed


def slow_down(histories):
    """What the histories know of it."""
    histories[1].seconds = [10**6 * seconds for seconds in histories[1].seconds]


def diverge(histories):
    histories[1].diverged = True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda histories: time.sleep(0.2), "FAIL: by the clock"),
        (slow_down, "FAIL: by the clock"),
        (diverge, "FAIL: DivergedError: one of the networks diverged"),
        (lambda histories: histories.reverse(), "(limit 1e-03) of those of two trained alone"),
    ],
    ids=["slow by the clock", "slow by the history", "diverging", "wrong"],
)
def test_many_that_fail(change, words, quick, digits, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "TIMED", "numba")
    monkeypatch.setattr(fastnn, "train_many", with_histories(change))
    result = run_section(gpu.compare_many, digits)
    assert result["passed"] is False
    output = capsys.readouterr().out
    assert words in output
    assert output.count("FAIL") == 1


def test_many_in_time(quick, digits, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "TIMED", "numba")
    monkeypatch.setattr(gpu, "MANY_LIMIT", 1e6)
    result = run_section(gpu.compare_many, digits)
    assert result["passed"] is True
    assert result["loss_difference"] == 0
    assert set(result["ratios"]) == set(result["medians"]) == {"clock", "history"}
    assert result["one_by_one"] == result["networks"] * result["medians"]["clock"]["one"]
    assert "(limit 1e+06 x); 4 rounds" in capsys.readouterr().out


@pytest.mark.parametrize(("calls", "rounds"), [(7, None), (8, 3), (9, 3)])
def test_rounds_of_many_until_the_end(calls, rounds, quick, digits, monkeypatch, capsys):
    """Of two calls each, the first is not counted; less than three say nothing."""
    time_epoch, left = gpu.time_epoch, [calls]

    def limited(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise WorkerError("no time left")
        return time_epoch(*arguments)

    monkeypatch.setattr(gpu, "time_epoch", limited)
    result = run_section(gpu.compare_many, digits)
    if rounds is None:
        assert (result["passed"], result["skipped"]) == (None, "no time left")
        assert capsys.readouterr().out.endswith("  left out: no time left\n")
    else:
        assert (result["passed"], result["skipped"]) == (True, None)
        assert len(result["rounds"]) == rounds


def test_training_that_is_not_through_at_the_end(digits):
    network = fastnn.Network([784, 10], backend="numpy")
    with pytest.raises(WorkerError, match="no time left"):
        gpu.train_here(network.fit, digits, 320, time.monotonic() + 0.2, epochs=10**9)
    assert 0 < network.history.epochs < 10**6


def test_one_multiprocessor_each(monkeypatch):
    device = types.SimpleNamespace(multiprocessors=lambda: 132)
    monkeypatch.setitem(sys.modules, "fastnn.kernels.cuda_device", device)
    assert gpu.count_networks("cupy") == 132
    assert 2 <= gpu.count_networks("numba") <= 4


@pytest.mark.parametrize("error", [fastnn.BackendError, ZeroDivisionError])
def test_section_that_fails_is_named_and_the_next_goes_on(error, tmp_path, quick, monkeypatch, capsys):
    def fail(*arguments, **options):
        raise error("so it is\nas the log says")

    monkeypatch.setattr(fastnn, "train_many", fail)
    monkeypatch.setattr(gpu, "GOAL", 0.0)
    code, content = run_main(tmp_path, "--backend", "numba", *NO_CASE)
    assert code == 1
    assert content["many"]["error"] == f"{error.__name__}: so it is\nas the log says"
    assert len(content["accuracy"]["runs"]) == 3
    output = capsys.readouterr()
    assert f"  FAIL: {error.__name__}: so it is\n" in output.out
    assert ("Traceback" in output.err) == (error is ZeroDivisionError)


def test_interrupt_of_a_section(tmp_path, quick, monkeypatch):
    calls = []

    def interrupt(histories):
        calls.append(histories)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fastnn, "train_many", with_histories(interrupt))
    code, content = run_main(tmp_path, "--backend", "numba", *NO_CASE)
    assert code == 130
    assert len(content["many"]["rounds"]) == 1
    assert content["accuracy"] is None


@pytest.mark.parametrize("outer", [None, "eager"])
def test_backend_chooses_the_plan(outer, monkeypatch, capsys):
    """In the section alone, however it ends."""
    if outer is None:
        monkeypatch.delenv("FASTNN_CUDA_PLAN", raising=False)
    else:
        monkeypatch.setenv("FASTNN_CUDA_PLAN", outer)
    for error in (WorkerError("no time left"), fastnn.BackendError("no device"), None):
        with gpu.filling({}):
            assert "FASTNN_CUDA_PLAN" not in os.environ
            if error:
                raise error
        assert os.environ.get("FASTNN_CUDA_PLAN") == outer


def test_training_ends_with_the_epoch_that_has_the_goal(digits, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "GOAL", 0.8)
    result = run_section(gpu.time_accuracy, digits, 640)
    for run in result["runs"]:
        assert max(run["accuracy"][:-1]) < 0.8 <= run["accuracy"][-1]
        assert run["seconds"] == sum(run["epoch_seconds"])
        assert run["epochs"] == len(run["epoch_seconds"])
    assert result["seconds"] == sorted(run["seconds"] for run in result["runs"])[1]
    assert result["passed"] is None
    assert "ms, median of" in capsys.readouterr().out


def test_recipe_is_the_preset_s_again_and_again(digits, monkeypatch):
    monkeypatch.setattr(gpu, "GOAL", 1.1)
    recipe, fit, losses = PRESETS["quick"], fastnn.Network.fit, []

    def kept(network, *arguments, **options):
        losses.append(fit(network, *arguments, **options).loss)
        return network.history

    monkeypatch.setattr(fastnn.Network, "fit", kept)
    run = gpu.train_to_goal(1, "numba", digits, 320, time.monotonic() + 60)
    assert (run["epochs"], run["seconds"]) == (12, None)
    optimizer = fastnn.SGD(0.1, momentum=0.9, nesterov=True)
    options = {"epochs": 4, "optimizer": optimizer, "schedule": recipe["schedule"]}
    fastnn.Network([784, 128, 10], seed=1, backend="numba").fit(digits.x_train[:320], digits.y_train[:320], **options)
    assert losses[0][:4] == losses[1]
    steps = np.arange(8)
    np.testing.assert_array_equal(gpu.repeat(lambda steps, each, total: steps, 2, steps, 2, 8), [0, 1, 2, 3] * 2)


@pytest.mark.parametrize(
    ("goal", "limit", "passed", "words"),
    [
        (0.8, 60.0, True, "PASS: "),
        (0.8, 0.0, False, "(limit 0 ms), median of"),
        (1.1, 60.0, False, "FAIL: not reached in 12 epochs; best "),
    ],
)
def test_limit_of_the_time_to_an_accuracy(goal, limit, passed, words, digits, monkeypatch, capsys):
    """On all of MNIST, for which these samples are given out."""
    for name, value in {"TIMED": "numba", "GOAL": goal, "GOAL_SECONDS": limit}.items():
        monkeypatch.setattr(gpu, name, value)
    few = {name: getattr(digits, name)[:640] for name in ("x_train", "y_train", "x_test", "y_test")}
    mnist = dataclasses.replace(digits, name="mnist", **few)
    result = run_section(gpu.time_accuracy, mnist, 640)
    assert result["passed"] is passed
    assert (result["seconds"] is None) == (goal > 1)
    assert words in capsys.readouterr().out
    assert gpu.has_failed({"agreement": None, "many": None, "accuracy": result}) is not passed


# ---- environment ----------------------------------------------------------------------------------------------------


def test_environment_of_a_cuda_device(monkeypatch, git):
    device = types.SimpleNamespace(
        capability=lambda: (9, 0), multiprocessors=lambda: 132, versions=lambda: {"cuda": "13"}
    )
    monkeypatch.setitem(sys.modules, "fastnn.kernels.cuda_device", device)
    reason = "NVIDIA H200, compute capability 9.0, 140 GiB"
    environment = gpu.environment(BackendChoice("cupy", "argument", reason, device), 3)
    assert environment["device"] == {
        "description": reason,
        "name": "NVIDIA H200",
        "versions": {"cuda": "13"},
        "compute_capability": "9.0",
        "multiprocessors": 132,
        "memory": "140 GiB",
    }
    assert environment["threads"] == 3
    assert environment["commit"] == "0123abcd"


def test_commit_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.revision() == {"commit": None, "dirty": None}


def test_file_is_named_for_the_device():
    assert gpu.default_file("NVIDIA H200").match("bench/results/gpu-nvidia-h200-[0-9]*-[0-9]*.json")


def test_contenders_of_the_cases():
    names = list(gpu.contenders(gpu.CASES[2], "cupy", gpu.NAMES))
    assert names == list(gpu.NAMES)
    assert list(gpu.contenders(gpu.CASES[4], "cupy", gpu.NAMES)) == [n for n in names if not n.endswith("tf32")]
    eager = gpu.contenders(gpu.CASES[4], "cupy", gpu.NAMES)["fastnn eager"]
    assert eager.environment["FASTNN_CUDA_PLAN"] == "eager"
    assert eager.make.keywords == {"backend": "cupy", "precision": "bf16"}
    assert eager.tolerance == 1e-2


# ---- trainers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["graph", "eager"])
def test_fastnn_trains_on_each_backend(backend, plan, task, monkeypatch):
    monkeypatch.setenv("FASTNN_CUDA_PLAN", plan)
    loop = trainers.make_fastnn(task, backend)
    np.testing.assert_allclose(losses_of(loop, task), float64_losses(task), rtol=1e-5)
    if "cu" in backend:
        assert loop.settings["plan"] == plan


def test_fastnn_refuses_another_order(backend, task):
    orders = runner.orders(task.sizes, len(task.x))
    next(orders)
    with pytest.raises(RuntimeError, match="in another order"):
        trainers.make_fastnn(task, backend).run(next(orders))


@pytest.mark.parametrize(("precision", "tolerance"), [(None, 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("make", [trainers.make_jax, trainers.make_torch])
def test_peers_agree_with_float64(make, precision, tolerance, task):
    pytest.importorskip(make.__name__.removeprefix("make_"))
    loop = make(task, precision=precision)
    np.testing.assert_allclose(losses_of(loop, task), float64_losses(task), rtol=tolerance)


def test_jax_multiplies_bfloat16_in_the_gradient_too():
    jax = pytest.importorskip("jax")
    x, W = np.ones((4, 3), np.float32), np.ones((3, 2), np.float32)
    gradient = jax.grad(lambda x, W: trainers.make_jax_bf16()(x, W).sum(), (0, 1))
    lines = [line for line in str(jax.make_jaxpr(gradient)(x, W)).splitlines() if "dot_general" in line]
    assert len(lines) == 3
    text = str(jax.jit(gradient).lower(x, W).as_text())
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) >= 2
    assert all(line.count("bf16>") >= 2 for line in products), products


def test_torch_without_a_device_says_so(task):
    torch = pytest.importorskip("torch")
    with pytest.raises(fastnn.BackendError, match="CUDA graphs are for CUDA devices"):
        trainers.make_torch(task, how="graph")
    if torch.cuda.is_available():
        pytest.skip("there is a device")
    with pytest.raises(fastnn.BackendError, match="sees no CUDA device"):
        trainers.make_torch(task, device="cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("how", ["eager", "graph"])
@pytest.mark.parametrize(("precision", "tolerance"), [(None, 1e-5), ("tf32", 1e-2), ("bf16", 1e-2)])
def test_torch_on_a_device_agrees_with_float64(how, precision, tolerance, task):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    loop = trainers.make_torch(task, how=how, device="cuda", precision=precision)
    np.testing.assert_allclose(losses_of(loop, task), float64_losses(task), rtol=tolerance)
