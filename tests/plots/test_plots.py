"""Figures: what they draw is read back from matplotlib's artists; the command, its files and its errors."""

import argparse
import io
import json
import math
import os
import subprocess
import sys
import types
import warnings

import matplotlib
import numpy as np
import pytest

import fastnn
from fastnn import plots
from fastnn.commands import plot as command
from fastnn.commands.options import UsageError
from fastnn.errors import DataError, FastnnError, FileFormatError, MissingLibraryError
from fastnn.history import History
from fastnn.plots import live as live_module
from fastnn.plots.sources import read_source
from fastnn.plots.terminal import plain_line, text_curves
from fastnn.sweeps import sweep

NAN = math.nan


def make_history(**changes):
    values = {
        "loss": [0.8, 0.4, 0.3],
        "accuracy": [0.7, 0.8, 0.9],
        "val_loss": [0.7, 0.5, 0.6],
        "val_accuracy": [0.6, 0.75, 0.7],
        "seconds": [1.0] * 3,
        "learning_rate": [0.1] * 3,
    }
    return History(**values | changes)


@pytest.fixture(scope="module")
def digits():
    data = fastnn.datasets.load("digits")
    return data.x_test[:300], data.y_test[:300]


@pytest.fixture(scope="module")
def network(digits):
    """A network that gets most of `digits` right, but not all."""
    net = fastnn.Network([784, 16, 10], backend="numpy")
    net.fit(*digits, epochs=4, optimizer="adam(0.01)", validation_data=digits)
    return net


@pytest.fixture
def two_classes():
    """A network that says 0 where the first feature is larger, and five samples of which it gets two wrong."""
    net = fastnn.Network([2, 2], backend="numpy")
    net.set_weights([(np.eye(2), np.zeros(2))])
    x = np.array([[2.0, 0], [0, 1], [1, 0], [0, 3], [1, 0]])
    return net, x, np.array([0, 1, 1, 0, 0])


def drawn(axes, name):
    """Values of the line called `name`."""
    return {line.get_gid(): line for line in axes.lines}[name].get_ydata()


def texts(figure):
    """All that is written in a figure's titles and axes."""
    found = [axes.get_title(loc=loc) for axes in figure.axes for loc in ("left", "center", "right")]
    found += [text.get_text() for axes in figure.axes for text in axes.texts]
    return "\n".join(found + [text.get_text() for legend in figure.legends for text in legend.get_texts()])


# ---- curves ----


def assert_draws(figure, history):
    """The figure's lines are the history's lists."""
    loss, accuracy = figure.axes[:2]
    np.testing.assert_array_equal(drawn(loss, "loss"), history.loss)
    np.testing.assert_array_equal(drawn(loss, "val_loss"), history.val_loss)
    np.testing.assert_allclose(drawn(accuracy, "accuracy"), 100 * np.array(history.accuracy))
    np.testing.assert_allclose(drawn(accuracy, "val_accuracy"), 100 * np.array(history.val_accuracy))


def test_curves_draw_the_history_s_values():
    assert_draws(plots.curves(make_history()), make_history())
    with pytest.raises(AssertionError):
        assert_draws(plots.curves(make_history()), make_history(val_loss=[0.7, 0.5, 0.61]))


def test_curves_mark_the_best_epoch_by_validation():
    figure = plots.curves(make_history())
    loss, accuracy = figure.axes
    assert (drawn(loss, "best loss"), drawn(accuracy, "best accuracy")) == ([0.5], [75.0])
    assert "best validation: 0.5, epoch 2" in texts(figure)
    assert make_history(val_loss=[], val_accuracy=[]).best_epoch("loss") == (3, 0.3, "training")
    assert make_history(val_loss=[NAN] * 3, loss=[NAN] * 3).best_epoch("loss") is None


def test_validation_is_told_apart_without_colour():
    lines = {line.get_gid(): line for line in plots.curves(make_history()).axes[0].lines}
    training, validation = lines["loss"], lines["val_loss"]
    assert (training.get_linestyle(), validation.get_linestyle()) == ("-", "--")
    assert training.get_marker() != validation.get_marker()


