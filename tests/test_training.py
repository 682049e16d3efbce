"""Runs of several epochs: their record, schedules, callbacks, and every way in which they may end."""

import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn.plots
import fastnn.sweeps
from fastnn import SGD, Adam, AdamW, DivergedError, History, Network, RMSprop
from fastnn.cli import main
from fastnn.schedules import Constant, Cosine, Exponential, Step, as_schedule

RNG = np.random.default_rng(1)
X = RNG.random((80, 12), np.float32)
Y = RNG.integers(0, 3, 80)


def network(backend="numpy", **options):
    return Network([12, 8, 3], backend=backend, **{"seed": 3, **options})


def flat(net):
    return np.concatenate([np.r_[W.ravel(), b] for W, b in net.get_weights()])


# ---------------------------------------------------------------- history


def test_history_of_a_run(backend):
    net = network(backend, threads=1)
    history = net.fit(X, Y, epochs=3, batch_size=32, validation_data=(X[:20], Y[:20]))
    assert history is net.history
    assert (history.backend, history.dtype, history.threads, history.samples) == (backend, "float32", 1, 80)
    assert history.epochs == 3
    assert not history.interrupted
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds"):
        values = getattr(history, name)
        assert len(values) == 3, name
        assert all(type(value) is float and math.isfinite(value) for value in values), name
    assert history.compile_seconds >= 0
    assert all(seconds > 0 for seconds in history.seconds)
    assert {"loss": history.val_loss[-1], "accuracy": history.val_accuracy[-1]} == net.evaluate(X[:20], Y[:20])


def test_loss_is_that_of_the_samples_as_they_were_met():
    """With a learning rate of next to nothing it is the loss of the network that stands still."""
    net = network()
    history = net.fit(X, Y, epochs=2, batch_size=7, optimizer=SGD(1e-12))
    score = net.evaluate(X, Y)
    assert history.loss == pytest.approx([score["loss"]] * 2, rel=1e-6)
    assert history.accuracy == pytest.approx([score["accuracy"]] * 2)


def test_weight_decay_is_not_in_the_loss():
    plain, decaying = network(), network()
    options = {"epochs": 1, "batch_size": 80}
    assert (
        plain.fit(X, Y, optimizer=SGD(0.1), **options).loss
        == decaying.fit(X, Y, optimizer=SGD(0.1, weight_decay=0.5), **options).loss
    )


def test_without_validation_data_those_lists_are_empty():
    history = network().fit(X, Y, epochs=2)
    assert history.val_loss == history.val_accuracy == []


def test_validation_does_not_disturb_training(backend):
    plain, validated = network(backend, dropout=0.3), network(backend, dropout=0.3)
    plain.fit(X, Y, epochs=2)
    validated.fit(X, Y, epochs=2, validation_data=(X[::-1], Y[::-1], np.arange(80)))
    np.testing.assert_array_equal(flat(plain), flat(validated))
    assert plain.history.loss == validated.history.loss


def test_validation_with_sample_weights():
    net, weight = network(), np.arange(80)
    net.fit(X, Y, epochs=1, validation_data=[X, Y, weight])
    score = net.evaluate(X, Y, sample_weight=weight)
    assert (net.history.val_loss[0], net.history.val_accuracy[0]) == (score["loss"], score["accuracy"])


def test_every_call_has_a_history_of_its_own():
    net = network()
    first = net.fit(X, Y, epochs=2)
    second = net.fit(X, Y, epochs=1)
    assert (first.epochs, second.epochs, net.epochs_trained) == (2, 1, 3)


def test_history_as_plain_values():
    net = Network([12, 8, 3], output="identity", backend="numpy")
    history = net.fit(X, np.zeros((80, 3)) + 0.5, epochs=2, validation_data=(X, np.ones((80, 3)) / 2))
    text = json.dumps(history.to_dict(), allow_nan=False)
    found = json.loads(text)
    assert found["accuracy"] == found["val_accuracy"] == [None, None]
    assert found["loss"] == history.loss
    assert found["backend"] == "numpy"
    assert found["interrupted"] is False
    assert set(found) == set(vars(history))


