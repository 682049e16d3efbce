"""The plan "persistent": one launch does all mini-batches of an epoch, with the parameters in shared memory.

Which networks it can train is decided by `find_obstacle`, and over how many blocks one is partitioned by
`choose_blocks`. The kernel, and how it partitions a network, are in ``cuda/persistent.cu``.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastnn.errors import BackendError
from fastnn.kernels.cuda_device import asarray, load, multiprocessors, resident_blocks, shared_limit, to_numpy, zeros
from fastnn.kernels.cuda_joint_launch import current
from fastnn.kernels.cuda_modules import module
from fastnn.kernels.cuda_stream import StreamedSamples
from fastnn.operations.optimizers import SGD

__all__ = ["Launch", "find_obstacle", "launch_all"]

_FILE = "persistent.cu"
_MAX_LAYERS = 8
_THREADS = 256
_STATE = 832  # bytes: struct State of the kernel, rounded up to a multiple of 16
_LAYER = np.dtype([(name, np.int64) for name in ("n_in", "n_out", "activation", "weights", "bias")])
_JOB = np.dtype(  # struct Job of the kernel
    [(name, np.uint64) for name in ("x", "labels", "targets", "order", "rates", "params", "velocity")]
    + [(name, np.uint64) for name in ("losses", "hits", "partial", "total")]
    + [(name, np.int64) for name in ("blocks", "n_layers", "has_labels", "has_bias", "has_velocity", "nesterov")]
    + [(name, np.int64) for name in ("loss", "task", "first", "last", "batch_size", "rows", "exchange_size")]
    + [(name, np.float64) for name in ("scale", "shift", "momentum", "weight_decay")]
    + [("layers", _LAYER, _MAX_LAYERS), ("arrived", np.int64), ("failed", np.int64)]
)


class Size(NamedTuple):
    """What the shared memory of a block depends on."""

    sizes: tuple[int, ...]  # units, layer by layer
    rows: int  # of a mini-batch
    item: int  # bytes of a feature, as it is in the data set
    velocity: bool
    scratch: int  # elements, for matrix units

    def layers(self) -> Iterator[tuple[int, str, int, int]]:
        """(index, how its weights are partitioned, inputs, outputs) of each layer of weights."""
        last = len(self.sizes) - 2
        for layer, (n_in, n_out) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            yield layer, "rows" if layer % 2 else "whole" if layer == last else "columns", n_in, n_out


# ---- which networks, on how many blocks -----------------------------------------------------------------------------


def find_obstacle(member: Any, data: Any, layers: Any, buffers: Any, objective: Any) -> str | None:
    """Why this network cannot be trained by one launch; None if it can."""
    if member.real != "float":
        return "it supports float32 only"
    if not isinstance(objective.optimizer.record, SGD):
        return "it supports SGD only, with or without momentum"
    if objective.clip_norm:
        return "it does not clip gradients"
    if any(layers.dropout) or data.sample_weight.size or data.deformation.ranges.size:
        return "it supports neither dropout, nor sample weights, nor deformed images"
    if any(one.record.needs_z for one in layers.activations[:-1]):
        return "it supports no hidden activation whose derivative is computed from z, such as gelu"
    if len(layers.weights) > _MAX_LAYERS:
        return f"it supports at most {_MAX_LAYERS} layers of weights"
    if isinstance(data.x, StreamedSamples) or data.x.dtype.name not in ("uint8", "float32"):
        return "samples must be uint8 or float32, and fit the device's memory"
    if choose_blocks(_size(member, data, layers, buffers, objective)) is None:
        return "the network and a mini-batch of samples do not fit the shared memory of the device"
    return None


def _size(member: Any, data: Any, layers: Any, buffers: Any, objective: Any) -> Size:
    sizes = (*(W.shape[0] for W in layers.weights), layers.weights[-1].shape[1])
    scratch = _THREADS // 32 * 128 if member.precision else 0
    return Size(sizes, len(buffers.a[0]), data.x.dtype.itemsize, objective.state.size > 0, scratch)


def shared_bytes(size: Size, blocks: int, buffers: int) -> int:
    """Shared memory of the block that has the most; the kernel's `lay_out` and `train_span` count the same."""

    def padded(n: int) -> int:
        return -(-n // 4) * 4

    stride = ((size.sizes[0] * size.item + 3) // 4 | 1) * 4
    elements = _THREADS // 32 * 2 + padded(size.scratch) + padded(buffers * size.rows * stride // 4)
    for layer, split, n_in, n_out in size.layers():
        n_in = -(-n_in // blocks) if split == "rows" else n_in
        n_out = -(-n_out // blocks) if split == "columns" else n_out
        elements += (padded(n_in * n_out) + padded(n_out)) * (2 if size.velocity else 1)
        own_delta = split == "columns" or layer == len(size.sizes) - 2
        elements += padded(size.rows * n_out) * (2 if own_delta else 1)
    return _STATE + 4 * (elements + 2 * padded(size.rows * size.sizes[-1]))


def exchange_size(size: Size) -> int:
    """Elements of the largest matrix that is summed over the blocks."""
    exchanged = [n_out if split == "rows" else n_in for layer, split, n_in, n_out in size.layers() if layer > 0]
    return size.rows * max([1, *exchanged])


def choose_blocks(size: Size) -> tuple[int, int] | None:
    """(blocks to partition the network over, mini-batches that each buffers: 1 or 2); None if it does not fit.

    More blocks have less to compute each, and wait longer at barriers. Networks that are trained side by side get an
    equal part of the device each, if they fit that. The count of cycles is rough.
    """
    joint = current()
    limits = [multiprocessors()] if joint is None else [max(1, multiprocessors() // joint.n), multiprocessors()]
    for limit in limits:
        most = min(limit, max(size.sizes[1:-1], default=1))
        fit = [
            (blocks, buffers)
            for blocks in sorted({*(2**i for i in range(most.bit_length())), most})
            for buffers in (2, 1)
            if shared_bytes(size, blocks, buffers) <= shared_limit()
        ]
        if fit:
            return min(fit, key=lambda choice: _cycles(size, *choice))
    return None


_PER_CYCLE = 32  # multiply-adds of a block that reads its operands from shared memory
_BARRIER = 2000  # cycles of a barrier of all blocks
_FEW = 32768  # elements up to which every block adds up the whole sum by itself: FEW in the kernel
_READ_PER_CYCLE = 16  # elements that a block gets from the second-level cache
_FETCH = 1500  # cycles until samples arrive


def _cycles(size: Size, blocks: int, buffers: int) -> float:
    """Of a mini-batch."""
    products, exchanges = 0.0, 0.0
    for layer, split, n_in, n_out in size.layers():
        parts = 1 if split == "whole" else blocks
        products += (2 if layer == 0 else 3) * size.rows * math.ceil(n_in * n_out / parts)
        if blocks > 1 and layer > 0 and split != "whole":
            count = size.rows * (n_out if split == "rows" else n_in)
            few = count * blocks <= _FEW
            exchanges += _BARRIER * (1 if few else 2) + (count * blocks if few else 2 * count) / _READ_PER_CYCLE
    return products / _PER_CYCLE + exchanges + (_FETCH if buffers == 1 else 0)


# ---- the launch -----------------------------------------------------------------------------------------------------


class Launch:
    """One launch that trains a network.

    Parameters
    ----------
    member : fastnn.kernels.cuda_team.Member
    data, layers, buffers, objective
        As an entry of the step has them; without an obstacle, see `find_obstacle`.
    """

    def __init__(self, member: Any, data: Any, layers: Any, buffers: Any, objective: Any) -> None:
        size = _size(member, data, layers, buffers, objective)
        choice = choose_blocks(size)
        assert choice is not None
        self.blocks, self.buffers = choice
        self.kernel, self.shared = f"train_{data.x.dtype.name}", shared_bytes(size, *choice)
        self.loaded = load(module(_FILE, member.real, member.precision, cooperative=True))
        elements = exchange_size(size)
        self._exchange = zeros((2 * self.blocks + 1, elements), np.dtype(np.float32))
        self.job = _describe(size, data, layers, objective)
        self.job["blocks"], self.job["exchange_size"] = self.blocks, elements
        self.job["partial"], self.job["total"] = _address(self._exchange), _address(self._exchange[2 * self.blocks :])

    def run(self, first: int, last: int) -> None:
        """Train on mini-batches `first` to ``last - 1``, in one launch with the other networks of a `JointLaunch`.

        Raises
        ------
        BackendError
            If the blocks cannot all be resident at once, or one never reached a barrier.
        """
        self.job["first"], self.job["last"] = first, last
        joint = current()
        if joint is None:
            launch_all([self])
        else:
            joint.submit(self)


def launch_all(launches: Sequence[Launch]) -> None:
    """Launch the networks of the same kernel and partition together, as many at a time as the device fits."""

    def kind(launch: Launch) -> tuple[Any, ...]:
        return id(launch.loaded), launch.kernel, launch.shared, launch.blocks, launch.buffers

    for _, alike in itertools.groupby(sorted(launches, key=kind), key=kind):
        group = list(alike)
        one = group[0]
        resident = resident_blocks(one.loaded, one.kernel, _THREADS, one.shared)
        at_once = resident // one.blocks
        if at_once == 0:  # CuPy would launch fewer, and their barrier would never end
            raise BackendError(
                f"the persistent kernel needs {one.blocks} co-resident blocks, the device fits {resident}; "
                "set FASTNN_CUDA_PLAN=graph"
            )
        for start in range(0, len(group), at_once):
            _run_jobs(group[start : start + at_once])


def _run_jobs(launches: Sequence[Launch]) -> None:
    one, jobs = launches[0], np.array([launch.job for launch in launches])
    table = asarray(jobs.view(np.int64))
    arguments = (table, one.blocks, one.buffers)
    one.loaded.start(one.kernel, one.blocks * len(launches), _THREADS, one.shared, *arguments)
    if to_numpy(table).view(_JOB)["failed"].any():
        raise BackendError(
            "a block of the persistent kernel did not reach a barrier in time, so the parameters are undefined; "
            "set FASTNN_CUDA_PLAN=graph"
        )


def _describe(size: Size, data: Any, layers: Any, objective: Any) -> NDArray[Any]:
    """The network and its data as the kernel reads them."""
    job = np.zeros((), _JOB)
    job["x"], job["labels"], job["targets"], job["order"] = map(
        _address, (data.x, data.labels, data.targets, data.order)
    )
    for name in ("rates", "params", "losses", "hits"):
        job[name] = _address(getattr(objective, name))
    optimizer = objective.optimizer.record
    job["velocity"], job["has_velocity"], job["nesterov"] = _address(objective.state), size.velocity, optimizer.nesterov
    job["n_layers"], job["rows"], job["batch_size"] = len(layers.weights), size.rows, data.batch_size
    job["has_labels"], job["has_bias"] = data.labels.size > 0, layers.biases[0].size > 0
    job["loss"], job["task"], job["scale"], job["shift"] = objective.loss.code, objective.task, data.scale, data.shift
    job["momentum"], job["weight_decay"] = optimizer.momentum, objective.weight_decay
    start = _address(objective.params)
    for i, (W, b, activation) in enumerate(zip(layers.weights, layers.biases, layers.activations, strict=True)):
        bias = (_address(b) - start) // 4 if b.size else 0
        job["layers"][i] = (*W.shape, activation.code, (_address(W) - start) // 4, bias)
    return job


def _address(array: Any) -> int:
    """Where an array of the device begins; 0 for an empty one."""
    return int(array.__cuda_array_interface__["data"][0]) if array.size else 0
