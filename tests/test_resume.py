"""Going on with a run that was stopped: bit for bit what it would have become."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn.errors import FileFormatError
from fastnn.storage import load_state

RNG = np.random.default_rng(0)
X, Y = RNG.random((100, 12), np.float32), RNG.integers(0, 3, 100)
VALIDATION = (RNG.random((40, 12), np.float32), RNG.integers(0, 3, 40))
OPTIMIZERS = ["sgd(0.1)", "sgd(0.1, momentum=0.9)", "rmsprop(0.01)", "adam(0.01)", "adamw(0.01)"]


def network(**options):
    return fastnn.Network([12, 10, 8, 3], **{"backend": "numpy", "dropout": 0.2, **options})


def fit(net, epochs, callbacks=(), **options):
    options = {
        "optimizer": "adam(0.01)",
        "schedule": "cosine(0.2)",
        "batch_size": 16,
        "validation_data": VALIDATION,
    } | options
    return net.fit(X, Y, epochs=epochs, callbacks=callbacks, **options)


class StoppedError(Exception):
    pass


def stop_after(epochs):
    def stop(net, history):
        if history.epochs == epochs:
            raise StoppedError

    return stop


def stopped_and_resumed(path, at, epochs, make=network, callbacks=lambda: [], **options):
    """A run that an error ends in the epoch after its checkpoint, and is gone on with by objects of another process."""
    with pytest.raises(StoppedError):
        fit(make(), epochs, [*callbacks(), fastnn.Checkpoint(path), stop_after(at + 1)], **options)
    # as_callbacks puts the checkpoint last, so that of epoch `at` is the last one written
    net = make()
    history = fit(net, epochs, [*callbacks(), fastnn.Checkpoint(path)], resume=path, **options)
    return net, history


def assert_same(one, other):
    (a, history), (b, expected) = one, other
    assert a.epochs_trained == b.epochs_trained
    np.testing.assert_array_equal(a.kernels.to_numpy(a.parameters), b.kernels.to_numpy(b.parameters))
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        assert getattr(history, name) == getattr(expected, name), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_is_bit_for_bit_the_other(tmp_path, optimizer):
    net = network()
    whole = net, fit(net, 5, optimizer=optimizer)
    assert_same(stopped_and_resumed(tmp_path / "run", 2, 5, optimizer=optimizer), whole)


def test_on_every_backend(tmp_path, backend):
    def make():
        return network(backend=backend)

    net = make()
    whole = net, fit(net, 3)
    assert_same(stopped_and_resumed(tmp_path / "run", 1, 3, make), whole)


def test_a_state_that_lacks_something_is_noticed_by_these_tests(tmp_path):
    """The check above is fed a wrong state: the optimizer's forgotten, and the number of updates."""
    path = tmp_path / "run"
    fit(network(), 2, [fastnn.Checkpoint(path)])
    state = load_state(path)
    net = network()
    whole = net, fit(net, 4)
    zeros = {name: array * (name == "parameters") for name, array in state.arrays.items()}
    for wrong in (dataclasses.replace(state, arrays=zeros), dataclasses.replace(state, updates=0)):
        other = network()
        history = fit(other, 4, [fastnn.Checkpoint(path)], resume=wrong)
        with pytest.raises(AssertionError):
            assert_same((other, history), whole)


def test_callbacks_go_on_too(tmp_path):
    def callbacks():
        return [
            fastnn.EarlyStopping("val_loss", patience=3),
            fastnn.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.05),
            fastnn.LearningRateSchedule(lambda epoch, rate: 0.9 * rate),
            fastnn.CSVLog(tmp_path / "log.csv"),
        ]

    net = network()
    whole = net, fit(net, 40, callbacks())
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert whole[1].epochs < 40
    for at in (1, whole[1].epochs - 2, whole[1].epochs - 1):
        assert_same(stopped_and_resumed(tmp_path / "run", at, 40, callbacks=callbacks), whole)
        found = (tmp_path / "log.csv").read_text().splitlines()
        assert [line.split(",")[:5] for line in found] == [line.split(",")[:5] for line in lines]


def test_a_run_that_a_callback_has_ended_stays_ended(tmp_path):
    path = tmp_path / "run"
    first = network()
    whole = first, fit(first, 40, [fastnn.Checkpoint(path), fastnn.EarlyStopping(patience=2)])
    net = network()
    history = fit(net, 40, [fastnn.Checkpoint(path), fastnn.EarlyStopping(patience=2)], resume=path)
    assert_same((net, history), whole)


def test_a_run_that_is_done_is_done_and_may_be_made_longer(tmp_path):
    path = tmp_path / "run"
    fit(network(), 2, [fastnn.Checkpoint(path)], schedule=None)
    net = network()
    assert fit(net, 2, resume=path, schedule=None).epochs == 2
    whole = network()
    assert_same((net, fit(net, 4, resume=path, schedule=None)), (whole, fit(whole, 4, schedule=None)))


def test_a_state_in_memory_serves_too():
    class Keep(fastnn.Callback):
        def end(self, run):
            self.state_ = run.state()

    keep, net = Keep(), network()
    fit(net, 2, [keep], schedule=None)
    history = fit(net, 4, schedule=None, resume=keep.state_)
    whole = network()
    assert_same((net, history), (whole, fit(whole, 4, schedule=None)))