def test_infinities_do_not_get_into_json():
    history = History()
    history.add((math.inf, math.nan), 0.1, (-math.inf, 0.5))
    assert json.loads(json.dumps(history.to_dict(), allow_nan=False))["loss"] == [None]


def test_history_changed_by_a_reader_of_its_plain_values_stays():
    history = network().fit(X, Y, epochs=1)
    history.to_dict()["loss"].clear()
    assert history.epochs == 1


# ---------------------------------------------------------------- callbacks


def test_callbacks_are_called_after_every_epoch():
    seen = []
    net = network()
    history = net.fit(
        X,
        Y,
        epochs=3,
        validation_data=(X, Y),
        callbacks=[lambda n, h: seen.append((n, h, h.epochs, len(h.val_loss), n.epochs_trained))],
    )
    assert [entry[2:] for entry in seen] == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]
    assert all(entry[0] is net and entry[1] is history for entry in seen)


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_callback_ends_training(answer):
    calls = []
    history = network().fit(
        X, Y, epochs=9, callbacks=[lambda n, h: h.epochs == 2 and answer, lambda n, h: calls.append(h.epochs)]
    )
    assert history.epochs == 2
    assert calls == [1, 2]
    assert not history.interrupted


@pytest.mark.parametrize("wrap", [tuple, iter, lambda calls: (call for call in calls)])
def test_callbacks_of_any_iterable(wrap):
    """A generator can be gone through once only: that must not end the calls after the first epoch."""
    calls = []
    network().fit(X, Y, epochs=3, callbacks=wrap([lambda n, h: calls.append(h.epochs)]))
    assert calls == [1, 2, 3]


@pytest.mark.parametrize("callbacks", [lambda n, h: None, [3], ["stop"]])
def test_what_cannot_be_called_is_refused_before_training(callbacks):
    net = network()
    before = flat(net)
    with pytest.raises((TypeError, ValueError)):
        net.fit(X, Y, epochs=2, callbacks=callbacks)
    assert net.epochs_trained == 0
    np.testing.assert_array_equal(flat(net), before)


def test_an_error_in_a_callback_comes_through():
    def fail(net, history):
        raise LookupError("mine")

    net = network()
    with pytest.raises(LookupError, match="mine"):
        net.fit(X, Y, epochs=3, callbacks=[fail])
    assert net.history.epochs == 1
    net.fit(X, Y, epochs=1)


def test_a_callback_may_use_the_network(backend):
    """Answers, scores and saving from inside a run see the weights of that moment, and disturb nothing."""
    plain, watched, scores = network(backend), network(backend), []
    plain.fit(X, Y, epochs=2, validation_data=(X, Y))

    def watch(net, history):
        scores.append(net.evaluate(X, Y)["loss"])
        net.predict(X)
        net.get_weights()[0][0][...] = 0

    watched.fit(X, Y, epochs=2, callbacks=[watch])
    assert scores == plain.history.val_loss
    np.testing.assert_array_equal(flat(plain), flat(watched))


# ---------------------------------------------------------------- schedules


def factors(schedule, steps_per_epoch=4, total=12):
    found = schedule(np.arange(total), steps_per_epoch, total)
    assert found.shape == (total,)
    assert found.dtype == np.float64
    return found


def test_constant():
    assert factors(Constant()).tolist() == [1] * 12


def test_exponential_falls_every_step():
    assert factors(Exponential(0.5))[:4].tolist() == [1, 0.5, 0.25, 0.125]


def test_step_falls_every_few_epochs():
    assert factors(Step(1, 0.1)) == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 4)
    assert factors(Step(2, 0.5)).tolist() == [1] * 8 + [0.5] * 4