@pytest.mark.parametrize("epochs", [1, 2, 7, 100])
def test_epochs_are_whole_numbers_from_1_on(epochs):
    figure = plots.curves(History(loss=[0.5] * epochs, accuracy=[0.5] * epochs, seconds=[1.0] * epochs))
    low, high = figure.axes[0].get_xlim()
    ticks = [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) and 1 <= tick <= epochs for tick in ticks)
    assert low < 1 <= epochs < high


def test_regression_has_one_panel():
    assert len(plots.curves(make_history(accuracy=[NAN] * 3, val_accuracy=[NAN] * 3)).axes) == 1


def test_a_changing_learning_rate_has_a_panel_of_its_own():
    figure = plots.curves(make_history(learning_rate=[0.1, 0.05, 0.01]))
    assert figure.axes[2].get_title(loc="left") == "learning rate"
    assert figure.axes[2].lines[0].get_ydata().tolist() == [0.1, 0.05, 0.01]


def test_large_losses_bring_a_logarithmic_scale():
    assert plots.curves(make_history()).axes[0].get_yscale() == "linear"
    figure = plots.curves(make_history(loss=[90.0, 4, 0.5]))
    assert figure.axes[0].get_yscale() == "log"
    assert "loss (log scale)" in texts(figure)


def test_the_part_of_an_epoch_of_an_interrupted_run_is_set_apart():
    history = make_history(interrupted=True, partial=True, val_loss=[0.7, 0.5, NAN], val_accuracy=[0.6, 0.75, NAN])
    figure = plots.curves(history)
    assert history.finished_epochs == 2
    assert drawn(figure.axes[0], "loss").tolist() == [0.8, 0.4]
    assert drawn(figure.axes[0], "loss, interrupted").tolist() == [0.4, 0.3]
    assert "interrupted" in texts(figure)
    assert make_history(interrupted=True).finished_epochs == 3  # between two epochs: the last one was validated
    plots.curves(History(loss=[0.5], accuracy=[0.5], seconds=[1.0], interrupted=True, partial=True))


def test_a_diverged_run_says_so():
    figure = plots.curves(make_history(diverged=True))
    assert "diverged" in texts(figure)
    assert figure.axes[0].lines[-1].get_xdata()[0] == 4


def test_several_runs_are_compared():
    figure = plots.curves({"a $name$": make_history(), "other": make_history(loss=[0.9, 0.8, 0.7])}, theme="dark")
    assert "other" in texts(figure)
    assert r"a \$name\$" in texts(figure)
    lines = [line for line in figure.axes[0].lines if line.get_gid() == "loss"]
    assert [line.get_ydata()[0] for line in lines] == [0.8, 0.9]
    assert lines[0].get_color() != lines[1].get_color()
    assert "run 2" in texts(plots.curves([make_history(), make_history()]))


@pytest.mark.parametrize(
    ("histories", "error", "words"),
    [
        (History(), DataError, "no epoch"),
        ([], DataError, "no history"),
        ({"x": History()}, DataError, "x has no epoch"),
        ([1], ValueError, "expected a History"),
    ],
)
def test_curves_of_nothing_are_refused(histories, error, words):
    with pytest.raises(error, match=words):
        plots.curves(histories)


def test_an_unknown_theme_is_refused():
    with pytest.raises(ValueError, match=r"unknown theme 'drak'; did you mean 'dark'"):
        plots.curves(make_history(), theme="drak")


# ---- the confusion matrix ----


def cells(figure):
    """Text of the cells by (row, column)."""
    found = {}
    for text in figure.axes[0].texts:
        column, row = (round(at) for at in text.get_position())
        found[row, column] = [*found.get((row, column), []), text.get_text()]
    return found


def test_the_matrix_is_the_one_made_by_hand():
    figure = plots.confusion_matrix([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 2, 2], 4, names=["a", "b", "c", "d"])
    assert cells(figure) == {
        (0, 0): ["3", "75.0 %"],
        (0, 1): ["1", "25.0 %"],
        (1, 1): ["1", "50.0 %"],
        (1, 2): ["1", "50.0 %"],
        (2, 2): ["1", "100.0 %"],
        (3, 2): ["no samples"],
    }
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "target")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c", "d"]
    transposed = plots.confusion_matrix([0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1, 2], 4)
    assert cells(transposed) != cells(figure)


