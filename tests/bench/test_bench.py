"""The comparison with other libraries: it measures what it says, and refuses what trains something else."""

import json
import subprocess
import sys
import threading
from types import ModuleType

import numpy as np
import pytest
from fastnn.bench import peak, peers, runner, trainers

import fastnn
from fastnn.threads import resolve_threads

SMALL = ["--dataset", "digits", "--samples", "1280", "--rounds", "2", "--batch-sizes", "64"]


@pytest.fixture
def run_main(monkeypatch, capsys):
    """A function that runs the command in this process, its measurements of no length; returns what it prints."""
    monkeypatch.setattr(peers, "LEAST_SECONDS", 0.01)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # workers would import pytest's

    def run(*options):
        peers.main([*SMALL, *options])
        return capsys.readouterr().out

    return run


@pytest.fixture
def task():
    return runner.make_task((784, 12, 10), 64, 640, 1, fastnn.datasets.load("digits"))


def disagreeing(losses):
    contenders = {name: peers.contender(name, 1) for name in losses}
    return runner.disagreeing(losses, losses[peers.REFERENCE], contenders)


def test_command_compares_and_writes(run_main, tmp_path):
    file = tmp_path / "peers.json"
    names = "fastnn numba; plain numpy loop"
    output = run_main("--only", names, "--networks", "784-12-10,784-9-8-10", "--json", str(file))
    assert output.count("plain numpy loop") == 2
    assert "times as fast" in output
    assert "of peak" in output
    assert "geometric mean" in output
    assert "left out" not in output
    content = json.loads(file.read_text())
    assert content["schema_version"] == 1
    assert content["environment"]["threads"] == resolve_threads(None)
    assert [len(seconds) for result in content["results"] for seconds in result["seconds"].values()] == [2] * 6


def test_missing_peer_is_named(run_main, monkeypatch, tmp_path):
    (tmp_path / "jax.py").write_text("raise ImportError(\"No module named 'jax'\")")  # though it may be installed
    monkeypatch.syspath_prepend(tmp_path)  # workers get it
    output = run_main("--only", "JAX scan; plain numpy loop", "--networks", "784-12-10")
    assert "JAX scan             left out: not installed: No module named 'jax'" in output
    assert "plain numpy loop" in output


@pytest.mark.parametrize(
    ("options", "words"), [(["--only", "Theano"], "no trainer Theano"), (["--rounds", "1"], "at least 2")]
)
def test_wrong_options_are_named(options, words):
    line = [sys.executable, "-m", "fastnn.bench.peers", *SMALL, *options]
    result = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert words in result.stderr


def test_trainers_agree_with_float64(task):
    """The losses of two epochs, each trainer's against fastnn's numpy backend in float64."""
    network = fastnn.Network(task.sizes, backend="numpy", dtype="float64")
    network.set_weights(task.weights)
    history = network.fit(task.x, task.y, epochs=2, batch_size=64, optimizer=fastnn.SGD(trainers.LEARNING_RATE))
    for name in ("fastnn numba", "fastnn numpy", "plain numpy loop"):
        run = trainers.TRAINERS[name](task).run
        losses = [run(order) for _, order in zip(range(2), runner.orders(task.sizes, len(task.x)), strict=False)]
        np.testing.assert_allclose(losses, history.loss, rtol=1e-5, err_msg=name)


def test_who_trains_something_else_is_left_out():
    losses = {peers.REFERENCE: 0.5, peers.OWN: 0.50001, "JAX scan": 0.502, "scikit-learn": 0.52}
    assert list(disagreeing(losses)) == ["JAX scan"]
    losses["fastnn numba, bf16"] = float("nan")
    assert "is not 0.5" in disagreeing(losses)["fastnn numba, bf16"]


def test_wrong_trainer_is_found(task):
    """The gate, fed a trainer that begins with other weights."""
    order = next(runner.orders(task.sizes, len(task.x)))
    right = trainers.make_fastnn(task, "numpy").run(order)
    wrong_task = task._replace(weights=[(W * 1.05, b) for W, b in task.weights])
    wrong = trainers.make_plain_numpy(wrong_task).run(order)
    assert disagreeing({peers.REFERENCE: right, "plain numpy loop": wrong})


def test_fewer_samples_than_a_batch_are_refused():
    with pytest.raises(SystemExit, match="less than a mini-batch of 64"):
        runner.make_task((784, 12, 10), 64, 63, 1, fastnn.datasets.load("digits"))


def test_operations_are_counted(task):
    assert task.flops() == 2 * 640 * (2 * 784 * 12 + 3 * 12 * 10)


def test_peak_is_what_the_tiles_did(monkeypatch):
    """Each operand is a number that shows in the sums how many products were added up."""
    operations = []

    def run_once(function, calls):
        for repeats, a, b, c in calls:
            a[...], b[...], c[...] = 1, 1, 0
            function(1, a, b, c)
            operations.append(2 * repeats * c.sum(dtype=np.float64))
        return 0.5

    monkeypatch.setattr(peak, "seconds", run_once)
    assert peak.Peak(2)() == sum(operations) / 0.5
    assert len(operations) == 2
    assert min(operations) > 0


def test_peak_is_of_threads_that_run_at_the_same_time():
    """Each waits until the other is there, too."""
    met = threading.Barrier(2)
    assert 0 < peak.seconds(met.wait, [(60,), (60,)]) < 60
    assert not met.broken
