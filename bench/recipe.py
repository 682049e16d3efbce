"""The recipe by which accuracy is compared: that of ``fastnn train --preset quick``."""

import dataclasses
import functools
from typing import Any

import numpy as np

import fastnn
from fastnn.datasets import Dataset
from fastnn.operations import OPTIMIZERS, Optimizer
from fastnn.presets import DEFAULTS, PRESETS
from fastnn.schedules import Schedule, as_schedule

RECIPE: dict[str, Any] = DEFAULTS | PRESETS["quick"]


def make_network(seed: int, backend: str, **options: Any) -> fastnn.Network:
    """Untrained."""
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "scale", "shift")
    return fastnn.Network(
        RECIPE["layers"], seed=seed, backend=backend, **{name: RECIPE[name] for name in names}, **options
    )


def train(
    seed: int, backend: str, data: Dataset, *, periods: int = 1, goal: float | None = None, **options: Any
) -> fastnn.Network:
    """A network that has been trained by the recipe, so many times over, or until it has the goal's test accuracy.

    It looks at the test data after each epoch.
    """
    network = make_network(seed, backend, **options)
    network.fit(
        data.x_train,
        data.y_train,
        epochs=periods * RECIPE["epochs"],
        batch_size=RECIPE["batch_size"],
        loss=RECIPE["loss"],
        optimizer=make_optimizer(),
        schedule=functools.partial(repeat, as_schedule(RECIPE["schedule"]), RECIPE["epochs"]),
        validation_data=(data.x_test, data.y_test),
        callbacks=[lambda _, history: goal is not None and reaches(history.val_accuracy[-1], goal)],
        verbose=False,
    )
    return network


def reaches(accuracy: float, goal: float) -> bool:
    return accuracy >= goal - 1e-9  # 0.98 is no binary fraction


def repeat(schedule: Schedule, epochs: int, steps: np.ndarray, steps_per_epoch: int, total_steps: int) -> np.ndarray:
    """A schedule of `epochs` epochs, over and over."""
    period = epochs * steps_per_epoch
    return schedule(steps % period, steps_per_epoch, period)


def make_optimizer() -> Optimizer:
    kind = OPTIMIZERS[RECIPE["optimizer"]]
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: RECIPE[name] for name in names if RECIPE.get(name) is not None})
