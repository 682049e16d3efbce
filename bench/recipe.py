"""The recipe by which accuracy is compared: that of ``fastnn train --preset quick``."""

import dataclasses
from typing import Any

import fastnn
from fastnn.optimizers import OPTIMIZERS, Optimizer
from fastnn.presets import DEFAULTS, PRESETS

RECIPE: dict[str, Any] = DEFAULTS | PRESETS["quick"]


def make_network(seed: int, backend: str, **options: Any) -> fastnn.Network:
    """Untrained."""
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "scale", "shift")
    return fastnn.Network(
        RECIPE["layers"], seed=seed, backend=backend, **{name: RECIPE[name] for name in names}, **options
    )


def make_optimizer() -> Optimizer:
    kind = OPTIMIZERS[RECIPE["optimizer"]]
    names = [field.name for field in dataclasses.fields(kind)]
    return kind(**{name: RECIPE[name] for name in names if RECIPE.get(name) is not None})
