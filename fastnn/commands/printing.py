"""What commands print: JSON of a numbered schema, and lines for people."""

import json
import math
from typing import Any

from fastnn import datasets
from fastnn.backends import BackendChoice
from fastnn.network import Network

__all__ = [
    "SCHEMA_VERSION",
    "backend_json",
    "dataset_json",
    "plural",
    "print_backend",
    "print_dataset",
    "print_json",
    "print_result",
    "result_json",
]

SCHEMA_VERSION = 1
"""Of the JSON that commands print: raised when a field changes its meaning or goes."""

Result = dict[str, float] | None  # of `Network.evaluate`, if it was tested


def print_json(command: str, content: dict[str, Any]) -> None:
    print(json.dumps({"schema_version": SCHEMA_VERSION, "command": command, **content}, indent=2, allow_nan=False))


def dataset_json(dataset: datasets.Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "note": dataset.note,
        "training_samples": len(dataset.x_train),
        "test_samples": len(dataset.x_test),
    }


def backend_json(network: Network) -> dict[str, Any]:
    choice = network.backend_choice
    return {
        "name": choice.name,
        "origin": choice.origin,
        "reason": choice.reason,
        "versions": choice.kernels.versions(),
        "threads": network.threads,
        "precision": network.precision,
    }


def result_json(result: Result) -> dict[str, Any]:
    values = {f"test_{name}": (result or {}).get(name, math.nan) for name in ("accuracy", "loss")}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def print_dataset(dataset: datasets.Dataset) -> None:
    print(f"dataset   {dataset.name}: {len(dataset.x_train):,} + {len(dataset.x_test):,} samples; {dataset.source}")


def print_backend(choice: BackendChoice, more: str = "") -> None:
    print(f"backend   {choice.name}, by {choice.origin}; {choice.reason}{more}")


def print_result(result: Result, saved: str | None = None) -> None:
    if result:
        accuracy = "none (regression)" if math.isnan(result["accuracy"]) else f"{100 * result['accuracy']:.2f} %"
        print(f"\ntest accuracy  {accuracy}\ntest loss      {result['loss']:.5f}")
    if saved:
        print(f"saved to       {saved}")
