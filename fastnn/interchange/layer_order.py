"""Which layer follows which, where a file names its layers and keeps no order of them."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from fastnn.errors import DataError
from fastnn.interchange.layers import Layer

__all__ = ["find_order", "take_in_order"]


def take_in_order(layers: Mapping[str, Layer], order: Sequence[str]) -> list[Layer]:
    """The layers in the order that the caller names them.

    Raises
    ------
    ValueError
        If `order` does not name each layer once.
    """
    if isinstance(order, str) or sorted(order) != sorted(layers):
        raise ValueError(f"order must name each of the layers once: {_listed(layers)}; got {order!r}")
    return [layers[name] for name in order]


def find_order(layers: Mapping[str, Layer]) -> list[str]:
    """The names in the only order in which the layers can be.

    Each takes as many inputs as the one before it has outputs, and layers whose names differ only in their numbers,
    ``fc1`` and ``fc2``, follow each other by these: ``net.2`` comes before ``net.10``.

    Raises
    ------
    DataError
        If there is no such order, or more than one.
    """
    found = list(itertools.islice(_orders(layers), 2))
    if len(found) != 1:
        raise DataError(
            f"the weights have no order of their own, and by the layers' shapes and the numbers in their names "
            f"{'more than one is' if found else 'none is'} possible: name all layers from first to last, "
            f"order=[...] in Python or --order NAME,... of fastnn convert; there are {_listed(layers)}"
        )
    return found[0]


def _orders(layers: Mapping[str, Layer]) -> Iterator[list[str]]:
    """All orders that shapes and numbers allow."""
    shapes = {name: W.shape for name, (W, _) in layers.items()}
    numbered = defaultdict(list)
    for name in layers:
        numbered[re.sub(r"\d+", "0", name)].append(name)
    dead_ends: set[tuple[object, ...]] = set()  # without them, layers of one shape would be tried in all permutations

    def go_on(chain: list[str], queues: list[list[str]]) -> Iterator[list[str]]:
        if not queues:
            yield chain
            return
        width = shapes[chain[-1]][1] if chain else None
        key = (width, *sorted(tuple(shapes[name] for name in queue) for queue in queues))
        if key in dead_ends:
            return
        is_dead_end = True
        for i, (name, *others) in enumerate(queues):
            if width in (None, shapes[name][0]):
                for order in go_on([*chain, name], [*queues[:i], *([others] if others else []), *queues[i + 1 :]]):
                    is_dead_end = False
                    yield order
        if is_dead_end:
            dead_ends.add(key)

    by_number = [sorted(names, key=lambda name: [*map(int, re.findall(r"\d+", name))]) for names in numbered.values()]
    yield from go_on([], by_number)


def _listed(layers: Mapping[str, Layer]) -> str:
    return ", ".join(f"{name or 'the only one'} ({W.shape[0]} to {W.shape[1]})" for name, (W, _) in layers.items())