def test_other_data_are_taken_where_no_settings_are_kept():
    class Keep(fastnn.Callback):
        def end(self, run):
            self.state_ = dataclasses.replace(run.state(), settings={})

    keep, net = Keep(), network()
    net.fit(X, Y, epochs=1, optimizer="adam", callbacks=[keep])
    history = net.fit(X[:50], Y[:50], epochs=2, batch_size=10, optimizer="adam", resume=keep.state_)
    assert history.epochs == net.epochs_trained == 2


def test_a_checkpoint_is_a_model_too(tmp_path):
    path, net = tmp_path / "run", network()
    history = fit(net, 2, [fastnn.Checkpoint(path)])
    copy = fastnn.load(path, backend="numpy")
    np.testing.assert_array_equal(copy.predict_proba(X), net.predict_proba(X))
    assert copy.history == history


def test_not_every_epoch_and_the_last_one_always(tmp_path):
    path, written = tmp_path / "run", []

    class Look(fastnn.Checkpoint):
        def __call__(self, net, history):
            super().__call__(net, history)
            written.append(load_state(path).epoch if path.exists() else 0)

    fit(network(), 5, [Look(path, every=2)])
    assert written == [0, 2, 2, 4, 5]


def test_only_the_best_is_kept(tmp_path):
    path = tmp_path / "best"
    history = fit(network(), 12, [fastnn.Checkpoint(path, best="val_loss")], schedule=None, optimizer="adam(0.05)")
    assert load_state(path).epoch == int(np.argmin(history.val_loss)) + 1 < 12


# ---- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch_size": 32}, "batch_size 16, now 32"),
        ({"optimizer": "adam(0.02)"}, "learning_rate=0.02"),
        ({"schedule": "constant"}, r"schedule 'Cosine\(warmup=0.2, final=0.0\)', now 'Constant\(\)'"),
        ({"shuffle": False}, "shuffle True, now False"),
        ({"loss": "quadratic"}, "loss 'cross_entropy', now 'quadratic'"),
        ({"validation_data": None}, "history of"),
        ({"sample_weight": np.ones(100)}, "data '100 samples"),
        ({"callbacks": [fastnn.EarlyStopping()]}, r"callbacks \[\], now \['EarlyStopping'\]"),
    ],
)
def test_another_run_is_refused_and_nothing_changed(tmp_path, changes, word):
    path = tmp_path / "run"
    fit(network(), 1, [fastnn.Checkpoint(path)])
    net = network()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=word):
        fit(net, 2, resume=path, **changes)
    np.testing.assert_array_equal(net.parameters, before)
    assert net.epochs_trained == 0


@pytest.mark.parametrize("options", [{"seed": 1}, {"dropout": 0.1}, {"hidden": "tanh"}, {"dtype": "float64"}])
def test_another_network_is_refused(tmp_path, options):
    path = tmp_path / "run"
    fit(network(), 1, [fastnn.Checkpoint(path)])
    with pytest.raises(ValueError, match=f"other settings; then and now: {next(iter(options))}"):
        fit(network(**options), 2, resume=path)


def test_other_samples_are_refused(tmp_path):
    path = tmp_path / "run"
    fit(network(), 1, [fastnn.Checkpoint(path)])
    options = {"optimizer": "adam(0.01)", "batch_size": 16, "validation_data": VALIDATION}
    with pytest.raises(ValueError, match=r"data '100 samples"):
        network().fit(X + np.float32(1e-6), Y, resume=path, **options)


def test_files_that_are_no_checkpoint(tmp_path):
    net, path = network(), tmp_path / "model"
    net.save(path)
    with pytest.raises(FileFormatError, match="is a network, not a checkpoint"):
        fit(net, 2, resume=path)
    with pytest.raises(FileNotFoundError):
        fit(net, 2, resume=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(net, 2, [fastnn.Checkpoint(tmp_path / "none" / "run")])


# ---- killed ---------------------------------------------------------------------------------------------------------

KILLS = int(os.environ.get("FASTNN_KILLS", "3"))
TRAIN = ["-m", "fastnn.cli", "train", "--dataset", "digits", "--layers", "784,64,10", "--optimizer", "adam"]
TRAIN += [
    "--dropout",
    "0.2",
    "--schedule",
    "cosine",
    "--epochs",
    "12",
    "--backend",
    "numpy",
    "--threads",
    "1",
    "--json",
]


def test_killed_at_random_moments_and_resumed(tmp_path):
    """Each time by SIGKILL, until a run gets to its end; FASTNN_KILLS says how often at least in all."""
    whole = tmp_path / "whole"
    expected = _train("--save", str(whole))
    path, kills, runs = tmp_path / "run", 0, 0
    moments = random.Random(0)
    while kills < KILLS:
        path.unlink(missing_ok=True)
        while (killed := _train_and_kill(path, moments.uniform(0.3, 3.0))) is None:
            kills += 1
        assert killed["history"]["loss"] == expected["history"]["loss"]
        runs += 1
        mine, other = fastnn.load(path, backend="numpy"), fastnn.load(whole, backend="numpy")
        np.testing.assert_array_equal(mine.parameters, other.parameters)
    print(f"{kills} kills in {runs} runs, none lost")


def _train(*options):
    done = subprocess.run([sys.executable, *TRAIN, *options], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def _train_and_kill(path, seconds):
    """What it printed where it was done before, None where it was killed."""
    command = [sys.executable, *TRAIN, "--checkpoint", str(path), "--resume"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return None
    assert process.returncode == 0, err
    return json.loads(out)