def test_cosine_falls_from_one_to_its_end():
    found = factors(Cosine(), total=100)
    assert found[[0, 25, 50, 75]] == pytest.approx([1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2])
    assert 0 < found[-1] < 0.001
    assert factors(Cosine(final=0.2), total=100)[[0, 50]] == pytest.approx([1, 0.6])
    assert np.all(np.diff(found) < 0)


def test_cosine_warms_up_in_a_line():
    found = factors(Cosine(warmup=0.3), total=10)
    assert found[:4] == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1])
    assert found[4:] == pytest.approx(0.5 * (1 + np.cos(np.pi * np.arange(1, 7) / 7)))
    assert found.max() == 1


@pytest.mark.parametrize("schedule", [Constant(), Exponential(0.9), Step(2, 0.3), Cosine(0.25, 0.1)])
def test_an_epoch_at_a_time_is_the_same_as_all_at_once(schedule):
    whole = factors(schedule)
    parts = [schedule(np.arange(start, start + 4), 4, 12) for start in (0, 4, 8)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("schedule", [Constant(), Exponential(), Step(), Cosine(), Cosine(0.9, 1.0)])
def test_a_run_of_one_step(schedule):
    assert factors(schedule, 1, 1).tolist() == [pytest.approx(0.5) if schedule == Cosine(0.9, 1.0) else 1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Constant()),
        ("constant", Constant()),
        ("cosine", Cosine()),
        ("Cosine(0.1)", Cosine(0.1)),
        (" cosine( warmup = 0.1, final=0.01 ) ", Cosine(0.1, 0.01)),
        ("exponential(0.99)", Exponential(0.99)),
        ("step(epochs=3)", Step(3)),
    ],
)
def test_schedules_by_name(text, expected):
    assert as_schedule(text) == expected


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Exponential(0), "0 < decay <= 1, got 0"),
        (lambda: Exponential(1.5), "got 1.5"),
        (lambda: Exponential(math.nan), "got nan"),
        (lambda: Step(0), "epochs >= 1"),
        (lambda: Step(2.5), "whole number"),
        (lambda: Step(1, 0), "0 < factor <= 1"),
        (lambda: Step(1, 2), "0 < factor <= 1"),
        (lambda: Step(1, math.nan), "0 < factor <= 1"),
        (lambda: Cosine(1.0), "0 <= warmup < 1"),
        (lambda: Cosine(-0.1), "0 <= warmup < 1"),
        (lambda: Cosine(0, -1), "0 <= final <= 1"),
        (lambda: Cosine(0, math.nan), "0 <= final <= 1"),
    ],
)
def test_schedules_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_schedule_reaches_the_weights(backend):
    """One step an epoch, plain gradient descent: a step at factor f is f times the step at factor 1."""
    seen = []

    def halves(steps, steps_per_epoch, total):
        seen.append((steps.tolist(), steps_per_epoch, total))
        return 0.5 ** (1.0 + steps)

    once, halved = network(backend), network(backend)
    before = flat(once)
    once.fit(X, Y, epochs=1, batch_size=80, shuffle=False, optimizer=SGD(0.5))
    halved.fit(X, Y, epochs=1, batch_size=80, shuffle=False, optimizer=SGD(0.5), schedule=halves)
    np.testing.assert_allclose(flat(halved) - before, (flat(once) - before) / 2, rtol=1e-3, atol=1e-6)
    halved.fit(X, Y, epochs=2, batch_size=32, schedule=halves)
    assert seen == [([0], 1, 1), ([0, 1, 2], 3, 6), ([3, 4, 5], 3, 6)]


@pytest.mark.parametrize("schedule", [0.5, Cosine, ["cosine"], lambda steps, per_epoch, total: np.ones(2)])
def test_what_is_no_schedule_is_refused(schedule):
    net = network()
    before = flat(net)
    with pytest.raises(ValueError, match="schedule"):
        net.fit(X, Y, epochs=1, batch_size=8, schedule=schedule)
    np.testing.assert_array_equal(flat(net), before)


