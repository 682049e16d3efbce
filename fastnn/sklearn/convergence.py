"""What scikit-learn's perceptrons do after every epoch: keep a record, change the learning rate, and end at last."""

import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastnn.callbacks import Callback, Run
from fastnn.history import History
from fastnn.network import Network

if TYPE_CHECKING:
    from fastnn.sklearn.estimators import MLPEstimator, Samples

__all__ = ["Progress", "warn_of_convergence"]

_SLOWEST_RATE = 1e-6  # where an adaptive learning rate ends


class Progress(Callback):
    """After every epoch: scikit-learn's attributes, its learning rates, and its rule for when to end.

    Attributes
    ----------
    has_ended : bool
        Nothing got better by `tol` for more than `n_iter_no_change` epochs.
    """

    def __init__(
        self, estimator: "MLPEstimator", samples: "Samples", batch_size: int, decay: float, validation: "Samples | None"
    ) -> None:
        self._estimator, self._n, self._decay = estimator, samples.X.shape[0], decay
        self._steps = -(-self._n // batch_size)
        self._validation = validation if estimator.early_stopping else None
        self.has_ended = False

    def begin(self, run: Run) -> None:
        """A network that is trained further goes on with its record."""
        e, self._run = self._estimator, run
        if e.t_ == 0:
            e.loss_curve_, e._no_improvement_count = [], 0
            e.best_loss_, e.validation_scores_, e.best_validation_score_, e._best_weights = np.inf, None, None, None
        if e.early_stopping:
            e.best_loss_ = None
            if e.validation_scores_ is None:
                e.validation_scores_, e.best_validation_score_ = [], -np.inf
        elif e.best_loss_ is None:
            e.best_loss_ = np.inf
        self._penalty = self._estimator._penalty(self._decay)

    def __call__(self, network: Network, history: History) -> bool:
        e = self._estimator
        e.n_iter_ += 1
        e.t_ += self._n
        e.loss_ = e._loss_factor * history.loss[-1] + self._mean_penalty()
        e.loss_curve_.append(e.loss_)
        self._say(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
        improved = self._improve() if self._validation is None else self._validate(network, self._validation)
        e._no_improvement_count = 0 if improved else e._no_improvement_count + 1
        if e.solver == "sgd" and e.learning_rate == "invscaling":
            self._run.rate_factor = (e.t_ + 1) ** -e.power_t
        if e._no_improvement_count > e.n_iter_no_change:
            self.has_ended = self._ends()
        return self.has_ended

    def end(self, run: Run) -> None:
        self._estimator._state = (self._estimator.solver, run.state())

    def _mean_penalty(self) -> float:
        """Of the weights before each mini-batch of the epoch, if it went straight from the first to the last."""
        first, self._penalty = self._penalty, self._estimator._penalty(self._decay)
        return first + (self._penalty - first) * (self._steps - 1) / (2 * self._steps)

    def _improve(self) -> bool:
        e = self._estimator
        before = e.best_loss_
        e.best_loss_ = min(before, e.loss_)
        return bool(e.loss_ <= before - e.tol)

    def _validate(self, network: Network, held_out: "Samples") -> bool:
        e = self._estimator
        score = e._score(network.predict_proba(held_out.X), held_out.y, held_out.weight)
        self._say(f"Validation score: {score:.6f}")
        e.validation_scores_.append(score)
        before = e.best_validation_score_
        if score > before:
            e.best_validation_score_, e._best_weights = score, network.get_weights()
        return bool(score >= before + e.tol)

    def _ends(self) -> bool:
        e = self._estimator
        what = "Training loss" if self._validation is None else "Validation score"
        words = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        rate = e.learning_rate_init * self._run.rate_factor
        if e.solver == "adam" or e.learning_rate != "adaptive":
            self._say(f"{words} Stopping.")
            return True
        if rate <= _SLOWEST_RATE:
            self._say(f"{words} Learning rate too small. Stopping.")
            return True
        self._run.rate_factor /= 5
        e._no_improvement_count = 0
        self._say(f"{words} Setting learning rate to {rate / 5:f}")
        return False

    def _say(self, words: str) -> None:
        if self._estimator.verbose:
            print(words)


def warn_of_convergence(words: str) -> None:
    """Point at the line that called `fit`, but in scikit-learn's name, by which scripts silence this warning."""
    caller = sys._getframe(4)
    registry = globals().setdefault("__warningregistry__", {})
    where = (caller.f_code.co_filename, caller.f_lineno, "sklearn.neural_network")
    warnings.warn_explicit(words, ConvergenceWarning, *where, registry)
