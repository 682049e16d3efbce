"""The section ``prediction``: all predict the same labels, and whose labels are wrong is not timed."""

import functools
import json
import sys
from types import ModuleType

import numpy as np
import pytest

import fastnn
from fastnn.bench import levels, prediction, predictors, reference, trainers
from fastnn.bench.contenders import Contender, find_field
from fastnn.bench.predictors import SAMPLES
from fastnn.bench.report.results import complete
from fastnn.bench.report.sections import make_sections
from fastnn.bench.sections import Setting
from fastnn.cli import main

LEVEL = levels.LEVELS["quick"]._replace(kernel_networks=((784, 12, 10),), launches=2)


@pytest.fixture
def task():
    return trainers.make_task((784, 12, 10), 1, SAMPLES[-1], 1, fastnn.datasets.load("digits"))


def outputs_of(task):
    x = predictors.take_samples(task).astype(np.float64)
    return reference.forward(reference.copy_weights(task.weights), x)[-1]


def predict_wrongly(task):
    """The second class instead of the first."""
    right = predictors.make_plain_numpy(task)
    return lambda x: (right(x) + 1) % task.sizes[-1]


def predict_nothing(task):
    raise fastnn.BackendError("no such library")


def test_backends_predict_the_labels_of_the_reference(backend, task):
    make = functools.partial(predictors.make_fastnn, backend=backend)
    assert prediction.wrong_share(predictors.prepare({}, make, task), outputs_of(task)) == 0


@pytest.mark.parametrize(
    ("make", "libraries"),
    [
        (predictors.make_plain_numpy, ()),
        (predictors.make_onnxruntime, ("onnx", "onnxruntime")),
        (predictors.make_torch, ("torch",)),
    ],
)
def test_others_predict_the_labels_of_the_reference(make, libraries, task):
    for library in libraries:
        pytest.importorskip(library)
    kept = {}
    assert prediction.wrong_share(predictors.prepare(kept, make, task), outputs_of(task)) == 0
    seconds = predictors.time_predictions(kept)
    assert len(seconds) == len(SAMPLES)
    assert min(seconds) > 0


def test_wrong_labels_are_found(task):
    outputs = outputs_of(task)
    right = [outputs[:count].argmax(axis=1) for count in SAMPLES]
    assert prediction.wrong_share(right, outputs) == 0
    for place, label in ((0, 10), (9_999, -1), (5, (right[-1][5] + 1) % 10)):
        wrong = [*right[:-1], right[-1].copy()]
        wrong[-1][place] = label
        assert prediction.wrong_share(wrong, outputs) == pytest.approx(1 / SAMPLES[-1])
    assert np.isnan(prediction.wrong_share([*right[:-1], right[-1][:, None]], outputs))
    outputs[0] = [0.5, 0.5 - 1e-7, *[0] * 8]
    for label, share in ((0, 0), (1, 0), (2, 1)):  # either of two that rounding decides between
        for labels in right:
            labels[0] = label
        assert prediction.wrong_share(right, outputs) == share


def test_peers_that_predict_take_part_on_the_cpu():
    field = find_field("numpy", "torch,onnxruntime", 1)
    assert list(field.predictors) == ["numpy", "plain numpy loop", "ONNX Runtime", "PyTorch"]
    assert "ONNX Runtime" not in field.entries
    assert list(field.without(["numpy"]).predictors) == ["plain numpy loop", "ONNX Runtime", "PyTorch"]
    assert not find_field("numpy", "torch", 1, LEVEL._replace(device=True)).predictors


def test_whose_labels_are_wrong_is_not_timed(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # workers would import pytest's
    field = find_field("numpy", None, 1)
    more = {"wrong": predict_wrongly, "missing": predict_nothing}
    field = field._replace(predictors=field.predictors | {name: Contender("peer", more[name], {}) for name in more})
    data, generator = fastnn.datasets.load("digits"), np.random.default_rng(0)
    setting = Setting(LEVEL, field, data, "digits", 1, generator, lambda what: None, lambda: None)
    found = prediction.prediction(setting, 0.0)
    assert {row["contender"]: row["passed"] for row in found["checks"]} == {
        "numpy": True,
        "plain numpy loop": True,
        "wrong": False,
    }
    assert found["skipped"] == {"wrong": "failed the correctness gate", "missing": "BackendError: no such library"}
    assert [row["samples"] for row in found["rows"]] == list(SAMPLES)
    for row in found["rows"]:
        assert list(row["seconds"]) == ["numpy", "plain numpy loop"]
        assert list(row["comparisons"]) == ["plain numpy loop"]
        assert [len(launch["seconds"]["numpy"]) for launch in row["launches"]] == [2, 2]


def test_the_command_compares_predictions_with_peers(monkeypatch, tmp_path, capsys):
    for library in ("matplotlib", "jinja2", "onnx", "onnxruntime"):
        pytest.importorskip(library)
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    tiny = LEVEL._replace(cases=(levels.Case((784, 12, 10), 64, 640),), sections={}, budget=1)
    monkeypatch.setitem(levels.LEVELS, "quick", tiny)
    options = ["--backends", "numpy", "--dataset", "digits", "--threads", "1", "--json", "--out", str(tmp_path)]
    assert main(["bench", "quick", "--peers", "onnxruntime", *options]) == 0
    results = json.loads(capsys.readouterr().out)
    section = results["prediction"]
    assert section["reference"] == "ONNX Runtime"
    assert list(section["rows"][0]["comparisons"]) == ["numpy", "plain numpy loop"]
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Prediction" in text
    assert "times as fast as ONNX Runtime" in text
    assert not any(made.id == "prediction" for made in make_sections(complete(results | {"prediction": None}), ()))