# ---------------------------------------------------------------- optimizers


@pytest.mark.parametrize("optimizer", [SGD, RMSprop, Adam, AdamW])
@pytest.mark.parametrize("value", [0, -0.1, math.nan, math.inf])
def test_learning_rates_out_of_range(optimizer, value):
    with pytest.raises(ValueError, match="learning_rate must be a finite number > 0"):
        optimizer(value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(momentum=1.0), "momentum must be at least 0 and less than 1, got 1.0"),
        (lambda: SGD(momentum=-0.5), "momentum"),
        (lambda: SGD(nesterov=True), "needs a momentum"),
        (lambda: SGD(momentum=0.9, nesterov="no"), "nesterov must be True or False, got 'no'"),
        (lambda: SGD(weight_decay=-1), "weight_decay must be a finite number >= 0, got -1"),
        (lambda: SGD(weight_decay=math.nan), "weight_decay"),
        (lambda: RMSprop(rho=1), "rho"),
        (lambda: RMSprop(epsilon=0), "epsilon must be a finite number > 0"),
        (lambda: Adam(beta1=1), "beta1"),
        (lambda: Adam(beta2=math.nan), "beta2"),
        (lambda: Adam(epsilon=-1e-8), "epsilon"),
        (lambda: SGD(clip_norm=0), "clip_norm must be a finite number > 0"),
        (lambda: AdamW(clip_norm=math.inf), "clip_norm"),
    ],
)
def test_optimizer_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [lambda: SGD("0.1"), lambda: SGD(None), lambda: Adam(beta1="0.9")])
def test_optimizer_arguments_that_are_no_numbers(make):
    with pytest.raises((TypeError, ValueError)):
        make()


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("sgd", SGD()),
        ("SGD(0.2)", SGD(0.2)),
        ("sgd(0.2, momentum=0.9, nesterov=True)", SGD(0.2, momentum=0.9, nesterov=True)),
        ("adam", Adam()),
        ("adamw(1e-3)", AdamW(1e-3)),
        ("rmsprop", RMSprop()),
    ],
)
def test_optimizers_by_name_are_those_by_object(text, same):
    one, two = network(), network()
    one.fit(X, Y, epochs=2, optimizer=text)
    two.fit(X, Y, epochs=2, optimizer=same)
    np.testing.assert_array_equal(flat(one), flat(two))


# ---------------------------------------------------------------- divergence


def test_divergence_puts_the_last_good_epoch_back(backend):
    """The rate grows until the third epoch fails: its first steps must leave no trace."""

    def explode(steps, steps_per_epoch, total):
        return np.where(steps < 2 * steps_per_epoch, 1.0, 1e30)

    net, good = Network([12, 8, 3], output="identity", backend=backend), []
    targets = np.eye(3)[Y]
    with pytest.raises(DivergedError) as caught:
        net.fit(
            X,
            targets,
            epochs=5,
            batch_size=16,
            optimizer=SGD(0.01),
            schedule=explode,
            validation_data=(X, targets),
            callbacks=[lambda n, h: good.append(flat(n))],
        )
    error = caught.value
    assert isinstance(error, ArithmeticError)
    assert error.epoch == 3
    assert 1 <= error.step <= 5
    for part in ("epoch 3", f"step {error.step} of 5", "learning rate 1e+28", "lower the learning rate"):
        assert part in str(error)
    assert len(good) == net.history.epochs == len(net.history.val_loss) == 2
    np.testing.assert_array_equal(flat(net), good[-1])
    assert np.isfinite(net.predict_proba(X)).all()
    net.fit(X, targets, epochs=1, optimizer=SGD(0.01))