def test_few_mistakes_are_seen_beside_many_hits():
    targets = np.repeat([0, 1], 1000)
    predictions = targets.copy()
    predictions[:5] = 1  # 0.5 % of class 0
    right, wrong = plots.confusion_matrix(targets, predictions, 2).axes[0].images
    assert wrong.norm(0.005) > 0.3
    assert right.norm(0.995) > 0.99
    assert right.get_array().mask.tolist() == [[False, True], [True, False]]
    assert wrong.get_array().mask.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(("n_classes", "written"), [(1, True), (2, True), (15, True), (16, False), (30, False)])
def test_cells_have_text_as_long_as_it_can_be_read(n_classes, written):
    labels = np.arange(n_classes)
    figure = plots.confusion_matrix(labels, labels, n_classes)
    assert bool(figure.axes[0].texts) is written


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0, 1], [0], 2), "as many targets as predictions"),
        (([], [], 2), "as many targets as predictions"),
        (([0, 2], [0, 1], 2), "targets must be whole numbers from 0 to 1"),
        (([0, 1], [0, -1], 2), "predictions must be"),
        (([0.0, 1.0], [0, 1], 2), "targets must be whole"),
        (([0, 1], [0, 1], 0), "n_classes"),
    ],
)
def test_a_matrix_of_wrong_labels_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        plots.confusion_matrix(*arguments)


def test_names_have_to_be_as_many_as_classes():
    with pytest.raises(ValueError, match="names for 2 classes, got 3: a, b, c"):
        plots.confusion_matrix([0], [0], 2, names=["a", "b", "c"])


def test_a_network_s_matrix_is_that_of_its_predictions(two_classes):
    assert cells(plots.prediction_matrix(*two_classes)) == {
        (0, 0): ["2", "66.7 %"],
        (0, 1): ["1", "33.3 %"],
        (1, 0): ["1", "50.0 %"],
        (1, 1): ["1", "50.0 %"],
    }


# ---- mistakes and classes ----


def test_mistakes_come_worst_first(two_classes, network, digits):
    found = plots.mistakes(*two_classes)
    assert found.indices.tolist() == [3, 2]
    assert (found.targets.tolist(), found.predictions.tolist()) == ([0, 1], [1, 0])
    np.testing.assert_allclose(found.confidences, 1 / (1 + np.exp([-3, -1])), rtol=1e-6)
    found = plots.mistakes(network, *digits)
    assert len(found.indices) > 3
    assert (np.diff(found.confidences) <= 0).all()
    assert (network.predict(digits[0])[found.indices] != digits[1][found.indices]).all()


def test_one_hot_rows_and_one_output_are_classes_too(two_classes):
    net, x, y = two_classes
    assert plots.mistakes(net, x, np.eye(2)[y]).indices.tolist() == [3, 2]
    net = fastnn.Network([1, 1], output="sigmoid", backend="numpy")
    net.set_weights([(np.ones((1, 1)), np.zeros(1))])
    found = plots.mistakes(net, np.array([[2.0], [-3], [1]]), [0, 1, 1])
    assert (found.indices.tolist(), found.predictions.tolist()) == ([1, 0], [0, 1])
    np.testing.assert_allclose(found.confidences, 1 / (1 + np.exp([-3, -2])), rtol=1e-6)


@pytest.mark.parametrize(
    ("output", "y", "words"),
    [("identity", [[0.5, 1.5]], "a regression"), ("sigmoid", [[1.0, 1.0]], "several labels a sample")],
)
def test_what_has_no_classes_is_refused(output, y, words):
    net = fastnn.Network([3, 2], output=output, backend="numpy")
    for function in (plots.mistakes, plots.class_report, plots.prediction_matrix, plots.misclassified):
        with pytest.raises(DataError, match=words):
            function(net, np.zeros((1, 3)), y)
    with pytest.raises(DataError, match="3 features"):
        plots.mistakes(net, np.zeros((1, 4)), y)


