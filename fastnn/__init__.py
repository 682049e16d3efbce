"""Feed-forward networks: one back-propagation source on numpy, numba-jitted CPU kernels, or CuPy on the GPU."""

from fastnn import datasets, plots
from fastnn.augmentation import Deform
from fastnn.backends import BackendInfo, available_backends, set_backend, use_backend
from fastnn.callbacks import (
    AverageWeights,
    Callback,
    Checkpoint,
    CSVLog,
    EarlyStopping,
    LearningRateSchedule,
    ReduceLROnPlateau,
    TensorBoard,
)
from fastnn.committees import committee
from fastnn.errors import (
    BackendError,
    DataError,
    DatasetUnavailableError,
    DeviceMemoryError,
    DivergedError,
    FastnnError,
    FileFormatError,
    MissingLibraryError,
    SettingError,
)
from fastnn.history import History
from fastnn.many import train_many
from fastnn.network import Network, load
from fastnn.operations import register
from fastnn.operations.optimizers import SGD, Adagrad, Adam, AdamW, Lion, NAdam, RMSprop
from fastnn.schedules import Constant, Cosine, Exponential, Step
from fastnn.version import __version__

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "AverageWeights",
    "BackendError",
    "BackendInfo",
    "CSVLog",
    "Callback",
    "Checkpoint",
    "Constant",
    "Cosine",
    "DataError",
    "DatasetUnavailableError",
    "Deform",
    "DeviceMemoryError",
    "DivergedError",
    "EarlyStopping",
    "Exponential",
    "FastnnError",
    "FileFormatError",
    "History",
    "LearningRateSchedule",
    "Lion",
    "MissingLibraryError",
    "NAdam",
    "Network",
    "RMSprop",
    "ReduceLROnPlateau",
    "SettingError",
    "Step",
    "TensorBoard",
    "__version__",
    "available_backends",
    "committee",
    "datasets",
    "load",
    "plots",
    "register",
    "set_backend",
    "train_many",
    "use_backend",
]
