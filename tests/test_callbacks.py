"""Callbacks: what each of them does to a run, and what it leaves."""

import csv
import math
import sys

import numpy as np
import pytest

import fastnn
from fastnn import callbacks
from fastnn.errors import MissingLibraryError

RNG = np.random.default_rng(0)
X, Y = RNG.random((96, 12), np.float32), RNG.integers(0, 3, 96)
VALIDATION = (RNG.random((60, 12), np.float32), RNG.integers(0, 3, 60))  # noise: nothing to be learned for it


def network(**options):
    return fastnn.Network([12, 24, 3], **{"backend": "numpy", **options})


def fit(net, *given, epochs=30, **options):
    options = {"optimizer": "adam(0.02)", "validation_data": VALIDATION, "batch_size": 16, **options}
    return net.fit(X, Y, epochs=epochs, callbacks=given, **options)


class Recorder(fastnn.Callback):
    """Notes which of its methods are called, when."""

    def __init__(self):
        self.calls = []

    def begin(self, run):
        self.calls.append(("begin", run.history.epochs))

    def __call__(self, net, history):
        self.calls.append(("epoch", history.epochs))

    def end(self, run):
        self.calls.append(("end", run.history.epochs))


def weights(net):
    return net.kernels.to_numpy(net.parameters).copy()


# ---- the base -------------------------------------------------------------------------------------------------------


def test_an_object_is_told_of_begin_epochs_and_end():
    recorder = Recorder()
    fit(network(), recorder, epochs=2)
    assert recorder.calls == [("begin", 0), ("epoch", 1), ("epoch", 2), ("end", 2)]


def test_the_end_is_told_whatever_ended_the_run():
    def stop(net, history):
        raise RuntimeError("enough")

    recorder = Recorder()
    with pytest.raises(RuntimeError, match="enough"):
        fit(network(), recorder, stop)
    assert recorder.calls[-1] == ("end", 1)


def test_a_callback_that_cannot_begin_has_its_end_too():
    class Broken(Recorder):
        def begin(self, run):
            super().begin(run)
            raise OSError("no room")

    first, broken, net = Recorder(), Broken(), network()
    before = weights(net)
    with pytest.raises(OSError, match="no room"):
        fit(net, first, broken)
    assert first.calls[-1] == broken.calls[-1] == ("end", 0)
    np.testing.assert_array_equal(weights(net), before)


def test_all_callbacks_see_the_last_epoch_though_the_first_one_ends_the_run():
    recorder = Recorder()
    fit(network(), lambda net, history: history.epochs == 2, recorder)
    assert recorder.calls[-2:] == [("epoch", 2), ("end", 2)]


@pytest.mark.parametrize("given", [[3], None, [fastnn.EarlyStopping], "abc"])
def test_what_is_no_callback(given):
    with pytest.raises(ValueError, match="callbacks must be"):
        network().fit(X, Y, callbacks=given)


# ---- early stopping -------------------------------------------------------------------------------------------------


def test_early_stopping_ends_the_run_and_restores_the_best_epoch(backend):
    net, seen = network(backend=backend), []
    stop = fastnn.EarlyStopping(patience=3)
    history = fit(net, stop, lambda net, history: seen.append(weights(net)) and None)
    assert history.epochs == stop.best_epoch + 3 < 30
    assert stop.best == min(history.val_loss) == history.val_loss[stop.best_epoch - 1]
    np.testing.assert_array_equal(weights(net), seen[stop.best_epoch - 1])
    assert not np.array_equal(weights(net), seen[-1])
    assert net.evaluate(*VALIDATION)["loss"] == pytest.approx(stop.best, rel=1e-6)


def test_early_stopping_may_leave_the_last_weights():
    net, seen = network(), []
    fit(
        net,
        fastnn.EarlyStopping(patience=3, restore_best=False),
        lambda net, history: seen.append(weights(net)) and None,
    )
    np.testing.assert_array_equal(weights(net), seen[-1])