def test_misclassified_draws_the_samples_with_what_was_said(network, digits):
    found = plots.mistakes(network, *digits)
    figure = plots.misclassified(network, *digits, n=3)
    assert len(figure.axes) == 3
    for axes, i in zip(figure.axes, found.indices, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), digits[0][i])
    words = f"is {found.targets[0]}, says {found.predictions[0]}\n{100 * found.confidences[0]:.1f} % sure"
    assert figure.axes[0].get_title() == words
    assert f"{len(found.indices)} of 300 samples are misclassified; the 3 " in figure.get_suptitle()


def test_misclassified_draws_flat_squares_as_squares_and_others_as_strips(network, digits, two_classes):
    flat = digits[0].reshape(-1, 784)
    assert plots.misclassified(network, flat, digits[1], n=1).axes[0].images[0].get_array().shape == (28, 28)
    figure = plots.misclassified(*two_classes)
    assert [axes.images[0].get_array().shape for axes in figure.axes] == [(1, 2), (1, 2)]
    net, x, y = two_classes
    figure = plots.misclassified(net, x[:2], y[:2])
    assert figure.axes == []
    assert figure.get_suptitle() == "0 of 2 samples are misclassified"
    with pytest.raises(ValueError, match="n must be a whole number"):
        plots.misclassified(net, x, y, n=0)


def test_the_class_report_is_the_one_made_by_hand(two_classes):
    report = plots.class_report(*two_classes, names=["cat", "dog"])
    np.testing.assert_allclose(report.precision, [2 / 3, 1 / 2])
    np.testing.assert_allclose(report.recall, [2 / 3, 1 / 2])
    np.testing.assert_allclose(report.f1, [2 / 3, 1 / 2])
    assert (report.support.tolist(), report.accuracy) == ([3, 2], 0.6)
    assert "dog      50.00 %   50.00 %  50.00 %        2" in str(report)


def test_a_class_that_is_never_predicted_or_has_no_samples_neither_warns_nor_fails():
    net = fastnn.Network([3, 3], backend="numpy")
    net.set_weights([(np.eye(3), np.zeros(3))])
    data = np.eye(3)[[0, 0, 2]], [0, 1, 0]  # class 1 is never predicted, class 2 has no samples
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = plots.class_report(net, *data)
        figure = plots.precision_recall(net, *data)
    np.testing.assert_array_equal(report.precision, [0.5, NAN, 0])
    np.testing.assert_array_equal(report.recall, [0.5, 0, NAN])
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["precision"] == [0.5, None, 0]
    precision, recall = figure.axes[0].lines
    np.testing.assert_array_equal(precision.get_xdata(), [50, NAN, 0])
    np.testing.assert_array_equal(recall.get_xdata(), [50, 0, NAN])
    assert precision.get_marker() != recall.get_marker()


# ---- weights ----


def test_weights_are_drawn_by_importance_on_one_scale_around_0(network):
    (W1, _), (W2, _) = network.get_weights()
    order = np.argsort(-np.linalg.norm(W1, axis=0) * np.linalg.norm(W2, axis=1))
    *panels, bar = plots.weights(network, n=4).axes
    assert [axes.get_title() for axes in panels] == [str(unit) for unit in order[:4]]
    for axes, unit in zip(panels, order, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), W1[:, unit].reshape(28, 28))
        assert axes.images[0].get_clim() == panels[0].images[0].get_clim()
    low, high = panels[0].images[0].get_clim()
    assert low == -high < 0
    assert "excites" in bar.get_ylabel()


def test_weights_of_other_shapes_are_a_heat_map(two_classes):
    net = two_classes[0]
    assert plots.weights(net).axes[0].images[0].get_array().tolist() == [[1, 0], [0, 1]]
    assert plots.unit_importance(net).tolist() == [1, 1]
    net.set_weights([(np.zeros((2, 2)), np.zeros(2))])
    plots.weights(net).draw_without_rendering()


# ---- live ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(live, epochs=3, **options):
    net = fastnn.Network([2, 2], backend="numpy")
    x, y = np.eye(2), [0, 1]
    return net.fit(x, y, epochs=epochs, validation_data=(x, y), callbacks=[live], verbose=False, **options)


def test_live_writes_a_line_an_epoch_where_there_is_no_terminal():
    stream = io.StringIO()
    history = train(plots.Live(stream=stream))
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1", "epoch 2", "epoch 3"]
    assert f"val_loss {history.val_loss[2]:.5f}" in lines[2]
    assert "\x1b" not in stream.getvalue()


