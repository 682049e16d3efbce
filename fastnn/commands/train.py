"""``fastnn train``."""

import argparse
import dataclasses
import os
from typing import Any

from fastnn import datasets
from fastnn.arguments import check_count, check_finite
from fastnn.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, TensorBoard
from fastnn.choices import check_choice, parse_choice
from fastnn.commands.options import (
    INTERRUPTED,
    UsageError,
    add_common,
    add_dataset,
    load_dataset,
    parse_layers,
    usage,
)
from fastnn.commands.printing import backend_json, dataset_json, number, plural, print_json, print_result
from fastnn.datasets.holding_out import hold_out
from fastnn.errors import DivergedError
from fastnn.history import History
from fastnn.network import Network
from fastnn.operations import OPTIMIZERS, Optimizer, check_loss
from fastnn.plots import Live
from fastnn.presets import DEFAULTS, PRESETS
from fastnn.schedules import as_schedule
from fastnn.storage import check_writable, load_state

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_dataset(parser)
    parser.set_defaults(dataset=None)  # so that it is known whether it was given
    parser.add_argument("--validation", type=float, metavar="X", help="share of the training samples that is held out")
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
    parser.add_argument("--clip-norm", type=float, metavar="X", help="scale a gradient of larger norm down to this")
    parser.add_argument("--dropout", type=float, metavar="X", help="share of hidden units; default: 0")
    parser.add_argument("--schedule", help="constant, 'exponential(0.999)', 'step(10, 0.1)', cosine; default: constant")
    parser.add_argument("--seed", type=int, metavar="N", help="of weights, sample order and dropout; default: 0")
    parser.add_argument(
        "--patience", type=int, metavar="N", help="stop after N epochs without a better validation loss"
    )
    parser.add_argument("--checkpoint", metavar="FILE", help="write the state of the run there after every epoch")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint, if there is one yet")
    parser.add_argument("--live", action="store_true", help="draw the curves while training, in a terminal")
    parser.add_argument("--log", metavar="FILE", help="write a line an epoch to a CSV file")
    parser.add_argument("--tensorboard", metavar="FOLDER", help="write what TensorBoard shows")
    parser.add_argument("--save", metavar="FILE", help="write the trained network to a safetensors file")
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn train``."""
    settings = _settings(options)
    with usage():
        network = _make_network(settings, options)
        optimizer = _make_optimizer(settings)
        loss = check_loss(settings["loss"], network.output)
        fit: dict[str, Any] = {
            "epochs": check_count("epochs", settings["epochs"], least=0),
            "batch_size": check_count("batch_size", settings["batch_size"]),
            "loss": loss,
            "optimizer": optimizer,
            "schedule": as_schedule(settings["schedule"]),
            "callbacks": _make_callbacks(settings, options),
            "resume": _checkpoint(options),
        }
    if options.save:
        check_writable(options.save)
    dataset = load_dataset(settings["dataset"])
    (x, y), validation = _split(dataset, settings)
    if not options.json:
        _print_head(network, dataset, settings, optimizer, loss)
    interrupted = False
    try:
        with usage():
            network.fit(x, y, validation_data=validation, **fit)
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
    """Defaults, changed by the checkpoint that is gone on with, by the preset, by what was given."""
    with usage():
        checkpoint = _checkpoint(options)
        before = load_state(checkpoint).notes if checkpoint else {}
        if checkpoint and not before:
            raise UsageError(
                f"{checkpoint} was not written by `fastnn train`: go on with it by Network.fit(resume=...)"
            )
        preset = PRESETS[check_choice("preset", options.preset, PRESETS)] if options.preset else {}
        given = {k: v for k, v in vars(options).items() if k in DEFAULTS and v is not None}
        if "layers" in given:
            given["layers"] = parse_layers(given["layers"])
    return DEFAULTS | before | preset | given


def _checkpoint(options: argparse.Namespace) -> str | None:
    """The file to go on with: the first of many calls with the same options finds none."""
    if options.resume and not options.checkpoint:
        raise UsageError("--resume needs --checkpoint FILE: the file to go on with")
    return options.checkpoint if options.resume and os.path.exists(options.checkpoint) else None


def _make_callbacks(settings: dict[str, Any], options: argparse.Namespace) -> list[Callback]:
    callbacks: list[Callback] = []
    if not 0 <= check_finite("--validation", settings["validation"]) < 1:
        raise ValueError(f"--validation must be at least 0 and less than 1, got {settings['validation']}")
    if settings["patience"] is not None:
        if not settings["validation"]:
            raise ValueError("--patience needs --validation: the share of the training samples to hold out")
        callbacks.append(EarlyStopping("val_loss", settings["patience"]))
    if options.live:
        callbacks.append(Live())
    if options.log:
        callbacks.append(CSVLog(options.log))
    if options.tensorboard:
        callbacks.append(TensorBoard(options.tensorboard))
    if options.checkpoint:
        callbacks.append(Checkpoint(options.checkpoint, notes=settings))
    return callbacks


def _split(dataset: datasets.Dataset, settings: dict[str, Any]) -> tuple[tuple[Any, Any], tuple[Any, Any] | None]:
    """What is learned from, and what is held out to validate with."""
    x, y, share = dataset.x_train, dataset.y_train, settings["validation"]
    if not share:
        return (x, y), None
    training, held_out = hold_out((x, y), share, settings["seed"] or 0, labels=y)
    return (training[0], training[1]), (held_out[0], held_out[1])


def _make_network(settings: dict[str, Any], options: argparse.Namespace) -> Network:
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "seed", "scale", "shift")
    arguments = {name: settings[name] for name in names}
    own = {name: getattr(options, name) for name in ("backend", "threads", "precision")}
    return Network(settings["layers"], **own, **arguments)


def _make_optimizer(settings: dict[str, Any]) -> Optimizer:
    optimizer = parse_choice("optimizer", settings["optimizer"], OPTIMIZERS)
    names = ("learning_rate", "momentum", "nesterov", "weight_decay", "clip_norm")
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
    print(f"training  {epochs}, batches of {batch}, {loss}, {optimizer}, schedule {settings['schedule']}", flush=True)


def _print_history(history: History) -> None:
    validated = "  val loss  val accuracy" if history.val_loss else ""
    print(f"\nepoch      loss  accuracy{validated}  seconds")
    for i in range(history.epochs):
        partial = "  (part of an epoch: interrupted)" if history.partial and i == history.epochs - 1 else ""
        row = f"{i + 1:5d}  {history.loss[i]:8.5f}  {history.accuracy[i]:8.4f}"
        if history.val_loss:
            row += f"  {history.val_loss[i]:8.5f}  {history.val_accuracy[i]:12.4f}"
        print(f"{row}  {history.seconds[i]:7.3f}{partial}")


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
