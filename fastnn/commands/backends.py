"""``fastnn backends``."""

import argparse
import dataclasses
from typing import Any

from fastnn.backends import READY, available_backends, resolve_backend
from fastnn.commands.printing import print_json
from fastnn.errors import BackendError, SettingError

__all__ = ["add_options", "run"]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """``fastnn backends``."""
    infos = available_backends()
    try:
        choice = resolve_backend()
        chosen: dict[str, Any] = {"name": choice.name, "origin": choice.origin, "reason": choice.reason}
    except (BackendError, SettingError) as error:
        chosen = {"name": None, "origin": None, "reason": str(error)}
    if options.json:
        print_json("backends", {"chosen": chosen, "backends": {k: dataclasses.asdict(v) for k, v in infos.items()}})
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
