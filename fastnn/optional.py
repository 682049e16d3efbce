"""Libraries that only some functions need: extras of the installation."""

import importlib
from types import ModuleType

from fastnn.errors import MissingLibraryError

__all__ = ["require"]


def require(library: str, extra: str) -> ModuleType:
    """Import a library, or say how to get it: `extra` is the group of pyproject.toml that brings it.

    Raises
    ------
    MissingLibraryError
        If it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise MissingLibraryError(f"this needs {library} ({error}): pip install 'fastnn-mlp[{extra}]'") from error
