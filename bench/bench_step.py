"""One mini-batch: forward, back-propagation and update, called from Python as a training run would."""

import itertools

import numpy as np
import pytest

NETWORKS = [(784, 128, 10), (784, 512, 512, 512, 10)]
TOLERANCE = 1e-5  # of the loss, and of the weights relative to their largest change, after one mini-batch
SAMPLES = 6400


@pytest.mark.parametrize("batch_size", [64, pytest.param(256, marks=pytest.mark.full)])
@pytest.mark.parametrize("sizes", NETWORKS, ids=lambda sizes: "-".join(map(str, sizes)))
def test_step(backend, make_training, sizes, batch_size, timed):
    training = make_training("float32", None, sizes, batch_size, samples=SAMPLES)
    training.step(0)
    weights, (loss,) = training.expected(np.arange(batch_size))
    losses = training.workspace.objective.losses()
    assert abs(losses[0] / batch_size - loss) <= TOLERANCE * loss
    assert training.error(weights) <= 10 * TOLERANCE

    steps = itertools.cycle(range(SAMPLES // batch_size))
    name = "-".join(map(str, sizes))
    notes = {"backend": backend, "dtype": "float32", "precision": None, "batch_size": batch_size, "network": name}
    rates = {"samples_per_second": batch_size}
    timed(f"step {name}, batch {batch_size}", lambda: training.step(next(steps)), rates=rates, **notes)
