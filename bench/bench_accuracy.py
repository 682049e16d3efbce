"""How well and how soon a network learns: the preset quick, validated after every epoch, with three seeds."""

import itertools
import statistics

import numpy as np
import pytest
from fastnn.bench import recipe, reference

SEEDS = range(3)
LEVELS = (0.97, 0.98)


def seconds_to(history, level):
    """Training time until an epoch ended with that accuracy on the test set; None if none did."""
    times = zip(itertools.accumulate(history.seconds), history.val_accuracy, strict=True)
    return next((seconds for seconds, accuracy in times if accuracy >= level), None)


def summary(values):
    """Mean and spread of those that there are; None where one is missing."""
    if None in values:
        return {"values": values, "mean": None, "std": None}
    spread = statistics.stdev(values) if len(values) > 1 else 0.0  # --benchmark-disable trains one seed
    return {"values": values, "mean": statistics.fmean(values), "std": spread}


def counted_accuracy(network, dataset):
    """Of the weights that training has left, by the reference."""
    with network.kernels.limit_threads(1):
        x = dataset.x_test.reshape(len(dataset.x_test), -1) / 255.0
        outputs = reference.forward(reference.as_float64(network.get_weights()), x)[-1]
    return float(np.mean(outputs.argmax(axis=1) == dataset.y_test))


def test_accuracy(backend, benchmark, dataset, threads):
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
    notes = {"backend": backend, "dtype": "float32", "precision": None, "threads": threads, "dataset": dataset.name}
    benchmark.extra_info |= notes | {
        "epochs": histories[0].epochs,
        "seeds": list(SEEDS),
        "test_accuracy": summary([history.val_accuracy[-1] for history in histories]),
        "samples_per_second": max(history.samples / min(history.seconds) for history in histories),
    }
    for level in LEVELS:
        reached = [seconds_to(history, level) for history in histories]
        benchmark.extra_info[f"seconds_to_{level:.0%}"] = summary(reached)
