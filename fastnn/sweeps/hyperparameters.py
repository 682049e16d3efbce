"""Hyperparameters by name: the settings of a space, and the network and training that a setting means."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.arguments import check_count
from fastnn.augmentation import as_augment
from fastnn.choices import check_choice, parse_choice
from fastnn.operations import OPTIMIZERS, Optimizer, check_loss
from fastnn.optional import require
from fastnn.presets import DEFAULTS
from fastnn.schedules import as_schedule

__all__ = ["HYPERPARAMETERS", "SHARES", "WHOLE", "Space", "list_settings", "make_arguments"]

_NETWORK = ("hidden", "output", "bias", "init", "dropout", "dtype", "precision", "scale", "shift")
_FIT = ("epochs", "batch_size", "loss", "schedule", "shuffle", "augment")
_OPTIMIZER = tuple(dict.fromkeys(name for kind in OPTIMIZERS.values() for name in vars(kind())))
HYPERPARAMETERS = ("optimizer", *_OPTIMIZER, "width", "depth", *_FIT, *_NETWORK)
"""What can be swept or fixed: the optimizer and its parameters, the shape, arguments of `Network.fit` and `Network`."""
WHOLE = ("width", "depth", "epochs", "batch_size")
"""Those that are whole numbers."""
SHARES = ("momentum", "dropout", "rho", "beta1", "beta2")
"""Those between 0 and 1, which have a linear scale; other numbers have a logarithmic one."""

Space = Mapping[str, Any] | Sequence[Mapping[str, Any]]


def list_settings(
    space: Space, *, random: int | None = None, seed: int = 0, fixed: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The settings of a space, each once: all combinations, or `random` draws; see `fastnn.sweeps.sweep`.

    Parameters of which the setting's optimizer knows nothing are left out. Numbers from distributions are rounded to
    three digits, so that what is printed can be typed.
    A ValueError says that a name is unknown or both swept and fixed, that values are no list, that a distribution needs
    `random`, or that nothing is swept.

    Examples
    --------
    >>> list_settings({"optimizer": ["sgd", "adam"], "momentum": [0.0, 0.9]})
    [{'optimizer': 'sgd', 'momentum': 0.0}, {'optimizer': 'adam'}, {'optimizer': 'sgd', 'momentum': 0.9}]
    """
    selection = require("sklearn.model_selection", "sklearn")
    fixed = fixed or {}
    spaces = [space] if isinstance(space, Mapping) else list(space)
    spaces = [{name: _check_values(name, values, random) for name, values in one.items()} for one in spaces]
    names = {name for one in spaces for name in one}
    if not names:
        raise ValueError("nothing to sweep: give the space a hyperparameter, as {'learning_rate': [0.01, 0.1]}")
    for name in fixed:
        check_choice("hyperparameter", name, HYPERPARAMETERS)
        if name in names:
            raise ValueError(f"{name} is both swept and fixed: give it in one of the two")
    candidates: Iterable[dict[str, Any]]
    if random is None or check_count("random", random) >= _grid_size(spaces):
        candidates = selection.ParameterGrid(spaces)
    else:
        candidates = selection.ParameterSampler(spaces, random, random_state=seed)
    full = [_without_strangers({**fixed, **candidate}) for candidate in candidates]
    for name in (*names, *fixed):
        if not any(name in one for one in full):
            raise ValueError(f"{name}: no optimizer of this sweep takes it")
    settings = [{name: value for name, value in one.items() if name in names} for one in full]
    return list({repr(setting): setting for setting in settings}.values())


@dataclasses.dataclass(frozen=True)
class _Rounded:
    """A distribution whose values people can read."""

    distribution: Any
    whole: bool

    def rvs(self, random_state: Any) -> float:
        value = self.distribution.rvs(random_state=random_state)
        return int(np.rint(value)) if self.whole else float(f"{value:.3g}")


def _check_values(name: str, values: Any, random: int | None) -> Any:
    check_choice("hyperparameter", name, HYPERPARAMETERS)
    if hasattr(values, "rvs"):
        if random is None:
            raise ValueError(f"{name} is a distribution: give random=, the number of settings to draw, or a list")
        return _Rounded(values, name in WHOLE)
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise ValueError(f"{name} must have a list of values, as [0.01, 0.1], or a distribution; got {values!r}")
    if len(values) == 0:
        raise ValueError(f"{name} has no values to try")
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _grid_size(spaces: Sequence[Mapping[str, Any]]) -> float:
    """Infinite where a value comes from a distribution."""
    grid = require("sklearn.model_selection", "sklearn").ParameterGrid
    sampled = any(isinstance(values, _Rounded) for one in spaces for values in one.values())
    return float("inf") if sampled else len(grid(spaces))


# ---- what a setting means -------------------------------------------------------------------------------------------


def _without_strangers(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without the parameters that their optimizer has not, in the order of `HYPERPARAMETERS`."""
    optimizer = _optimizer(options)
    known = [name for name in HYPERPARAMETERS if name not in _OPTIMIZER or hasattr(optimizer, name)]
    return {name: options[name] for name in known if name in options}


def make_arguments(options: Mapping[str, Any], features: int, y: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `Network`, and of `Network.fit`, for targets such as `y`.

    A ValueError names a value that cannot be, as far as `Network` itself does not see to it.
    """
    options = _without_strangers(options)
    output = options.get("output", DEFAULTS["output"])
    check_loss(options.get("loss"), output)
    as_schedule(options.get("schedule"))
    as_augment(options.get("augment"))
    parameters = {name: options[name] for name in _OPTIMIZER if name in options}
    network = {name: options[name] for name in _NETWORK if name in options}
    fit = {name: options[name] for name in _FIT if name in options}
    for name in ("epochs", "batch_size"):
        fit[name] = check_count(name, fit.get(name, DEFAULTS[name]))
    sizes = [features, *_hidden_sizes(options), _count_outputs(y, output)]
    return {"sizes": sizes} | network, fit | {"optimizer": dataclasses.replace(_optimizer(options), **parameters)}


def _optimizer(options: Mapping[str, Any]) -> Any:
    optimizer = options.get("optimizer", DEFAULTS["optimizer"])
    return optimizer if isinstance(optimizer, Optimizer) else parse_choice("optimizer", optimizer, OPTIMIZERS)


def _hidden_sizes(options: Mapping[str, Any]) -> list[int]:
    """Of ``width=32``, ``width="128-64"`` or (128, 64), and ``width=32, depth=3``."""
    width, depth = options.get("width", DEFAULTS["layers"][1:-1]), options.get("depth")
    try:
        parts = re.split("[-,]", width) if isinstance(width, str) else [width] if np.isscalar(width) else list(width)
        sizes = [check_count("width", int(n) if isinstance(n, str) else n) for n in parts]
    except (TypeError, ValueError):
        raise ValueError(f"width must be hidden units, as 128, or '128-64' for two layers, got {width!r}") from None
    if depth is None:
        return sizes
    if len(sizes) != 1:
        raise ValueError(f"depth needs a width of one number, got {width!r}: it says how many layers there are")
    return sizes * check_count("depth", depth)


def _count_outputs(y: np.ndarray, output: str) -> int:
    """One for each column of targets; with labels one for each up to the largest."""
    if y.ndim > 1:
        return int(y.shape[1])
    if output == "identity" or (output == "sigmoid" and np.isin(y, (0, 1)).all()):
        return 1
    return int(y.max()) + 1
