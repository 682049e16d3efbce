"""Datasets: MNIST and Fashion-MNIST found or downloaded, scikit-learn's digits offline, and files of your own.

>>> from fastnn import datasets
>>> data = datasets.load("digits")
>>> data.x_train.shape, data.x_train.dtype.name
((20000, 28, 28), 'uint8')
"""

from fastnn.datasets.catalogue import DATASETS
from fastnn.datasets.dataset import Dataset
from fastnn.datasets.idx import read_idx
from fastnn.datasets.loading import DATA_VARIABLE, load
from fastnn.datasets.npz import read_npz

__all__ = ["DATASETS", "DATA_VARIABLE", "Dataset", "load", "read_idx", "read_npz"]
