"""``fastnn train``."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
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
from fastnn.committees import committee
from fastnn.console import say
from fastnn.datasets.holding_out import hold_out
from fastnn.errors import DivergedError
from fastnn.history import History
from fastnn.many import train_many
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
    words = "train so many, with seeds from --seed on, and join them to one that decides by their mean; default: 1"
    parser.add_argument("--networks", type=int, metavar="N", help=words)
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
        networks = _make_networks(settings, options)
        optimizer = _make_optimizer(settings)
        loss = check_loss(settings["loss"], networks[0].output)
        fit: dict[str, Any] = {
            "epochs": check_count("epochs", settings["epochs"], least=0),
            "batch_size": check_count("batch_size", settings["batch_size"]),
            "loss": loss,
            "optimizer": optimizer,
            "schedule": as_schedule(settings["schedule"]),
            "augment": as_augment(settings["augment"]),
        }
        numbers = range(1, len(networks) + 1)
        each = [
            {
                "callbacks": _make_callbacks(settings, options, i),
                "resume": _checkpoint(options, settings["networks"], i),
            }
            for i in numbers
        ]
    if options.save:
        check_writable(options.save)
    dataset = load_dataset(settings["dataset"])
    training, validation = _split(dataset, settings)
    if not options.json:
        printing.print_dataset(dataset)
        print(f"network   {f'{len(networks)} times ' if len(networks) > 1 else ''}{networks[0]!r}")
        threads = printing.plural(networks[0].threads, "thread")
        printing.print_backend(networks[0].backend_choice, f"; {threads}")
        epochs, batches = printing.plural(fit["epochs"], "epoch"), f"batches of {fit['batch_size']}"
        augment = f", {settings['augment']}" if settings["augment"] else ""
        schedule = f"schedule {settings['schedule']}"
        print(f"training  {epochs}, {batches}, {loss}, {optimizer}, {schedule}{augment}", flush=True)
    interrupted = False
    try:
        with usage():
            _train(networks, training, each, threads=options.threads, validation_data=validation, **fit)
    except KeyboardInterrupt:
        interrupted = True
    except DivergedError:
        if any(network.history and network.history.epochs for network in networks):
            if options.save and len(networks) == 1:
                networks[0].save(options.save)
            if not options.json:
                _print_histories(networks)
        raise
    result, saved = None, options.save
    alone: list[printing.Result] = [None] * len(networks)  # results of the members of a committee
    if not interrupted:
        network = networks[0]
        if len(networks) > 1:
            network = committee(networks)
            alone = [member.evaluate(dataset.x_test, dataset.y_test, loss=loss) for member in networks]
        result = network.evaluate(dataset.x_test, dataset.y_test, loss=loss)
    elif len(networks) == 1:
        network = networks[0]
    elif saved:
        saved = None
        say("not saved: these networks are not trained to their end. --checkpoint FILE and --resume go on with them")
    if saved:
        network.save(saved)
    if options.json:
        content = {
            "dataset": printing.dataset_json(dataset),
            "backend": printing.backend_json(networks[0]),
            "settings": settings | {"loss": loss, "optimizer": {"name": type(optimizer).__name__} | vars(optimizer)},
            **_histories_json(networks, alone),
        }
        printing.print_json("train", content | printing.result_json(result) | {"saved": saved})
    else:
        _print_histories(networks, alone)
        printing.print_result(result, saved)
    return INTERRUPTED if interrupted else 0


def _train(
    networks: Sequence[Network],
    training: Sequence[Any],
    each: Sequence[dict[str, Any]],
    *,
    threads: int | None,
    **fit: Any,
) -> None:
    """Train one, or several side by side."""
    x, y = training
    if len(networks) == 1:
        networks[0].fit(x, y, **fit | each[0])
        return
    histories = train_many(networks, x, y, each=each, threads=threads, **fit)
    diverged = [str(number) for number, history in enumerate(histories, start=1) if history.diverged]
    if diverged:
        raise DivergedError(f"of {len(networks)} networks these diverged: {', '.join(diverged)}. Lower --learning-rate")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Defaults, changed by the checkpoint that is gone on with, by the preset, by what was given."""
    with usage():
        checkpoint = _checkpoint(options, networks=1) or _checkpoint(
            options, networks=2
        )  # of one, the first of several
        before = load_state(checkpoint).notes if checkpoint else {}
        if checkpoint and not before:
            raise UsageError(
                f"{checkpoint} was not written by `fastnn train`: go on with it by Network.fit(resume=...)"
            )
        given = {k: v for k, v in vars(options).items() if k in DEFAULTS and v is not None}
        if "layers" in given:
            given["layers"] = parse_layers(given["layers"])
        return DEFAULTS | before | read_preset(options.preset) | given


