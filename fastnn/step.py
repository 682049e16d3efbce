"""Forward pass, back-propagation and update of one mini-batch: the one source that every backend runs.

Read it as plain numpy code: the kernels are imported by name from the reference. `bind` gives the same functions
another backend's kernels instead, and hands them to that backend's `compile`: interpreted for numpy; for numba
compiled, with the loops over layers and batches, into machine code.

All members of a team run it together, each in a thread of its own where the backend has threads: every kernel does its
member's share of the work and returns when all have done theirs (`launch`). So it reads as if there were one.

Nothing is allocated here. Shapes are fixed when the tuples below are made, layers are tuples of arrays of one type,
and all parameters are views on one flat array, weights first: an optimizer is one pass over it.
"""

import functools
import types
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.codes import OPTIMIZER, PLAIN_SGD
from fastnn.kernels.numpy_kernels import (
    apply_optimizer,
    clip,
    deform,
    dense,
    dense_gradient,
    dense_sgd,
    dropout,
    gather,
    gather_targets,
    input_gradient,
    loss_gradient,
)

KERNELS = (
    "gather",
    "deform",
    "gather_targets",
    "dropout",
    "dense",
    "loss_gradient",
    "input_gradient",
    "dense_gradient",
    "dense_sgd",
    "clip",
    "apply_optimizer",
)

Array = Any  # of whichever backend


class Deformation(NamedTuple):
    """How images are deformed as they are fetched; see `deform`. All empty: not at all."""

    function: int  # from `load_deform`
    ranges: Array  # (5,) float64, of the epoch
    row_basis: Array  # (nodes_y, h) float32
    column_basis: Array  # (nodes_x, w) float32


UNDEFORMED = Deformation(0, np.empty(0), np.empty((0, 0), np.float32), np.empty((0, 0), np.float32))


class Data(NamedTuple):
    """A data set as it lies in memory, and the order in which an epoch goes through it; see `gather`."""

    x: Array  # (n, n_in) uint8, float32 or float64
    labels: Array  # (n,) int32, or empty
    targets: Array  # (n, n_out) real, or empty
    sample_weight: Array  # (n,) real, or empty
    order: Array  # (n,) int64
    batch_size: int
    scale: float
    shift: float
    deformation: Deformation = UNDEFORMED


class Layers(NamedTuple):
    """A network: layer l maps (B, n_l) to (B, n_{l+1})."""

    weights: tuple[Array, ...]  # (n_l, n_{l+1})
    biases: tuple[Array, ...]  # (n_{l+1},), or empty
    activations: tuple[Any, ...]  # from `load_activation`
    dropout: tuple[float, ...]  # share of layer l's inputs that is dropped; 0 everywhere outside training


class Buffers(NamedTuple):
    """What one mini-batch needs; ``a[0]`` holds the samples, ``a[l + 1]`` what layer l makes of ``x[l]``."""

    a: tuple[Array, ...]  # (B, n_l), one more than there are layers; a[0] is each member's own
    x: tuple[Array, ...]  # a[l] after dropout; a[l] itself where there is none
    z: tuple[Array, ...]  # before the activation; a[l + 1] itself where only the activation's value is needed
    deltas: tuple[Array, ...]  # gradient of the loss with respect to z[l]
    targets: Array  # (B, n_out)
    sample_weight: Array  # (B,), or empty
    stream: Array  # (3,) uint32, see `dropout`


class Objective(NamedTuple):
    """What is minimised and counted, and the optimizer with its constants, state and rates."""

    loss: Any  # from `load_loss`
    task: int
    update: int  # GRADIENT_ONLY, PLAIN_SGD or OPTIMIZER
    optimizer: Any  # from `load_optimizer`
    params: Array  # (p,) all parameters; the layers' arrays are views on it
    grads: Array  # (p,), empty for PLAIN_SGD
    dW: tuple[Array, ...]  # noqa: N815 - the field's name; views on grads
    db: tuple[Array, ...]
    state: Array  # (k, p), a row for each name in the optimizer's `state`
    rates: Array  # (steps, r) float64: learning rates, and the optimizer's corrections
    constants: Array  # (c,) float64: the optimizer's hyperparameters
    weight_decay: float
    clip_norm: float  # of the gradient; 0: as it is
    n_weights: int  # the elements of params that are weights
    losses: Array  # (steps,) float64
    hits: Array  # (steps,) float64


