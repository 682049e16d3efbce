"""Settings in words: the same for the same setting in any process, others for others."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn.descriptions import describe


class Warm:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, steps, steps_per_epoch, total_steps):
        return np.minimum(1, (steps + 1) / self.steps)

    def method(self, steps, steps_per_epoch, total_steps):
        return self(steps, steps_per_epoch, total_steps)


def scaled(factor):
    return lambda steps, steps_per_epoch, total_steps: np.full(len(steps), factor)


def power(steps, steps_per_epoch, total_steps, exponent=0.5):
    return (steps + 1.0) ** -exponent


class Slots:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, steps, steps_per_epoch, total_steps):
        return np.full(len(steps), self.factor)


def chosen(steps, steps_per_epoch, total_steps):
    return np.ones(len(steps)) / (1 + (total_steps in {"some", "words", "in", "a", "set"}))


def calling_itself():
    def halved(steps, steps_per_epoch, total_steps):
        return halved(steps, 1, total_steps) / 2 if steps_per_epoch > 1 else np.ones(len(steps))

    return halved


MAKERS = {
    "set among the constants": lambda: chosen,
    "function that calls itself": calling_itself,
    "object that holds a set": lambda: Warm({"some", "words", "in", "a", "set"}),
    "object with slots": lambda: Slots(1.0),
    "another object with slots": lambda: Slots(2.0),
    "lambda": lambda: lambda steps, a, b: np.ones(len(steps)),
    "another lambda": lambda: lambda steps, a, b: np.ones(len(steps)) / 2,
    "closure over 1": lambda: scaled(1.0),
    "closure over 2": lambda: scaled(2.0),
    "partial": lambda: functools.partial(power, exponent=0.25),
    "another partial": lambda: functools.partial(power, exponent=0.75),
    "object": lambda: Warm(10),
    "another object": lambda: Warm(20),
    "object with an array": lambda: Warm(np.arange(3.0)),
    "object with another array": lambda: Warm(np.arange(3.0) + 1),
    "method": lambda: Warm(10).method,
    "method of another object": lambda: Warm(20).method,
    "library's": lambda: fastnn.Cosine(0.1),
    "another of the library": lambda: fastnn.Cosine(0.2),
    "optimizer": lambda: fastnn.SGD(0.1),
}


def test_the_same_setting_has_the_same_words_and_no_two_have():
    words = [describe(make()) for make in MAKERS.values()]
    assert words == [describe(make()) for make in MAKERS.values()]
    assert len(set(words)) == len(words)
    assert not any("0x" in text for text in words)


def test_the_library_s_own_are_as_in_older_checkpoints():
    for setting in (fastnn.Cosine(0.1), fastnn.SGD(0.1, momentum=0.9), fastnn.AdamW()):
        assert describe(setting) == repr(setting)


@pytest.mark.parametrize("seed", ["1", "2"])  # on which the order of a set of words depends
def test_another_process_says_the_same(seed):
    code = "import test_descriptions as t; print([t.describe(make()) for make in t.MAKERS.values()])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str([describe(make()) for make in MAKERS.values()])


@pytest.mark.parametrize(
    "name", [name for name in MAKERS if not any(word in name for word in ("optim", "array", "holds"))]
)
def test_a_run_goes_on_with_its_own_schedule_alone(tmp_path, name):
    x, y, path = np.random.default_rng(0).random((8, 4), np.float32), np.arange(8) % 3, tmp_path / "run"

    def fit(schedule, epochs, **options):
        options |= {"callbacks": [fastnn.Checkpoint(path)], "schedule": schedule}
        return fastnn.Network([4, 3], backend="numpy").fit(x, y, epochs=epochs, batch_size=3, **options)

    fit(MAKERS[name](), 1)
    assert fit(MAKERS[name](), 2, resume=path).epochs == 2
    with pytest.raises(ValueError, match="schedule"):
        fit(lambda steps, a, b: np.ones(len(steps)) / 3, 3, resume=path)
