"""The kernels as the benches call them: right where the kernel is, rejected where it is not, honestly counted."""

import inspect
import json
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import low_precision
import numpy as np
import pytest

from fastnn.bench import kernel_calls
from fastnn.kernels import numpy_kernels
from fastnn.step import KERNELS
from fastnn.threads import resolve_threads

ROOT = Path(__file__).parents[2]
SIZES, ROWS = (25, 9, 7, 5), 6  # images of 5 x 5
RESULTS = {  # places of what each kernel writes
    "gather": [6],
    "deform": [11],
    "gather_targets": [6],
    "dropout": [5],
    "dense": [4, 5],
    "loss_gradient": [6, 7, 8],
    "input_gradient": [5],
    "dense_gradient": [2, 3],
    "dense_sgd": [5, 6],
    "clip": [0],
    "apply_optimizer": [0, 2],
}


def parameters_of(kernel):
    return list(inspect.signature(getattr(numpy_kernels, kernel)).parameters)


def all_calls(kernels, **options):
    return list(kernel_calls.calls(kernels, **{"sizes": SIZES, "rows": ROWS} | options))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_kernels_are_within_tolerance(kernels, full_teams, dtype, threads):
    calls = all_calls(kernels, dtype=dtype, threads=threads)
    assert {call.kernel for call in calls} == set(KERNELS)
    for call in calls:
        assert call.error() <= call.tolerance, (call.kernel, call.shape)


def test_repeated_kernels_do_not_grow_or_fade(kernels):
    """What is timed: more calls than a launch has, on the same operands. Denormals, too, would take another time."""
    for call in all_calls(kernels, sizes=(5, 4, 3), rows=2):
        call.run(0)
        call.run(1030)
        _, *operands, _ = call.run.__self__._calls[0]
        for array in (kernels.to_numpy(operand) for operand in operands if hasattr(operand, "shape")):
            values = np.abs(array[array != 0].astype(np.float64))
            assert ((values > 1e-30) & (values < 2**32)).all(), call.kernel


def test_reduced_precision_is_told_from_full(kernels):
    for precision in kernels.precisions():
        for call in all_calls(kernels, precision=precision, sizes=(64, 48, 10), rows=32):
            full = kernel_calls.TOLERANCES["float32"]
            assert call.error() <= call.tolerance
            assert (call.tolerance > full) == (call.kernel in kernel_calls.PRODUCTS)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_products_of_other_operands_are_rejected(precision):
    """Those of operands rounded alike pass. (A step of SGD changes too little of W to show how it was rounded.)"""
    other = {"bf16": "tf32", "tf32": "bf16"}[precision]
    only = [kernel for kernel in kernel_calls.PRODUCTS if kernel != "dense_sgd"]
    for kernels, right in [(precision, True), (other, False), (None, False)]:
        module = low_precision.make_kernels(kernels) if kernels else numpy_kernels
        for call in all_calls(module, precision=precision, sizes=(64, 48, 10), rows=32, only=only):
            assert (call.error() <= call.tolerance) == right, (kernels, call.kernel, call.shape)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("fault", low_precision.FAULTS)
@pytest.mark.parametrize("kernel", kernel_calls.PRODUCTS)
def test_wrong_product_of_low_precision_is_rejected(kernel, fault, precision):
    module = low_precision.make_kernels(precision, kernel, fault)
    calls = all_calls(module, precision=precision, sizes=(8, 8, 8), rows=8, only=[kernel])
    for call in calls:
        assert not call.error() <= call.tolerance, call.shape


def spoiled(kernel, place, spoil):
    """The numpy kernels with one that spoils one of its results afterwards."""
    right, module = getattr(numpy_kernels, kernel), types.ModuleType("spoiled_kernels")
    vars(module).update(vars(numpy_kernels))

    def wrong(*arguments):
        right(*arguments)
        spoil(arguments[place])

    setattr(module, kernel, wrong)
    return module


def scale(array):
    array *= 1.001


def forget(array):
    array.reshape(-1)[-1] = np.nan


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kernel", "place"), [(name, place) for name, places in RESULTS.items() for place in places])
def test_wrong_kernel_is_rejected(kernel, place, dtype):
    for spoil in (scale, forget):
        for call in all_calls(spoiled(kernel, place, spoil), only=[kernel], dtype=dtype):
            if (kernel, place) == ("dense", 4) and call.shape != "6 x 7 x 5":
                continue  # the hidden layers' z is their a
            assert not call.error() <= call.tolerance
            assert math.isfinite(call.error()) == (spoil is scale)


