"""Each kernel on the shapes of three networks: seconds of a call, operations and bytes a second."""

import numpy as np
import pytest

from fastnn.bench import jobs, kernel_calls
from fastnn.bench.levels import DEEP, MIDDLE

NETWORKS = [(MIDDLE, 64), (DEEP, 64), (DEEP, 256)]
_SECONDS = 5e-3  # of a round at least: the way into compiled code, and a team's start, is then a small share


def cases():
    """Each kernel and shape once; float64 for the first network alone."""
    seen = set()
    for dtype, networks in (("float32", NETWORKS), ("float64", NETWORKS[:1])):
        for sizes, rows in networks:
            for kernel, shape in kernel_calls.shapes(sizes, rows):
                if (dtype, kernel, shape) not in seen:
                    seen.add((dtype, kernel, shape))
                    marks = pytest.mark.full if rows > 64 or dtype == "float64" else ()
                    name = f"{kernel}-{shape.replace(' ', '')}-{dtype}"
                    yield pytest.param(sizes, rows, kernel, shape, dtype, id=name, marks=marks)


def relate(kernels, peak, dtype):
    """FLOP/s to which those of a kernel are related; None for a device, whose peak is not measured here."""
    if peak is None or not isinstance(kernels.zeros((1,), np.dtype(dtype)), np.ndarray):
        return None
    return peak * 4 / np.dtype(dtype).itemsize  # half as many lanes in a vector


@pytest.mark.parametrize(("sizes", "rows", "kernel", "shape", "dtype"), list(cases()))
def test_kernel(kernels, sizes, rows, kernel, shape, dtype, threads, peak, timed):
    options = {"sizes": sizes, "rows": rows, "dtype": dtype, "threads": threads, "only": [kernel]}
    call = next(call for call in kernel_calls.calls(kernels, **options) if call.shape == shape)
    assert call.error() <= call.tolerance
    call.run(1)
    _, times = jobs.time_calls(call.run, 1, _SECONDS)
    most = relate(kernels, peak, dtype)
    rates = {
        "calls_per_second": times,
        "gflop_per_second": times * call.flops / 1e9,
        "gbyte_per_second": times * call.bytes / 1e9,
    }
    if most:
        rates["percent_of_peak"] = 100 * times * call.flops / most
    group = f"kernel {kernel} {shape}" + ("" if dtype == "float32" else f", {dtype}")
    notes = {"dtype": dtype, "kernel": kernel, "shape": shape, "flops": call.flops, "bytes": call.bytes}
    timed(group, call.run, times, rates=rates, calls=times, **notes)
