"""``fastnn train``."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from fastnn import datasets
from fastnn.arguments import check_count, check_finite
from fastnn.augmentation import as_augment
from fastnn.callbacks import Callback, Checkpoint, CSVLog, EarlyStopping, TensorBoard
from fastnn.choices import parse_choice
from fastnn.commands import printing
from fastnn.commands.exits import INTERRUPTED, UsageError, usage
from fastnn.commands.options import (
    add_common,
    add_dataset,
    add_hyperparameters,
    load_dataset,
    parse_layers,
    read_preset,
)
from fastnn.datasets.holding_out import hold_out
from fastnn.errors import DivergedError
from fastnn.history import History
from fastnn.network import Network
from fastnn.operations import OPTIMIZERS, Optimizer, check_loss
from fastnn.plots import Live
from fastnn.presets import DEFAULTS
from fastnn.schedules import as_schedule
from fastnn.storage import check_writable, load_state

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    add_dataset(parser)
    parser.set_defaults(dataset=None)  # so that it is known whether it was given
    parser.add_argument("--validation", type=float, metavar="X", help="share of the training samples that is held out")
    parser.add_argument("--layers", metavar="N,N,...", help="features, hidden units, classes; default: 784,128,10")
    add_hyperparameters(parser)
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
            "augment": as_augment(settings["augment"]),
            "callbacks": _make_callbacks(settings, options),
            "resume": _checkpoint(options),
        }
    if options.save:
        check_writable(options.save)
    dataset = load_dataset(settings["dataset"])
    training, validation = _split(dataset, settings)
    if not options.json:
        printing.print_dataset(dataset)
        print(f"network   {network!r}")
        printing.print_backend(network.backend_choice, f"; {printing.plural(network.threads, 'thread')}")
        epochs, batches = printing.plural(fit["epochs"], "epoch"), f"batches of {fit['batch_size']}"
        augment = f", {settings['augment']}" if settings["augment"] else ""
        schedule = f"schedule {settings['schedule']}"
        print(f"training  {epochs}, {batches}, {loss}, {optimizer}, {schedule}{augment}", flush=True)
    interrupted = False
    try:
        with usage():
            network.fit(*training, validation_data=validation, **fit)
    except KeyboardInterrupt:
        interrupted = True
    except DivergedError:
        if network.history and network.history.epochs:
            if options.save:
                network.save(options.save)
            if not options.json:
                _print_history(network.history)
        raise
    result = None if interrupted else network.evaluate(dataset.x_test, dataset.y_test, loss=loss)
    if options.save:
        network.save(options.save)
    assert network.history is not None
    if options.json:
        content = {
            "dataset": printing.dataset_json(dataset),
            "backend": printing.backend_json(network),
            "settings": settings | {"loss": loss, "optimizer": {"name": type(optimizer).__name__} | vars(optimizer)},
            "history": network.history.to_dict(),
        }
        printing.print_json("train", content | printing.result_json(result) | {"saved": options.save})
    else:
        _print_history(network.history)
        printing.print_result(result, options.save)
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
        given = {k: v for k, v in vars(options).items() if k in DEFAULTS and v is not None}
        if "layers" in given:
            given["layers"] = parse_layers(given["layers"])
        return DEFAULTS | before | read_preset(options.preset) | given


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


def _split(dataset: datasets.Dataset, settings: dict[str, Any]) -> tuple[Sequence[Any], tuple[Any, ...] | None]:
    """What is learned from, and what is held out to validate with."""
    data = (dataset.x_train, dataset.y_train)
    if not settings["validation"]:
        return data, None
    training, held_out = hold_out(data, settings["validation"], settings["seed"] or 0, labels=dataset.y_train)
    return training, tuple(held_out)


def _make_network(settings: dict[str, Any], options: argparse.Namespace) -> Network:
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "seed", "scale", "shift")
    own = {name: getattr(options, name) for name in ("backend", "threads", "precision")}
    return Network(settings["layers"], **own, **{name: settings[name] for name in names})


def _make_optimizer(settings: dict[str, Any]) -> Optimizer:
    optimizer: Optimizer = parse_choice("optimizer", settings["optimizer"], OPTIMIZERS)
    names = ("learning_rate", "momentum", "nesterov", "weight_decay", "clip_norm")
    given = {name: settings[name] for name in names if settings[name] is not None}
    unknown = [name for name in given if not hasattr(optimizer, name)]
    if unknown:
        raise ValueError(f"{settings['optimizer']} takes no {' or '.join(unknown)}")
    return dataclasses.replace(optimizer, **given)  # type: ignore[type-var]  # every optimizer is a dataclass


def _print_history(history: History) -> None:
    validated = "  val loss  val accuracy" if history.val_loss else ""
    print(f"\nepoch      loss  accuracy{validated}  seconds")
    for i in range(history.epochs):
        partial = "  (part of an epoch: interrupted)" if history.partial and i == history.epochs - 1 else ""
        row = f"{i + 1:5d}  {history.loss[i]:8.5f}  {history.accuracy[i]:8.4f}"
        if history.val_loss:
            row += f"  {history.val_loss[i]:8.5f}  {history.val_accuracy[i]:12.4f}"
        print(f"{row}  {history.seconds[i]:7.3f}{partial}")
    if history.interrupted and not history.partial:
        print("interrupted between two epochs")
