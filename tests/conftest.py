"""Fixtures: every test that takes `backend` runs on each backend; one that is not ready is skipped, visibly.

FASTNN_REQUIRE names backends, separated by commas, whose absence is a failure instead. `cuda_on_cpu` is the cupy
backend with its kernels executed by the CPU; what runs on a device is marked ``gpu``.
"""

import signal

import cuda_on_cpu
import pytest
import require

from fastnn.backends import READY, available_backends

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as under nohup; processes that tests start would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["numpy", "numba", pytest.param("cupy", marks=pytest.mark.gpu), "cuda_on_cpu"])
def backend(request, monkeypatch) -> str:
    """Name of a ready backend."""
    if request.param == "cuda_on_cpu":
        cuda_on_cpu.register(monkeypatch.setitem)
    info = available_backends()[request.param]
    if info.state != READY:
        message = f"backend {info.name} is not ready: {info.state}: {info.reason}"
        require.missing(info.name, message)
    return info.name


@pytest.fixture
def kernels(backend):
    """The kernel module of a ready backend."""
    from fastnn.backends import resolve_backend

    return resolve_backend(backend).kernels


@pytest.fixture
def gemm(request, backend, monkeypatch) -> str | None:
    """The matrix products that FASTNN_GEMM names; None where there is no choice. See `products`."""
    if request.param == "simd":
        from fastnn.kernels.numba_simd import find_isa

        if find_isa() is None:
            pytest.skip("numba_simd does not know this CPU")
    if request.param is not None:
        monkeypatch.setenv("FASTNN_GEMM", request.param)
    return request.param


@pytest.fixture
def full_teams(backend, monkeypatch):
    """Teams are as large as one asks for: however small the work is, and however busy the cores are."""
    if backend == "numba":
        from fastnn.kernels import numba_kernels, numba_team

        monkeypatch.setattr(numba_kernels, "_WORK", 1e-9)
        monkeypatch.setattr(numba_team._Oversubscription, "limit", lambda self, size: size)


@pytest.fixture(autouse=True)
def _no_backend_chosen(monkeypatch):
    """Tests choose for themselves; what the developer's shell says does not count."""
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    monkeypatch.delenv("FASTNN_GEMM", raising=False)
