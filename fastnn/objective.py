"""What a run minimises and counts, and the state of its optimizer."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.kernels.codes import GRADIENT_ONLY, OPTIMIZER, PLAIN_SGD, REGRESSION
from fastnn.model import Model
from fastnn.operations import ACTIVATIONS, LOSSES, Optimizer
from fastnn.operations.optimizers import SGD
from fastnn.parameters import count_weights, split_parameters
from fastnn.step import Objective

__all__ = ["RunObjective"]


class RunObjective:
    """Loss, optimizer and their arrays, for a network and a number of mini-batches an epoch.

    Parameters
    ----------
    model : Model
    loss : str
    task : int
    steps : int
    optimizer : Optimizer or None
        None: the gradient is all that is wanted.
    training : bool
        With gradients.

    Attributes
    ----------
    arrays : fastnn.step.Objective
        What the step is given.
    """

    def __init__(
        self, model: Model, loss: str, task: int, steps: int, optimizer: Optimizer | None, training: bool
    ) -> None:
        kernels, n = model.kernels, model.parameters.size
        update = GRADIENT_ONLY if optimizer is None else PLAIN_SGD if optimizer.is_plain_sgd else OPTIMIZER
        optimizer = optimizer or SGD()
        grads = kernels.zeros((n if training and update != PLAIN_SGD else 0,), model.dtype)
        dW, db = split_parameters(grads, model.sizes, model.bias)
        self._kernels, self._names = kernels, optimizer.state
        self.arrays = Objective(
            loss=kernels.load_loss(LOSSES[loss], ACTIVATIONS[model.output], model.dtype),
            task=task,
            update=update,
            optimizer=kernels.load_optimizer(optimizer, model.dtype),
            params=model.parameters,
            grads=grads,
            dW=dW,
            db=db,
            state=kernels.zeros((len(optimizer.state), n if update == OPTIMIZER else 0), model.dtype),
            rates=kernels.asarray(np.ones((steps, 1 + len(optimizer.corrections(np.ones(1)))))),
            constants=kernels.asarray(optimizer.constants),
            weight_decay=optimizer.weight_decay,
            clip_norm=optimizer.clip_norm or 0.0,
            n_weights=count_weights(model.sizes),
            losses=kernels.asarray(np.zeros(steps)),
            hits=kernels.asarray(np.zeros(steps)),
        )

    # ---- an epoch ----

    def begin_epoch(self, rates: NDArray[np.floating[Any]]) -> None:
        """Enter the learning rates and corrections of every step; no step has a loss yet."""
        self.arrays.losses[...] = math.nan
        self.arrays.rates[...] = self._kernels.asarray(rates)

    def losses(self, first: int = 0, last: int | None = None) -> NDArray[np.float64]:
        """Sums of the losses of mini-batches `first` to ``last - 1``; NaN for those that have not been run."""
        return self._kernels.to_numpy(self.arrays.losses)[first:last]

    def learning_rate(self, step: int) -> float:
        """Of a mini-batch of this epoch."""
        return float(self._kernels.to_numpy(self.arrays.rates)[step, 0])

    def means(self, step_weights: NDArray[np.float64], steps: int) -> tuple[float, float]:
        """Loss and accuracy over the first `steps` mini-batches; NaN where there is none."""
        weight = float(step_weights[:steps].sum())
        if weight == 0:
            return math.nan, math.nan
        loss = float(self.losses(0, steps).sum()) / weight
        hits = float(self._kernels.to_numpy(self.arrays.hits)[:steps].sum()) / weight
        return loss, math.nan if self.arrays.task == REGRESSION else hits

    # ---- parameters and the optimizer's state ----

    def state(self) -> dict[str, NDArray[Any]]:
        """Copies of the parameters and of the optimizer's state, by name, each (n_parameters,)."""
        return {name: self._kernels.to_numpy(array).copy() for name, array in self._named().items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` gave."""
        arrays = self._named()
        for name, values in state.items():
            arrays[name][...] = self._kernels.asarray(values)

    def sizes(self) -> dict[str, int]:
        """How many elements `state` has by each name."""
        return {name: array.size for name, array in self._named().items()}

    def _named(self) -> dict[str, Any]:
        state = dict(zip(self._names, self.arrays.state, strict=True)) if self.arrays.state.size else {}
        return {"parameters": self.arrays.params} | state

    def gradients(self) -> list[tuple[NDArray[Any], NDArray[Any]]]:
        """Copies of (dW, db) layer by layer."""
        to_numpy = self._kernels.to_numpy
        pairs = zip(self.arrays.dW, self.arrays.db, strict=True)
        return [(to_numpy(dW).copy(), to_numpy(db).copy()) for dW, db in pairs]
