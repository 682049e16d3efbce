"""What notebooks show of networks and histories: well-formed, escaped, and of a size that can be read."""

import math
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest

import fastnn
from fastnn.history import History
from fastnn.network_html import network_html
from fastnn.notebook_html import history_html


def table(text):
    """Rows of a page's table; the page has to be well-formed for that."""
    page = ET.fromstring(text.replace("<br>", "<br/>"))
    return [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]


def make_history(epochs, **changes):
    losses = [1 / epoch for epoch in range(1, epochs + 1)]
    values = {"loss": losses, "accuracy": [0.5] * epochs, "seconds": [1.0] * epochs}
    return History(**values | changes)


def test_a_network_s_layers():
    net = fastnn.Network([784, 128, 64, 10], hidden=["relu", "tanh"], backend="numpy")
    text = network_html(net)
    assert table(text) == [
        ["layer", "inputs", "outputs", "activation", "parameters"],
        ["1", "784", "128", "relu", "100,480"],
        ["2", "128", "64", "tanh", "8,256"],
        ["3", "64", "10", "softmax", "650"],
        ["total", "", "", "", f"{net.n_parameters:,}"],
    ]
    assert "float32" in text
    assert "backend numpy, by argument" in text


def test_dropout_and_biases_are_told_where_they_matter():
    text = network_html(fastnn.Network([4, 3, 2], dropout=[0.0, 0.25], bias=False, backend="numpy"))
    assert [row[3] for row in table(text)] == ["dropout of inputs", "", "25 %", ""]
    assert table(text)[-1][-1] == "18"
    assert "without biases" in text


def test_a_history_s_rows_and_its_best():
    history = make_history(3, val_loss=[0.9, 0.4, 0.5], val_accuracy=[0.5, 0.6, 0.7])
    assert table(history_html(history)) == [
        ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", ""],
        ["1", "1.0000", "0.5000", "0.9000", "0.5000", ""],
        ["2", "0.5000", "0.5000", "0.4000", "0.6000", "best"],
        ["3", "0.3333", "0.5000", "0.5000", "0.7000", ""],
    ]


@pytest.mark.parametrize("epochs", [1, 12, 13, 1000])
def test_a_long_history_has_its_first_last_and_best_epochs_in_few_rows(epochs):
    val_loss = [1.0] * epochs
    val_loss[epochs // 3] = 0.5
    rows = table(history_html(make_history(epochs, val_loss=val_loss, val_accuracy=[0.5] * epochs)))[1:]
    shown = [int(row[0]) for row in rows]
    assert len(shown) <= 12
    assert shown == sorted(set(shown))
    assert {1, epochs, epochs // 3 + 1} <= {*shown}


def polylines(text):
    return [line.get("points").split() for line in ET.fromstring(text.replace("<br>", "<br/>")).iter("polyline")]


def test_the_sparkline_has_a_point_for_each_finite_value():
    history = make_history(4, val_loss=[1.0, 0.5, math.nan, 0.2], val_accuracy=[0.5] * 4)
    training, validation = polylines(history_html(history))
    assert (len(training), len(validation)) == (4, 3)
    heights = [float(point.split(",")[1]) for point in training]
    assert heights == sorted(heights)  # pixels count downwards: the loss falls
    rising = [float(point.split(",")[1]) for point in polylines(history_html(make_history(2, loss=[0.1, 0.9])))[0]]
    assert rising != sorted(rising)


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (History(), "0 epochs"),
        (make_history(1), "1 epoch,"),
        (make_history(2, loss=[math.nan] * 2), "2 epochs"),
        (make_history(2, loss=[0.0] * 2, accuracy=[math.nan] * 2), "2 epochs"),
        (make_history(2, interrupted=True, partial=True), "interrupted"),
        (make_history(2, diverged=True), "diverged"),
    ],
)
def test_histories_of_every_kind_are_well_formed(history, words):
    assert words in history_html(history)
    table(history_html(history))


def test_a_torn_page_would_be_noticed():
    with pytest.raises(ET.ParseError):
        table(history_html(make_history(2)).replace("</tr>", "", 1))


def test_what_comes_from_elsewhere_is_escaped(monkeypatch):
    net = fastnn.Network([2, 2], backend="numpy")
    choice = SimpleNamespace(name="<b>", origin="a & b", reason="<script>alert(1)</script>")
    monkeypatch.setattr(net, "backend_choice", choice)
    assert "<script>" not in network_html(net)
    assert "a &amp; b" in network_html(net)
    assert "<script>" not in history_html(make_history(1, backend="<script>"))


def test_colours_are_the_notebook_s_own():
    for text in (network_html(fastnn.Network([2, 2], backend="numpy")), history_html(make_history(3))):
        assert "background" not in text
        assert "color:" not in text