def forward(step, data, layers, buffers, team):
    """Samples of mini-batch `step` to outputs."""
    d, out, (function, ranges, rows, columns) = data, buffers.a[0], data.deformation
    samples = d.x, d.order, step, d.batch_size, d.scale, d.shift
    if ranges.size > 0:
        deform(*samples, function, ranges, rows, columns, buffers.stream, out, team)
    else:
        gather(*samples, out, team)
    for i in range(len(layers.weights)):
        if layers.dropout[i] > 0.0:
            dropout(buffers.a[i], layers.dropout[i], buffers.stream, step, i, buffers.x[i], team)
        W, b, activation = layers.weights[i], layers.biases[i], layers.activations[i]
        dense(buffers.x[i], W, b, activation, buffers.z[i], buffers.a[i + 1], team)


def loss(step, data, layers, buffers, objective, team):
    """Loss and hits of the mini-batch just seen, and the gradient at the output."""
    d, b, o = data, buffers, objective
    gather_targets(d.labels, d.targets, d.sample_weight, d.order, step, d.batch_size, b.targets, b.sample_weight, team)
    loss_gradient(
        b.z[-1], b.a[-1], b.targets, b.sample_weight, o.loss, o.task, b.deltas[-1], o.losses, o.hits, step, team
    )


def backward(step, layers, buffers, objective, team):
    """From the gradient at the output to that of every parameter; with PLAIN_SGD to its new value."""
    x, z, a, deltas = buffers.x, buffers.z, buffers.a, buffers.deltas
    for i in range(len(layers.weights) - 1, -1, -1):
        W, b = layers.weights[i], layers.biases[i]
        if i > 0:  # before W changes
            input_gradient(deltas[i], W, layers.activations[i - 1], z[i - 1], a[i], deltas[i - 1], team)
            if layers.dropout[i] > 0.0:
                dropout(deltas[i - 1], layers.dropout[i], buffers.stream, step, i, deltas[i - 1], team)
        if objective.update == PLAIN_SGD:
            dense_sgd(x[i], deltas[i], objective.rates, step, objective.weight_decay, W, b, team)
        else:
            dense_gradient(x[i], deltas[i], objective.dW[i], objective.db[i], team)


def update(step, objective, team):
    """What the optimizer makes of the gradient; nothing after GRADIENT_ONLY and PLAIN_SGD."""
    o = objective
    if o.clip_norm > 0.0:
        clip(o.grads, o.clip_norm, team)
    if o.update == OPTIMIZER:
        apply_optimizer(
            o.params, o.grads, o.state, o.optimizer, o.rates, step, o.constants, o.weight_decay, o.n_weights, team
        )


def train_steps(first, last, data, layers, buffers, objective, team):
    """Mini-batches ``first`` to ``last - 1`` of an epoch."""
    for step in range(first, last):
        forward(step, data, layers, buffers, team)
        loss(step, data, layers, buffers, objective, team)
        backward(step, layers, buffers, objective, team)
        update(step, objective, team)


def evaluate_steps(first, last, data, layers, buffers, objective, team):
    """The same without learning."""
    for step in range(first, last):
        forward(step, data, layers, buffers, team)
        loss(step, data, layers, buffers, objective, team)


@functools.cache
def bind(kernels):
    """The functions of this module on the kernels of another module, compiled as that module does it.

    The code objects stay and get other globals. (Closures over the kernels would compile too, but numba would never
    find them in its cache again.)
    """
    bound = {**globals(), **{name: getattr(kernels, name) for name in KERNELS}}
    entries = ("forward", "train_steps", "evaluate_steps")
    for function in (forward, loss, backward, update, train_steps, evaluate_steps):
        name = function.__name__
        bound[name] = kernels.compile(types.FunctionType(function.__code__, bound, name), name in entries)
    return types.SimpleNamespace(**{name: bound[name] for name in entries})
