"""The arrays that the steps of a run work in: made once, before the first mini-batch, and never again."""

from typing import Any

from fastnn.model import Model
from fastnn.operations import ACTIVATIONS
from fastnn.step import Buffers

__all__ = ["first_rows", "make_buffers", "with_own_samples"]

Arrays = tuple[Any, ...]


def make_buffers(model: Model, dropout: tuple[float, ...], rows: int, weighted: bool, stream: Any) -> Buffers:
    """Those of a mini-batch of `rows` samples; what nobody reads separately shares memory."""
    sizes, last = model.sizes, len(model.sizes) - 2

    def new(n: int) -> Any:
        return model.kernels.zeros((rows, n), model.dtype)

    a = tuple(new(n) for n in sizes)
    # A hidden layer's derivative needs the outputs before dropout too; of the samples, each member drops a share.
    x = tuple(new(sizes[i]) if dropout[i] > 0 else a[i] for i in range(last + 1))
    # Some derivatives and the loss need z.
    kept = [*(ACTIVATIONS[name].needs_z for name in model.hidden), True]
    z = tuple(new(sizes[i + 1]) if kept[i] else a[i + 1] for i in range(last + 1))
    deltas = tuple(new(n) for n in sizes[1:])
    sample_weight = model.kernels.zeros((rows if weighted else 0,), model.dtype)
    return Buffers(a, x, z, deltas, new(sizes[-1]), sample_weight, stream)


def with_own_samples(model: Model, shared: Buffers) -> Buffers:
    """For another member of a team, which gathers the samples for itself and shares all else.

    A core that reads what another has just written waits longer than it takes to convert it anew.
    """
    own = model.kernels.zeros(shared.a[0].shape, model.dtype)
    x = shared.x if shared.x[0] is not shared.a[0] else (own, *shared.x[1:])
    return shared._replace(a=(own, *shared.a[1:]), x=x)


def first_rows(buffers: Buffers, rows: int) -> Buffers:
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
