"""What ``fastnn bench`` measures and for how long: its levels, which are nothing but data."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from fastnn.choices import check_choice
from fastnn.kernels.codes import PRECISIONS

__all__ = ["DEEP", "LEVELS", "MIDDLE", "SECTIONS", "SMALL", "Case", "Level", "parse_cases"]

SECTIONS = ("startup", "curves", "accuracy", "roofline", "throughput", "crossover", "prediction", "agreement", "many")


class Case(NamedTuple):
    """A network and its mini-batches; an epoch goes through at most so many samples."""

    sizes: tuple[int, ...]
    batch_size: int
    samples: int = 60_000
    precision: str | None = None  # of matrix products, for contenders that have none of their own; None: float32

    def __str__(self) -> str:
        return ", ".join([network_name(self.sizes), f"batch {self.batch_size}", *filter(None, [self.precision])])


class Level(NamedTuple):
    """What is measured, and for how long."""

    budget: float  # seconds of all of it, compilation apart
    sections: Mapping[str, float]  # in this order; the shares of the time that is left, 0 for what takes what it takes
    cases: tuple[Case, ...]
    launches: int  # of each process: see `fastnn.bench.verdicts`
    kernel_networks: tuple[tuple[int, ...], ...]
    seeds: int = 1  # of each training to an accuracy
    periods: int = 1  # of the recipe until it has the accuracy, at most
    widths: tuple[int, ...] = ()  # of the map
    batch_sizes: tuple[int, ...] = ()
    startups: int = 1  # of each backend
    cold: bool = False  # with what has to be compiled for it: a start without a cache, curves in float64
    precisions: bool = False  # with all that backends have
    device: bool = False  # of a CUDA device: its plans are contenders, peers run there, and its limits are checked
    backends: str | None = None  # where none are asked for; None: all that are ready
    peers: str | None = None
    strict: bool = False  # what finds no time left is not measured at all; else each is measured a little
    preset: str = "quick"  # the recipe of the trainings to an accuracy
    patience: float = 600.0  # seconds that a contender may take to get ready for a case


def network_name(sizes: tuple[int, ...]) -> str:
    return "-".join(map(str, sizes))


def parse_cases(text: str) -> tuple[Case, ...]:
    """Cases as the command line has them: ``784-30-10:64,784-512-10:256:bf16``.

    Raises
    ------
    ValueError
        If it is not of that form.
    """
    cases = []
    for word in text.split(","):
        match = re.fullmatch(r"(\d+(?:-\d+)+):(\d+)(?::(\w+))?", word.strip())
        if match is None or not int(match[2]):
            raise ValueError(f"--cases must be as 784-30-10:64,784-512-10:256:bf16, got {word!r}")
        precision = check_choice("precision", match[3], PRECISIONS) if match[3] else None
        cases.append(Case(tuple(map(int, match[1].split("-"))), int(match[2]), precision=precision))
    return tuple(cases)


SMALL, MIDDLE, DEEP = (784, 30, 10), (784, 128, 10), (784, 512, 512, 512, 10)
_CPU = {"startup": 0, "curves": 0, "accuracy": 0, "roofline": 0.12, "throughput": 0.66, "crossover": 0.22}

LEVELS = {
    "quick": Level(
        budget=32,
        sections=_CPU,
        cases=(Case(SMALL, 64, 30_720), Case(MIDDLE, 64, 15_360), Case(DEEP, 64, 3_200)),
        launches=2,
        widths=(32, 256),
        batch_sizes=(16, 256),
        kernel_networks=(MIDDLE,),
    ),
    "standard": Level(
        budget=420,
        sections=_CPU,
        cases=tuple(
            Case(sizes, rows, 7_680 if sizes == DEEP else 15_360)
            for rows in (64, 256)
            for sizes in (SMALL, MIDDLE, DEEP)
        ),
        launches=8,
        seeds=5,
        widths=(16, 64, 256, 1024),
        batch_sizes=(16, 64, 256, 1024),
        kernel_networks=(MIDDLE, DEEP),
        startups=3,
        cold=True,
    ),
    "full": Level(
        budget=2400,
        sections=_CPU,
        cases=tuple(
            Case(sizes, rows, min(60_000, 960 * rows))
            for rows in (16, 64, 256, 1024)
            for sizes in (SMALL, MIDDLE, DEEP)
        ),
        launches=10,
        seeds=10,
        widths=(8, 16, 32, 64, 128, 256, 512, 1024, 2048),
        batch_sizes=(8, 16, 32, 64, 128, 256, 512, 1024),
        kernel_networks=(SMALL, MIDDLE, DEEP),
        startups=5,
        cold=True,
        precisions=True,
    ),
    "gpu": Level(
        budget=240,
        sections={"throughput": 0.8, "agreement": 0.1, "many": 0.05, "accuracy": 0.05},
        # What compiles slowly comes last, so that a limit of time leaves out the least.
        cases=(
            Case(MIDDLE, 64),
            Case(DEEP, 512),
            Case(DEEP, 512, precision="tf32"),
            Case(DEEP, 64),
            Case(DEEP, 64, precision="tf32"),
            Case((784, 2500, 2000, 1500, 1000, 500, 10), 512, precision="bf16"),
        ),
        launches=2,
        kernel_networks=(MIDDLE,),
        seeds=3,
        periods=3,
        device=True,
        backends="cupy",
        peers="torch,jax",
        strict=True,
        patience=45,
    ),
}
