"""Libraries that only some functions need: extras of the installation."""

import contextlib
import importlib
import os
import sys
from types import ModuleType

from fastnn.errors import MissingLibraryError

__all__ = ["require", "require_matplotlib"]


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


def require_matplotlib(extra: str = "plot") -> ModuleType:
    """Import matplotlib, as `require` does, even where MPLBACKEND names a backend that is not there.

    A notebook's kernel hands its own down to the commands that are run from it. Figures are saved without pyplot, to
    which alone the variable matters.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        matplotlib = require("matplotlib", extra)
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):  # matplotlib does the same at import, and fails
            matplotlib.rcParams["backend"] = backend
    return matplotlib
