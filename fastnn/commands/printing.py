"""What commands print: JSON of a numbered schema, and lines for people."""

import json
import math
from typing import Any

from fastnn import datasets
from fastnn.network import Network

__all__ = ["SCHEMA_VERSION", "backend_json", "dataset_json", "number", "plural", "print_json", "print_result"]

SCHEMA_VERSION = 1
"""Of the JSON that commands print: raised when a field changes its meaning or goes."""


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


def number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def print_result(result: dict[str, float] | None, saved: str | None) -> None:
    if result:
        accuracy = "none (regression)" if math.isnan(result["accuracy"]) else f"{100 * result['accuracy']:.2f} %"
        print(f"\ntest accuracy  {accuracy}\ntest loss      {result['loss']:.5f}")
    if saved:
        print(f"saved to       {saved}")
