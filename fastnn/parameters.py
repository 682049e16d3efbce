"""How all parameters lie in one flat array: the weights of every layer, then the biases of every layer.

So an optimizer, a check or a copy is one pass over one array, and weight decay applies to its first part.
"""

import itertools
from collections.abc import Sequence
from typing import Any

__all__ = ["count_biases", "count_weights", "split_parameters"]

Arrays = tuple[Any, ...]


def count_biases(sizes: Sequence[int]) -> int:
    """Elements of all bias vectors together."""
    return sum(sizes[1:])


def count_weights(sizes: Sequence[int]) -> int:
    """Elements of all weight matrices together."""
    return sum(n_in * n_out for n_in, n_out in itertools.pairwise(sizes))


def split_parameters(flat: Any, sizes: Sequence[int], bias: bool) -> tuple[Arrays, Arrays]:
    """Weights ``(n_in, n_out)`` and biases ``(n_out,)`` as views on a flat array, all weights first.

    Biases are empty without `bias`; everything is where `flat` is empty.
    """
    weights, biases, start = [], [], 0
    for n_in, n_out in itertools.pairwise(sizes):
        stop = start + n_in * n_out
        weights.append(flat[start:stop].reshape(-1, n_out))
        start = stop
    for n_out in sizes[1:]:
        stop = start + (n_out if bias else 0)
        biases.append(flat[start:stop])
        start = stop
    return tuple(weights), tuple(biases)