def test_live_redraws_in_place_in_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live_module, "_PAUSE", 0)
    monkeypatch.setattr(live_module, "_SHARE", math.inf)
    stream = Terminal()
    train(plots.Live(stream=stream))
    first, second, third = stream.getvalue().split("\x1b[J")
    assert first.count("\n") == second.count("\n")
    assert first.endswith(f"\r\x1b[{first.count(chr(10))}A")
    assert "epoch 3 " in third
    assert "\x1b[?25l" not in stream.getvalue()  # the cursor is not hidden, so it need not come back


def test_live_draws_seldom_but_the_last_epoch(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(live_module, "_PAUSE", 1000)
    stream = Terminal()
    train(plots.Live(stream=stream), epochs=50)
    assert stream.getvalue().count("\x1b[J") == 1  # the first and the last
    assert "epoch 50 " in stream.getvalue()


def test_live_leaves_the_terminal_alone_when_interrupted(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream, live = Terminal(), plots.Live()
    live.stream = stream
    run = types.SimpleNamespace(history=make_history(interrupted=True), network=None)
    live.begin(types.SimpleNamespace(history=History(), network=None, verbose=False))
    live.end(run)
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().endswith("\n")


def test_live_renews_one_figure_in_a_notebook(monkeypatch):
    shown = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(display=lambda figure, display_id: shown.append(figure) or handle)
    kernel = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: kernel, version_info=(9, 0)))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    history = train(plots.Live(), epochs=3)
    assert_draws(shown[-1], history)
    assert shown[-1]._repr_png_().startswith(b"\x89PNG")


def test_live_says_before_training_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotille", None)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(MissingLibraryError, match=r"pip install 'fastnn-mlp\[plot\]'"):
        train(plots.Live(stream=Terminal()))


@pytest.mark.parametrize("columns", [12, 59, 60, 80, 300])
def test_text_curves_have_straight_frames_of_that_width(columns):
    lines = text_curves(make_history(), columns, 5).splitlines()
    assert len(lines) == 5 + 4
    assert ("accuracy" in lines[0]) is (columns >= 60)
    widths = {len(line) for line in lines[:-2]}
    assert len(widths) == 1
    assert widths.pop() < max(columns, 24)


@pytest.mark.parametrize(
    "history",
    [
        History(loss=[0.5], accuracy=[NAN], seconds=[1.0]),
        make_history(loss=[0.5] * 3, val_loss=[NAN] * 3),
        make_history(loss=[NAN] * 3, accuracy=[NAN] * 3, val_loss=[], val_accuracy=[]),
    ],
)
def test_text_curves_of_little_data(history):
    assert "loss" in text_curves(history)
    assert "nan" not in plain_line(make_history(val_loss=[], val_accuracy=[]))


# ---- sources ----

CSV = "epoch,loss,accuracy,val_loss,val_accuracy,seconds,learning_rate\n"


