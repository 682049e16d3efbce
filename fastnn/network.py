"""The network as its users have it: a model with what one does with it.

What trains and predicts is imported where it is used, because it brings scipy along: `import fastnn` stays light.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arguments import check_validation_data
from fastnn.augmentation import Augment, as_augment
from fastnn.checks import check_count
from fastnn.errors import DataError, FileFormatError
from fastnn.history import History
from fastnn.model import Model
from fastnn.operations import Optimizer, as_optimizer, check_loss
from fastnn.schedules import Schedule, as_schedule

if TYPE_CHECKING:
    from fastnn.callbacks import Callback
    from fastnn.training_state import TrainingState

__all__ = ["Network", "load"]


class Network(Model):
    """A feed-forward network, trained by mini-batch back-propagation on the backend it belongs to.

    Parameters
    ----------
    sizes : sequence of int
        Features, hidden units layer by layer, outputs; at least two numbers.
    hidden : str or sequence of str
        Activation of the hidden layers, one name for all or one each: identity, relu, leaky_relu, elu, softplus,
        sigmoid, tanh, gelu, silu, mish, or one that `fastnn.register` has added.
    output : {"softmax", "sigmoid", "identity", "exp"}
    bias : bool
    init : str or callable
        he, xavier, lecun, ``"uniform(low, high)"``, ``"normal(std)"``, or a function; see `fastnn.initializers`.
    dropout : float or sequence of float
        Share of units dropped in training: one number for all hidden layers, or one a layer beginning with the inputs.
    seed : int or None
        Of weights, sample order and dropout; None draws one.
    dtype : {"float32", "float64"}
    precision : {None, "bf16", "tf32"}
        Of the operands of matrix products, where the backend has that on this machine; weights, sums and all else stay
        float32. None: as `dtype`.
    scale, shift : float
        The network sees ``x * scale + shift``. Without `scale`, pixels are scaled by 1/255 and all else by 1. Pixels
        are uint8, and other integers from 0 to 255 if one of them is at least 128; for a network that was trained on
        pixels, all integers from 0 to 255. Floats are never taken for pixels.
    task : {"classification", "multilabel", "regression"} or None
        What the targets mean. None: what they look like in the first call of `fit`; rows of 0 and 1 with a single 1
        each are then classes, rows of 0 and 1 otherwise several labels.
    backend : str or None
        numpy, numba, cupy, auto; by default what `use_backend`, `set_backend` or FASTNN_BACKEND say.
    threads : int or None
        CPU threads; by default FASTNN_NUM_THREADS, or the cores this process may use.

    Attributes
    ----------
    history : History or None
        Of the last call of `fit`, also when that was interrupted.
    epochs_trained : int
        Sample order and dropout masks of an epoch depend on the seed and this number alone.
    loss : str or None
        Of the last call of `fit`.
    pixels : bool
        Whether it was trained on pixels.
    largest_input : float
        The largest magnitude of the samples of the first call of `fit`, after scaling; 0 before. Samples that are far
        larger get a warning.

    Raises
    ------
    ValueError
        If a parameter is not one of those above.
    BackendError
        If the backend asked for is unknown or not ready, or has not the precision asked for.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> net = fastnn.Network([2, 8, 2], seed=1, backend="numpy")
    >>> x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    >>> history = net.fit(x, [0, 1, 1, 0], epochs=500, batch_size=4, optimizer="adam(0.02)")
    >>> net.predict(x)
    array([0, 1, 1, 0])
    """

    # ---- training ----

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int = 5,
        batch_size: int = 64,
        loss: str | None = None,
        optimizer: str | Optimizer = "sgd",
        schedule: str | Schedule | None = None,
        validation_data: tuple[Any, ...] | None = None,
        sample_weight: Any = None,
        shuffle: bool = True,
        augment: str | Augment | None = None,
        callbacks: "Iterable[Callback | Callable[[Network, History], Any]]" = (),
        resume: "str | Path | TrainingState | None" = None,
        verbose: bool | str = "auto",
    ) -> History:
        """Train by mini-batch back-propagation, from the weights as they are.

        Parameters
        ----------
        x : array_like, (n, n_features) or (n, height, width)
            uint8, float32 and float64 arrays in C order are used where they lie, without a copy; those of PyTorch, JAX
            and CuPy too (by DLPack), also on a device where the backend computes. Matrices of scipy.sparse are made
            dense a few mini-batches at a time.
        y : array_like
            ``(n,)`` integer labels, or ``(n, n_outputs)`` one-hot or real targets; ``(n,)`` targets for one output.
        epochs : int
            Of the whole run, where one is resumed too.
        batch_size : int
            The last mini-batch of an epoch may be smaller, and is averaged over its own samples.
        loss : str or None
            cross_entropy, smoothed_cross_entropy, focal, binary_cross_entropy, quadratic, absolute, huber, hinge,
            poisson, or one that `fastnn.register` has added: a sum over outputs, a mean over samples. None: the one
            that belongs to the output.
        optimizer : str or Optimizer
            ``fastnn.SGD(0.1, momentum=0.9)``, ``"adam"``, ``"sgd(0.05)"``. Its state begins anew with every call,
            unless the call resumes a run.
        schedule : str, callable or None
            Factor on the learning rate; see `fastnn.schedules`.
        validation_data : (x, y) or (x, y, sample_weight)
        sample_weight : array_like, (n,)
            Weight 2 counts as the sample given twice.
        shuffle : bool
        augment : Deform, str, callable or None
            Change the samples at random whenever they are used: ``fastnn.Deform(rotate=15, elastic=(36, 6))``, or in
            text ``"deform(rotate=15)"``; or a function ``augment(x, generator)`` of the samples ``(B, n_features)`` of
            a mini-batch, as numpy's array, and of a `numpy.random.Generator`, which returns as many. A function is
            called by Python for every mini-batch; `Deform` is part of the compiled step. Validation data stay as they
            are.
        callbacks : iterable of callable
            Called as ``callback(network, history)`` after every epoch; training ends where one returns True. See
            `fastnn.callbacks` for those that there are, and for one's own.
        resume : str, Path, TrainingState or None
            A file that `Checkpoint` wrote: go on from there, with the same arguments, as if the run had never been
            stopped; to the last bit on the same backend and machine. `epochs` may be more than they were.
        verbose : bool or "auto"
            Progress on stderr; auto: if that is a terminal.

        Returns
        -------
        History

        Raises
        ------
        DataError
            If the data do not fit the network; before anything is changed.
        FileFormatError, OSError
            If `resume` cannot be read.
        ValueError
            If another argument is wrong, or not as it was in the run that is resumed; before anything is changed.
        DivergedError
            If the loss becomes NaN or infinite; the weights from before that epoch are kept.
        KeyboardInterrupt
            On Ctrl-C; the weights are those of the last mini-batch and `history` has the epoch so far.
        """
        from fastnn.callbacks import as_callbacks
        from fastnn.evaluation import Evaluator
        from fastnn.runs import Run
        from fastnn.storage import load_state
        from fastnn.workspace import Workspace

        epochs = check_count("epochs", epochs, least=0)
        batch_size = check_count("batch_size", batch_size)
        loss, optimizer, augment = check_loss(loss, self.output), as_optimizer(optimizer), as_augment(augment)
        state = load_state(resume) if isinstance(resume, str | Path) else resume
        workspace = Workspace(
            self,
            x,
            y,
            batch_size,
            loss=loss,
            sample_weight=sample_weight,
            optimizer=optimizer,
            training=True,
            augment=augment,
        )
        validate = None
        if validation_data is not None:
            try:
                validate = Evaluator(self, *check_validation_data(validation_data), loss=loss, task=workspace.data.task)
            except DataError as error:
                raise DataError(f"validation data: {error}") from None
        run = Run(
            workspace,
            optimizer,
            as_schedule(schedule),
            loss=loss,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            augment=augment,
            validate=validate,
            callbacks=as_callbacks(callbacks),
            verbose=verbose,
        )
        if state is not None:
            run.resume(state)
        return run.train()

    def gradients(
        self, x: Any, y: Any, *, loss: str | None = None, sample_weight: Any = None, dropout: int | None = None
    ) -> tuple[float, list[tuple[np.ndarray, np.ndarray | None]]]:
        """Loss over all of `x` and its gradient, for people who write their own loop.

        Parameters
        ----------
        x, y, loss, sample_weight
            As in `fit`.
        dropout : int or None
            Number of the dropout masks to apply, one's own count of steps; None: no dropout.

        Returns
        -------
        loss : float
        gradients : list of (dW, db)
            Like `get_weights`.
        """
        from fastnn.training import gradients
        from fastnn.workspace import Workspace

        step = 0 if dropout is None else check_count("dropout", dropout, least=0)
        workspace = Workspace(
            self,
            x,
            y,
            np.iinfo(np.int64).max,
            loss=check_loss(loss, self.output),
            sample_weight=sample_weight,
            training=True,
            dropout=dropout is not None,
        )
        return gradients(workspace, step)

    # ---- predictions ----

    def predict_proba(self, x: Any) -> Any:
        """Outputs for samples `x`, ``(n, n_outputs)`` of the network's dtype; with softmax or sigmoid probabilities.

        For samples of PyTorch, JAX or CuPy the outputs are an array of that library, on the same device.
        """
        from fastnn.evaluation import outputs

        return outputs(self, x)

    def predict(self, x: Any) -> Any:
        """Predictions for samples `x`.

        Returns
        -------
        numpy.ndarray, or an array of the library that `x` is from
            ``(n,)`` int64 labels; for multi-label tasks ``(n, n_outputs)`` int64 of 0 and 1, for regression the
            outputs, both ``(n,)`` where there is one output. Which it is follows from the targets seen in training,
            and before that from the output activation.
        """
        from fastnn.evaluation import predictions

        return predictions(self, x)

    def evaluate(self, x: Any, y: Any, *, loss: str | None = None, sample_weight: Any = None) -> dict[str, float]:
        """Mean loss and accuracy (NaN for regression) over samples `x` with labels or targets `y`.

        The loss is that of the last call of `fit`, unless one is named.
        """
        from fastnn.evaluation import Evaluator

        loss = check_loss(self.loss if loss is None else loss, self.output)
        value, accuracy = Evaluator(self, x, y, sample_weight, loss=loss)()
        return {"loss": value, "accuracy": accuracy}

    # ---- files and notebooks ----

    def save(self, path: str | Path) -> None:
        """Write weights, configuration and history, atomically: to ``.npz`` if `path` ends so, else as safetensors.

        `fastnn.load` reads both; for other formats see `fastnn.interchange`.
        """
        from fastnn.storage import save

        save(self, path)

    def _repr_html_(self) -> str:
        from fastnn.network_html import network_html

        return network_html(self)


def load(
    path: str | Path, backend: str | None = None, threads: int | None = None, precision: str | None = None
) -> Network:
    """Read a network that `Network.save` or a `Checkpoint` wrote: safetensors or ``.npz``.

    Parameters
    ----------
    path : str or Path
    backend, threads, precision
        As for `Network`; a file does not say on which backend, and how, it is to be run.

    Raises
    ------
    FileFormatError
        If the file is damaged, of another kind, or of a newer format.
    OSError
        If it cannot be read.
    """
    from fastnn import storage
    from fastnn.file_kinds import file_kind

    kind = file_kind(path)
    if kind in ("torch", "arrays"):
        raise FileFormatError(
            f"{path} is not one of fastnn's files; of weights without activations, as of PyTorch or Keras, "
            f"`fastnn convert {path} NAME.safetensors --hidden NAME --output NAME` makes one"
        )
    content = storage.read_npz_network(path) if kind == "npz" else storage.read_network(path)
    network = storage.build(Network, path, *content, backend, threads)
    network.precision = precision
    return network
