"""What both estimators are told, what they record, and what each of them knows of its targets and outputs."""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier

from fastnn.network import Network
from fastnn.training_state import TrainingState

__all__ = ["Array", "MLPBase", "Samples", "Validation"]

Array = npt.NDArray[Any]
Validation = tuple[Any, ...] | None
"""``(X, y)`` or ``(X, y, sample_weight)``, as the caller has them."""


class Samples(NamedTuple):
    """Samples, targets as the network takes them, and weights or None."""

    X: Array
    y: Array
    weight: Array | None

    def rows(self, index: Array) -> "Samples":
        return Samples(self.X[index], self.y[index], None if self.weight is None else self.weight[index])


@dataclass(eq=False, repr=False)
class MLPParameters:
    """The parameters of both estimators that cannot be given by position."""

    _: KW_ONLY
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: Any = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: Any = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: Any = 10
    max_fun: int = 15000
    backend: str | None = None
    threads: int | None = None
    dtype: Any = None
    dropout: Any = 0.0
    clip_norm: float | None = None
    augment: Any = None


class MLPBase(MLPParameters, BaseEstimator, ABC):
    """Parameters, fitted attributes, and what a subclass tells of its kind of targets."""

    _parameter_constraints: ClassVar[dict[str, Any]] = dict(MLPClassifier._parameter_constraints)  # the same limits

    hidden_layer_sizes: Any  # these two may be given by position
    activation: str
    network_: Network
    n_outputs_: int
    out_activation_: str
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    _best_weights: Any
    _no_improvement_count: int
    _state: tuple[str, TrainingState] | None  # of the solver that ran last

    @abstractmethod
    def _check_targets(self, y: Any, fresh: bool, classes: Any) -> Array:
        """Targets as the network takes them; where `fresh`, sets `n_outputs_` and `out_activation_`."""

    @abstractmethod
    def _score(self, outputs: Array, y: Array, weight: Array | None) -> float:
        """What `score` would say of a network's outputs, for targets as the network takes them."""

    def _weigh(self, samples: Samples) -> Samples:
        """With the weights that the loss is to have."""
        return samples

    @property
    def _loss_factor(self) -> float:
        """scikit-learn's loss is so many times the network's."""
        return 1.0

    @property
    def _stratify(self) -> bool:
        """Whether validation data are to have the same share of every target."""
        return False

    def _penalty(self, decay: float) -> float:
        """What L2 regularization adds to the loss."""
        if decay == 0:
            return 0.0
        return 0.5 * decay * sum(float(np.vdot(W, W)) for W, _ in self.network_.get_weights())

    def _say(self, words: str) -> None:
        if self.verbose:
            print(words)
