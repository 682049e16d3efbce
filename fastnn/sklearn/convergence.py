"""What scikit-learn's perceptrons do after every epoch: keep a record, change the learning rate, and end at last."""

import sys
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fastnn.callbacks import Callback, Run
from fastnn.history import History
from fastnn.model import Model
from fastnn.sklearn.parameters import MLPBase, Samples

__all__ = ["Progress", "warn_of_convergence"]

_SLOWEST_RATE = 1e-6  # where an adaptive learning rate ends


class Progress(Callback):
    """After every epoch: scikit-learn's attributes, its learning rates, and its rule for when to end (`has_ended`)."""

    def __init__(
        self, estimator: MLPBase, samples: Samples, batch_size: int, decay: float, validation: Samples | None
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
        self._penalty = e._penalty(self._decay)

    def __call__(self, network: Model, history: History) -> bool:
        e = self._estimator
        e.n_iter_ += 1
        e.t_ += self._n
        first, self._penalty = self._penalty, e._penalty(self._decay)
        # before each mini-batch of the epoch, if the weights went straight from the first to the last
        mean_penalty = first + (self._penalty - first) * (self._steps - 1) / (2 * self._steps)
        e.loss_ = e._loss_factor * history.loss[-1] + mean_penalty
        e.loss_curve_.append(e.loss_)
        e._say(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
        e._no_improvement_count = 0 if self._improved() else e._no_improvement_count + 1
        if e.solver == "sgd" and e.learning_rate == "invscaling":
            self._run.rate_factor = (e.t_ + 1) ** -e.power_t
        self.has_ended = e._no_improvement_count > e.n_iter_no_change and self._ends()
        return self.has_ended

    def end(self, run: Run) -> None:
        self._estimator._state = (self._estimator.solver, run.state())

    def _improved(self) -> bool:
        """Enter the best loss or score, and say whether it is better by `tol`."""
        e, held_out = self._estimator, self._validation
        if held_out is None:
            assert e.best_loss_ is not None
            before, e.best_loss_ = e.best_loss_, min(e.best_loss_, e.loss_)
            return bool(e.loss_ <= before - e.tol)
        assert e.validation_scores_ is not None
        assert e.best_validation_score_ is not None
        before = e.best_validation_score_
        score = e._score(e.network_.predict_proba(held_out.X), held_out.y, held_out.weight)
        e._say(f"Validation score: {score:.6f}")
        e.validation_scores_.append(score)
        if score > before:
            e.best_validation_score_, e._best_weights = score, e.network_.get_weights()
        return bool(score >= before + e.tol)

    def _ends(self) -> bool:
        """Whether nothing more is to be tried; an adaptive learning rate is lowered first."""
        e = self._estimator
        what = "Training loss" if self._validation is None else "Validation score"
        words = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        rate = e.learning_rate_init * self._run.rate_factor
        adaptive = e.solver == "sgd" and e.learning_rate == "adaptive"
        if adaptive and rate > _SLOWEST_RATE:
            self._run.rate_factor /= 5
            e._no_improvement_count = 0
            e._say(f"{words} Setting learning rate to {rate / 5:f}")
            return False
        e._say(f"{words}{' Learning rate too small.' if adaptive else ''} Stopping.")
        return True


def warn_of_convergence(words: str) -> None:
    """Point at the line that called `fit`, but in scikit-learn's name, by which scripts silence this warning."""
    caller = sys._getframe(4)
    registry = globals().setdefault("__warningregistry__", {})
    where = (caller.f_code.co_filename, caller.f_lineno, "sklearn.neural_network")
    warnings.warn_explicit(words, ConvergenceWarning, *where, registry)
