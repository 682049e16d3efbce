"""PyTorch's stacks of linear layers as networks, and networks as such.

PyTorch keeps the weights of a layer as ``(n_out, n_in)``: they are transposed on the way.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from fastnn.errors import DataError
from fastnn.interchange.layer_order import find_order, take_in_order
from fastnn.interchange.layers import Estimator, Layer, as_network, build_network, plain_layers
from fastnn.network import Network
from fastnn.operations import ACTIVATIONS, output_activations
from fastnn.optional import require

if TYPE_CHECKING:
    import torch

__all__ = ["from_torch", "to_torch"]

_ALLOWED = "there are Linear layers and their activations, Dropout, a Flatten first and a Softmax last"


# ---- out ------------------------------------------------------------------------------------------------------------


def to_torch(network: Network | Estimator) -> "torch.nn.Sequential":
    """The network as an ``nn.Sequential``, in eval mode, on the CPU; its outputs are those of `predict_proba`.

    The weights are copies. The network's scale and shift are folded into the first layer; uint8 samples of a network
    without a scale are to be given as floats, ``x / 255``. Dropout is left out. An estimator of `fastnn.sklearn` goes
    out as its `network_`: labels are positions in its `classes_`.

    Raises
    ------
    MissingLibraryError
        If torch is not installed.

    Examples
    --------
    >>> import fastnn
    >>> from fastnn.interchange import to_torch
    >>> to_torch(fastnn.Network([784, 30, 10], backend="numpy"))
    Sequential(
      (0): Linear(in_features=784, out_features=30, bias=True)
      (1): ReLU()
      (2): Linear(in_features=30, out_features=10, bias=True)
      (3): Softmax(dim=1)
    )
    """
    network = as_network(network)
    require("torch", "torch")
    import torch

    for name in (*network.hidden, network.output):
        if ACTIVATIONS[name].torch is None:
            raise DataError(f"PyTorch has no module for the activation {name!r}: export_onnx has it")
    modules: list[torch.nn.Module] = []
    layers = plain_layers(network)
    for (W, b), activation in zip(layers, (*network.hidden, network.output), strict=True):
        linear = torch.nn.Linear(W.shape[0], W.shape[1], bias=b is not None, dtype=torch.from_numpy(W).dtype)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(W.T))
            if b is not None:
                linear.bias.copy_(torch.from_numpy(b))
        modules.append(linear)
        if activation != "identity":
            modules.append(_make_module(torch.nn, activation))
    return torch.nn.Sequential(*modules).eval()


# ---- in -------------------------------------------------------------------------------------------------------------


def from_torch(
    source: "torch.nn.Module | Mapping[str, torch.Tensor | npt.NDArray[Any]]",
    *,
    hidden: str | Sequence[str] | None = None,
    output: str | None = None,
    order: Sequence[str] | None = None,
    **options: Any,
) -> Network:
    """The network of a PyTorch module, or of its ``state_dict``.

    Parameters
    ----------
    source : torch.nn.Sequential, or mapping of str to torch.Tensor
        A Sequential, nested or not, of Linear, ReLU, LeakyReLU(0.01), Sigmoid, Tanh, exact GELU, Identity, Dropout,
        with a Flatten first and a Softmax last. Or tensors ``NAME.weight (n_out, n_in)`` and ``NAME.bias (n_out,)``, or
        a checkpoint that has such tensors under some key. An OrderedDict, as PyTorch's own, is in the order of the
        layers. A plain dictionary, as safetensors gives it, is in any: there the shapes and the numbers in the names
        have to allow one order alone, or `order` is needed.
    hidden : str, sequence of str or None
        Activations, for a state_dict; of a module they are read.
    output : str or None
        softmax, sigmoid or identity. Needed for a state_dict, and for a module that ends with a Linear: its outputs may
        be values, or logits for a loss function that PyTorch keeps apart. Nothing is guessed.
    order : sequence of str or None
        For a state_dict: the NAMEs of all layers, from first to last.
    **options
        Other arguments of `Network`: backend, threads, scale, ...

    Raises
    ------
    DataError
        If there is something in it that such a network has not, or the order of the layers is open; the message says
        what.
    ValueError
        If an activation is missing, or contradicts the module, or `order` does not name each layer once.

    Examples
    --------
    >>> import torch
    >>> from fastnn.interchange import from_torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(784, 30), torch.nn.Tanh(), torch.nn.Linear(30, 10))
    >>> from_torch(module, output="softmax", backend="numpy")
    Network(784-30-10: tanh, softmax; 23,860 parameters, float32, numpy)
    """
    if isinstance(source, Mapping):
        state = _find_state(source)
        layers = _read_state(state)
        if order is None:
            order = list(layers) if isinstance(state, OrderedDict) else find_order(layers)
        return build_network(take_in_order(layers, order), hidden, output, **options)
    torch = require("torch", "torch")
    if not isinstance(source, torch.nn.Module):
        raise DataError(f"expected a module of PyTorch's or its state_dict, got {type(source).__name__}")
    if hidden is not None or order is not None:
        raise ValueError(
            "hidden and order are for a state_dict: a module tells its activations itself, and its layers' order"
        )
    read, said, dropout = _read_modules(_flatten(source, torch.nn), torch.nn)
    found = said[-1] if said else None
    if output is None and found is None:
        raise ValueError(
            "the module ends with a Linear: say output='softmax' or 'sigmoid' if it gives logits, or 'identity'"
        )
    if found is not None and found not in output_activations():
        raise DataError(f"the module ends with {found}; a network of fastnn with {', '.join(output_activations())}")
    if output is not None and found not in (None, output):
        raise ValueError(f"the module ends with {found}, and output={output!r} was asked for")
    hidden = [name or "identity" for name in said[:-1]]
    return build_network(read, hidden, output or found, **{"dropout": dropout} | options)


def _find_state(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state_dict in a checkpoint, which may be all of it."""
    states = dict(_states(content))
    if len(states) > 1:
        raise DataError(
            f"there are several models' weights, {' and '.join(states)}: torch.load it, and pass from_torch one of them"
        )
    return next(iter(states.values()), content)


