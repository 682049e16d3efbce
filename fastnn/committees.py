"""Several trained networks as one: a committee that decides by the mean of its members."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastnn.network import Network

__all__ = ["committee"]

_ALIKE = ("hidden", "output", "bias", "dtype", "scale", "shift", "pixels", "task")  # attributes that members share


def committee(networks: Sequence[Network]) -> Network:
    """One network whose outputs are the mean of those of several.

    The mean is taken before the output activation, which makes it of softmax a geometric mean that is normalised, and
    of identity the plain one. So the committee is a feed-forward network itself, with all of the members' units side
    by side and weights of 0 between units of different members; whatever takes a network takes it. The price: its
    products go through these zeros, so that with k members predicting takes up to k times as long as by one member
    after the other.

    Parameters
    ----------
    networks : sequence of Network
        At least one; with as many layers, features and outputs, the same activations, dtype, scaling and task. Hidden
        layers may differ in width.

    Returns
    -------
    Network
        On the backend of the first one. Training it goes on with all weights, those of 0 too, and without dropout.

    Raises
    ------
    ValueError
        If there is none, or one differs in what all have to share.

    References
    ----------
    Hansen and Salamon, "Neural network ensembles", IEEE Transactions on Pattern Analysis and Machine Intelligence 12,
    1990. Ciresan, Meier, Gambardella and Schmidhuber, "Better digit recognition with a committee of simple neural
    nets", ICDAR, 2011.

    Examples
    --------
    >>> import fastnn
    >>> members = [fastnn.Network([4, 8, 3], seed=seed, backend="numpy") for seed in range(3)]
    >>> fastnn.committee(members).sizes
    (4, 24, 3)
    """
    if not networks:
        raise ValueError("a committee needs at least one network")
    first = networks[0]
    for number, network in enumerate(networks[1:], start=2):
        _check_alike(first, network, number)
    widths = [sum(layer) for layer in zip(*(network.sizes[1:-1] for network in networks), strict=True)]
    joined = Network(
        [first.sizes[0], *widths, first.sizes[-1]],
        hidden=first.hidden,
        output=first.output,
        bias=first.bias,
        init="uniform(0, 0)",
        seed=first.seed,
        dtype=first.dtype,
        precision=first.precision,
        scale=first.scale,
        shift=first.shift,
        backend=first.backend,
        threads=first.threads,
    )
    layers = zip(*(network.get_weights() for network in networks), strict=True)
    joined.set_weights([_join(layer, i, len(first.sizes) - 2) for i, layer in enumerate(layers)])
    joined.decided_task, joined.loss, joined.pixels = first.decided_task, first.loss, first.pixels
    joined.largest_input = max(network.largest_input for network in networks)
    joined.epochs_trained = max(network.epochs_trained for network in networks)
    return joined


def _check_alike(first: Network, network: Network, number: int) -> None:
    if (first.sizes[0], first.sizes[-1], len(first.sizes)) != (network.sizes[0], network.sizes[-1], len(network.sizes)):
        raise ValueError(
            "members of a committee have as many layers, features and outputs: "
            f"the first has {list(first.sizes)}, number {number} {list(network.sizes)}"
        )
    for name in _ALIKE:
        ours, theirs = getattr(first, name), getattr(network, name)
        if ours != theirs:
            raise ValueError(f"members of a committee have the same {name}: {ours!r} the first, {theirs!r} {number}")


def _join(
    layer: Sequence[tuple[NDArray[np.floating], NDArray[np.floating] | None]], i: int, last: int
) -> tuple[NDArray[np.floating], NDArray[np.floating] | None]:
    """Layer `i` of the committee, of the members' W ``(n_in, n_out)`` and b ``(n_out,)``."""
    weights = [W for W, _ in layer]
    biases = [b for _, b in layer if b is not None]
    if i == 0 and i == last:
        joined = np.mean(weights, axis=0)
    elif i == 0:
        joined = np.hstack(weights)  # all members see the same features
    elif i == last:
        joined = np.vstack(weights) / len(weights)
    else:
        joined = _block_diagonal(weights)
    if not biases:
        return joined, None
    return joined, np.mean(biases, axis=0) if i == last else np.concatenate(biases)


def _block_diagonal(weights: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    joined = np.zeros(np.sum([W.shape for W in weights], axis=0), weights[0].dtype)
    row = column = 0
    for W in weights:
        joined[row : row + W.shape[0], column : column + W.shape[1]] = W
        row, column = row + W.shape[0], column + W.shape[1]
    return joined
