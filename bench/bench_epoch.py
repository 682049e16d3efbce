"""Whole epochs over a part of the data: the order's shuffle, the gather of uint8 images and the loss included."""

import math

import pytest

NETWORKS = [(784, 128, 10), (784, 512, 512, 512, 10)]
SAMPLES, CHECKED = 6400, 1280
TOLERANCES = {
    # Of the mean loss, and of the weights relative to their largest change, after an epoch of `CHECKED` samples. With
    # 6400 of them and three hidden layers, rounding in float32 has grown to 6e-4 and 3e-2: a unit more or less near 0
    # makes another network. With these it is 2e-8 and 2e-6. In tf32
    # and bf16, where the reference's operands are rounded alike, it is up to 5e-4 and 5e-2.
    "float64": (1e-12, 1e-10),
    "float32": (1e-6, 1e-3),
    "tf32": (1e-3, 5e-2),
    "bf16": (1e-3, 1e-1),
}


@pytest.mark.parametrize("batch_size", [64, pytest.param(256, marks=pytest.mark.full)])
@pytest.mark.parametrize("sizes", NETWORKS, ids=lambda sizes: "-".join(map(str, sizes)))
def test_epoch(backend, arithmetic, make_training, sizes, batch_size, full, timed):
    dtype, precision = arithmetic
    training = make_training(dtype, precision, sizes, batch_size, samples=CHECKED)
    loss = training.epoch()
    weights, losses = training.expected(training.order())
    of_loss, of_weights = TOLERANCES[precision or dtype]
    assert loss == pytest.approx(math.fsum(losses) / len(losses), rel=of_loss)
    assert training.error(weights) <= of_weights

    samples = SAMPLES if full or len(sizes) == 3 else CHECKED
    training = make_training(dtype, precision, sizes, batch_size, samples=samples)
    name = "-".join(map(str, sizes))
    notes = {"backend": backend, "dtype": dtype, "precision": precision, "batch_size": batch_size, "network": name}
    rates = {"samples_per_second": samples}
    plan = training.workspace.plan
    timed(f"epoch {name}, batch {batch_size}", training.epoch, rates=rates, samples=samples, plan=plan, **notes)
