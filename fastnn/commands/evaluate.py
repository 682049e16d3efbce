"""``fastnn evaluate``."""

import argparse

from fastnn.commands.exits import usage
from fastnn.commands.options import add_common, add_dataset, load_dataset
from fastnn.commands.printing import backend_json, dataset_json, print_json, print_result, result_json
from fastnn.network import load
from fastnn.operations import check_loss

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("file", metavar="FILE", help="a network saved by train --save")
    parser.add_argument("--loss", help="default: the one that belongs to the network's output")
    add_dataset(parser)
    add_common(parser)


def run(options: argparse.Namespace) -> int:
    """``fastnn evaluate``."""
    with usage():
        network = load(options.file, options.backend, options.threads, options.precision)
        loss = check_loss(options.loss, network.output)
    dataset = load_dataset(options.dataset)
    result = network.evaluate(dataset.x_test, dataset.y_test, loss=loss)
    if options.json:
        content = {"dataset": dataset_json(dataset), "backend": backend_json(network), "loss": loss}
        print_json("evaluate", content | result_json(result))
    else:
        print(f"dataset   {dataset.name}: {len(dataset.x_test):,} samples; {dataset.source}")
        print(f"network   {network!r}")
        print_result(result)
    return 0
