"""The arrays that a run over one data set works in: made once, before the first mini-batch, and never again."""

import functools
import math
import warnings
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.kernels.codes import GRADIENT_ONLY, OPTIMIZER, PLAIN_SGD, REGRESSION
from fastnn.operations import ACTIVATIONS, LOSSES, Optimizer
from fastnn.operations.optimizers import SGD
from fastnn.parameters import count_weights, split_parameters
from fastnn.samples import Targets, as_sample_weight, as_targets, read_samples
from fastnn.sparse import SparseSamples, is_sparse, read_sparse
from fastnn.step import Buffers, Data, Objective, bind

if TYPE_CHECKING:
    from fastnn.network import Network

__all__ = ["Workspace"]

Arrays = tuple[Any, ...]
_FAR = 50  # samples so many times as large as those of the training are on another scale


class Workspace:
    """A network, a data set, and all that `fastnn.step` needs to go through it in mini-batches.

    Parameters
    ----------
    network : Network
    x, y, sample_weight
        As for `Network.fit`; `y` UNKNOWN where only outputs are wanted.
    rows : int
        Samples a mini-batch; limited to those there are.
    loss : str
    optimizer : Optimizer or None
        None: the gradient is all that is wanted.
    training : bool
        With gradients.
    dropout : bool
        With dropout, in training.
    task : int or None
        What the targets mean; None: what they meant in training, or what they look like.

    Raises
    ------
    DataError
        If samples, targets or weights do not fit the network.
    """

    def __init__(
        self,
        network: "Network",
        x: Any,
        y: Any,
        rows: int,
        *,
        loss: str = "quadratic",
        sample_weight: Any = None,
        optimizer: Optimizer | None = None,
        training: bool = False,
        dropout: bool = True,
        task: int | None = None,
    ) -> None:
        self.network, self._asarray, self._real = network, network.kernels.asarray, network.dtype
        n_in = network.sizes[0]
        if is_sparse(x):
            samples, largest = read_sparse(x, n_in, network.dtype, network.pixels)
        else:
            samples, largest = read_samples(x, n_in, network.dtype, network.kernels, network.pixels)
        self.pixels = samples.dtype == np.uint8
        self.largest_input = largest * self._scale
        self._warn_of_other_inputs(training and not network.epochs_trained, samples)
        self.n_samples, n_out = samples.shape[0], network.sizes[-1]
        self.weights = as_sample_weight(sample_weight, self.n_samples, network.dtype, network.kernels)
        task = network.decided_task if task is None else task
        targets = as_targets(y, self.n_samples, n_out, network.dtype, network.output, loss, network.kernels, task)
        self.task = targets.task
        self.rows = min(rows, self.n_samples)
        self.steps = math.ceil(self.n_samples / self.rows)
        self.layers = network.layers(training and dropout)
        parts = (samples.data, samples.indices, samples.indptr) if is_sparse(samples) else (samples,)
        self._given = (*parts, targets.labels, targets.rows, self.weights)
        self._sparse: SparseSamples | None = None
        self.data = self._make_data(samples, targets)
        self.objective = self._make_objective(loss, optimizer, training)
        self._stream = self._asarray(np.zeros(3, np.uint32))
        self._prepared: set[Callable] = set()

    @functools.cached_property
    def _members(self) -> list[tuple[Any, Buffers, Buffers]]:
        """Each member of the team, its buffers, and those for the last mini-batch; made when first needed.

        What nobody reads separately shares memory, and all but the samples is shared by the team. Of those each member
        gathers its own: a core that reads what another has just written waits longer than it takes to convert it anew.
        """
        network = self.network
        team = network.kernels.make_team(network.threads, network.sizes, self.rows, network.dtype, network.precision)
        shared = self._make_buffers()
        buffers = [shared, *(self._with_own_samples(shared) for _ in team[1:])]
        last_rows = self.n_samples - (self.steps - 1) * self.rows
        return [(member, own, _first_rows(own, last_rows)) for member, own in zip(team, buffers, strict=True)]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of samples, targets and weights: other data have another one."""
        checksum = 0
        for array in self._given:
            if array.size:
                host = array if isinstance(array, np.ndarray) else self.network.kernels.to_numpy(array)
                checksum = zlib.crc32(host.data, checksum)
        return f"{self.n_samples} samples, {checksum:08x}"

    @property
    def plan(self) -> str:
        """How the mini-batches are run, in the backend's word."""
        return self.network.kernels.plan(self._members[0][0])

    def prepare(self, function: Callable) -> None:
        """Have what `run` will be given ready to run: compiled."""
        self._prepare(function, self._calls((0, 0), (self.objective,)))

    def run(self, function: Callable, first: int, last: int) -> None:
        """Have a function of the step go through mini-batches `first` to ``last - 1``; the last may be smaller."""
        for start, stop in self._load(first, last):
            self._launch(function, self._calls((start, min(stop, self.steps - 1)), (self.objective,)))
            if stop == self.steps:
                self._launch(function, self._calls((stop - 1, stop), (self.objective,), smaller=True))

    def forward(self, step: int) -> Any:
        """Outputs (rows, n_out) of mini-batch `step`, in a buffer that the next call overwrites."""
        calls = self._calls((step,), (), smaller=step == self.steps - 1)
        for _ in self._load(step, step + 1):
            self._launch(bind(self.network.kernels).forward, calls)
        buffers: Buffers = calls[0][-2]
        return buffers.a[-1]

    def set_order(self, order: np.ndarray) -> None:
        """Choose the order (n_samples,) in which an epoch goes through the samples."""
        if self._sparse:
            self._sparse.order = order
        else:
            self.data.order[...] = self._asarray(order)

    def _load(self, first: int, last: int) -> Iterable[tuple[int, int]]:
        """Spans of mini-batches, each of which the kernels can read when it is its turn."""
        return self._sparse.load(self.data, first, last) if self._sparse else [(first, last)]

    def set_stream(self, stream: np.ndarray) -> None:
        """Choose the dropout masks of the epoch, see `dropout`."""
        self._stream[...] = self._asarray(stream)

    def _calls(self, steps: tuple, objective: tuple, smaller: bool = False) -> list[tuple]:
        """The arguments of each member of the team."""
        return [
            (*steps, self.data, self.layers, last_buffers if smaller else buffers, *objective, member)
            for member, buffers, last_buffers in self._members
        ]

    def _prepare(self, function: Callable, calls: list[tuple]) -> None:
        if function not in self._prepared:
            self.network.kernels.prepare(function, calls[0])
            self._prepared.add(function)

    def _launch(self, function: Callable, calls: list[tuple]) -> None:
        self._prepare(function, calls)
        with np.errstate(all="ignore"):  # a run that diverges is told by its loss, not by numpy's warnings
            self.network.kernels.launch(function, calls)

    def step_weights(self, order: np.ndarray) -> np.ndarray:
        """Sum of the sample weights in each mini-batch, (steps,) float64, when samples come in `order`."""
        starts = np.arange(self.steps) * self.rows
        if self.weights.size:
            return np.add.reduceat(self.weights[order].astype(np.float64), starts)
        return np.diff(starts, append=self.n_samples).astype(np.float64)

    def means(self, step_weights: np.ndarray, steps: int) -> tuple[float, float]:
        """Loss and accuracy over the first `steps` mini-batches; NaN where there is none."""
        weight = float(step_weights[:steps].sum())
        if weight == 0:
            return math.nan, math.nan
        to_numpy = self.network.kernels.to_numpy
        loss = float(to_numpy(self.objective.losses)[:steps].sum()) / weight
        hits = float(to_numpy(self.objective.hits)[:steps].sum()) / weight
        return loss, math.nan if self.task == REGRESSION else hits

    @property
    def _scale(self) -> float:
        scale = self.network.scale
        return scale if scale is not None else 1.0 / 255.0 if self.pixels else 1.0

    def _warn_of_other_inputs(self, is_first_training: bool, samples: Any) -> None:
        """Say so where samples are of another scale than the network expects: its answers would mean nothing."""
        seen, largest = self.network.largest_input, self.largest_input
        remedy = "divide them by 255 if they are pixels, or give those as integers"
        if seen and largest > _FAR * seen:
            warnings.warn(
                f"samples reach {largest:.4g}, those that the network was trained on {seen:.4g}: bring them to the "
                f"same scale; {remedy}",
                stacklevel=4,
            )
        elif is_first_training and self.network.scale is None and samples.dtype.kind == "f" and largest == 255:
            warnings.warn(f"samples are floats up to 255: {remedy}; scale=1 takes them as they are", stacklevel=4)

    def _make_data(self, samples: Any, targets: Targets) -> Data:
        if is_sparse(samples):
            self._sparse = SparseSamples(samples, targets, self.weights, self.rows, self.network.kernels)
            return self._sparse.data(self._scale, self.network.shift)
        return Data(
            x=self.network.kernels.as_source(samples),
            labels=self._asarray(targets.labels),
            targets=self._asarray(targets.rows),
            sample_weight=self._asarray(self.weights),
            order=self._asarray(np.arange(self.n_samples, dtype=np.int64)),
            batch_size=self.rows,
            scale=self._scale,
            shift=self.network.shift,
        )

    def _make_buffers(self) -> Buffers:
        sizes, layers = self.network.sizes, self.layers

        def new(n: int) -> Any:
            return self._zeros(self.rows, n)

        last = len(sizes) - 2
        a = tuple(new(n) for n in sizes)
        # A hidden layer's derivative needs the outputs before dropout too; of the samples, each member drops a share.
        x = [new(sizes[i]) if layers.dropout[i] > 0 else a[i] for i in range(last + 1)]
        # Some derivatives and the loss need z.
        z = [
            new(sizes[i + 1]) if i == last or ACTIVATIONS[self.network.hidden[i]].needs_z else a[i + 1]
            for i in range(last + 1)
        ]
        deltas = tuple(new(n) for n in sizes[1:])
        weighted = self.rows if self.weights.size else 0
        return Buffers(a, tuple(x), tuple(z), deltas, new(sizes[-1]), self._zeros(weighted), self._stream)

    def _with_own_samples(self, shared: Buffers) -> Buffers:
        own = self._zeros(*shared.a[0].shape)
        x = shared.x if shared.x[0] is not shared.a[0] else (own, *shared.x[1:])
        return shared._replace(a=(own, *shared.a[1:]), x=x)

    def _make_objective(self, loss: str, optimizer: Optimizer | None, training: bool) -> Objective:
        network, n, kernels = self.network, self.network.parameters.size, self.network.kernels
        update = GRADIENT_ONLY if optimizer is None else PLAIN_SGD if optimizer.is_plain_sgd else OPTIMIZER
        optimizer = optimizer or SGD()
        grads = self._zeros(n if training and update != PLAIN_SGD else 0)
        dW, db = split_parameters(grads, network.sizes, network.bias)
        return Objective(
            loss=kernels.load_loss(LOSSES[loss], ACTIVATIONS[network.output], network.dtype),
            task=self.task,
            update=update,
            optimizer=kernels.load_optimizer(optimizer, network.dtype),
            params=network.parameters,
            grads=grads,
            dW=dW,
            db=db,
            state=self._zeros(len(optimizer.state), n if update == OPTIMIZER else 0),
            rates=self._asarray(np.ones((self.steps, optimizer.rates(np.ones(1), np.zeros(1)).shape[1]))),
            constants=self._asarray(optimizer.constants),
            weight_decay=optimizer.weight_decay,
            clip_norm=optimizer.clip_norm or 0.0,
            n_weights=count_weights(network.sizes),
            losses=self._asarray(np.zeros(self.steps)),
            hits=self._asarray(np.zeros(self.steps)),
        )

    def _zeros(self, *shape: int) -> Any:
        return self.network.kernels.zeros(shape, self._real)


def _first_rows(buffers: Buffers, rows: int) -> Buffers:
    """The same memory for a mini-batch of fewer samples."""

    def first(arrays: Arrays) -> Arrays:
        return tuple(array[:rows] for array in arrays)

    return Buffers(
        a=first(buffers.a),
        x=first(buffers.x),
        z=first(buffers.z),
        deltas=first(buffers.deltas),
        targets=buffers.targets[:rows],
        sample_weight=buffers.sample_weight[:rows],
        stream=buffers.stream,
    )