def _checkpoint(options: argparse.Namespace, networks: int, number: int = 1) -> str | None:
    """The file to go on with: the first of many calls with the same options finds none."""
    if options.resume and not options.checkpoint:
        raise UsageError("--resume needs --checkpoint FILE: the file to go on with")
    if not options.resume:
        return None
    path = _numbered(options.checkpoint, networks, number)
    return path if Path(path).exists() else None


def _numbered(path: str, networks: int, number: int) -> str:
    """Where one of several networks writes to: run-1.safetensors beside run-2.safetensors."""
    whole = Path(path)
    return path if networks == 1 else str(whole.with_name(f"{whole.stem}-{number}{whole.suffix}"))


def _make_callbacks(settings: dict[str, Any], options: argparse.Namespace, number: int) -> list[Callback]:
    callbacks: list[Callback] = []
    n = settings["networks"]
    if not 0 <= check_finite("--validation", settings["validation"]) < 1:
        raise ValueError(f"--validation must be at least 0 and less than 1, got {settings['validation']}")
    if settings["patience"] is not None:
        if not settings["validation"]:
            raise ValueError("--patience needs --validation: the share of the training samples to hold out")
        callbacks.append(EarlyStopping("val_loss", settings["patience"]))
    if options.live:
        if n > 1:
            raise ValueError(f"--live draws the curves of one network, here are {n}: use --tensorboard or --log")
        callbacks.append(Live())
    if options.log:
        callbacks.append(CSVLog(_numbered(options.log, n, number)))
    if options.tensorboard:
        callbacks.append(TensorBoard(_numbered(options.tensorboard, n, number)))
    if options.checkpoint:
        callbacks.append(Checkpoint(_numbered(options.checkpoint, n, number), notes=settings))
    return callbacks


def _split(dataset: datasets.Dataset, settings: dict[str, Any]) -> tuple[Sequence[Any], tuple[Any, ...] | None]:
    """What is learned from, and what is held out to validate with."""
    data = (dataset.x_train, dataset.y_train)
    if not settings["validation"]:
        return data, None
    training, held_out = hold_out(data, settings["validation"], settings["seed"] or 0, labels=dataset.y_train)
    return training, tuple(held_out)


def _make_networks(settings: dict[str, Any], options: argparse.Namespace) -> list[Network]:
    """As many as the settings say, with seeds one after the other."""
    names = ("hidden", "output", "bias", "init", "dropout", "dtype", "scale", "shift")
    own = {name: getattr(options, name) for name in ("backend", "threads", "precision")}
    own |= {name: settings[name] for name in names}
    seeds = [settings["seed"] + i for i in range(check_count("networks", settings["networks"]))]
    return [Network(settings["layers"], seed=seed, **own) for seed in seeds]


def _make_optimizer(settings: dict[str, Any]) -> Optimizer:
    optimizer: Optimizer = parse_choice("optimizer", settings["optimizer"], OPTIMIZERS)
    names = ("learning_rate", "momentum", "nesterov", "weight_decay", "clip_norm")
    given = {name: settings[name] for name in names if settings[name] is not None}
    unknown = [name for name in given if not hasattr(optimizer, name)]
    if unknown:
        raise ValueError(f"{settings['optimizer']} takes no {' or '.join(unknown)}")
    return dataclasses.replace(optimizer, **given)  # type: ignore[type-var]  # every optimizer is a dataclass


def _histories_json(networks: Sequence[Network], results: Sequence[printing.Result]) -> dict[str, Any]:
    """The history of one network; of several, of each with what it is worth alone."""
    histories = [network.history.to_dict() if network.history else None for network in networks]
    if len(networks) == 1:
        return {"history": histories[0]}
    rows = zip(networks, histories, results, strict=True)
    members = [{"seed": one.seed, "history": history, **printing.result_json(result)} for one, history, result in rows]
    return {"networks": members}


def _print_histories(networks: Sequence[Network], results: Sequence[printing.Result] = ()) -> None:
    """Epoch by epoch, or of several networks the last epoch of each."""
    if len(networks) == 1:
        assert networks[0].history is not None
        return _print_history(networks[0].history)
    print("\nnetwork  seed  epochs      loss  accuracy  seconds  test accuracy")
    for i, network in enumerate(networks):
        history, result = network.history, results[i] if results else None
        if history is None or not history.epochs:
            print(f"{i + 1:7d}  {network.seed:4d}  not begun")
            continue
        loss, accuracy = history.loss[-1:], history.accuracy[-1:]
        row = f"{i + 1:7d}  {network.seed:4d}  {history.epochs:6d}  {loss[0]:8.5f}  {accuracy[0]:8.4f}"
        reached = (
            f"{100 * result['accuracy']:11.2f} %" if result and result["accuracy"] >= 0 else "-"
        )  # NaN: regression
        shown = reached if result else "interrupted" if history.interrupted else ""
        print(f"{row}  {sum(history.seconds):7.1f}  {shown:>13}".rstrip())


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
