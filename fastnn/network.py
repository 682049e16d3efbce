"""The network: its layers and parameters, and what one does with it.

What trains and evaluates is imported where it is used, because it brings scipy along: `import fastnn` stays light.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arguments import (
    check_count,
    check_dropout,
    check_dtype,
    check_finite,
    check_hidden,
    check_precision,
    check_seed,
    check_sizes,
    check_task,
    check_validation_data,
)
from fastnn.backends import resolve_backend
from fastnn.choices import check_choice
from fastnn.errors import BackendError, DataError, DeviceMemoryError
from fastnn.history import History
from fastnn.initializers import Initializer, as_initializer
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL, REGRESSION
from fastnn.operations import ACTIVATIONS, Optimizer, as_optimizer, check_loss, output_activations
from fastnn.parameters import count_biases, count_weights, split_parameters
from fastnn.schedules import Schedule, as_schedule
from fastnn.threads import resolve_threads

if TYPE_CHECKING:
    from fastnn.callbacks import Callback
    from fastnn.runs import TrainingState
    from fastnn.step import Layers

__all__ = ["Network"]


class Network:
    """A feed-forward network, trained by mini-batch back-propagation on the backend it belongs to.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden units layer by layer, outputs; at least two numbers.
    hidden : str or sequence of str
        Activation of the hidden layers, one name for all or one each: identity, relu, leaky_relu, sigmoid, tanh, gelu.
    output : {"softmax", "sigmoid", "identity", "exp"}
    bias : bool
    init : str or callable
        he, xavier, lecun, ``"uniform(low, high)"``, ``"normal(std)"``, or a function; see `fastnn.initializers`.
    dropout : float or sequence of float
        Share of units dropped in training: one number for all hidden layers, or one a layer beginning with the inputs.
    seed : int or None
        Of weights, sample order and dropout; None draws one.
    dtype : {"float32", "float64"}
    precision : {None, "bf16", "tf32"}
        Of the operands of matrix products, where the backend has that on this machine; weights, sums and all else stay
        float32. None: as `dtype`.
    scale, shift : float
        The network sees ``x * scale + shift``. Without `scale`, pixels are scaled by 1/255 and all else by 1. Pixels
        are uint8, and other integers from 0 to 255 if one of them is at least 128; for a network that was trained on
        pixels, all integers from 0 to 255. Floats are never taken for pixels.
    task : {"classification", "multilabel", "regression"} or None
        What the targets mean. None: what they look like in the first call of `fit`; rows of 0 and 1 with a single 1
        each are then classes, rows of 0 and 1 otherwise several labels.
    backend : str or None
        numpy, numba, cupy, auto; by default what `use_backend`, `set_backend` or FASTNN_BACKEND say.
    threads : int or None
        CPU threads; by default FASTNN_NUM_THREADS, or the cores this process may use.

    Attributes
    ----------
    history : History or None
        Of the last call of `fit`, also when that was interrupted.
    epochs_trained : int
        Sample order and dropout masks of an epoch depend on the seed and this number alone.
    loss : str or None
        Of the last call of `fit`.
    pixels : bool
        Whether it was trained on pixels.
    largest_input : float
        The largest magnitude of the samples of the first call of `fit`, after scaling; 0 before. Samples that are far
        larger get a warning.

    Raises
    ------
    ValueError
        If a parameter is not one of those above.
    BackendError
        If the backend asked for is unknown or not ready, or has not the precision asked for.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> net = fastnn.Network([2, 8, 2], seed=1, backend="numpy")
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    >>> history = net.fit(x, [0, 1, 1, 0], epochs=500, batch_size=4, optimizer="adam(0.02)")
    >>> net.predict(x)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        hidden: str | Sequence[str] = "relu",
        output: str = "softmax",
        bias: bool = True,
        init: str | Initializer = "he",
        dropout: float | Sequence[float] = 0.0,
        seed: int | None = 0,
        dtype: Any = "float32",
        precision: str | None = None,
        scale: float | None = None,
        shift: float = 0.0,
        task: str | None = None,
        backend: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.sizes = check_sizes(sizes)
        n_hidden = len(self.sizes) - 2
        self.hidden = check_hidden(hidden, n_hidden)
        self.output = check_choice("output activation", output, output_activations())
        if output == "softmax" and self.sizes[-1] == 1:
            raise ValueError("softmax over one output is always 1: use output='sigmoid', or two outputs")
        self.bias = bool(bias)
        self.dropout = check_dropout(dropout, n_hidden + 1)
        self.seed = check_seed(seed)
        self.dtype = check_dtype(dtype)
        self.scale = None if scale is None else check_finite("scale", scale)
        self.shift = check_finite("shift", shift)
        self.threads, self._threads_asked = resolve_threads(threads), threads is not None
        self.decided_task = check_task(task, output)
        self.loss: str | None = None
        self.pixels, self.largest_input = False, 0.0
        self.history: History | None = None
        self.epochs_trained = 0
        self._precision: str | None = None
        self._use(resolve_backend(backend, self.sizes), self._draw_parameters(as_initializer(init)))
        self.precision = precision

    # ---- training ----

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 5,
        batch_size: int = 64,
        loss: str | None = None,
        optimizer: str | Optimizer = "sgd",
        schedule: str | Schedule | None = None,
        validation_data: tuple | None = None,
        sample_weight: Any = None,
        shuffle: bool = True,
        callbacks: "Iterable[Callback | Callable[[Network, History], Any]]" = (),
        resume: "str | Path | TrainingState | None" = None,
        verbose: bool | str = "auto",
    ) -> History:
        """Train by mini-batch back-propagation, from the weights as they are.

        Parameters
        ----------
        x : array_like, (n, n_features) or (n, height, width)
            uint8, float32 and float64 arrays in C order are used where they lie, without a copy; those of PyTorch, JAX
            and CuPy too (by DLPack), also on a device where the backend computes. Matrices of scipy.sparse are made
            dense a few mini-batches at a time.
        y : array_like
            ``(n,)`` integer labels, or ``(n, n_outputs)`` one-hot or real targets; ``(n,)`` targets for one output.
        epochs : int
            Of the whole run, where one is resumed too.
        batch_size : int
            The last mini-batch of an epoch may be smaller, and is averaged over its own samples.
        loss : {"cross_entropy", "binary_cross_entropy", "quadratic", "poisson"} or None
            A sum over outputs, a mean over samples; None: the one that belongs to the output.
        optimizer : str or Optimizer
            ``fastnn.SGD(0.1, momentum=0.9)``, ``"adam"``, ``"sgd(0.05)"``. Its state begins anew with every call,
            unless the call resumes a run.
        schedule : str, callable or None
            Factor on the learning rate; see `fastnn.schedules`.
        validation_data : (x, y) or (x, y, sample_weight)
        sample_weight : array_like, (n,)
            Weight 2 counts as the sample given twice.
        shuffle : bool
        callbacks : iterable of callable
            Called as ``callback(network, history)`` after every epoch; training ends where one returns True. See
            `fastnn.callbacks` for those that there are, and for one's own.
        resume : str, Path, TrainingState or None
            A file that `Checkpoint` wrote: go on from there, with the same arguments, as if the run had never been
            stopped; to the last bit on the same backend and machine. `epochs` may be more than they were.
        verbose : bool or "auto"
            Progress on stderr; auto: if that is a terminal.

        Returns
        -------
        History

        Raises
        ------
        DataError
            If the data do not fit the network; before anything is changed.
        FileFormatError, OSError
            If `resume` cannot be read.
        ValueError
            If another argument is wrong, or not as it was in the run that is resumed; before anything is changed.
        DivergedError
            If the loss becomes NaN or infinite; the weights from before that epoch are kept.
        KeyboardInterrupt
            On Ctrl-C; the weights are those of the last mini-batch and `history` has the epoch so far.
        """
        from fastnn.callbacks import as_callbacks
        from fastnn.evaluation import Evaluator
        from fastnn.runs import Run
        from fastnn.storage import load_state
        from fastnn.workspace import Workspace

        epochs = check_count("epochs", epochs, least=0)
        batch_size = check_count("batch_size", batch_size)
        loss, optimizer = check_loss(loss, self.output), as_optimizer(optimizer)
        state = load_state(resume) if isinstance(resume, str | Path) else resume
        space = Workspace(
            self,
            x,
            y,
            batch_size,
            loss=loss,
            sample_weight=sample_weight,
            optimizer=optimizer,
            training=True,
        )
        validate = None
        if validation_data is not None:
            try:
                validate = Evaluator(self, *check_validation_data(validation_data), loss=loss, task=space.task)
            except DataError as error:
                raise DataError(f"validation data: {error}") from None
        run = Run(
            space,
            optimizer,
            as_schedule(schedule),
            loss=loss,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            validate=validate,
            callbacks=as_callbacks(callbacks),
            verbose=verbose,
        )
        if state is not None:
            run.resume(state)
        return run.train()

    def gradients(
        self, x: Any, y: Any, *, loss: str | None = None, sample_weight: Any = None, dropout: int | None = None
    ) -> tuple[float, list[tuple[np.ndarray, np.ndarray | None]]]:
        """Loss over all of `x` and its gradient, for people who write their own loop.

        Parameters
        ----------
        x, y, loss, sample_weight
            As in `fit`.
        dropout : int or None
            Number of the dropout masks to apply, one's own count of steps; None: no dropout.

        Returns
        -------
        loss : float
        gradients : list of (dW, db)
            Like `get_weights`.
        """
        from fastnn.training import gradients
        from fastnn.workspace import Workspace

        step = 0 if dropout is None else check_count("dropout", dropout, least=0)
        space = Workspace(
            self,
            x,
            y,
            np.iinfo(np.int64).max,
            loss=check_loss(loss, self.output),
            sample_weight=sample_weight,
            training=True,
            dropout=dropout is not None,
        )
        return gradients(space, step)

    # ---- answers ----

    def predict_proba(self, x: Any) -> Any:
        """Outputs for samples `x`, ``(n, n_outputs)`` of the network's dtype; with softmax or sigmoid probabilities.

        For samples of PyTorch, JAX or CuPy the outputs are an array of that library, on the same device.
        """
        from fastnn.evaluation import outputs

        return outputs(self, x)

    def predict(self, x: Any) -> Any:
        """Answers for samples `x`.

        Returns
        -------
        numpy.ndarray, or an array of the library that `x` is from
            ``(n,)`` int64 labels; for multi-label tasks ``(n, n_outputs)`` int64 of 0 and 1, for regression the
            outputs, both ``(n,)`` where there is one output. Which it is follows from the targets seen in training,
            and before that from the output activation.
        """
        from fastnn.evaluation import answers

        return answers(self, x)

    def evaluate(self, x: Any, y: Any, *, loss: str | None = None, sample_weight: Any = None) -> dict[str, float]:
        """Mean loss and accuracy (NaN for regression) over samples `x` with labels or targets `y`.

        The loss is that of the last call of `fit`, unless one is named.
        """
        from fastnn.evaluation import Evaluator

        loss = check_loss(self.loss if loss is None else loss, self.output)
        value, accuracy = Evaluator(self, x, y, sample_weight, loss=loss)()
        return {"loss": value, "accuracy": accuracy}

    # ---- parameters ----

    @property
    def n_parameters(self) -> int:
        """Weights and biases together."""
        return int(self.parameters.size)

    def get_weights(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Copies of all ``(W (n_in, n_out), b (n_out,))``, layer by layer; b is None without biases."""
        copies = ((self.kernels.to_numpy(W).copy(), self.kernels.to_numpy(b).copy()) for W, b in self._pairs())
        return [(W, b if self.bias else None) for W, b in copies]

    def set_weights(self, weights: Sequence[tuple[Any, Any]]) -> None:
        """Take copies of all ``(W, b)``, layer by layer, b None without biases.

        Raises
        ------
        DataError
            If number or shapes do not fit, or a value is not finite; then nothing is changed.
        """
        flat = np.empty(self.n_parameters, self.dtype)
        pairs = list(zip(*split_parameters(flat, self.sizes, self.bias), strict=True))
        if len(weights) != len(pairs):
            raise DataError(f"expected (W, b) for {len(pairs)} layers, got {len(weights)}")
        for i, ((W, b), (new_W, new_b)) in enumerate(zip(pairs, weights, strict=True), start=1):
            if (new_b is not None) != self.bias:
                raise DataError(
                    f"layer {i}: b must be {'an array' if self.bias else 'None'} in a network with bias={self.bias}"
                )
            for name, array, values in (("W", W, new_W), ("b", b, new_b if self.bias else b)):
                values = np.asarray(values)
                if values.shape != array.shape:
                    raise DataError(f"layer {i}: expected {name} of shape {array.shape}, got {values.shape}")
                array[...] = values
        if not np.isfinite(flat).all():
            raise DataError("weights must be finite: there is a NaN or an infinity among them")
        self.parameters[...] = self.kernels.asarray(flat)

    @property
    def task(self) -> int:
        """What the targets mean: decided by the first training, until then what the output activation suggests."""
        if self.decided_task is not None:
            return self.decided_task
        if self.output == "identity":
            return REGRESSION
        return MULTILABEL if self.output == "sigmoid" and self.sizes[-1] == 1 else CLASSIFICATION

    def learn_conventions(self, task: int, loss: str, pixels: bool, largest_input: float) -> None:
        """Keep what training has decided about data: the task and the kind of inputs once and for all."""
        self.decided_task, self.loss = task, loss
        self.pixels = self.pixels or pixels
        self.largest_input = self.largest_input or largest_input

    @property
    def precision(self) -> str | None:
        """Of matrix products; may be set at any time."""
        return self._precision

    @precision.setter
    def precision(self, precision: str | None) -> None:
        precision = check_precision(precision, self.dtype)
        _check_available(precision, self.backend_choice)
        self._precision = precision

    def to(self, backend: str) -> "Network":
        """Move to another backend, in place; returns the network itself."""
        self._use(resolve_backend(backend, self.sizes), self.kernels.to_numpy(self.parameters))
        return self

    def save(self, path: str | Path) -> None:
        """Write weights, configuration and history, atomically: to ``.npz`` if `path` ends so, else as safetensors.

        `fastnn.load` reads both; for other formats see `fastnn.interchange`.
        """
        from fastnn.storage import save

        save(self, path)

    def __repr__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        hidden = ", ".join(dict.fromkeys(self.hidden)) or "no hidden layer"
        return (
            f"Network({layers}: {hidden}, {self.output}; {self.n_parameters:,} parameters, {self.dtype.name}, "
            f"{f'{self.precision}, ' if self.precision else ''}{self.backend})"
        )

    def _repr_html_(self) -> str:
        from fastnn.notebook_html import network_html

        return network_html(self)

    def __getstate__(self) -> dict[str, Any]:
        """For other processes: the parameters as numpy's, without what belongs to this process.

        A backend that auto chose, and threads that nobody asked for, are chosen anew there.
        """
        state = self._without_process()
        if self.backend_choice.origin.startswith("auto"):
            state["backend"] = "auto"
        if not self._threads_asked:
            del state["threads"]
        return state | {"parameters": self.kernels.to_numpy(self.parameters).copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        parameters = state.pop("parameters")
        vars(self).update({"threads": None} | state)
        self.threads = resolve_threads(self.threads)
        self._use(resolve_backend(self.backend, self.sizes), parameters)

    def __copy__(self) -> "Network":
        """In this process, and so on the same backend with as many threads; parameters of its own."""
        twin = object.__new__(type(self))
        vars(twin).update(self._without_process())
        twin._use(self.backend_choice, self.kernels.to_numpy(self.parameters))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        twin = memo[id(self)] = copy.copy(self)
        vars(twin).update(copy.deepcopy(self._without_process(), memo))
        return twin

    def _without_process(self) -> dict[str, Any]:
        own = ("kernels", "backend_choice", "parameters", "_weights", "_biases")
        return {name: value for name, value in vars(self).items() if name not in own}

    # ---- for the rest of the library ----

    def configuration(self) -> dict[str, Any]:
        """What makes the network besides its weights, as plain values."""
        names = ("sizes", "hidden", "output", "bias", "dropout", "seed", "scale", "shift")
        values = {name: getattr(self, name) for name in names}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return plain | {"dtype": self.dtype.name}

    def layers(self, training: bool) -> "Layers":
        """The network as `fastnn.step` sees it."""
        from fastnn.step import Layers

        load, records = self.kernels.load_activation, (ACTIVATIONS[name] for name in (*self.hidden, self.output))
        dropout = self.dropout if training else (0.0,) * len(self.dropout)
        return Layers(self._weights, self._biases, tuple(load(one, self.dtype) for one in records), dropout)

    def generator(self, purpose: str, number: int = 0) -> np.random.Generator:
        """A generator for "weights" or the "order" of an epoch: a function of the seed, the purpose and the number."""
        return np.random.default_rng(self._seed_sequence(purpose, number))

    def dropout_stream(self, epoch: int) -> np.ndarray:
        """(3,) uint32: the key of the dropout masks, and the epoch."""
        key = self._seed_sequence("dropout", 0).generate_state(2, np.uint32)
        return np.array([*key, epoch], dtype=np.uint32)

    def _seed_sequence(self, purpose: str, number: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self.seed, spawn_key=(("weights", "order", "dropout").index(purpose), number))

    def _draw_parameters(self, initializer: Initializer) -> np.ndarray:
        n = count_weights(self.sizes) + (count_biases(self.sizes) if self.bias else 0)
        generator = self.generator("weights")
        try:
            if n * self.dtype.itemsize > sys.maxsize:
                raise MemoryError
            flat = np.zeros(n, self.dtype)
            for W in split_parameters(flat, self.sizes, self.bias)[0]:
                W[...] = initializer(generator, *W.shape)
        except MemoryError as error:
            raise DeviceMemoryError(
                f"a network of {n:,} parameters needs {n * self.dtype.itemsize:,} bytes, for which there is no memory: "
                f"make its layers {list(self.sizes)} smaller"
            ) from error
        return flat

    def _use(self, choice: Any, parameters: np.ndarray) -> None:
        _check_available(self._precision, choice)
        self.backend, self.kernels = choice.name, choice.kernels
        self.backend_choice = choice
        self.parameters = self.kernels.zeros(parameters.shape, parameters.dtype)
        self.parameters[...] = self.kernels.asarray(parameters)
        self._weights, self._biases = split_parameters(self.parameters, self.sizes, self.bias)

    def _pairs(self) -> Iterable[tuple[Any, Any]]:
        return zip(self._weights, self._biases, strict=True)


def _check_available(precision: str | None, choice: Any) -> None:
    there = choice.kernels.precisions()
    if precision is not None and precision not in there:
        others = f"only {' and '.join(there)}" if there else "no reduced precision"
        raise BackendError(f"precision={precision!r}: backend {choice.name} has {others} on this machine")