def test_divergence_in_the_first_epoch_leaves_the_initial_weights(backend):
    net = Network([12, 8, 3], output="identity", backend=backend)
    before = flat(net)
    with pytest.raises(DivergedError) as caught:
        net.fit(X, np.eye(3)[Y], epochs=2, batch_size=8, optimizer=SGD(1e20))
    assert caught.value.epoch == 1
    np.testing.assert_array_equal(flat(net), before)
    assert net.history.epochs == 0


def test_divergence_in_the_very_last_update(backend):
    """No loss is taken after it, so the weights themselves have to be looked at."""
    net = Network([12, 8, 3], output="identity", backend=backend)
    before = flat(net)
    with pytest.raises(DivergedError, match="weights are no longer finite in epoch 1, step 1 of 1"):
        net.fit(X, np.eye(3)[Y] * 1e3, epochs=1, batch_size=80, optimizer=SGD(1e38))
    np.testing.assert_array_equal(flat(net), before)


def test_divergence_prints_no_warnings():
    code = """if True:
        import numpy as np, fastnn
        net = fastnn.Network([3, 4, 2], output="identity", backend="numpy")
        try:
            net.fit(np.ones((50, 3)), np.ones((50, 2)), epochs=9, batch_size=1, optimizer="sgd(100)")
        except fastnn.DivergedError:
            print("diverged")"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("diverged\n", "")


# ---------------------------------------------------------------- Ctrl-C


def test_an_interrupt_in_a_callback_is_recorded(backend):
    def interrupt(net, history):
        if history.epochs == 2:
            raise KeyboardInterrupt

    net, plain = network(backend), network(backend)
    with pytest.raises(KeyboardInterrupt):
        net.fit(X, Y, epochs=5, callbacks=[interrupt])
    plain.fit(X, Y, epochs=2)
    assert net.history.loss == plain.history.loss
    np.testing.assert_array_equal(flat(net), flat(plain))
    assert net.history.interrupted
    assert net.history.finished_epochs == 2


INTERRUPTED = """
import json, os, signal, sys, threading, time
import numpy as np
import fastnn

net = fastnn.Network([64, 32, 10], backend=sys.argv[1], threads=1)
x, y = np.random.default_rng(0).random((200_000, 64), np.float32), np.arange(200_000) % 10
sent = []

def kill():
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

def start(net, history):
    if history.epochs == 1:
        threading.Timer(0.4 * history.seconds[0], kill).start()

try:
    net.fit(x, y, epochs=10**6, batch_size=16, validation_data=(x[:100], y[:100]), callbacks=[start])
except KeyboardInterrupt:
    waited = time.perf_counter() - sent[0]
    h = net.history
    lengths = [len(v) for v in (h.loss, h.accuracy, h.val_loss, h.val_accuracy, h.seconds)]
    finite = all(np.isfinite(a).all() for pair in net.get_weights() for a in pair)
    h.to_dict()
    print(json.dumps([h.interrupted, waited, lengths, finite, h.loss[-1], bool(np.isnan(h.val_loss[-1]))]))
    net.fit(x[:100], y[:100], epochs=1)
    sys.exit(130)
