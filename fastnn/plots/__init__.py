"""Figures of what a network learned, and the numbers behind them.

Each function returns a `matplotlib.figure.Figure`, which a notebook shows by itself and ``figure.savefig(path)`` writes
to a file. matplotlib is an extra: ``pip install 'fastnn-mlp[plot]'``. The command ``fastnn plot`` draws them all.

>>> import fastnn.plots
>>> figure = fastnn.plots.weights(fastnn.Network([784, 16, 10], backend="numpy"), theme="dark")
>>> figure.savefig("weights.png")  # doctest: +SKIP
"""

from fastnn.plots.augmentation import augmented
from fastnn.plots.classes import precision_recall
from fastnn.plots.curves import curves
from fastnn.plots.live import Live
from fastnn.plots.matrix import confusion_matrix, prediction_matrix
from fastnn.plots.misclassified import misclassified
from fastnn.plots.predictions import ClassReport, Mistakes, Predictions, class_report, mistakes, predictions
from fastnn.plots.weights import unit_importance, weights

__all__ = [
    "ClassReport",
    "Live",
    "Mistakes",
    "Predictions",
    "augmented",
    "class_report",
    "confusion_matrix",
    "curves",
    "misclassified",
    "mistakes",
    "precision_recall",
    "prediction_matrix",
    "predictions",
    "unit_importance",
    "weights",
]