def test_accuracy_is_better_where_it_is_larger():
    stop = fastnn.EarlyStopping("val_accuracy", patience=4)
    history = fit(network(), stop)
    assert stop.best == max(history.val_accuracy[: stop.best_epoch])
    assert max(history.val_accuracy[stop.best_epoch :]) <= stop.best


def test_a_change_that_is_too_small_does_not_count():
    assert fit(network(), fastnn.EarlyStopping("loss", patience=2, min_delta=10)).epochs == 3


def test_the_best_epoch_is_restored_after_ctrl_c():
    def interrupt(net, history):
        if history.epochs == 12:
            raise KeyboardInterrupt

    net, stop = network(), fastnn.EarlyStopping(patience=100)
    with pytest.raises(KeyboardInterrupt):
        fit(net, stop, interrupt)
    assert net.evaluate(*VALIDATION)["loss"] == pytest.approx(min(net.history.val_loss), rel=1e-6)


def test_one_object_may_serve_several_runs():
    stop = fastnn.EarlyStopping(patience=3)
    first, second = (fit(network(), stop) for _ in range(2))
    assert first.val_loss == second.val_loss


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"monitor": "loess"}, "did you mean 'loss'"),
        ({"patience": 0}, "patience must be a whole number of at least 1"),
        ({"min_delta": math.nan}, "min_delta must be a finite number"),
    ],
)
def test_early_stopping_with_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        fastnn.EarlyStopping(**arguments)


def test_a_quantity_that_the_run_has_not():
    with pytest.raises(ValueError, match="'val_loss' is not to be had in this run, which has loss, accuracy"):
        fit(network(), fastnn.EarlyStopping(), validation_data=None)
    regression = fastnn.Network([12, 3], output="identity", backend="numpy")
    with pytest.raises(ValueError, match=r"'accuracy' is not to be had in this run, which has loss$"):
        regression.fit(X, X[:, :3], callbacks=[fastnn.EarlyStopping("accuracy")])


# ---- averaged weights -----------------------------------------------------------------------------------------------


def snapshots(net, **options):
    """The weights after each epoch."""
    seen = []
    fit(net, lambda net, history: seen.append(weights(net)), **options)
    return seen


@pytest.mark.parametrize(("last", "first"), [(0.5, 5), (0.3, 7), (1.0, 0), (0.01, 9)])
def test_the_average_is_that_of_the_last_epochs(backend, last, first):
    seen, net, average = snapshots(network(backend=backend), epochs=10), network(backend=backend), None
    average = fastnn.AverageWeights(last=last)
    fit(net, average, epochs=10)
    assert average.count == 10 - first
    np.testing.assert_allclose(weights(net), np.mean(seen[first:], axis=0), rtol=1e-5, atol=1e-7)


def test_the_exponential_average_keeps_a_share():
    seen, net = snapshots(network(), epochs=6), network()
    fit(net, fastnn.AverageWeights(last=0.5, decay=0.75), epochs=6)
    expected = 0.75 * (0.75 * seen[3] + 0.25 * seen[4]) + 0.25 * seen[5]
    np.testing.assert_allclose(weights(net), expected, rtol=1e-5, atol=1e-7)


def test_an_average_goes_on_where_a_run_is_resumed(tmp_path):
    whole, net = network(), network()
    fit(whole, fastnn.AverageWeights(), epochs=10)

    def fail(net, history):
        if history.epochs == 10:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fit(network(), fastnn.AverageWeights(), fastnn.Checkpoint(tmp_path / "run"), fail, epochs=10)
    fit(net, fastnn.AverageWeights(), epochs=10, resume=tmp_path / "run")
    np.testing.assert_array_equal(weights(net), weights(whole))


def stop_after(epochs):
    return lambda net, history: history.epochs == epochs


