"""``fastnn train``."""

import argparse
import dataclasses
import sys
from typing import Any

from fastnn import datasets
from fastnn.arguments import check_count
from fastnn.choices import check_choice, parse_choice
from fastnn.commands.options import INTERRUPTED, add_common, add_dataset, load_dataset, parse_layers, usage
from fastnn.commands.printing import backend_json, dataset_json, number, plural, print_json, print_result
from fastnn.errors import DivergedError
from fastnn.history import History
from fastnn.losses import check_loss
from fastnn.network import Network
from fastnn.optimizers import OPTIMIZERS, Optimizer
from fastnn.presets import DEFAULTS, PRESETS
from fastnn.schedules import as_schedule
from fastnn.storage import check_writable

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_dataset(parser)
    parser.add_argument("--preset", help=f"a recipe whose settings the other options change: {', '.join(PRESETS)}")
    parser.add_argument("--layers", metavar="N,N,...", help="features, hidden units, classes; default: 784,128,10")
    parser.add_argument("--hidden", help="activation of the hidden layers; default: relu")
    parser.add_argument("--output", help="activation of the output; default: softmax")
    parser.add_argument("--loss", help="default: the one that belongs to the output")
    parser.add_argument("--init", help="he, xavier, lecun, 'uniform(-0.1, 0.1)', 'normal(0.05)'; default: he")
    parser.add_argument("--dtype", help="float32 or float64; default: float32")
    parser.add_argument("--epochs", type=int, metavar="N", help="default: 5")
    parser.add_argument("--batch-size", type=int, metavar="N", help="default: 64")
    parser.add_argument("--optimizer", help="sgd, rmsprop, adam, adamw; default: sgd")
    parser.add_argument("--learning-rate", type=float, metavar="X", help="default: 0.1 for sgd, 0.001 for the others")
    parser.add_argument("--momentum", type=float, metavar="X", help="of sgd; default: 0")
    parser.add_argument("--nesterov", action="store_true", default=None, help="with momentum, look ahead")
    parser.add_argument("--weight-decay", type=float, metavar="X", help="L2, of weights but not of biases; default: 0")
    parser.add_argument("--dropout", type=float, metavar="X", help="share of hidden units; default: 0")
    parser.add_argument("--schedule", help="constant, 'exponential(0.999)', 'step(10, 0.1)', cosine; default: constant")
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, sample order and dropout; default: 0")
    parser.add_argument("--save", metavar="FILE", help="write the trained network to a safetensors file")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn train``."""
    settings = _settings(options)
    with usage():
        network = _make_network(settings, options)
        optimizer = _make_optimizer(settings)
        schedule = as_schedule(settings["schedule"])
        loss = check_loss(settings["loss"], network.output)
        epochs = check_count("epochs", settings["epochs"], least=0)
        batch_size = check_count("batch_size", settings["batch_size"])
    if options.save:
        check_writable(options.save)
    dataset = load_dataset(options.dataset)
    if not options.json:
        _print_head(network, dataset, settings, optimizer, loss)
    interrupted = False
    try:
        network.fit(
            dataset.x_train,
            dataset.y_train,
            epochs=epochs,
            batch_size=batch_size,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule,
        )
    except KeyboardInterrupt:
        interrupted = True
    except DivergedError:
        if network.history and network.history.epochs:
            _save(network, options)
            if not options.json:
                _print_history(network.history)
        raise
    result = None if interrupted else network.evaluate(dataset.x_test, dataset.y_test, loss=loss)
    _save(network, options)
    assert network.history is not None
    if options.json:
        print_json("train", _train_json(network, dataset, settings, optimizer, loss, result, options.save))
    else:
        _print_history(network.history)
        print_result(result, options.save)
    return INTERRUPTED if interrupted else 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Defaults, changed by the preset, changed by what was given."""
    with usage():
        preset = PRESETS[check_choice("preset", options.preset, PRESETS)] if options.preset else {}
        given = {k: v for k, v in vars(options).items() if k in DEFAULTS and v is not None}
        if "layers" in given:
            given["layers"] = parse_layers(given["layers"])
    return DEFAULTS | preset | given


def _make_network(settings: dict[str, Any], options: argparse.Namespace) -> Network:
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "seed", "scale", "shift")
    arguments = {name: settings[name] for name in names}
    own = {name: getattr(options, name) for name in ("backend", "threads", "precision")}
    return Network(settings["layers"], **own, **arguments)


def _make_optimizer(settings: dict[str, Any]) -> Optimizer:
    optimizer = parse_choice("optimizer", settings["optimizer"], OPTIMIZERS)
    names = ("learning_rate", "momentum", "nesterov", "weight_decay")
    given = {name: settings[name] for name in names if settings[name] is not None}
    unknown = [name for name in given if not hasattr(optimizer, name)]
    if unknown:
        raise ValueError(f"{settings['optimizer']} takes no {' or '.join(unknown)}")
    return dataclasses.replace(optimizer, **given)


def _save(network: Network, options: argparse.Namespace) -> None:
    if options.save:
        network.save(options.save)


def _print_head(
    network: Network, dataset: datasets.Dataset, settings: dict[str, Any], optimizer: Optimizer, loss: str
) -> None:
    choice = network.backend_choice
    counts = f"{len(dataset.x_train):,} + {len(dataset.x_test):,} samples"
    print(f"dataset   {dataset.name}: {counts}; {dataset.source}")
    print(f"network   {network!r}")
    print(f"backend   {choice.name}, by {choice.origin}; {choice.reason}; {plural(network.threads, 'thread')}")
    epochs, batch = plural(settings["epochs"], "epoch"), settings["batch_size"]
    print(f"training  {epochs}, batches of {batch}, {loss}, {optimizer}, schedule {settings['schedule']}")
    sys.stdout.flush()


def _print_history(history: History) -> None:
    print("\nepoch      loss  accuracy  seconds")
    for i in range(history.epochs):
        partial = "  (part of an epoch: interrupted)" if history.interrupted and i == history.epochs - 1 else ""
        row = f"{i + 1:5d}  {history.loss[i]:8.5f}  {history.accuracy[i]:8.4f}  {history.seconds[i]:7.3f}"
        print(row + partial)


def _train_json(
    network: Network,
    dataset: datasets.Dataset,
    settings: dict[str, Any],
    optimizer: Optimizer,
    loss: str,
    result: dict[str, float] | None,
    saved: str | None,
) -> dict[str, Any]:
    assert network.history is not None
    return {
        "dataset": dataset_json(dataset),
        "backend": backend_json(network),
        "settings": settings | {"loss": loss, "optimizer": {"name": type(optimizer).__name__} | vars(optimizer)},
        "history": network.history.to_dict(),
        "test_accuracy": result and number(result["accuracy"]),
        "test_loss": result and number(result["loss"]),
        "saved": saved,
    }
