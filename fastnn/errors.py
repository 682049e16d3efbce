"""The errors that a caller can meet; each message says what was expected, what came, and what to do next."""

__all__ = [
    "BackendError",
    "DataError",
    "DatasetUnavailableError",
    "DeviceMemoryError",
    "DivergedError",
    "FastnnError",
    "FileFormatError",
    "MissingLibraryError",
    "SettingError",
]


class FastnnError(Exception):
    """Base of every error that fastnn raises on purpose."""


class BackendError(FastnnError, RuntimeError):
    """The backend asked for is unknown or not ready on this machine."""


class SettingError(FastnnError, ValueError):
    """An environment variable says what cannot be done."""


class DataError(FastnnError, ValueError):
    """Samples, labels or weights that a network cannot take."""


class FileFormatError(DataError):
    """A file that is not what it should be: foreign, truncated, damaged or of a newer format."""


class DatasetUnavailableError(FastnnError, OSError):
    """A dataset that is neither on this machine nor to be downloaded."""


class DeviceMemoryError(FastnnError, MemoryError):
    """An array does not fit into the memory of the machine, or of its device, any more."""


class MissingLibraryError(FastnnError, ImportError):
    """A library that only this function needs is not installed."""


class DivergedError(FastnnError, ArithmeticError):
    """The training loss became NaN or infinite.

    Attributes
    ----------
    epoch : int
        The epoch it happened in, counted from 1 within the call of ``fit``.
    step : int
        The mini-batch of that epoch, counted from 1.
    """

    def __init__(self, message: str, epoch: int = 0, step: int = 0) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.step = step
