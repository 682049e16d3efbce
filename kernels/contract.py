"""The kernel contract: what a backend consists of, with the specification of each function.

`fastnn.step` is written against it. A backend is a module with these functions; `numpy_kernels` is the reference, from
which a module takes those that it lacks. So a backend whose arrays are numpy's may replace a single function; one that
computes on a device has them all.

Conventions. Samples are rows: ``x (B, n_in)``, ``W (n_in, n_out)``, ``b (n_out,)``, ``z = x @ W + b``. Matrices are C
ordered and of one dtype, float32 or float64 ("real" below); results are written into the last arguments, which the
caller has allocated. An array that does not apply is empty (``size == 0``), never None, so that its type stays fixed.
``step`` is the index of the mini-batch within the epoch: an int here, a device counter on a GPU, which is why kernels
receive it whole and why what depends on it (learning rates, sample order) is an array.

A ``team`` works in parallel: every kernel is called by all its members, on the same arrays, does a part of the work for
each, and returns when all of it is done. What a member is depends on the backend (`Kernels.make_team`).
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastnn.operations import Activation, Loss, Optimizer

__all__ = ["KERNELS", "Kernels"]

Array = Any  # of whichever backend


class Kernels(Protocol):
    """The functions of a backend's module."""

    # ---- operations: what the kernels below take instead of a record of `fastnn.operations` ----

    def load_activation(self, activation: Activation, dtype: np.dtype[Any]) -> Any:
        """What `dense` and `input_gradient` take for an activation, for arrays of `dtype`."""

    def load_loss(self, loss: Loss, output: Activation, dtype: np.dtype[Any]) -> Any:
        """What `loss_gradient` takes for a loss after an output activation, for arrays of `dtype`."""

    def load_optimizer(self, optimizer: Optimizer, dtype: np.dtype[Any]) -> Any:
        """What `apply_optimizer` takes for an optimizer, whatever its hyperparameters, for arrays of `dtype`."""

    # ---- the mini-batch ----

    def gather(
        self, x: Array, order: Array, step: int, batch_size: int, scale: float, shift: float, out: Array, team: Any
    ) -> None:
        """Fetch the samples of mini-batch `step`: ``out[i] = x[order[step * batch_size + i]] * scale + shift``.

        Parameters
        ----------
        x : (n, n_in) uint8, float32 or float64
            The whole data set, as it is; read only. From `as_source`.
        order : (n,) int64
            The epoch's order of samples.
        step, batch_size : int
            `batch_size` is that of the full batches even where `out` has fewer rows (the last one).
        scale, shift : float
        out : (B, n_in) real
            Each member of the team has its own.
        """

    def load_deform(self, source_dtype: np.dtype[Any], dtype: np.dtype[Any]) -> int:
        """What `deform` takes as `function`, for given images of one type and deformed ones of another."""

    def deform(
        self,
        x: Array,
        order: Array,
        step: int,
        batch_size: int,
        scale: float,
        shift: float,
        function: int,
        ranges: Array,
        row_basis: Array,
        column_basis: Array,
        stream: Array,
        out: Array,
        team: Any,
    ) -> None:
        """`gather` of images, each deformed at random: rotated, scaled, sheared, moved, and bent elastically.

        Pixel ``(i, j)`` of a deformed image is read from its original, between four pixels linearly, at

        ``(y, x) = c + S^-1 K^-1 R^-1 ((i, j) - c - t) + e(i, j)``

        where c is the middle of the image, R a rotation, K shears by ``x += k y``, S scales each axis, t is a
        translation; e is the elastic displacement ``row_basis.T @ N @ column_basis`` of random nodes N, for y and x
        each. Beyond its border an image goes on as its outermost pixels.

        What is random follows from the sample and the epoch alone: word w of the sample is word ``w % 4`` of
        Philox4x32-10 with counter ``(w // 4, sample, 2**32 - 1, stream[2])`` and the key of `dropout`. Words 0 to 5
        become numbers from -1 to 1, ``u = word / 2**31 - 1``, for the angle, the factors for x and y, the shear, the
        translation in x and y. From word 8 on there is one for each node, first for x, then for y, by rows: the sum of
        its two halves, centred and scaled to [-1, 1], times ``ranges[4]``.

        Every step is rounded to float32, but for the coefficients of the affine map (float64) and for the pixels and
        what is between them (real), so that backends on one kind of arithmetic make the same pictures to the bit.

        Parameters
        ----------
        x : (n, h * w) uint8, float32 or float64
            Images of h rows.
        order, step, batch_size, scale, shift
            As in `gather`.
        function : int
            From `load_deform`.
        ranges : (5,) float64
            Largest angle (radians), difference of a factor from 1, shear, translation (pixels), node (pixels).
        row_basis : (nodes_y, h) float32
        column_basis : (nodes_x, w) float32
            How much each node counts for each row and column. No nodes: no elastic displacement.
        stream : (3,) uint32
            See `dropout`.
        out : (B, h * w) real

        References
        ----------
        Simard, Steinkraus & Platt, "Best practices for convolutional neural networks applied to visual document
        analysis", ICDAR 2003, section 2; Ciresan et al., "Deep, big, simple neural nets for handwritten digit
        recognition", Neural Computation 22 (2010), section 2.2.
        """

    def gather_targets(
        self,
        labels: Array,
        targets: Array,
        sample_weight: Array,
        order: Array,
        step: int,
        batch_size: int,
        out: Array,
        weight_out: Array,
        team: Any,
    ) -> None:
        """Fetch the targets of mini-batch `step`, one-hot for labels, and the weights of its samples.

        Parameters
        ----------
        labels : (n,) int32, or empty
            Classes; then ``out[i]`` is one-hot.
        targets : (n, n_out) real, or empty
            Used where `labels` is empty: ``out[i]`` is the sample's row.
        sample_weight : (n,) real, or empty
            Empty: every sample counts 1.
        order, step, batch_size
            As in `gather`.
        out : (B, n_out) real
        weight_out : (B,) real, or empty where `sample_weight` is
        """

    def dropout(self, x: Array, rate: float, stream: Array, step: int, layer: int, out: Array, team: Any) -> None:
        """Zero a share `rate` of the elements and scale the others by ``1 / (1 - rate)``; `out` may be `x`.

        Element ``e`` (row-major in the batch) is kept where the 32-bit word ``e % 4`` of Philox4x32-10 with counter
        ``(e // 4, step, layer, stream[2])`` and key ``(stream[0], stream[1])`` is at least ``floor(rate * 2**32)``. So
        the mask depends on seed, epoch, step and layer alone: every backend draws the same, and back-propagation
        applies it again instead of storing it.

        Parameters
        ----------
        x, out : (B, n) real
        rate : float in [0, 1)
        stream : (3,) uint32
            Two words of key from the network's seed, and the epoch.
        step, layer : int

        References
        ----------
        Srivastava et al., "Dropout", JMLR 15 (2014), section 10 for the scaling; Salmon et al., "Parallel random
        numbers: as easy as 1, 2, 3", SC11, section 4.3 for Philox.
        """

    # ---- forward ----

    def dense(self, x: Array, W: Array, b: Array, activation: Any, z: Array, a: Array, team: Any) -> None:
        """One layer forward: ``z = x @ W + b``, ``a = activation(z)``.

        Parameters
        ----------
        x : (B, n_in) real
        W : (n_in, n_out) real
        b : (n_out,) real, or empty for no bias
        activation
            From `load_activation`.
        z, a : (B, n_out) real
            May be the same array where `z` is not needed afterwards (see `input_gradient`); then it holds `a`.
        """

    # ---- loss ----

    def loss_gradient(
        self,
        z: Array,
        a: Array,
        targets: Array,
        sample_weight: Array,
        loss: Any,
        task: int,
        delta: Array,
        losses: Array,
        hits: Array,
        step: int,
        team: Any,
    ) -> None:
        """Loss of a mini-batch, its gradient with respect to the last layer's `z`, and how many predictions are right.

        With weights w: ``losses[step] = sum_i w_i loss_i``, ``hits[step] = sum_i w_i hit_i``, and
        ``delta = d(sum_i w_i loss_i / sum_i w_i) / dz`` (zero where all weights are).

        Parameters
        ----------
        z, a, targets : (B, n_out) real
            Logits, outputs ``activation(z)``, and what they ought to be.
        sample_weight : (B,) real, or empty: every sample counts 1
        loss
            From `load_loss`.
        task : int
            A code of `fastnn.kernels.codes`; it says what a hit is.
        delta : (B, n_out) real
        losses, hits : (steps,) float64
            Element `step` is written.

        References
        ----------
        Bishop, "Pattern Recognition and Machine Learning" (2006), sections 4.3.4 and 5.2.
        """

    # ---- backward ----

    def input_gradient(self, delta: Array, W: Array, activation: Any, z: Array, a: Array, dX: Array, team: Any) -> None:
        """Back through a layer's weights and the activation before it: ``dX = (delta @ W.T) * activation'(z)``.

        Parameters
        ----------
        delta : (B, n_out) real
            Gradient with respect to the layer's z.
        W : (n_in, n_out) real
        activation
            Of the layer below, whose outputs this layer reads; from `load_activation`.
        z, a : (B, n_in) real
            That layer's arrays as `dense` left them; `z` is needed where the activation's record says so.
        dX : (B, n_in) real
            Gradient with respect to that layer's z.
        """

    def dense_gradient(self, x: Array, delta: Array, dW: Array, db: Array, team: Any) -> None:
        """Gradient of a layer's parameters: ``dW = x.T @ delta``, ``db = sum_i delta_i``.

        Parameters
        ----------
        x : (B, n_in) real
        delta : (B, n_out) real
        dW : (n_in, n_out) real
        db : (n_out,) real, or empty for no bias
        """

    def dense_sgd(
        self, x: Array, delta: Array, rates: Array, step: int, weight_decay: float, W: Array, b: Array, team: Any
    ) -> None:
        """Gradient and plain SGD step of a layer in one: ``W -= rate * (x.T @ delta + weight_decay * W)``.

        One product with ``alpha = -rate`` and ``beta = 1 - rate * weight_decay``: no gradient buffer, no second pass.
        `b` (may be empty) takes no weight decay. Parameters as in `dense_gradient`; rate is ``rates[step, 0]``.
        """

    # ---- optimizers ----

    def clip(self, grads: Array, max_norm: float, team: Any) -> None:
        """Scale the gradient down to a norm of `max_norm`, if its own is larger: ``grads *= max_norm / |grads|``.

        Parameters
        ----------
        grads : (n,) real
            Of all parameters together; the norm is Euclidean, summed in float64.
        max_norm : float > 0

        References
        ----------
        Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1.
        """

    def apply_optimizer(
        self,
        params: Array,
        grads: Array,
        state: Array,
        optimizer: Any,
        rates: Array,
        step: int,
        constants: Array,
        weight_decay: float,
        n_weights: int,
        team: Any,
    ) -> None:
        """One step of an optimizer over all parameters; see `Optimizer.update` for what it does to each.

        Parameters
        ----------
        params, grads : (n,) real
            `grads` is left undefined.
        state : (k, n) real
            A row for each name in `Optimizer.state`.
        optimizer
            From `load_optimizer`.
        rates : (steps, r) float64
            Row `step` holds the learning rate and the optimizer's corrections.
        step : int
        constants : (c,) float64
            The optimizer's hyperparameters.
        weight_decay : float
            For the first `n_weights` parameters; the others are biases and have none.
        n_weights : int
        """

    # ---- the host's side ----

    def asarray(self, values: NDArray[Any]) -> Array:
        """The host's array `values` where the kernels can use it: itself on a CPU, a copy on a device.

        An array from `from_dlpack`, which is there already, is returned as it is.
        """

    def as_source(self, values: NDArray[Any]) -> Array:
        """The host's data set `values` ``(n, n_in)``, where `gather` can read it; no other function has to.

        On a CPU `values` itself. On a device a copy, or an object that streams it where it is too large; an array from
        `from_dlpack`, which is there already, is returned as it is.
        """

    def from_dlpack(self, values: Any) -> Array | None:
        """An array of another library as the backend's, in the same memory; None if the backend does not compute there.

        `values` has ``__dlpack__`` and ``__dlpack_device__``; their errors are passed on. What comes back may be of any
        dtype, shape and order. On a device it has ``__cuda_array_interface__``, the methods of numpy's arrays, and
        ufuncs.
        """

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """A new array of zeros, where the kernels can use it, and aligned for them."""

    def to_numpy(self, array: Array) -> NDArray[Any]:
        """A backend's array as numpy's; without a copy where that is possible."""

    def synchronize(self) -> None:
        """Return when all work handed to the backend is done."""

    def compile(self, function: Callable[..., None], entry: bool) -> Callable[..., None]:
        """Make a function of `fastnn.step`, already bound to this module's kernels, ready to run.

        One that is not an `entry` is called by others of the step only.
        """

    def precisions(self) -> tuple[str, ...]:
        """Those of `codes.PRECISIONS` in which matrix products of float32 can be computed on this machine."""

    def make_team(
        self, threads: int, sizes: Sequence[int], rows: int, dtype: np.dtype[Any], precision: str | None
    ) -> Sequence[Any]:
        """The members of a team for a network of these layer `sizes`, with `rows` samples a mini-batch.

        At most `threads`, at least one; only the backend's kernels use what is in them. Matrix products are computed in
        `precision`, one of `precisions`, or if None in `dtype`.
        """

    def plan(self, member: Any) -> str:
        """The execution plan of the member's mini-batches, for the history: "interpreted", "compiled", "graph"."""

    def prepare(self, function: Callable[..., None], call: tuple[Any, ...]) -> None:
        """Compile what ``function(*call)`` needs, so that the first call takes no longer; can be interrupted."""

    def launch(self, function: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
        """Run a function of `fastnn.step` on all members of a team in parallel; `calls` are the arguments of each."""

    def device(self) -> str:
        """A description of what the kernels run on.

        Raises
        ------
        BackendError
            If there is no such device here.
        """

    def side_by_side(self, n: int, threads: int) -> tuple[int, AbstractContextManager[None]]:
        """How many of `n` networks to train at once on so many CPU threads, and the context that each is trained in.

        Each is trained in a Python thread of its own, which enters the context; so many of them run at the same time.
        """

    def limit_threads(self, n: int) -> AbstractContextManager[None]:
        """Context in which the kernels, and every BLAS of the process, use at most `n` threads."""

    def versions(self) -> dict[str, str]:
        """Name and version of each library that the kernels use, those of the device included."""


KERNELS = tuple(name for name in vars(Kernels) if not name.startswith("_"))
"""The names of the contract's functions."""
