"""Activations, losses and optimizers: each is one record, from which everything else follows."""

from typing import Any, cast

from fastnn.operations.activations import ACTIVATIONS, Activation, hidden_activations, output_activations
from fastnn.operations.losses import LOSSES, Loss, check_loss
from fastnn.operations.optimizers import OPTIMIZERS, Optimizer, as_optimizer

__all__ = [
    "ACTIVATIONS",
    "LOSSES",
    "OPTIMIZERS",
    "Activation",
    "Loss",
    "Optimizer",
    "as_optimizer",
    "check_loss",
    "hidden_activations",
    "output_activations",
    "register",
]


def register(operation: Activation | Loss | type[Optimizer]) -> None:
    """Make an operation known by its name, in every place where a built-in one can be named.

    Parameters
    ----------
    operation : Activation, Loss, or subclass of Optimizer
        See the built-in ones in `fastnn.operations.activations`, `losses` and `optimizers` for what it has to have. An
        optimizer's name is its class's in lower case. Networks that were trained before keep what they had.

    Raises
    ------
    ValueError
        If another operation has that name.
    TypeError
        If it is none of these.
    """
    table: dict[str, Any]
    if isinstance(operation, Activation):
        table, name = cast(dict[str, Any], ACTIVATIONS), operation.name
    elif isinstance(operation, Loss):
        table, name = cast(dict[str, Any], LOSSES), operation.name
    elif isinstance(operation, type) and issubclass(operation, Optimizer):
        table, name = cast(dict[str, Any], OPTIMIZERS), operation.__name__.lower()
    else:
        raise TypeError(f"register takes an Activation, a Loss or a subclass of Optimizer, got {operation!r}")
    if name in table and table[name] is not operation:
        raise ValueError(f"there is {table[name]!r} by the name {name!r} already: choose another name")
    table[name] = operation
