"""Which loss goes with which output, and the one that is meant when none is named."""

from fastnn.choices import check_choice
from fastnn.kernels.codes import LOSSES

__all__ = ["check_loss", "default_loss"]

_OUTPUT = {"cross_entropy": "softmax", "binary_cross_entropy": "sigmoid", "poisson": "exp"}  # quadratic takes any


def check_loss(loss: str | None, output: str) -> str:
    """The loss by name; None means the one that fits `output`.

    Raises
    ------
    ValueError
        If it is unknown, or a likelihood of another output than `output`.
    """
    if loss is None:
        return default_loss(output)
    check_choice("loss", loss, LOSSES)
    needed = _OUTPUT.get(loss, output)
    if needed != output:
        fitting = [name for name in LOSSES if _OUTPUT.get(name, output) == output]
        raise ValueError(
            f"loss {loss!r} needs output={needed!r}, the network has output={output!r}; fitting: {', '.join(fitting)}"
        )
    return loss


def default_loss(output: str) -> str:
    """The output's own likelihood: its gradient with respect to the logits is outputs minus targets."""
    return next((loss for loss, needed in _OUTPUT.items() if needed == output), "quadratic")