def test_a_run_that_ends_before_has_its_own_weights():
    net, average = network(), fastnn.AverageWeights(last=0.5)
    seen = snapshots(network(), epochs=2)
    fit(net, average, stop_after(2), epochs=10)
    assert average.count == 0
    np.testing.assert_array_equal(weights(net), seen[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"last": 0}, "last must be a share"),
        ({"last": 2}, "last must"),
        ({"decay": 1}, "decay must"),
        ({"decay": -1}, "decay"),
    ],
)
def test_an_average_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        fastnn.AverageWeights(**arguments)


# ---- the learning rate ----------------------------------------------------------------------------------------------


def test_a_schedule_by_epochs(backend):
    net = network(backend=backend)
    seen = []

    def halve(epoch, rate):
        seen.append((epoch, rate))
        return 0.5 * rate if epoch else rate

    history = fit(net, fastnn.LearningRateSchedule(halve), epochs=3, optimizer="sgd(0.1)")
    assert history.learning_rate == pytest.approx([0.1, 0.05, 0.025])
    assert [epoch for epoch, _ in seen] == [0, 1, 2, 3]

    other = network(backend=backend)
    fit(other, epochs=3, optimizer="sgd(0.1)", schedule=lambda steps, each, total: 0.5 ** (steps // each))
    np.testing.assert_allclose(weights(net), weights(other), rtol=1e-6)


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match="rate"):
        fit(network(), fastnn.LearningRateSchedule(lambda epoch, old: rate))


def test_the_rate_falls_on_a_plateau_and_not_below_the_least():
    plateau = fastnn.ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=10, min_lr=0.004)
    history = fit(network(), plateau, epochs=8)
    assert history.learning_rate == pytest.approx([0.02, 0.02, 0.02, 0.01, 0.01, 0.005, 0.005, 0.004])


def test_the_rate_stays_where_there_is_progress():
    history = fit(network(), fastnn.ReduceLROnPlateau("loss", patience=1), epochs=4, optimizer="sgd(0.05)")
    assert history.learning_rate == pytest.approx([0.05] * 4)


# ---- logs -----------------------------------------------------------------------------------------------------------


def test_csv_has_what_the_history_has(tmp_path):
    path = tmp_path / "log.csv"
    history = fit(network(), fastnn.CSVLog(path), epochs=3)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "seconds", "learning_rate"):
        assert [float(row[name]) for row in rows] == getattr(history, name)


def test_csv_leaves_empty_what_there_is_not(tmp_path):
    path = tmp_path / "log.csv"
    fit(network(), fastnn.CSVLog(path), epochs=1, validation_data=None)
    assert path.read_text().splitlines()[1].split(",")[3:5] == ["", ""]


def test_csv_is_there_while_the_run_goes_on(tmp_path):
    path, lines = tmp_path / "log.csv", []
    fit(
        network(),
        fastnn.CSVLog(path),
        lambda net, h: lines.append(len(path.read_text().splitlines())) and None,
        epochs=3,
    )
    assert lines == [2, 3, 4]


