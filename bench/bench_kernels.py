"""Each kernel on the shapes of three networks: seconds of a call, operations and bytes a second."""

import time

import numpy as np
import pytest
from fastnn.bench import kernel_calls

NETWORKS = [((784, 128, 10), 64), ((784, 512, 512, 512, 10), 64), ((784, 512, 512, 512, 10), 256)]
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


def repetitions(run):
    """How many calls take `_SECONDS`, of two attempts the faster."""
    times = 1
    while min(seconds(run, times) for _ in range(2)) < _SECONDS:
        times *= 2
    return times


def seconds(run, times):
    start = time.perf_counter()
    run(times)
    return time.perf_counter() - start


def relate(kernels, peak, dtype):
    """FLOP/s to which those of a kernel are related; None for a device, whose peak is not measured here."""
    if peak is None or not isinstance(kernels.zeros((1,), np.dtype(dtype)), np.ndarray):
        return None
    return peak * 4 / np.dtype(dtype).itemsize  # half as many lanes in a vector


@pytest.mark.parametrize(("sizes", "rows", "kernel", "shape", "dtype"), list(cases()))
def test_kernel(backend, kernels, sizes, rows, kernel, shape, dtype, threads, peak, timed):
    options = {"sizes": sizes, "rows": rows, "dtype": dtype, "threads": threads, "only": [kernel]}
    call = next(call for call in kernel_calls.calls(kernels, **options) if call.shape == shape)
    assert call.error() <= call.tolerance
    call.run(1)
    times = repetitions(call.run)
    most = relate(kernels, peak, dtype)
    rates = {
        "calls_per_second": times,
        "gflop_per_second": times * call.flops / 1e9,
        "gbyte_per_second": times * call.bytes / 1e9,
    }
    if most:
        rates["percent_of_peak"] = 100 * times * call.flops / most
    group = f"kernel {kernel} {shape}" + ("" if dtype == "float32" else f", {dtype}")
    notes = {"backend": backend, "dtype": dtype, "precision": None, "kernel": kernel, "shape": shape}
    timed(group, call.run, times, rates=rates, calls=times, flops=call.flops, bytes=call.bytes, **notes)
