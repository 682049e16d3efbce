"""What a network is: its layers and parameters, its seed, and the backend that it belongs to.

Training, predictions and files work on it; `fastnn.Network` adds them as methods.
"""

import copy
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fastnn.arguments import (
    check_dropout,
    check_dtype,
    check_finite,
    check_hidden,
    check_precision,
    check_seed,
    check_sizes,
    check_task,
)
from fastnn.backends import resolve_backend
from fastnn.choices import check_choice
from fastnn.errors import BackendError, DataError, DeviceMemoryError
from fastnn.history import History
from fastnn.initializers import Initializer, as_initializer
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL, REGRESSION
from fastnn.operations import ACTIVATIONS, output_activations
from fastnn.parameters import count_biases, count_weights, split_parameters
from fastnn.threads import resolve_threads

if TYPE_CHECKING:
    from fastnn.step import Layers

__all__ = ["Model"]


class Model:
    """The layers of a feed-forward network; see `fastnn.Network` for parameters and attributes."""

    _predictor: tuple[tuple[Any, ...], Any] | None

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

    def to(self, backend: str) -> Self:
        """Move to another backend, in place; returns the network itself."""
        self._use(resolve_backend(backend, self.sizes), self.kernels.to_numpy(self.parameters))
        return self

    def __repr__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        hidden = ", ".join(dict.fromkeys(self.hidden)) or "no hidden layer"
        return (
            f"Network({layers}: {hidden}, {self.output}; {self.n_parameters:,} parameters, {self.dtype.name}, "
            f"{f'{self.precision}, ' if self.precision else ''}{self.backend})"
        )

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

    def __copy__(self) -> Self:
        """In this process, and so on the same backend with as many threads; parameters of its own."""
        twin = object.__new__(type(self))
        vars(twin).update(self._without_process())
        twin._use(self.backend_choice, self.kernels.to_numpy(self.parameters))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = memo[id(self)] = copy.copy(self)
        vars(twin).update(copy.deepcopy(self._without_process(), memo))
        return twin

    def _without_process(self) -> dict[str, Any]:
        own = ("kernels", "backend_choice", "parameters", "_weights", "_biases", "_predictor")
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

    def predictor(self) -> Callable[[Any, float, float, Any], None] | None:
        """``predict(x, scale, shift, out)`` of the backend for this network, kept; None where the step has to do it.

        Only a backend's own: a module that has taken functions from another one, and replaced some, predicts by its
        kernels.
        """
        settings = self.kernels, self.precision, self.threads
        if self._predictor is None or self._predictor[0] != settings:
            make = getattr(self.kernels, "make_predictor", None)
            if make and make.__module__ != self.kernels.__name__.replace("_kernels", "_prediction"):
                make = None
            self._predictor = settings, make and make(self.layers(False), self.dtype, self.precision, self.threads)
        predict: Callable[[Any, float, float, Any], None] | None = self._predictor[1]
        return predict

    def generator(self, purpose: str, number: int = 0) -> np.random.Generator:
        """A generator for "weights" or the "order" of an epoch: a function of the seed, the purpose and the number."""
        return np.random.default_rng(self._seed_sequence(purpose, number))

    def dropout_stream(self, epoch: int) -> np.ndarray:
        """(3,) uint32: the key of the dropout masks, and the epoch."""
        key = self._seed_sequence("dropout", 0).generate_state(2, np.uint32)
        return np.array([*key, epoch], dtype=np.uint32)

    def _seed_sequence(self, purpose: str, number: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(
            self.seed, spawn_key=(("weights", "order", "dropout", "augment").index(purpose), number)
        )

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
        self._predictor = None

    def _pairs(self) -> Iterable[tuple[Any, Any]]:
        return zip(self._weights, self._biases, strict=True)


def _check_available(precision: str | None, choice: Any) -> None:
    there = choice.kernels.precisions()
    if precision is not None and precision not in there:
        others = f"only {' and '.join(there)}" if there else "no reduced precision"
        raise BackendError(f"precision={precision!r}: backend {choice.name} has {others} on this machine")
