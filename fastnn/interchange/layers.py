"""A network from the matrices of its layers, and its matrices for those who know nothing of scale and shift."""

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastnn.errors import DataError
from fastnn.network import Network

__all__ = ["Array", "Estimator", "Layer", "as_network", "build_network", "plain_layers"]

Array = npt.NDArray[Any]
Layer = tuple[Array, Array | None]  # W (n_in, n_out), b (n_out,)


class Estimator(Protocol):
    """A fitted estimator of `fastnn.sklearn`: its labels are the positions of the network's in `classes_`."""

    network_: Network


def as_network(source: Network | Estimator) -> Network:
    """The network itself, or an estimator's.

    Raises
    ------
    DataError
        If it is neither, or not fitted.
    """
    network = getattr(source, "network_", source)
    if not isinstance(network, Network):
        raise DataError(
            f"expected a Network, or an estimator of fastnn.sklearn that is fitted and has a network_, got "
            f"{type(source).__name__}; of scikit-learn's own, from_sklearn makes a Network"
        )
    return network


def build_network(
    layers: Sequence[Layer], hidden: str | Sequence[str] | None, output: str | None, **options: Any
) -> Network:
    """A network with these weights.

    Parameters
    ----------
    layers : sequence of (W, b)
        As in `Network.get_weights`; where only some layers have biases, the others' are zeros.
    hidden, output
        Activations as for `Network`; None where nobody has said: an error, `hidden` only if there are hidden layers.
    **options
        Other arguments of `Network`. `dtype` is float64 by default if all weights are, else float32.

    Raises
    ------
    DataError
        If the matrices do not chain, or a value is not finite.
    ValueError
        If an activation is missing or unknown, or an option is wrong.
    """
    sizes = _chain(layers)
    if hidden is None and len(layers) > 1:
        raise ValueError("the weights do not tell the activation of the hidden layers: say hidden, for example relu")
    if output is None:
        raise ValueError("the weights do not tell the output: say output: softmax, sigmoid or identity")
    bias = any(b is not None for _, b in layers)
    dtype = "float64" if all(W.dtype == np.float64 for W, _ in layers) else "float32"
    settings: dict[str, Any] = {"dtype": dtype, "bias": bias, "init": "uniform(0, 0)"} | options
    network = Network(sizes, hidden=hidden or "identity", output=output, **settings)
    network.set_weights([(W, np.zeros(W.shape[1]) if bias and b is None else b) for W, b in layers])
    return network


def _chain(layers: Sequence[Layer]) -> list[int]:
    """Features, hidden units, outputs."""
    if not layers:
        raise DataError("expected the weights of at least one layer, got none")
    for i, (W, b) in enumerate(layers, start=1):
        if W.ndim != 2 or 0 in W.shape:
            raise DataError(f"layer {i}: expected weights of shape (n_in, n_out), got {W.shape}")
        if b is not None and b.shape != W.shape[1:]:
            raise DataError(f"layer {i}: expected {W.shape[1]} biases for weights {W.shape}, got shape {b.shape}")
    for i, ((W, _), (V, _)) in enumerate(itertools.pairwise(layers), start=1):
        if W.shape[1] != len(V):
            raise DataError(
                f"layers do not chain: layer {i} has {W.shape[1]} outputs, and layer {i + 1} {len(V)} inputs"
            )
    return [len(layers[0][0]), *(W.shape[1] for W, _ in layers)]


def plain_layers(network: Network) -> list[Layer]:
    """Copies of all ``(W, b)`` of a network that does the same without scale and shift.

    ``(x s + t) W + b = x (s W) + (t 1 W + b)``: they are folded into the first layer. That uint8 samples are scaled by
    1/255 where a network has no scale of its own, is not: whoever takes the weights scales them.
    """
    (W, b), *others = network.get_weights()
    scale, shift = 1.0 if network.scale is None else network.scale, network.shift
    if shift:
        b = (shift * W.sum(axis=0, dtype=np.float64) + (0 if b is None else b)).astype(W.dtype)
    if scale != 1:
        W = (scale * W.astype(np.float64)).astype(W.dtype)
    return [(W, b), *others]
