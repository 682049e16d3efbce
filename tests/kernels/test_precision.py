"""Matrix products in bfloat16: what they are products of, who has them, and what they do to a network."""

import itertools

import numpy as np
import pytest

import fastnn
from fastnn.kernels import numba_kernels
from fastnn.operations import ACTIVATIONS

needs_bf16 = pytest.mark.skipif("bf16" not in numba_kernels.precisions(), reason="this CPU has no AVX512-BF16")
numba_only = pytest.mark.parametrize("backend", ["numba"], indirect=True)
SIZES = [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 300]


def rounded(values):
    """To bfloat16, to nearest and ties to even, as float64: the upper half of a float32's bits."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return bits.astype(np.uint32).view(np.float32).astype(np.float64)


def multiply_all(precision, x, W, delta, threads):
    """z = x W, dX = delta W', dW = x' delta, and W after an SGD step, by the numba kernels."""
    (rows, n_in), n_out = x.shape, W.shape[1]
    team = numba_kernels.make_team(threads, [n_in, n_out], rows, np.dtype(np.float32), precision)
    z, dX = (np.full((rows, n), np.nan, np.float32) for n in (n_out, n_in))
    dW, after = np.full_like(W, np.nan), W.copy()
    none, db = np.empty(0, np.float32), np.zeros(n_out, np.float32)
    identity = numba_kernels.load_activation(ACTIVATIONS["identity"], np.dtype(np.float32))
    calls = {
        numba_kernels.dense: (x, W, none, identity, z, z),
        numba_kernels.input_gradient: (delta, W, identity, x, x, dX),
        numba_kernels.dense_gradient: (x, delta, dW, db),
        numba_kernels.dense_sgd: (x, delta, np.full((1, 3), 0.5), 0, 0.25, after, none),
    }
    for kernel, arguments in calls.items():
        numba_kernels.launch(kernel, [(*arguments, member) for member in team])
    return z, dX, dW, after


def largest_error(found, x, W, delta):
    """Relative to the largest element, against products of operands rounded to bfloat16."""
    x, delta, rounded_W = rounded(x), rounded(delta), rounded(W)
    step = x.T @ delta
    expected = x @ rounded_W, delta @ rounded_W.T, step, W - 0.5 * (step + 0.25 * W)
    return max(np.abs(f - e).max() / np.abs(e).max() for f, e in zip(found, expected, strict=True))


@numba_only
@needs_bf16
@pytest.mark.parametrize("seed", range(40))
def test_products_are_those_of_rounded_operands(full_teams, seed):
    rng = np.random.default_rng(seed)
    rows, n_in, n_out = rng.choice(SIZES, 3)
    shapes = (rows, n_in), (n_in, n_out), (rows, n_out)
    x, W, delta = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    found = multiply_all("bf16", x, W, delta, 1)
    assert largest_error(found, x, W, delta) < 1e-5
    for threads in (2, 3):
        again = multiply_all("bf16", x, W, delta, threads)
        for one, other in zip(found, again, strict=True):
            np.testing.assert_array_equal(one, other, f"{threads} threads")


@numba_only
@needs_bf16
def test_check_notices_full_precision(full_teams):
    rng = np.random.default_rng(0)
    x, W, delta = (rng.standard_normal(shape).astype(np.float32) for shape in ((20, 30), (30, 40), (20, 40)))
    assert largest_error(multiply_all(None, x, W, delta, 1), x, W, delta) > 1e-4


@needs_bf16
def test_network_learns_as_in_float32():
    data = fastnn.datasets.load("digits")
    accuracies, losses = [], []
    for precision in (None, "bf16"):
        network = fastnn.Network([784, 64, 32, 10], backend="numba", precision=precision)
        history = network.fit(data.x_train, data.y_train, epochs=3, optimizer="sgd(0.05)")
        assert history.precision == precision
        losses.append(history.loss)
        accuracies.append(network.evaluate(data.x_test, data.y_test)["accuracy"])
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    assert abs(accuracies[0] - accuracies[1]) < 0.01


@needs_bf16
def test_precision_can_be_changed():
    network = fastnn.Network([30, 20, 5], backend="numba")
    x = np.random.default_rng(0).random((4, 30), np.float32)
    full = network.predict_proba(x)
    network.precision = "bf16"
    assert "bf16" in repr(network)
    reduced = network.predict_proba(x)
    assert 0 < np.abs(full - reduced).max() < 0.02
    network.precision = None
    np.testing.assert_array_equal(network.predict_proba(x), full)


@needs_bf16
def test_saved_network_is_loaded_in_the_precision_asked_for(tmp_path):
    network = fastnn.Network([6, 5, 4], backend="numba", precision="bf16")
    network.save(tmp_path / "net.safetensors")
    assert fastnn.load(tmp_path / "net.safetensors", "numba").precision is None
    assert fastnn.load(tmp_path / "net.safetensors", "numba", precision="bf16").precision == "bf16"


@needs_bf16
def test_network_with_a_precision_does_not_move_where_there_is_none():
    network = fastnn.Network([6, 5, 4], backend="numba", precision="bf16")
    with pytest.raises(fastnn.BackendError, match=r"precision='bf16': backend numpy has no reduced precision"):
        network.to("numpy")
    assert network.backend == "numba"
    network.precision = None
    assert network.to("numpy").backend == "numpy"


def test_unavailable_precision_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(numba_kernels, "PRECISE_PRODUCTS", {})
    for backend, precision in itertools.product(("numpy", "numba"), ("bf16", "tf32")):
        with pytest.raises(fastnn.BackendError, match=f"precision='{precision}': backend {backend} has no"):
            fastnn.Network([3, 4, 2], backend=backend, precision=precision)


def test_wrong_precision_is_named():
    with pytest.raises(ValueError, match=r"^unknown precision 'fp8'; Choices: bf16, tf32\.$"):
        fastnn.Network([3, 4, 2], precision="fp8")
    with pytest.raises(ValueError, match=r"less than that of dtype='float32', got 'float64'"):
        fastnn.Network([3, 4, 2], dtype="float64", precision="bf16")
