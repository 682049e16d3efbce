"""A mini-batch called from Python, whole epochs, and predictions: what a user of a network waits for."""

import itertools

import numpy as np
import pytest

import fastnn
from fastnn.bench import reference
from fastnn.bench.kernel_calls import TOLERANCES
from fastnn.bench.levels import DEEP, MIDDLE, network_name

NETWORKS = pytest.mark.parametrize("sizes", [MIDDLE, DEEP], ids=network_name)
BATCH_SIZES = pytest.mark.parametrize("batch_size", [64, pytest.param(256, marks=pytest.mark.full)])
SAMPLES, FEWER = 6400, 1280


@BATCH_SIZES
@NETWORKS
def test_step(make_training, sizes, batch_size, timed):
    training = make_training("float32", None, sizes, batch_size, samples=SAMPLES)
    training.set_rates()

    steps = itertools.cycle(range(SAMPLES // batch_size))
    notes = {"batch_size": batch_size, "network": network_name(sizes)}
    group, rates = f"step {notes['network']}, batch {batch_size}", {"samples_per_second": batch_size}
    timed(group, lambda: training.step(next(steps)), rates=rates, **notes)


@BATCH_SIZES
@NETWORKS
def test_epoch(arithmetic, make_training, sizes, batch_size, full, timed):
    """The order's shuffle, the gather of uint8 images and the loss included."""
    dtype, precision = arithmetic
    samples = SAMPLES if full or len(sizes) == 3 else FEWER
    training = make_training(dtype, precision, sizes, batch_size, samples=samples)
    notes = {"dtype": dtype, "precision": precision, "batch_size": batch_size, "network": network_name(sizes)}
    notes |= {"samples": samples, "plan": training.plan}
    group, rates = f"epoch {notes['network']}, batch {batch_size}", {"samples_per_second": samples}
    timed(group, training.epoch, rates=rates, **notes)


@pytest.mark.parametrize("samples", [1, 64, 10_000])
@pytest.mark.parametrize("sizes", [MIDDLE, pytest.param(DEEP, marks=pytest.mark.full)], ids=network_name)
def test_predict(backend, dataset, threads, sizes, samples, timed):
    """By ``Network.predict_proba``, its preparations included."""
    network, x = (
        fastnn.Network(sizes, backend=backend, threads=threads),
        dataset.x_train[:samples].reshape(-1, sizes[0]),
    )
    with network.kernels.limit_threads(1):  # numpy's BLAS, apart from scipy's, would spin in what is timed next
        expected = reference.forward(reference.copy_weights(network.get_weights()), reference.scaled(x))[-1]
    assert np.abs(network.predict_proba(x) - expected).max() <= TOLERANCES["float32"] * expected.max()

    notes = {"network": network_name(sizes), "samples": samples}
    group, rates = f"predict {notes['network']}, {samples:,} samples", {"samples_per_second": samples}
    timed(group, network.predict_proba, x, rates=rates, **notes)
