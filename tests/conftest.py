"""Fixtures: every test that takes `backend` runs on each backend; one that is not ready is skipped, visibly.

FASTNN_REQUIRE names backends, separated by commas, whose absence is a failure instead.
"""

import os

import pytest

from fastnn.backends import READY, available_backends

REQUIRED = [name for name in os.environ.get("FASTNN_REQUIRE", "numpy,numba").split(",") if name]


@pytest.fixture(params=["numpy", "numba", "cupy"])
def backend(request) -> str:
    """Name of a ready backend."""
    info = available_backends()[request.param]
    if info.state != READY:
        message = f"backend {info.name} is not ready: {info.state}: {info.reason}"
        if info.name in REQUIRED:
            pytest.fail(f"{message} (FASTNN_REQUIRE={','.join(REQUIRED)})")
        pytest.skip(message)
    return info.name


@pytest.fixture
def kernels(backend):
    """The kernel module of a ready backend."""
    from fastnn.backends import resolve_backend

    return resolve_backend(backend).kernels


@pytest.fixture(autouse=True)
def _no_backend_chosen(monkeypatch):
    """Tests choose for themselves; what the developer's shell says does not count."""
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