@pytest.mark.parametrize("kernel", [name for name in KERNELS if "step" in parameters_of(name)])
def test_kernel_that_always_does_the_first_step_is_rejected(kernel):
    right, module = getattr(numpy_kernels, kernel), types.ModuleType("first_step_kernels")
    vars(module).update(vars(numpy_kernels))
    place = parameters_of(kernel).index("step")

    def wrong(*arguments):
        right(*arguments[:place], 0, *arguments[place + 1 :])

    setattr(module, kernel, wrong)
    for call in all_calls(module, only=[kernel]):
        assert not call.error() <= call.tolerance


def test_operations_and_bytes_are_counted():
    calls = {(call.kernel, call.shape): call for call in kernel_calls.calls(numpy_kernels)}
    found = {key: (call.flops, call.bytes) for key, call in calls.items()}
    n = 784 * 128 + 128 + 128 * 10 + 10
    assert n == 101_770
    assert found["gather", "64 x 784"] == (50_176, 64 * (8 + 784 + 4 * 784))
    assert found["gather_targets", "64 x 10"] == (0, 64 * (8 + 4 + 40))
    assert found["dropout", "64 x 128"] == (8_192, 65_536)
    assert found["dense", "64 x 784 x 128"] == (12_845_056 + 2 * 8_192, 4 * (50_176 + 100_352 + 128 + 8_192))
    assert found["dense", "64 x 128 x 10"] == (163_840 + 6 * 640, 4 * (8_192 + 1_280 + 10 + 2 * 640))
    assert found["input_gradient", "64 x 128 x 10"] == (163_840 + 2 * 8_192, 4 * (640 + 1_280 + 2 * 8_192))
    assert found["dense_gradient", "64 x 128 x 10"] == (163_840 + 640, 4 * (8_192 + 640 + 1_280 + 10))
    assert found["dense_sgd", "64 x 128 x 10"] == (163_840 + 640 + 2_580, 4 * (8_192 + 640 + 2_580))
    assert found["clip", "101,770"] == (2 * n, 4 * n)
    assert found["apply_optimizer", "SGD, 101,770"] == (4 * n, 20 * n)
    assert found["apply_optimizer", "RMSprop, 101,770"] == (9 * n, 20 * n)
    assert found["apply_optimizer", "Adam, 101,770"] == (13 * n, 28 * n)
    assert list(found) == kernel_calls.shapes((784, 128, 10), 64)
    doubled = kernel_calls.calls(numpy_kernels, dtype="float64", only=["apply_optimizer"])
    assert [call.bytes for call in doubled] == [40 * n, 40 * n, 56 * n]


def test_shape_that_comes_again_is_left_out():
    found = kernel_calls.shapes((784, 512, 512, 512, 10), 64)
    assert len(set(found)) == len(found)
    assert [shape for kernel, shape in found if kernel == "dense"] == [
        "64 x 784 x 512",
        "64 x 512 x 512",
        "64 x 512 x 10",
    ]


def test_unknown_kernel_is_named():
    with pytest.raises(ValueError, match="no kernel conv; there are gather"):
        all_calls(numpy_kernels, only=["conv"])


def test_suite_runs_and_writes_what_it_measured(tmp_path):
    file = tmp_path / "step.json"
    chosen = "test_step and numpy and 784-128-10"
    command = [sys.executable, "-m", "pytest", "bench/bench_training.py", "-k", chosen, "-q"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
    environment |= {"FASTNN_REQUIRE": "numpy"}
    options = {"capture_output": True, "text": True, "cwd": ROOT, "env": environment, "timeout": 120, "check": False}
    done = subprocess.run([*command, f"--benchmark-json={file}"], **options)
    assert done.returncode == 0, done.stdout + done.stderr
    (measured,) = json.loads(file.read_text())["benchmarks"]
    assert measured["group"] == "step 784-128-10, batch 64"
    assert measured["stats"]["rounds"] >= 3
    notes = measured["extra_info"]
    assert (notes["backend"], notes["dtype"], notes["precision"]) == ("numpy", "float32", None)
    assert notes["threads"] == resolve_threads(None)
    assert notes["samples_per_second"] == pytest.approx(64 / measured["stats"]["min"])
