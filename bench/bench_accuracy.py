"""How well and how soon a network learns: the preset quick, validated after every epoch, with three seeds."""

import numpy as np
import pytest

from fastnn.bench import recipe, reference, sections

SEEDS = range(3)


def counted_accuracy(network, dataset):
    """Of the weights that training has left, by the reference."""
    with network.kernels.limit_threads(1):
        x = reference.scaled(dataset.x_test.reshape(len(dataset.x_test), -1))
        outputs = reference.forward(reference.copy_weights(network.get_weights()), x)[-1]
    return float(np.mean(outputs.argmax(axis=1) == dataset.y_test))


def test_accuracy(backend, benchmark, dataset, threads, notes):
    networks, seeds = [], iter(SEEDS)
    benchmark.group = f"accuracy: preset quick on {dataset.name}"
    benchmark.pedantic(
        lambda: networks.append(recipe.train(next(seeds), backend, dataset, threads=threads)), rounds=len(SEEDS)
    )
    histories = [network.history for network in networks]
    for network, history in zip(networks, histories, strict=True):
        # A sample or two lie so close to the border of two classes that rounding decides.
        assert history.val_accuracy[-1] == pytest.approx(counted_accuracy(network, dataset), abs=1e-3)
        assert history.val_accuracy[-1] > 0.9
    runs = [{"seconds": np.cumsum(each.seconds).tolist(), "accuracy": each.val_accuracy} for each in histories]
    benchmark.extra_info |= notes | sections.summarize_runs(runs)
    benchmark.extra_info |= {"dataset": dataset.name, "epochs": histories[0].epochs, "seeds": list(SEEDS)}
    samples_per_second = max(history.samples / min(history.seconds) for history in histories)
    benchmark.extra_info["samples_per_second"] = samples_per_second
