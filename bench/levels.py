"""How much ``fastnn bench`` measures: quick, standard or full."""

from typing import NamedTuple

__all__ = ["LEVELS", "Case", "Level"]


class Case(NamedTuple):
    """A network and its mini-batches; an epoch goes through at most so many samples."""

    sizes: tuple[int, ...]
    batch_size: int
    samples: int = 60_000

    def __str__(self) -> str:
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch_size}"


class Level(NamedTuple):
    """What is measured, and for how long."""

    budget: float  # seconds of all of it, compilation apart
    cases: tuple[Case, ...]
    launches: int  # of each process: see `fastnn.bench.verdicts`
    seeds: int  # of each training to an accuracy
    widths: tuple[int, ...]  # of the map
    batch_sizes: tuple[int, ...]
    kernel_networks: tuple[tuple[int, ...], ...]
    startups: int  # of each backend
    cold: bool  # with what has to be compiled for it: a start without a cache, curves in float64
    precisions: bool  # with all that backends have


# Mini-batches of an epoch. Losses of the first one are compared, and rounding grows with each update: two right runs of
# the deep network on float32 part by 0.0015 after 960, by 0.006 after 3,750.
MOST_STEPS = 960

SMALL, MIDDLE, DEEP = (784, 30, 10), (784, 128, 10), (784, 512, 512, 512, 10)

LEVELS = {
    "quick": Level(
        budget=32,
        cases=(Case(SMALL, 64, 30_720), Case(MIDDLE, 64, 15_360), Case(DEEP, 64, 3_200)),
        launches=2,
        seeds=1,
        widths=(32, 256),
        batch_sizes=(16, 256),
        kernel_networks=(MIDDLE,),
        startups=1,
        cold=False,
        precisions=False,
    ),
    "standard": Level(
        budget=420,
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
        precisions=False,
    ),
    "full": Level(
        budget=2400,
        cases=tuple(
            Case(sizes, rows, min(60_000, MOST_STEPS * rows))
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
}
