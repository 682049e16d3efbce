"""Outputs for one sample, a batch, and a test set, by ``Network.predict_proba``, its preparations included."""

import numpy as np
import pytest
from fastnn.bench import reference
from fastnn.bench.kernel_calls import TOLERANCES

import fastnn

SIZES = [(784, 128, 10), pytest.param((784, 512, 512, 512, 10), marks=pytest.mark.full)]


@pytest.mark.parametrize("samples", [1, 64, 10_000])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes)))
def test_predict(backend, sizes, samples, dataset, threads, timed):
    images = dataset.x_train[:samples]
    x = images.reshape(len(images), -1)
    network = fastnn.Network(sizes, backend=backend, threads=threads)
    with network.kernels.limit_threads(1):  # see `Training.expected`
        expected = reference.forward(reference.as_float64(network.get_weights()), x / 255.0)[-1]
    assert np.abs(network.predict_proba(x) - expected).max() <= TOLERANCES["float32"] * expected.max()

    name = "-".join(map(str, sizes))
    notes = {"backend": backend, "dtype": "float32", "precision": None, "network": name, "samples": samples}
    group = f"predict {name}, {samples:,} samples"
    timed(group, network.predict_proba, x, rates={"samples_per_second": samples}, **notes)
