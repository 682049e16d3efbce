"""What a classifier predicts, beside what is right: the numbers that the figures draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnn.errors import DataError
from fastnn.kernels.codes import CLASSIFICATION, MULTILABEL
from fastnn.operations import check_loss
from fastnn.optional import require

if TYPE_CHECKING:
    from fastnn.network import Network

__all__ = ["ClassReport", "Mistakes", "Predictions", "check_names", "class_report", "mistakes", "predictions"]

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]


class Predictions(NamedTuple):
    """What a network predicts for labelled samples.

    Attributes
    ----------
    targets, predictions : numpy.ndarray
        Labels, (n,) int64.
    confidences : numpy.ndarray
        The outputs for the predicted classes, (n,); probabilities if the network's output is softmax or sigmoid.
    n_classes : int
    """

    targets: Labels
    predictions: Labels
    confidences: Floats
    n_classes: int


class Mistakes(NamedTuple):
    """The samples that a network got wrong, the largest confidence first.

    Attributes
    ----------
    indices : numpy.ndarray
        Rows of the samples, (n,) int64.
    targets, predictions, confidences : numpy.ndarray
        As in `Predictions`.
    """

    indices: Labels
    targets: Labels
    predictions: Labels
    confidences: Floats


@dataclass(frozen=True)
class ClassReport:
    """Precision, recall and F1 of each class; as text a table.

    Attributes
    ----------
    names : tuple of str
    precision : numpy.ndarray
        Share of the predictions of a class that are right, (n_classes,); NaN for a class that was never predicted.
    recall : numpy.ndarray
        Share of the samples of a class that were found; NaN for a class without samples.
    f1 : numpy.ndarray
        The harmonic mean of both; NaN for a class with neither samples nor predictions.
    support : numpy.ndarray
        Number of samples of a class, (n_classes,) int64.
    accuracy : float
        Over all samples.
    """

    names: tuple[str, ...]
    precision: Floats
    recall: Floats
    f1: Floats
    support: Labels
    accuracy: float

    def __str__(self) -> str:
        width = max(5, *map(len, self.names))
        lines = [f"{'class':{width}s}  precision   recall       F1  samples"]
        for name, *shares, support in zip(self.names, self.precision, self.recall, self.f1, self.support, strict=True):
            precision, recall, f1 = ("-" if np.isnan(share) else f"{100 * share:.2f} %" for share in shares)
            lines.append(f"{name:{width}s}  {precision:>9s}  {recall:>8s} {f1:>8s}  {support:7,d}")
        lines.append(f"\naccuracy {100 * self.accuracy:.2f} % of {self.support.sum():,} samples")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON, None for NaN."""
        columns = {
            name: [None if np.isnan(value) else value for value in getattr(self, name).tolist()]
            for name in ("precision", "recall", "f1", "support")
        }
        return {"names": list(self.names), **columns, "accuracy": self.accuracy}


def predictions(network: "Network", x: Any, y: Any) -> Predictions:
    """What a network predicts for labelled samples.

    Parameters
    ----------
    network : Network
    x, y
        Samples and labels, or one-hot rows, as for `Network.evaluate`.

    Raises
    ------
    DataError
        If the data do not fit the network, or are no classification.
    """
    from fastnn.samples import as_targets  # brings scipy

    outputs = network.predict_proba(x)
    n, n_out = outputs.shape
    loss = check_loss(network.loss, network.output)
    found = as_targets(y, n, n_out, network.dtype, network.output, loss, task=network.decided_task)
    if n_out == 1 and found.task == MULTILABEL:
        predicted = (outputs[:, 0] >= 0.5).astype(np.int64)
        confidences = np.where(predicted, outputs[:, 0], 1 - outputs[:, 0])
        return Predictions(found.rows[:, 0].astype(np.int64), predicted, confidences, 2)
    if found.task != CLASSIFICATION:
        kind = "several labels a sample" if found.task == MULTILABEL else "a regression"
        raise DataError(f"expected one class for each sample, got {kind}: only curves and weights can be drawn of that")
    targets = found.labels.astype(np.int64) if found.labels.size else found.rows.argmax(axis=1)
    return Predictions(targets, outputs.argmax(axis=1), outputs.max(axis=1), n_out)


def mistakes(network: "Network", x: Any, y: Any) -> Mistakes:
    """The samples that `network` gets wrong, those of the largest confidence in the wrong prediction first.

    Parameters
    ----------
    network, x, y
        As for `predictions`, which raises the same errors.

    Examples
    --------
    >>> import numpy as np, fastnn.plots
    >>> net = fastnn.Network([2, 2], backend="numpy")
    >>> net.set_weights([(np.eye(2), np.zeros(2))])
    >>> fastnn.plots.mistakes(net, np.array([[1.0, 0], [3, 0], [0, 1]]), [1, 1, 1]).indices
    array([1, 0])
    """
    found = predictions(network, x, y)
    wrong = np.flatnonzero(found.targets != found.predictions)
    order = wrong[np.argsort(-found.confidences[wrong], kind="stable")]
    return Mistakes(order, found.targets[order], found.predictions[order], found.confidences[order])


def class_report(network: "Network", x: Any, y: Any, names: Sequence[str] | None = None) -> ClassReport:
    """Precision, recall and F1 of each class, computed by scikit-learn.

    Parameters
    ----------
    network, x, y
        As for `predictions`, which raises the same errors.
    names : sequence of str or None
        Of the classes; None: their numbers.

    Examples
    --------
    >>> import numpy as np, fastnn.plots
    >>> net = fastnn.Network([2, 2], backend="numpy")
    >>> net.set_weights([(np.eye(2), np.zeros(2))])
    >>> print(fastnn.plots.class_report(net, np.array([[1.0, 0], [3, 0], [0, 1]]), [0, 1, 1], names=["cat", "dog"]))
    class  precision   recall       F1  samples
    cat      50.00 %  100.00 %  66.67 %        1
    dog     100.00 %   50.00 %  66.67 %        2
    <BLANKLINE>
    accuracy 66.67 % of 3 samples
    """
    metrics = require("sklearn.metrics", "sklearn")
    found = predictions(network, x, y)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        found.targets, found.predictions, labels=range(found.n_classes), zero_division=np.nan
    )
    accuracy = float(np.mean(found.targets == found.predictions))
    return ClassReport(tuple(check_names(names, found.n_classes)), precision, recall, f1, support, accuracy)


def check_names(names: Sequence[str] | None, n_classes: int) -> list[str]:
    """Names of classes, their numbers for None; a ValueError if there are not as many as classes."""
    names = list(map(str, range(n_classes) if names is None else names))
    if len(names) != n_classes:
        raise ValueError(f"expected names for {n_classes} classes, got {len(names)}: {', '.join(names)}")
    return names
