"""What each command of ``fastnn`` does; options and exit codes are in `fastnn.cli`."""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastnn
from fastnn import datasets
from fastnn.arguments import check_count
from fastnn.backends import READY, available_backends, resolve_backend
from fastnn.choices import check_choice, parse_choice
from fastnn.errors import BackendError, DataError, DivergedError
from fastnn.history import History
from fastnn.images import read_images
from fastnn.losses import check_loss
from fastnn.network import Network
from fastnn.optimizers import OPTIMIZERS, Optimizer
from fastnn.presets import DEFAULTS, PRESETS
from fastnn.schedules import as_schedule
from fastnn.storage import check_writable, load

__all__ = ["UsageError", "backends", "data", "evaluate", "parse_layers", "predict", "train", "version"]

SCHEMA_VERSION = 1
"""Of the JSON that commands print: raised when a field changes its meaning or goes."""

INTERRUPTED = 130


class UsageError(Exception):
    """An option's value is not one that it can have."""


@contextmanager
def _usage() -> Iterator[None]:
    """While options are turned into objects, a wrong value is the caller's; what is wrong in a file is the file's."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        raise UsageError(error) from error


def version() -> str:
    """fastnn's own."""
    return fastnn.__version__


# ---- train ----------------------------------------------------------------------------------------------------------


def train(options: argparse.Namespace) -> int:
    """``fastnn train``."""
    settings = _settings(options)
    with _usage():
        network = _make_network(settings, options)
        optimizer = _make_optimizer(settings)
        schedule = as_schedule(settings["schedule"])
        loss = check_loss(settings["loss"], network.output)
        epochs = check_count("epochs", settings["epochs"], least=0)
        batch_size = check_count("batch_size", settings["batch_size"])
    if options.save:
        check_writable(options.save)
    dataset = _load_dataset(options.dataset)
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
        _print_json("train", _train_json(network, dataset, settings, optimizer, loss, result, options.save))
    else:
        _print_history(network.history)
        _print_result(result, options.save)
    return INTERRUPTED if interrupted else 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Defaults, changed by the preset, changed by what was given."""
    with _usage():
        preset = PRESETS[check_choice("preset", options.preset, PRESETS)] if options.preset else {}
        given = {k: v for k, v in vars(options).items() if k in DEFAULTS and v is not None}
        if "layers" in given:
            given["layers"] = parse_layers(given["layers"])
    return DEFAULTS | preset | given


def parse_layers(text: str) -> list[int]:
    """Layer sizes from an option's text."""
    try:
        return [int(n) for n in text.split(",")]
    except ValueError:
        raise ValueError(f"--layers must be whole numbers separated by commas, as 784,128,10, got {text!r}") from None


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


def _load_dataset(name: str) -> datasets.Dataset:
    with _usage():
        dataset = datasets.load(name)
    if dataset.note:
        print(f"fastnn: NOT MNIST but {dataset.name!r}, because: {dataset.note}", file=sys.stderr)
    return dataset


def _print_head(
    network: Network, dataset: datasets.Dataset, settings: dict[str, Any], optimizer: Optimizer, loss: str
) -> None:
    choice = network.backend_choice
    counts = f"{len(dataset.x_train):,} + {len(dataset.x_test):,} samples"
    print(f"dataset   {dataset.name}: {counts}; {dataset.source}")
    print(f"network   {network!r}")
    print(f"backend   {choice.name}, by {choice.origin}; {choice.reason}; {_plural(network.threads, 'thread')}")
    epochs, batch = _plural(settings["epochs"], "epoch"), settings["batch_size"]
    print(f"training  {epochs}, batches of {batch}, {loss}, {optimizer}, schedule {settings['schedule']}")
    sys.stdout.flush()


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _print_history(history: History) -> None:
    print("\nepoch      loss  accuracy  seconds")
    for i in range(history.epochs):
        partial = "  (part of an epoch: interrupted)" if history.interrupted and i == history.epochs - 1 else ""
        row = f"{i + 1:5d}  {history.loss[i]:8.5f}  {history.accuracy[i]:8.4f}  {history.seconds[i]:7.3f}"
        print(row + partial)