"""


def test_ctrl_c_in_the_middle_of_an_epoch(backend):
    if backend == "cuda_on_cpu":
        pytest.skip("an interrupt stops its launches, which on a device go on")
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, backend], capture_output=True, text=True, timeout=120, env=os.environ
    )
    assert run.returncode == 130, run.stderr
    interrupted, waited, lengths, finite, loss, no_validation = json.loads(run.stdout)
    assert interrupted
    assert finite
    assert waited < 2
    assert lengths == [2] * 5, "the epoch so far is entered"
    assert 0 < loss < 5
    assert no_validation
    assert run.stderr == ""


# ---------------------------------------------------------------- going on


def test_going_on_from_a_file_is_as_if_never_stopped(backend, tmp_path):
    """Plain gradient descent has no state but the weights, the seed and the number of epochs."""
    options = {"batch_size": 16, "optimizer": SGD(0.2, weight_decay=0.001)}
    through, first = network(backend, dropout=[0.2, 0.4]), network(backend, dropout=[0.2, 0.4])
    losses = through.fit(X, Y, epochs=3, **options).loss
    parts = list(first.fit(X, Y, epochs=2, **options).loss)
    first.save(tmp_path / "net")
    second = fastnn.load(tmp_path / "net", backend=backend)
    parts += second.fit(X, Y, epochs=1, **options).loss
    np.testing.assert_array_equal(flat(second), flat(through))
    assert parts == losses


def test_every_epoch_has_an_order_of_its_own():
    net = network()
    orders = [np.arange(80), np.arange(80)]
    for epoch, order in enumerate(orders):
        net.generator("order", epoch).shuffle(order)
    assert not np.array_equal(*orders)
    assert sorted(orders[0]) == list(range(80))


def test_without_shuffling_the_order_is_the_data_s():
    """The first mini-batch of an unshuffled run is the first samples: one step on them is one step on the rest."""
    one, two = network(), network()
    one.fit(X[:16], Y[:16], epochs=1, batch_size=16, shuffle=False)
    two.fit(X, Y, epochs=1, batch_size=16, shuffle=False, schedule=lambda s, n, total: (s == 0).astype(float))
    np.testing.assert_array_equal(flat(one), flat(two))


# ---------------------------------------------------------------- progress


def test_progress_goes_to_stderr(capsys):
    network().fit(X, Y, epochs=2, verbose=True, validation_data=(X, Y))
    out, err = capsys.readouterr()
    assert out == ""
    for part in ("epoch 1/2", "epoch 2/2", "80.0/80.0", "loss=", "accuracy=", "val_accuracy="):
        assert part in err


def test_no_progress_where_there_is_no_terminal(capsys):
    network().fit(X, Y, epochs=2)
    network().fit(X, Y, epochs=2, verbose=False)
    assert capsys.readouterr() == ("", "")


def test_auto_looks_at_stderr(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    network().fit(X, Y, epochs=1)
    network().fit(X, Y, epochs=1, verbose=False)
    assert capsys.readouterr().err.count("epoch 1/1") >= 1


class Writer:
    """All that some programs put in the place of stderr."""

    def write(self, text):
        pass


class Broken(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


CLOSED = io.StringIO()
CLOSED.close()
without_stderr = pytest.mark.parametrize(
    "stderr", [None, Writer(), CLOSED, Broken()], ids=["none", "writer", "closed", "broken"]
)


@pytest.mark.parametrize("verbose", ["auto", True])
@without_stderr
def test_no_stderr_ends_a_run(stderr, verbose, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    assert network().fit(X, Y, epochs=1, verbose=verbose, callbacks=[fastnn.plots.Live()]).epochs == 1
    assert [history.epochs for history in fastnn.train_many([network()], X, Y, epochs=1, verbose=verbose)] == [1]
    rates = {"learning_rate": [0.1, 0.2]}
    sweep = fastnn.sweeps.sweep(rates, X, Y, jobs=1, epochs=1, backend="numpy", verbose=verbose)
    assert len(sweep.rows) == 2


@without_stderr
def test_a_command_without_a_console_has_its_exit_code(stderr, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["evaluate", "no-such-file.safetensors"]) == 1
    assert main(["data"]) == 0


def test_progress_of_regression_and_no_epochs(capsys):
    net = Network([12, 1], output="identity", backend="numpy")
    net.fit(X, Y, epochs=1, verbose=True)
    net.fit(X, Y, epochs=0, verbose=True)
    err = capsys.readouterr().err
    assert "nan" not in err
    assert "epoch 1/0" not in err


def test_progress_survives_an_interrupt(capsys):
    def interrupt(net, history):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, epochs=3, verbose=True, callbacks=[interrupt])
    assert "epoch 2/3" not in capsys.readouterr().err
