"""What some tests need beyond the package: skipped without it, visibly, or failing where FASTNN_REQUIRE names it."""

import os
from pathlib import Path

import pytest

from fastnn.kernels import numpy_kernels

REQUIRED = [name for name in os.environ.get("FASTNN_REQUIRE", "numpy,numba").split(",") if name]
CUDA = Path(numpy_kernels.__file__).parent / "cuda"


def missing(name, why):
    """Skip the test that asks, or fail it."""
    if name in REQUIRED:
        pytest.fail(f"{why} (FASTNN_REQUIRE={','.join(REQUIRED)})")
    pytest.skip(why)


def nvrtc():
    """The bindings of CUDA's run-time compiler, which needs neither device nor driver."""
    try:
        from cuda.bindings import nvrtc

        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:
        missing("nvrtc", f"no NVRTC: {error}")
    return nvrtc
