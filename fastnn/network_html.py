"""Networks as notebooks show them."""

import itertools
from html import escape

from fastnn.model import Model
from fastnn.notebook_html import plural, table

__all__ = ["network_html"]


def network_html(network: Model) -> str:
    """A table of a network's layers, what they are made of, and where they run.

    Examples
    --------
    >>> import fastnn
    >>> "101,770" in network_html(fastnn.Network([784, 128, 10], backend="numpy"))
    True
    """
    choice = network.backend_choice
    head = ["layer", "inputs", "outputs", "activation", "parameters"]
    names = [*network.hidden, network.output]
    rows = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(network.sizes)):
        count = n_in * n_out + (n_out if network.bias else 0)
        rows.append([f"{i + 1}", f"{n_in:,}", f"{n_out:,}", names[i], f"{count:,}"])
    if any(network.dropout):
        head.insert(3, "dropout of inputs")
        for row, rate in zip(rows, network.dropout, strict=True):
            row.insert(3, f"{100 * rate:g} %" if rate else "")
    total = ["total", *[""] * (len(head) - 2), f"{network.n_parameters:,}"]
    kind = network.dtype.name + (f", products in {network.precision}" if network.precision else "")
    bias = "" if network.bias else ", without biases"
    epochs = plural(network.epochs_trained, "epoch")
    trained = f"; {epochs} of training" if network.epochs_trained else "; not trained"
    title = f"<b>Network</b> {escape('-'.join(map(str, network.sizes)))}: {escape(kind)}{bias}{trained}"
    where = f"backend {choice.name}, by {choice.origin}: {choice.reason}"
    return f"<div>{title}<br>{escape(where)}{table(head, rows, total)}</div>"