def test_every_source_gives_the_same_history(tmp_path, network, monkeypatch):
    history = network.history
    network.save(tmp_path / "model.safetensors")
    (tmp_path / "run.json").write_text(json.dumps({"command": "train", "history": history.to_dict()}))
    columns = [getattr(history, name) for name in CSV.strip().split(",")[1:]]
    rows = [f"{i},{','.join(map(repr, row))}\n" for i, row in enumerate(zip(*columns, strict=True), start=1)]
    (tmp_path / "log.csv").write_text(CSV + "".join(rows))
    for name in ("model.safetensors", "run.json", "log.csv"):
        source = read_source(str(tmp_path / name), "numpy")
        assert source.name == name.partition(".")[0]
        assert source.history.val_loss == history.val_loss
        assert (source.network is not None) == (name == "model.safetensors")
    stdin = types.SimpleNamespace(buffer=io.BytesIO((tmp_path / "run.json").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert read_source("-").history.loss == history.loss


def test_a_csv_without_validation_has_none(tmp_path):
    (tmp_path / "log.csv").write_text(CSV + "1,0.5,,,,1.0,0.1\n")
    history = read_source(str(tmp_path / "log.csv")).history
    assert (history.loss, history.val_loss) == ([0.5], [])
    assert math.isnan(history.accuracy[0])


def test_a_saved_npz_is_a_model_too(network, tmp_path):
    network.save(tmp_path / "net.npz")
    assert read_source(str(tmp_path / "net.npz"), "numpy").network.sizes == network.sizes


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (bytes(range(256)), "none of what can be drawn"),
        (b"a,b\n1,2\n", "none of what can be drawn"),
        (b"epoch,loss\n1,0.5\n", "no column accuracy"),
        (CSV.encode() + b"1,0.5,0.8,,,1.0,0.1\n2,0.", "line 3: expected a number as accuracy"),
        (CSV.encode() + b"1,zero,0.8,,,1.0,0.1\n", "line 2: expected a number as loss, got 'zero'"),
        (b'{"command": "evaluate"}', "that of fastnn evaluate"),
        (b'{"history": {"loss": 1}}', "no whole JSON"),
        (b'{"format": "fastnn sweep 2"}', "no sweep saved as JSON"),
        (b'{"format": "fastnn sweep 1", "rows": [{}]}', "no sweep saved as JSON"),
        (b'{"history"', "no whole JSON"),
        (b"\x08\0\0\0\0\0\0\0{      }", "safetensors"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(FileFormatError, match=words):
        read_source(str(tmp_path / "file"))


# ---- the command ----


@pytest.fixture
def folder(tmp_path, monkeypatch, network):
    """A folder to run the command in, with a model, a record, and a small data set for them."""
    monkeypatch.chdir(tmp_path)
    network.save("model.safetensors")
    (tmp_path / "run.json").write_text(json.dumps({"history": make_history().to_dict()}))
    data = fastnn.datasets.load("digits")
    arrays = {"x_train": data.x_test[:20], "y_train": data.y_test[:20], "x_test": data.x_test[:100]}
    np.savez("data.npz", **arrays, y_test=data.y_test[:100])
    return tmp_path


@pytest.fixture
def unrendered(monkeypatch):
    """Files are written without their pictures, which take long."""
    monkeypatch.setattr(command, "save_figure", lambda figure, path: path.write_bytes(b""))


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    options = parser.parse_args([*arguments, "--backend", "numpy", "--dataset", "data.npz"])
    return options.run(options)


def test_the_command_draws_all_there_is_and_prints_the_names(folder, capsys, unrendered):
    assert run("model.safetensors", "--theme", "dark") == 0
    names = capsys.readouterr().out.splitlines()
    assert names == [f"model-plots/{name}.png" for name in ("curves", "matrix", "misclassified", "classes", "weights")]
    assert all((folder / name).is_file() for name in names)


def test_a_file_is_what_its_suffix_says_and_nothing_else_is_left(folder):
    assert run("run.json", "--what", "curves", "--out", "new/c.PNG") == 0
    assert [path.name for path in (folder / "new").iterdir()] == ["c.PNG"]
    assert (folder / "new/c.PNG").read_bytes().startswith(b"\x89PNG")


def test_of_a_record_only_curves_are_drawn(folder, capsys):
    assert run("run.json", "--format", "svg") == 0
    captured = capsys.readouterr()
    assert captured.out == "run-plots/curves.svg\n"
    assert "only curves can be drawn" in captured.err
    assert "<svg" in (folder / "run-plots/curves.svg").read_text()


def test_several_sources_are_compared_in_one_file(folder, capsys, unrendered):
    assert run("model.safetensors", "run.json", "--out", "both.svg") == 0
    assert capsys.readouterr().out == "both.svg\n"


def test_a_sweep_is_drawn_from_its_file(folder, capsys, unrendered):
    x, y = np.random.default_rng(0).random((60, 4), np.float32), np.arange(60) % 2
    result = sweep({"learning_rate": [0.01, 0.1]}, x, y, epochs=1, backend="numpy", jobs=1)
    result.save("tried.json")
    assert read_source("tried.json").sweep == result
    assert run("tried.json", "--format", "svg") == 0
    assert capsys.readouterr() == ("tried-plots/sweep.svg\n", "")
    for arguments, words in [
        ("tried.json --what curves", "tried is a sweep: curves cannot be drawn"),
        ("run.json --what sweep", "run is no sweep"),
        ("run.json tried.json --what curves", "tried is a sweep"),
    ]:
        with pytest.raises(DataError, match=words):
            run(*arguments.split())


def test_the_report_is_text_or_json(folder, capsys):
    assert run("model.safetensors", "--what", "report") == 0
    assert "accuracy" in capsys.readouterr().out
    assert run("model.safetensors", "--what", "report", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["files"], sum(result["report"]["support"])) == ({}, 100)


def test_show_opens_files_where_there_is_a_display(folder, capsys, monkeypatch, unrendered):
    opened = []
    monkeypatch.setattr(command.webbrowser, "open", lambda url: opened.append(url) or False)
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert run("run.json", "--what", "curves", "--out", "c.svg", "--show") == 0
    assert "no display" in capsys.readouterr().err
    monkeypatch.setenv("DISPLAY", ":0")
    assert run("run.json", "--what", "curves", "--out", "c.svg", "--show") == 0
    assert opened == [(folder / "c.svg").as_uri()]
    assert "by hand" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ("run.json --what curvs", UsageError, "did you mean 'curves'"),
        ("run.json --theme blue", UsageError, "light, dark"),
        ("run.json --format pdf", UsageError, "png, svg"),
        ("run.json --out a.pdf", UsageError, "folder, or a file .png or .svg"),
        ("run.json --out a.png --format svg", UsageError, "a file .svg"),
        ("model.safetensors --out a.png", UsageError, "one file, for 5 figures"),
        ("model.safetensors run.json --what matrix", UsageError, "several sources"),
        ("run.json --what matrix", DataError, "run has no weights"),
        ("fresh.safetensors --what curves", DataError, "fresh has no epochs"),
        ("fresh.safetensors --what matrix", DataError, "data does not fit fresh: .*4 features.*--dataset"),
        ("real.safetensors --what classes", DataError, "real is no classification"),
        ("missing.json", OSError, "missing.json"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(folder, arguments, error, words):
    fastnn.Network([4, 2], backend="numpy").save("fresh.safetensors")
    fastnn.Network([4, 2], output="identity", backend="numpy").save("real.safetensors")
    with pytest.raises(error, match=words):
        run(*arguments.split())
    assert not [path for path in folder.rglob("*") if path.suffix in (".png", ".svg", ".part")]


def test_without_matplotlib_the_command_says_how_to_get_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FastnnError, match=r"matplotlib.*pip install 'fastnn-mlp\[plot\]'"):
        run("run.json")


# ---- what stays as it was ----

QUIET = """
import sys
import fastnn.plots, fastnn.commands.plot
heavy = {"matplotlib", "sklearn", "scipy", "plotille", "IPython"} & {*sys.modules}
fastnn.plots.curves(fastnn.History(loss=[1.0], accuracy=[0.5], seconds=[1.0])).draw_without_rendering()
print(heavy, "matplotlib.pyplot" in sys.modules)
"""


def test_nothing_heavy_is_imported_before_it_is_needed_and_pyplot_never():
    done = subprocess.run([sys.executable, "-W", "error", "-c", QUIET], capture_output=True, text=True, env=os.environ)
    assert (done.stdout, done.stderr) == ("set() False\n", "")


@pytest.mark.parametrize("backend", ["module://no_such_module.backend_inline", "Qt4Agg"])
def test_a_backend_of_the_environment_is_no_obstacle(backend, folder, monkeypatch):
    """As in a notebook, whose kernel hands its own down: ``!fastnn plot``."""
    code = (
        "import os, sys, fastnn.cli\n"
        "code = fastnn.cli.main(sys.argv[1:])\n"
        "from fastnn.optional import require_matplotlib\n"
        "require_matplotlib('bench')\n"
        "print(os.environ['MPLBACKEND'])\n"
        "sys.exit(code)"
    )
    monkeypatch.setenv("MPLBACKEND", backend)
    arguments = ["plot", "run.json", "--what", "curves", "--out", f"{backend[:2]}.svg"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [arguments[-1], backend]


def test_figures_change_no_setting_of_matplotlib(network, digits):
    before = dict(matplotlib.rcParams)
    plots.precision_recall(network, *digits, theme="dark").draw_without_rendering()
    assert dict(matplotlib.rcParams) == before
