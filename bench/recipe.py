"""The recipe by which accuracy is compared: that of ``fastnn train --preset quick``."""

import dataclasses
from typing import Any

import fastnn
from fastnn.datasets import Dataset
from fastnn.operations import OPTIMIZERS, Optimizer
from fastnn.presets import DEFAULTS, PRESETS

RECIPE: dict[str, Any] = DEFAULTS | PRESETS["quick"]


def make_network(seed: int, backend: str, **options: Any) -> fastnn.Network:
    """Untrained."""
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "scale", "shift")
    return fastnn.Network(
        RECIPE["layers"], seed=seed, backend=backend, **{name: RECIPE[name] for name in names}, **options
    )


def train(seed: int, backend: str, data: Dataset, **options: Any) -> fastnn.Network:
    """A network that has been trained to the end of the recipe, looking at the test data after each epoch."""
    network = make_network(seed, backend, **options)
    network.fit(
        data.x_train,
        data.y_train,
        epochs=RECIPE["epochs"],
        batch_size=RECIPE["batch_size"],
        optimizer=make_optimizer(),
        schedule=RECIPE["schedule"],
        validation_data=(data.x_test, data.y_test),
        verbose=False,
    )
    return network


def make_optimizer() -> Optimizer:
    kind = OPTIMIZERS[RECIPE["optimizer"]]
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: RECIPE[name] for name in names if RECIPE.get(name) is not None})
