"""The recipe by which accuracy is compared: that of ``fastnn train --preset NAME``, by default quick."""

import dataclasses
import functools
from typing import Any

import numpy as np

import fastnn
from fastnn.augmentation import as_augment
from fastnn.choices import check_choice
from fastnn.datasets import Dataset
from fastnn.operations import OPTIMIZERS, Optimizer
from fastnn.presets import DEFAULTS, PRESETS
from fastnn.schedules import Schedule, as_schedule

QUICK = "quick"


def read_recipe(preset: str) -> dict[str, Any]:
    """All settings of a preset.

    Raises
    ------
    ValueError
        If there is none of that name, or it is of several networks.
    """
    recipe: dict[str, Any] = DEFAULTS | PRESETS[check_choice("preset", preset, PRESETS)]
    if recipe["networks"] > 1:
        raise ValueError(f"preset {preset!r} trains {recipe['networks']} networks: the bench compares one with one")
    return recipe


def make_network(recipe: dict[str, Any], seed: int, backend: str, **options: Any) -> fastnn.Network:
    """Untrained."""
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "scale", "shift")
    return fastnn.Network(
        recipe["layers"], seed=seed, backend=backend, **{name: recipe[name] for name in names}, **options
    )


def train(
    seed: int,
    backend: str,
    data: Dataset,
    *,
    preset: str = QUICK,
    periods: int = 1,
    goal: float | None = None,
    **options: Any,
) -> fastnn.Network:
    """A network that has been trained by the recipe, so many times over, or until it has the goal's test accuracy.

    It looks at the test data after each epoch.
    """
    recipe = read_recipe(preset)
    network = make_network(recipe, seed, backend, **options)
    network.fit(
        data.x_train,
        data.y_train,
        epochs=periods * recipe["epochs"],
        batch_size=recipe["batch_size"],
        loss=recipe["loss"],
        optimizer=make_optimizer(recipe),
        schedule=functools.partial(repeat, as_schedule(recipe["schedule"]), recipe["epochs"]),
        augment=as_augment(recipe["augment"]),
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


def make_optimizer(recipe: dict[str, Any]) -> Optimizer:
    kind = OPTIMIZERS[recipe["optimizer"]]
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: recipe[name] for name in names if recipe.get(name) is not None})
