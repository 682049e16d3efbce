"""Networks in ``.npz`` files, which numpy opens anywhere: an array for each matrix, and one with the configuration."""

from pathlib import Path

from fastnn import storage
from fastnn.interchange.layers import Estimator, as_network
from fastnn.network import Network

__all__ = ["load_npz", "save_npz"]


def save_npz(network: Network | Estimator, path: str | Path) -> None:
    """Write weights, configuration and history to an ``.npz`` file, atomically; `load_npz` reads it.

    ``np.load(path)`` has ``W1``, ``b1``, ``W2``, ...: weights ``(n_in, n_out)``, biases ``(n_out,)``, of the network's
    dtype. The bytes of its array ``fastnn`` are JSON, with sizes, activations and all else.

    Raises
    ------
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, numpy as np, fastnn
    >>> from fastnn.interchange import load_npz, save_npz
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.npz")
    >>> save_npz(fastnn.Network([784, 30, 10], backend="numpy"), path)
    >>> with np.load(path) as arrays:
    ...     arrays["W2"].shape
    (30, 10)
    >>> load_npz(path, backend="numpy")
    Network(784-30-10: relu, softmax; 23,860 parameters, float32, numpy)
    """
    storage.save_npz(as_network(network), path)


def load_npz(
    path: str | Path, backend: str | None = None, threads: int | None = None, precision: str | None = None
) -> Network:
    """Read a network that `save_npz` wrote.

    Parameters
    ----------
    path, backend, threads, precision
        As for `fastnn.load`, which reads such files too and raises the same errors.
    """
    network = storage.build(Network, path, *storage.read_npz_network(path), backend, threads)
    network.precision = precision
    return network
