"""Checks of the arguments of `Network` and its methods: what is right comes back in one form, what is not is named.

All raise ValueError, with what was expected and what came.
"""

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastnn.checks import check_count, check_finite, is_finite
from fastnn.choices import check_choice
from fastnn.kernels.codes import PRECISIONS, TASKS
from fastnn.operations import ACTIVATIONS, hidden_activations

__all__ = [
    "check_count",
    "check_dropout",
    "check_dtype",
    "check_finite",
    "check_hidden",
    "check_precision",
    "check_seed",
    "check_sizes",
    "check_task",
    "check_validation_data",
    "is_finite",
]


def check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str | bytes) or not isinstance(sizes, Iterable):
        raise ValueError(f"sizes must be a sequence of whole numbers, as [784, 128, 10], got {sizes!r}")
    result = tuple(check_count("every layer", n) for n in sizes)
    if len(result) < 2:
        raise ValueError(f"a network needs at least inputs and outputs, as [784, 10], got {list(result)}")
    return result


def check_precision(precision: Any, dtype: np.dtype) -> str | None:
    if precision is not None:
        check_choice("precision", precision, PRECISIONS)
        if dtype != np.float32:
            raise ValueError(f"precision={precision!r} is less than that of dtype='float32', got {dtype.name!r}")
    return precision


def check_hidden(hidden: Any, n_hidden: int) -> tuple[str, ...]:
    if not isinstance(hidden, Iterable):
        raise ValueError(f"hidden must be the name of an activation, or one for each hidden layer, got {hidden!r}")
    names = (hidden,) if isinstance(hidden, str) else tuple(hidden)
    for name in names:
        check_choice("hidden activation", name, hidden_activations())
    if isinstance(hidden, str):
        return names * n_hidden
    if len(names) != n_hidden:
        raise ValueError(f"{n_hidden} hidden layers need as many activations, got {len(names)}")
    return names


def check_seed(seed: int | None) -> int:
    if seed is None:
        return int(np.random.SeedSequence().entropy)  # type: ignore[arg-type]  # an int where none was given
    return check_count("seed", seed, least=0)


def check_dropout(dropout: Any, n_layers: int) -> tuple[float, ...]:
    if not isinstance(dropout, numbers.Real | Iterable):
        raise ValueError(f"dropout must be a number, or one for each layer, got {dropout!r}")
    rates = (0.0, *[dropout] * (n_layers - 1)) if isinstance(dropout, numbers.Real) else tuple(dropout)
    if isinstance(dropout, numbers.Real):
        check_rate(dropout)  # which a network without hidden layers would never look at
    if len(rates) != n_layers:
        raise ValueError(f"dropout needs one number, or {n_layers}: inputs, then hidden layers; got {len(rates)}")
    return tuple(check_rate(rate) for rate in rates)


def check_dtype(dtype: Any) -> np.dtype:
    try:
        name = None if dtype is None else str(np.dtype(dtype))  # for numpy None is float64
    except TypeError:
        name = dtype
    return np.dtype(check_choice("dtype", name, ["float32", "float64"]))


def check_rate(rate: Any) -> float:
    rate = check_finite("dropout", rate)
    if not 0 <= rate < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1, got {rate!r}")
    return rate


def check_task(task: str | None, output: str) -> int | None:
    """What the targets mean, as a code; None where that is left to the targets."""
    possible = ACTIVATIONS[output].tasks
    if task is None:
        return TASKS[possible[0]] if output == "exp" else None
    check_choice("task", task, TASKS)
    if task not in possible:
        fitting = [name for name, one in ACTIVATIONS.items() if one.output and task in one.tasks]
        raise ValueError(f"task={task!r} needs output {' or '.join(fitting)}, the network has output={output!r}")
    return TASKS[task]


def check_validation_data(data: Any) -> tuple:
    if not isinstance(data, tuple | list) or len(data) not in (2, 3):
        raise ValueError(f"validation_data must be (x, y) or (x, y, sample_weight), got {type(data).__name__}")
    return tuple(data)
