"""The two estimators: what they know of targets and of what outputs mean."""

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.preprocessing import LabelEncoder
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from fastnn.sklearn.estimators import MLPEstimator, dense, stochastic
from fastnn.sklearn.parameters import Array, Samples, Validation

__all__ = ["MLPClassifier", "MLPRegressor"]


@dataclass(eq=False, repr=False)
class MLPClassifier(ClassifierMixin, MLPEstimator):
    """Multi-layer perceptron for two or more classes, or for several labels a sample.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As for `sklearn.neural_network.MLPClassifier`, .
    backend : str or None
        numpy, numba, cupy, auto; None: what `fastnn.use_backend`, FASTNN_BACKEND and so on say, else auto.
    threads : int or None
        CPU threads; None: FASTNN_NUM_THREADS, else OMP_NUM_THREADS (by which joblib gives each of its processes a
        share), else as many as there are cores.
    dtype : {"float32", "float64"} or None
        Of weights and arithmetic; None: float32 for samples of that dtype, else float64, as scikit-learn. "float32" is
        faster. With solver="lbfgs" the line search sees losses rounded to it.
    dropout : float or sequence of float
        Share of units dropped in training; see `fastnn.Network`.
    class_weight : dict, list of dict, "balanced" or None
        Multiplies the weights of the samples in the loss, not in scores; see
        `sklearn.utils.class_weight.compute_sample_weight`.
    clip_norm : float or None
        The gradient's norm is limited to this; see `fastnn.Adam`.
    augment : fastnn.Deform, str, callable or None
        Change the samples at random whenever they are used; see `fastnn.Network.fit`.

    Attributes
    ----------
    classes_ : numpy.ndarray, (n_classes,)
        Sorted; for multi-label targets the numbers of the columns.
    network_ : fastnn.Network
    history_ : fastnn.History
        Of the last run of sgd or adam.
    loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, t_, n_iter_, coefs_, intercepts_, \
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As for `sklearn.neural_network.MLPClassifier`.

    Examples
    --------
    >>> import fastnn
    >>> data = fastnn.datasets.load("digits")
    >>> x, y = data.x_train[:2000].reshape(-1, 784) / 255, data.y_train[:2000]
    >>> clf = MLPClassifier((32,), learning_rate_init=0.01, early_stopping=True, random_state=0, backend="numpy")
    >>> clf.fit(x, y).score(data.x_test.reshape(-1, 784) / 255, data.y_test) > 0.85
    True
    """

    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"
    class_weight: Any = field(default=None, kw_only=True)

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Validation = None) -> Self:
        """Train until nothing gets better, or for `max_iter` epochs.

        Parameters
        ----------
        X : {array_like, sparse matrix}, (n, n_features)
            Taken as it is: uint8 stays uint8, and is not scaled.
        y : array_like, (n,) or (n, n_labels)
            Labels of any type that can be sorted; or 0 and 1 for several labels a sample.
        sample_weight : array_like, (n,), or None
        validation_data : (X, y), (X, y, sample_weight) or None
            `history_` then has loss and accuracy on them, and early stopping uses them, in place of a share of `X`.

        Returns
        -------
        MLPClassifier
            Itself.

        Raises
        ------
        ValueError
            If a parameter or the data are not as they should be, or the weights become infinite.
        BackendError
            If the backend asked for is not ready.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @stochastic
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on these data, going on with the optimizer's state.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array_like, (n_classes,), or None
            All that there will ever be; needed by the first call, where labels are not given in columns.
        """
        if classes is None and not hasattr(self, "network_") and not type_of_target(y).startswith("multilabel"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def predict(self, X: Any) -> Array:
        """The classes of samples, ``(n,)``, or ``(n, n_labels)`` int64 of 0 and 1."""
        labels = self._decide(self._outputs(X))
        return labels if self._is_multilabel else self.classes_[labels]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities ``(n, n_classes)`` in the order of `classes_`, of the network's dtype."""
        outputs = self._outputs(X)
        return outputs if outputs.shape[1] > 1 or self._is_multilabel else np.hstack([1 - outputs, outputs])

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of `predict_proba`; minus infinity for a probability of 0."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _check_parameters(self, has_validation_data: bool, incremental: bool) -> None:
        super()._check_parameters(has_validation_data, incremental)
        if incremental and self.class_weight == "balanced":
            raise ValueError("partial_fit knows no class_weight='balanced', it sees a part of the data: give a dict")

    def _check_targets(self, y: Any, fresh: bool, classes: Any) -> Array:
        check_classification_targets(y)
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise ValueError("several labels a sample must be given as columns of 0 and 1, got others")
        is_multilabel = kind.startswith("multilabel")
        if fresh:
            known = np.arange(y.shape[1]) if is_multilabel else y if classes is None else classes
            self._encoder = LabelEncoder().fit(known)
            self.classes_ = self._encoder.classes_
            self._is_multilabel = is_multilabel
            binary = not is_multilabel and len(self.classes_) <= 2
            self.n_outputs_ = 1 if binary else len(self.classes_)
            self.out_activation_ = "logistic" if binary or is_multilabel else "softmax"
        if is_multilabel != self._is_multilabel:
            raise ValueError("y must be as it was before: either labels, or columns of 0 and 1")
        if classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError(f"classes={classes!r} is not what it was before: {self.classes_}")
        return dense(y).astype(np.float32) if is_multilabel else self._encoder.transform(y)

    def _weigh(self, samples: Samples) -> Samples:
        if self.class_weight is None:
            return samples
        labels = samples.y if self._is_multilabel else self.classes_[samples.y]
        weight = compute_sample_weight(self.class_weight, labels)
        return samples._replace(weight=weight if samples.weight is None else weight * samples.weight)

    @property
    def _stratify(self) -> bool:
        return self.n_outputs_ == 1

    def _decide(self, outputs: Array) -> Array:
        """The number of the class, or for several labels 0 and 1."""
        if self.n_outputs_ > 1 and not self._is_multilabel:
            return np.argmax(outputs, axis=1)
        labels = (outputs > 0.5).astype(np.int64)
        return labels if self._is_multilabel else np.minimum(labels[:, 0], len(self.classes_) - 1)

    def _score(self, outputs: Array, y: Array, weight: Array | None) -> float:
        return float(accuracy_score(y, self._decide(outputs), sample_weight=weight))


_OUTPUTS = {"squared_error": "identity", "poisson": "exp"}  # by the regressor's loss


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, MLPEstimator):
    """Multi-layer perceptron for one or more real targets.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}
        Half of the squared error, or of the Poisson deviance with an exponential output, for targets >= 0.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
    shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
    validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As for `sklearn.neural_network.MLPRegressor`.
    backend, threads, dtype, dropout, clip_norm, augment
        As for `MLPClassifier`.

    Attributes
    ----------
    network_ : fastnn.Network
    history_ : fastnn.History
        Of the last run of sgd or adam. Its losses are sums over outputs.
    loss_, best_loss_, loss_curve_, validation_scores_, best_validation_score_, t_, n_iter_, coefs_, intercepts_, \
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As for `sklearn.neural_network.MLPRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(-3, 3, 200)[:, None]
    >>> regressor = MLPRegressor(hidden_layer_sizes=(20,), activation="tanh", solver="lbfgs", random_state=0,
    ...                          backend="numpy")
    >>> round(regressor.fit(x, np.sin(x[:, 0])).score(x, np.sin(x[:, 0])), 2)
    1.0
    """

    loss: str = "squared_error"
    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"

    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Validation = None) -> Self:
        """Train until nothing gets better, or for `max_iter` epochs; as `MLPClassifier.fit`.

        `y` is ``(n,)`` or ``(n, n_outputs)``, of real numbers.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @stochastic
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these data, going on with the optimizer's state."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """Targets ``(n,)`` or ``(n, n_outputs)`` of the network's dtype."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _check_parameters(self, has_validation_data: bool, incremental: bool) -> None:
        super()._check_parameters(has_validation_data, incremental)
        if self.loss not in _OUTPUTS:
            raise ValueError(f"loss must be one of {', '.join(map(repr, _OUTPUTS))}, got {self.loss!r}")

    def _check_targets(self, y: Any, fresh: bool, classes: Any) -> Array:
        if fresh:
            self.n_outputs_ = 1 if y.ndim == 1 else y.shape[1]
            self.out_activation_ = _OUTPUTS[self.loss]
        return np.asarray(y)

    @property
    def _loss_factor(self) -> float:
        return 1 / self.n_outputs_ if self.loss == "squared_error" else 1.0

    def _score(self, outputs: Array, y: Array, weight: Array | None) -> float:
        return float(r2_score(y, outputs, sample_weight=weight))