def test_csv_in_a_folder_that_there_is_not(tmp_path):
    with pytest.raises(FileNotFoundError):
        fit(network(), fastnn.CSVLog(tmp_path / "none" / "log.csv"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # protobuf's and tensorboardX's own
def test_tensorboard_gets_the_scalars(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 - the events are written by it
    from tensorboardX.proto.event_pb2 import Event

    history = fit(network(), fastnn.TensorBoard(tmp_path), epochs=2)
    content, events = next(tmp_path.glob("events*")).read_bytes(), []
    while content:  # TFRecord: length, checksum, the event, checksum
        length = int.from_bytes(content[:8], "little")
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    found = {(value.tag, event.step): value.simple_value for event in events for value in event.summary.value}
    for i in range(2):
        assert found["loss/training", i + 1] == pytest.approx(history.loss[i])
        assert found["accuracy/validation", i + 1] == pytest.approx(history.val_accuracy[i])
        assert found["learning_rate", i + 1] == pytest.approx(0.02)


def test_without_tensorboardx_one_is_told_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingLibraryError, match=r"pip install 'fastnn-mlp\[tensorboard\]'"):
        fastnn.TensorBoard(tmp_path)


def test_checkpoints_come_last():
    checkpoint, stop = fastnn.Checkpoint("x"), fastnn.EarlyStopping()
    assert callbacks.as_callbacks([checkpoint, stop]) == [stop, checkpoint]


@pytest.mark.parametrize("answer", [0.25, 1, "yes", np.float32(1)])
def test_an_answer_that_is_no_truth_value_is_an_error(answer):
    with pytest.raises(
        ValueError, match=r"must return True to end the training, or None or False to go on; .* returned"
    ):
        fit(network(), lambda net, history: answer, epochs=2)


@pytest.mark.parametrize(("answer", "epochs"), [(True, 1), (np.True_, 1), (None, 3), (False, 3), (np.False_, 3)])
def test_true_alone_ends_the_training(answer, epochs):
    assert fit(network(), lambda net, history: answer, epochs=3).epochs == epochs


def test_a_validation_loss_that_is_no_number_is_no_improvement():
    far = (np.full((4, 12), 3e38, np.float32), [0, 1, 2, 0])
    net, stop = network(scale=1), fastnn.EarlyStopping("val_loss", patience=3)
    history = fit(net, stop, validation_data=far)
    assert (history.epochs, stop.best_epoch) == (3, 0)


@pytest.mark.parametrize("first", [True, False])
def test_the_last_checkpoint_holds_the_weights_that_early_stopping_gives_back(tmp_path, first):
    path = tmp_path / "run.safetensors"
    stop, checkpoint = fastnn.EarlyStopping(patience=2), fastnn.Checkpoint(path)
    net = network()
    history = fit(net, *([stop, checkpoint] if first else [checkpoint, stop]))
    assert history.epochs == stop.best_epoch + 2 < 30
    np.testing.assert_array_equal(fastnn.load(path, backend="numpy").parameters, net.parameters)


def test_a_run_goes_on_from_its_last_epoch_though_the_file_holds_the_best(tmp_path):
    path = tmp_path / "run.safetensors"
    last, straight = network(), network()
    fit(last, fastnn.EarlyStopping(patience=50), fastnn.Checkpoint(path), epochs=12)
    best = fastnn.load(path, backend="numpy").parameters.copy()
    np.testing.assert_array_equal(best, last.parameters)
    resumed = network()
    history = fit(resumed, fastnn.EarlyStopping(patience=50), epochs=15, resume=path)
    plain = fit(straight, fastnn.EarlyStopping(patience=50), epochs=15)
    assert history.loss == plain.loss
    np.testing.assert_array_equal(resumed.parameters, straight.parameters)


def test_callbacks_end_in_their_order_and_checkpoints_last(tmp_path):
    ended = []

    class Ends(fastnn.Callback):
        def __init__(self, name):
            self.name = name

        def end(self, run):
            ended.append(self.name)

    class Last(fastnn.Checkpoint):
        def end(self, run):
            super().end(run)
            ended.append("checkpoint")

    fit(network(), Ends("a"), Last(tmp_path / "run.safetensors"), Ends("b"), epochs=1)
    assert ended == ["a", "b", "checkpoint"]


@pytest.mark.parametrize("rate", ["0.1", None, [0.1], True, math.nan])
def test_a_function_of_learning_rates_must_return_numbers(rate):
    with pytest.raises(ValueError, match="learning rate must be a finite number, got"):
        fit(network(), fastnn.LearningRateSchedule(lambda epoch, before: rate), epochs=1)


def test_former_names_of_arguments_work_and_warn():
    with pytest.warns(DeprecationWarning, match="least_change is now called min_delta"):
        stop = fastnn.EarlyStopping("loss", patience=2, least_change=10)
    assert fit(network(), stop).epochs == 3
    with pytest.warns(DeprecationWarning, match="least_rate is now called min_lr"):
        plateau = fastnn.ReduceLROnPlateau(least_rate=0.004)
    assert plateau.min_lr == 0.004
    with pytest.warns(DeprecationWarning, match="least_rate is now called min_lr"):
        assert plateau.least_rate == 0.004
