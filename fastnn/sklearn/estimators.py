"""What scikit-learn's two multi-layer perceptrons have in common, on a `fastnn.Network`; see `fastnn.sklearn`.

Parameters, attributes and the rules by which training ends are scikit-learn's, so that changing an import is enough.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar, cast

import numpy as np
from sklearn.base import is_regressor
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn.arguments import check_dtype, check_sizes, check_validation_data
from fastnn.errors import DivergedError
from fastnn.history import History
from fastnn.network import Network
from fastnn.operations.optimizers import SGD, Adam, Optimizer
from fastnn.samples import as_sample_weight
from fastnn.sklearn.convergence import Progress, warn_of_convergence
from fastnn.sklearn.lbfgs import minimize
from fastnn.sklearn.parameters import Array, MLPBase, Samples
from fastnn.training_state import TrainingState

__all__ = ["MLPEstimator", "dense", "stochastic"]

_LARGEST_MOMENTUM = float(np.nextafter(1, 0))  # scikit-learn takes 1; over a run nothing shows the difference
_ACTIVATIONS = {"logistic": "sigmoid"}  # other names are the same


class MLPEstimator(MLPBase):
    """Training, for subclasses that know what targets and outputs mean."""

    # ---- fitted attributes that are the network's ----

    @property
    def coefs_(self) -> "LayerArrays":
        """Weights ``(n_in, n_out)`` of every layer: copies, to be read; setting one, or all, sets the network's."""
        return LayerArrays([W for W, _ in self.network_.get_weights()], partial(setattr, self, "coefs_"))

    @coefs_.setter
    def coefs_(self, coefs: Sequence[Any]) -> None:
        self.network_.set_weights(list(zip(coefs, self.intercepts_, strict=True)))

    @property
    def intercepts_(self) -> "LayerArrays":
        """Biases ``(n_out,)`` of every layer, likewise."""
        return LayerArrays([b for _, b in self.network_.get_weights()], partial(setattr, self, "intercepts_"))

    @intercepts_.setter
    def intercepts_(self, intercepts: Sequence[Any]) -> None:
        self.network_.set_weights(list(zip(self.coefs_, intercepts, strict=True)))

    @property
    def n_layers_(self) -> int:
        """Layers, the inputs counted too."""
        return len(self.network_.sizes)

    @property
    def history_(self) -> History | None:
        """Of the last run of sgd or adam."""
        return self.network_.history

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ---- training ----

    def _is_stochastic(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit needs solver='sgd' or 'adam': lbfgs goes through all samples at once")
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation_data: Any = None,
        incremental: bool = False,
        classes: Any = None,
    ) -> Self:
        self._check_parameters(validation_data is not None, incremental)
        fresh = not hasattr(self, "network_") or not (self.warm_start or incremental)
        samples = self._check_samples(X, y, sample_weight, fresh, classes)
        random = check_random_state(self.random_state)
        layers = self.hidden_layer_sizes
        hidden = layers if isinstance(layers, Iterable) else [layers]
        sizes = check_sizes((samples.X.shape[1], *hidden, self.n_outputs_))
        weights = _draw_weights(sizes, self.activation, random) if fresh else []
        training, validation = self._split(samples, validation_data, random)
        if fresh:
            self._begin(sizes, weights, random, samples.X.dtype)
        elif self.network_.sizes != sizes:
            made, asked = ("-".join(map(str, layers)) for layers in (self.network_.sizes, sizes))
            raise ValueError(f"cannot go on with a network {made} as {asked}: call fit with warm_start=False")
        training = self._weigh(training)
        as_sample_weight(training.weight, training.X.shape[0], np.dtype(np.float64))  # a split may have left only zeros
        try:
            if self.solver == "lbfgs":
                self._fit_lbfgs(training)
            else:
                self._fit_stochastic(training, validation, incremental)
        except DivergedError as error:  # scikit-learn's type of error
            raise ValueError(f"Solver produced non-finite parameter weights: {error}") from error
        return self

    def _check_parameters(self, has_validation_data: bool, incremental: bool) -> None:
        self._validate_params()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver == "lbfgs":
            given = ["dropout"] * bool(np.any(self.dropout)) + ["clip_norm"] * (self.clip_norm is not None)
            given += ["augment"] * (self.augment is not None)
            given += ["validation_data"] * has_validation_data
            if given:
                raise ValueError(f"solver='lbfgs' takes no {', '.join(given)}: use 'adam' or 'sgd'")

    def _check_samples(self, X: Any, y: Any, sample_weight: Any, fresh: bool = False, classes: Any = None) -> Samples:
        numeric = is_regressor(self)
        X, y = validate_data(self, X, y, reset=fresh, multi_output=True, y_numeric=numeric, **self._accepted())
        weight = None if sample_weight is None else as_sample_weight(sample_weight, X.shape[0], np.dtype(np.float64))
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return Samples(X, self._check_targets(y, fresh, classes), weight)

    def _accepted(self) -> dict[str, Any]:
        """For `validate_data`: what is one of these types stays as it is, everything else becomes the first."""
        wanted = np.float64 if self.dtype is None else check_dtype(self.dtype)
        return {"accept_sparse": "csr", "dtype": (wanted, np.float64, np.float32, np.uint8)}

    def _split(self, samples: Samples, validation_data: Any, random: Any) -> tuple[Samples, Samples | None]:
        if validation_data is not None:
            try:
                return samples, self._check_samples(*(*check_validation_data(validation_data), None)[:3])
            except ValueError as error:
                raise ValueError(f"validation_data: {error}") from error
        if not self.early_stopping or self.solver == "lbfgs":
            return samples, None
        options = {"test_size": self.validation_fraction, "stratify": samples.y if self._stratify else None}
        index, held_out = train_test_split(np.arange(samples.X.shape[0]), random_state=random, **options)
        if len(held_out) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return samples.rows(index), samples.rows(held_out)

    def _begin(self, sizes: tuple[int, ...], weights: list[tuple[Array, Array]], random: Any, given: np.dtype) -> None:
        """A new network, and nothing learned so far."""
        self.network_ = Network(
            sizes,
            hidden=_ACTIVATIONS.get(self.activation, self.activation),
            output=_ACTIVATIONS.get(self.out_activation_, self.out_activation_),
            dropout=self.dropout,
            seed=int(random.randint(np.iinfo(np.int32).max)),
            dtype=self.dtype or ("float32" if given == np.float32 else "float64"),
            scale=1.0,
            task={"logistic": "multilabel", "identity": "regression"}.get(self.out_activation_),
            backend=self.backend,
            threads=self.threads,
        )
        self.network_.set_weights(weights)
        self.n_iter_ = self.t_ = 0
        self._state = None

    def _fit_stochastic(self, samples: Samples, validation: Samples | None, incremental: bool) -> None:
        network, n = self.network_, samples.X.shape[0]
        batch_size = self._batch_size(n)
        decay = self.alpha / (batch_size * (1.0 if samples.weight is None else float(samples.weight.mean())))
        progress = Progress(self, samples, batch_size, decay, validation)
        state = self._resumed() if incremental else None
        self.n_iter_ = 0
        try:
            network.fit(
                samples.X,
                samples.y,
                epochs=1 if incremental else self.max_iter,
                batch_size=batch_size,
                optimizer=self._optimizer(decay),
                validation_data=validation and tuple(validation),
                sample_weight=samples.weight,
                shuffle=self.shuffle,
                augment=self.augment,
                callbacks=[progress],
                resume=state,
                verbose=False,
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        else:
            if not incremental and not progress.has_ended:
                words = f"{self.solver} has come to max_iter={self.max_iter} epochs and still improves: raise max_iter"
                warn_of_convergence(words)
        if self.early_stopping and self._best_weights is not None:
            network.set_weights(self._best_weights)

    def _batch_size(self, n: int) -> int:
        if self.batch_size == "auto":
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(f"batch_size={self.batch_size} is more than the {n} samples, which it is now", stacklevel=5)
        return int(min(self.batch_size, n))

    def _optimizer(self, decay: float) -> Optimizer:
        common: dict[str, Any] = {"weight_decay": decay, "clip_norm": self.clip_norm}
        rate = self.learning_rate_init
        if self.solver == "adam":
            return Adam(rate, self.beta_1, self.beta_2, self.epsilon, **common)
        momentum = min(self.momentum, _LARGEST_MOMENTUM)
        return SGD(rate, momentum, nesterov=self.nesterovs_momentum and momentum > 0, **common)

    def _resumed(self) -> TrainingState | None:
        """Where the last run with this solver ended, with the weights as they are now, for data of any kind.

        Without its history: a call of `partial_fit` must not take longer, the more have been before it.
        """
        if self._state is None or self._state[0] != self.solver:
            return None
        state, network = self._state[1], self.network_
        arrays = state.arrays | {"parameters": network.kernels.to_numpy(network.parameters)}
        return replace(state, settings={}, stopped=False, history=History(), arrays=arrays)

    def _fit_lbfgs(self, samples: Samples) -> None:
        decay = self.alpha / (samples.X.shape[0] if samples.weight is None else float(samples.weight.sum()))
        self.n_iter_ = 0

        def show(loss: float) -> None:
            self.n_iter_ += 1
            self._say(f"Iteration {self.n_iter_}, loss = {loss:.8f}")

        loss, complaint = minimize(
            self.network_,
            samples.X,
            samples.y,
            sample_weight=samples.weight,
            weight_decay=decay,
            iterations=self.max_iter,
            evaluations=self.max_fun,
            tolerance=self.tol,
            callback=show,
        )
        penalty = self._penalty(decay)
        self.loss_ = self._loss_factor * (loss - penalty) + penalty
        if complaint:
            warn_of_convergence(
                f"lbfgs ended before the gradient was below tol={self.tol} ({complaint}): raise max_iter, or scale "
                "the samples as sklearn.preprocessing does"
            )

    # ---- predictions ----

    def _outputs(self, X: Any) -> Array:
        check_is_fitted(self)
        outputs: Array = self.network_.predict_proba(validate_data(self, X, reset=False, **self._accepted()))
        return outputs


class LayerArrays(Sequence[Array]):
    """One read-only array a layer; setting an item sets the network's layer, and none can be added or removed."""

    def __init__(self, arrays: Iterable[Any], assign: Callable[[list[Any]], None]) -> None:
        self._arrays, self._assign = [_read_only(array) for array in arrays], assign

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, index: Any) -> Any:
        return self._arrays[index]

    def __setitem__(self, index: Any, array: Any) -> None:
        arrays = list(self._arrays)
        arrays[index] = array
        self._assign(arrays)
        self._arrays = [_read_only(np.array(array)) for array in arrays]

    def __repr__(self) -> str:
        return repr(self._arrays)


_Method = TypeVar("_Method", bound=Callable[..., Any])


def stochastic(method: _Method) -> _Method:
    """A method that is there only with a solver that takes mini-batches."""
    return cast(_Method, available_if(MLPEstimator._is_stochastic)(method))


def _draw_weights(sizes: tuple[int, ...], activation: str, random: Any) -> list[tuple[Array, Array]]:
    """What scikit-learn's networks begin with, drawn in its order: the same for the same `random_state`.

    References
    ----------
    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010, eq. 16.
    """
    weights = []
    for n_in, n_out in itertools.pairwise(sizes):
        limit = np.sqrt((2.0 if activation == "logistic" else 6.0) / (n_in + n_out))
        weights.append((random.uniform(-limit, limit, (n_in, n_out)), random.uniform(-limit, limit, n_out)))
    return weights


def dense(X: Any) -> Array:
    """A sparse matrix as an array."""
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X)


def _read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array
