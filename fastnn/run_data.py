"""The data of a run: samples, targets and weights as the kernels read them, and the order of an epoch."""

import functools
import math
import warnings
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn.augmentation import Augment, Deform
from fastnn.errors import DataError
from fastnn.loaded_samples import LoadedSamples
from fastnn.model import Model
from fastnn.samples import as_sample_weight, as_targets, read_samples
from fastnn.sparse import is_sparse, read_sparse
from fastnn.step import UNDEFORMED, Data, Deformation

__all__ = ["RunData", "read_inputs"]

_FAR = 50  # samples so many times as large as those of the training are on another scale


class RunData:
    """A data set that fits a network, in mini-batches.

    Parameters
    ----------
    model : Model
    x, y, sample_weight
        As for `fastnn.Network.fit`; `y` UNKNOWN where only outputs are wanted.
    rows : int
        Samples a mini-batch; limited to those there are.
    loss : str
    training : bool
    task : int or None
        What the targets mean; None: what they meant in training, or what they look like.
    augment : Deform, callable or None
        What happens to the samples before a mini-batch sees them.

    Attributes
    ----------
    data : fastnn.step.Data
    n_samples, rows, steps : int
        Samples, samples of a full mini-batch, mini-batches.
    task : int
    pixels : bool
    largest_input : float
        After scaling.
    weights : (n_samples,) real, or empty

    Raises
    ------
    DataError
        If samples, targets or weights do not fit the network.
    """

    def __init__(
        self,
        model: Model,
        x: Any,
        y: Any,
        rows: int,
        *,
        loss: str,
        sample_weight: Any,
        training: bool,
        task: int | None,
        augment: Augment | None = None,
    ) -> None:
        kernels, n_in, n_out = model.kernels, model.sizes[0], model.sizes[-1]
        samples, scale, self.largest_input = read_inputs(model, x, training and not model.epochs_trained)
        self.pixels = samples.dtype == np.uint8
        self.n_samples = samples.shape[0]
        self.weights = as_sample_weight(sample_weight, self.n_samples, model.dtype, kernels)
        task = model.decided_task if task is None else task
        targets = as_targets(y, self.n_samples, n_out, model.dtype, model.output, loss, kernels, task)
        self.task = targets.task
        self.rows = min(rows, self.n_samples)
        self.steps = math.ceil(self.n_samples / self.rows)
        parts = (samples.data, samples.indices, samples.indptr) if is_sparse(samples) else (samples,)
        self._kernels, self._given = kernels, (*parts, targets.labels, targets.rows, self.weights)
        self._deform = augment if isinstance(augment, Deform) else None
        self._loaded: LoadedSamples | None = None
        if is_sparse(samples) and self._deform:
            raise DataError("sparse samples are no images that could be deformed; give them as an array")
        if is_sparse(samples) or (augment and not self._deform):
            change = None if isinstance(augment, Deform) else augment
            self._loaded = LoadedSamples(samples, targets, self.weights, self.rows, kernels, change)
            self.data = self._loaded.data(scale, model.shift)
        else:
            self.data = Data(
                x=kernels.as_source(samples),
                labels=kernels.asarray(targets.labels),
                targets=kernels.asarray(targets.rows),
                sample_weight=kernels.asarray(self.weights),
                order=kernels.asarray(np.arange(self.n_samples, dtype=np.int64)),
                batch_size=self.rows,
                scale=scale,
                shift=model.shift,
                deformation=self._deformation(n_in, samples.dtype, model.dtype),
            )

    def _deformation(self, n_in: int, source: np.dtype[Any], dtype: np.dtype[Any]) -> Deformation:
        if self._deform is None:
            return UNDEFORMED
        bases = self._deform.bases(self._deform.shape_of(n_in))
        function = self._kernels.load_deform(source, dtype)
        return Deformation(function, *map(self._kernels.asarray, (self._deform.ranges(), *bases)))

    @property
    def deforms(self) -> bool:
        """Whether a kernel deforms the samples as it fetches them."""
        return self._deform is not None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of samples, targets and weights: other data have another one."""
        checksum = 0
        for array in self._given:
            if array.size:
                host = array if isinstance(array, np.ndarray) else self._kernels.to_numpy(array)
                checksum = zlib.crc32(host.data, checksum)
        return f"{self.n_samples} samples, {checksum:08x}"

    def begin_epoch(self, order: NDArray[np.int64], strength: float, generator: np.random.Generator) -> None:
        """Choose the order (n_samples,) of the samples in an epoch, and how they are changed.

        Parameters
        ----------
        order : (n_samples,) int64
        strength : float
            Of the deformation, from 0 to 1.
        generator : numpy.random.Generator
            For a function of the user's that changes them.
        """
        if self._loaded:
            self._loaded.begin_epoch(order, generator)
        else:
            self.data.order[...] = self._kernels.asarray(order)
        if self._deform:
            self.data.deformation.ranges[...] = self._kernels.asarray(self._deform.ranges() * strength)

    def load(self, first: int, last: int) -> Iterable[tuple[int, int]]:
        """Spans of mini-batches, each of which the kernels can read when it is its turn."""
        return self._loaded.load(self.data, first, last) if self._loaded else [(first, last)]

    def step_weights(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """Sum of the sample weights in each mini-batch, (steps,) float64, when samples come in `order`."""
        starts = np.arange(self.steps) * self.rows
        if self.weights.size:
            return np.add.reduceat(self.weights[order].astype(np.float64), starts)
        return np.diff(starts, append=self.n_samples).astype(np.float64)


def read_inputs(model: Model, x: Any, is_first_training: bool = False) -> tuple[Any, float, float]:
    """Samples as `read_samples` or `read_sparse` gives them, their scale, and the largest magnitude after it.

    A warning says where they are of another scale than the network expects: its predictions would mean nothing.
    """
    if is_sparse(x):
        samples, largest = read_sparse(x, model.sizes[0], model.dtype, model.pixels)
    else:
        samples, largest = read_samples(x, model.sizes[0], model.dtype, model.kernels, model.pixels)
    scale = model.scale if model.scale is not None else 1.0 / 255.0 if samples.dtype == np.uint8 else 1.0
    largest, seen = largest * scale, model.largest_input
    remedy = "divide them by 255 if they are pixels, or give those as integers"
    if seen and largest > _FAR * seen:
        warnings.warn(
            f"samples reach {largest:.4g}, those that the network was trained on {seen:.4g}: bring them to the "
            f"same scale; {remedy}",
            stacklevel=6,
        )
    elif is_first_training and model.scale is None and samples.dtype.kind == "f" and largest == 255:
        warnings.warn(f"samples are floats up to 255: {remedy}; scale=1 takes them as they are", stacklevel=6)
    return samples, scale, largest