def _print_result(result: dict[str, float] | None, saved: str | None) -> None:
    if result:
        accuracy = "none (regression)" if math.isnan(result["accuracy"]) else f"{100 * result['accuracy']:.2f} %"
        print(f"\ntest accuracy  {accuracy}\ntest loss      {result['loss']:.5f}")
    if saved:
        print(f"saved to       {saved}")


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
        "dataset": _dataset_json(dataset),
        "backend": _backend_json(network),
        "settings": settings | {"loss": loss, "optimizer": {"name": type(optimizer).__name__} | vars(optimizer)},
        "history": network.history.to_dict(),
        "test_accuracy": result and _number(result["accuracy"]),
        "test_loss": result and _number(result["loss"]),
        "saved": saved,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _dataset_json(dataset: datasets.Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "note": dataset.note,
        "training_samples": len(dataset.x_train),
        "test_samples": len(dataset.x_test),
    }


def _backend_json(network: Network) -> dict[str, Any]:
    choice = network.backend_choice
    return {
        "name": choice.name,
        "origin": choice.origin,
        "reason": choice.reason,
        "versions": choice.kernels.versions(),
        "threads": network.threads,
        "precision": network.precision,
    }


def _print_json(command: str, content: dict[str, Any]) -> None:
    print(json.dumps({"schema_version": SCHEMA_VERSION, "command": command, **content}, indent=2, allow_nan=False))


# ---- a saved network ------------------------------------------------------------------------------------------------


def evaluate(options: argparse.Namespace) -> int:
    """``fastnn evaluate``."""
    with _usage():
        network = load(options.file, options.backend, options.threads, options.precision)
        loss = check_loss(options.loss, network.output)
    dataset = _load_dataset(options.dataset)
    result = network.evaluate(dataset.x_test, dataset.y_test, loss=loss)
    if options.json:
        content = {"dataset": _dataset_json(dataset), "backend": _backend_json(network), "loss": loss}
        numbers = {"test_accuracy": _number(result["accuracy"]), "test_loss": _number(result["loss"])}
        _print_json("evaluate", content | numbers)
    else:
        print(f"dataset   {dataset.name}: {len(dataset.x_test):,} samples; {dataset.source}")
        print(f"network   {network!r}")
        _print_result(result, None)
    return 0


def predict(options: argparse.Namespace) -> int:
    """``fastnn predict``: a line an image with what the network says, and how sure it is."""
    with _usage():
        network = load(options.file, options.backend, options.threads, options.precision)
    rows = []
    for path in options.images:
        images = read_images(path, network.sizes[0])
        answers, outputs = network.predict(images), network.predict_proba(images)
        for i, (answer, output) in enumerate(zip(answers, outputs, strict=True)):
            name = path if len(images) == 1 else f"{path}[{i}]"
            rows.append({"image": name, "prediction": answer.tolist(), "outputs": output.tolist()})
    if options.json:
        _print_json("predict", {"predictions": rows})
    else:
        for row in rows:
            print(f"{row['image']}: {row['prediction']}  ({100 * max(row['outputs']):.1f} %)")
    return 0


# ---- what there is --------------------------------------------------------------------------------------------------


def backends(options: argparse.Namespace) -> int:
    """``fastnn backends``."""
    infos = available_backends()
    try:
        choice = resolve_backend()
        chosen: dict[str, Any] = {"name": choice.name, "origin": choice.origin, "reason": choice.reason}
    except BackendError as error:
        chosen = {"name": None, "origin": None, "reason": str(error)}
    if options.json:
        _print_json("backends", {"chosen": chosen, "backends": {k: dataclasses.asdict(v) for k, v in infos.items()}})
        return 0
    for info in infos.values():
        versions = ", ".join(f"{name} {number}" for name, number in info.versions.items())
        print(f"{info.name:8s} {info.state:14s} {info.reason}{f' ({versions})' if versions else ''}")
        if info.state != READY:
            print(f"{'':23s} {info.remedy}")
    if chosen["name"]:
        print(f"\nchosen   {chosen['name']}, by {chosen['origin']}")
    else:
        print(f"\nchosen   none: {chosen['reason']}")
    return 0


def data(options: argparse.Namespace) -> int:
    """``fastnn data``."""
    if options.name is None:
        for name, description in datasets.DATASETS.items():
            print(f"{name:14s} {description}")
    else:
        print(_load_dataset(options.name).describe())
    return 0