def _states(content: object, keys: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All mappings with weights in a checkpoint, by the keys that lead to them."""
    if not isinstance(content, Mapping):
        return
    if any(str(key).endswith("weight") and hasattr(value, "shape") for key, value in content.items()):
        yield keys, content
        return
    for key, value in content.items():
        yield from _states(value, f"{keys}[{key!r}]")


def _read_state(state: Mapping[str, Any]) -> dict[str, Layer]:
    """The layers of a state_dict by name, in its order."""
    weights, biases = {}, {}
    for key, tensor in state.items():
        if not hasattr(tensor, "shape"):
            raise DataError(
                f"expected a state_dict, tensors by name, found {type(tensor).__name__} under {key!r}: pass from_torch "
                "the part that is the state_dict"
            )
        name, _, kind = str(key).rpartition(".")
        array = _as_array(tensor)
        if kind == "weight" and array.ndim == 2:
            weights[name] = array.T
        elif kind == "bias" and array.ndim == 1:
            biases[name] = array
        else:
            raise DataError(f"expected weights and biases of linear layers, found {key!r} of shape {array.shape}")
    alone = sorted(biases.keys() - weights.keys())
    if alone:
        raise DataError(f"{alone[0]}.bias has no weights of a linear layer beside it")
    return {name: (W, biases.get(name)) for name, W in weights.items()}


def _as_array(tensor: Any) -> npt.NDArray[np.floating[Any]]:
    """numpy's float32 or float64."""
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = tensor.numpy() if tensor.dtype.itemsize == 8 else tensor.float().numpy()
    return np.asarray(tensor, np.float64 if tensor.dtype == np.float64 else np.float32)


def _make_module(nn: ModuleType, activation: str) -> "torch.nn.Module":
    name, arguments = ACTIVATIONS[activation].torch or ("", {})
    return cast("torch.nn.Module", getattr(nn, name)(**arguments))


def _flatten(module: "torch.nn.Module", nn: ModuleType) -> Iterator["torch.nn.Module"]:
    """What a Sequential is made of, or else the module itself."""
    if type(module) is nn.Sequential:
        for child in cast("torch.nn.Sequential", module):
            yield from _flatten(child, nn)
    else:
        yield module


def _read_modules(modules: Iterable[Any], nn: ModuleType) -> tuple[list[Layer], list[str | None], list[float]]:
    """Layers, an activation for each (None: nothing said of it), and the share of its inputs that is dropped."""
    names = {getattr(nn, one.torch[0]): name for name, one in ACTIVATIONS.items() if one.torch}
    layers: list[Layer] = []
    said: list[str | None] = []
    dropout: dict[int, float] = {}
    for module in modules:
        kind = type(module)
        if kind is nn.Linear and "softmax" not in said:
            layers.append((_as_array(module.weight).T, None if module.bias is None else _as_array(module.bias)))
            said.append(None)
        elif kind is nn.Dropout:
            dropout[len(layers)] = module.p
        elif kind in names:
            _check_settings(module, _make_module(nn, names[kind]))
            if not layers or said[-1] is not None:
                raise DataError(f"a network of fastnn has no {module} here: one activation follows each Linear")
            said[-1] = names[kind]
        elif kind is not nn.Flatten or layers:
            raise DataError(f"a network of fastnn has no {module} here; {_ALLOWED}")
    if len(layers) in dropout:
        raise DataError("a network of fastnn has no Dropout after its outputs")
    return layers, said, [dropout.get(i, 0.0) for i in range(len(layers))]


def _check_settings(module: "torch.nn.Module", ours: "torch.nn.Module") -> None:
    """Whether an activation computes what fastnn's does; a Softmax over rows may count them from the end."""
    ignored = ("training", "inplace")
    own, its = (
        {name: value for name, value in vars(one).items() if not name.startswith("_") and name not in ignored}
        for one in (ours, module)
    )
    if its.get("dim") in (-1, None) and "dim" in own:
        its |= {"dim": 1}
    if its != own:
        raise DataError(f"fastnn has no {module}, only {ours}")
