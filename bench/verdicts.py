"""What samples of time allow to say: medians with quartiles, and ratios with intervals and a verdict.

Intervals are of 99 %: a report makes dozens of comparisons, and of as many 95 % intervals some would be wrong.

Two contenders are compared by the ratios of samples that were taken one after the other, so that what slows the
machine for a while slows both. Rounds of one launch share a process: its memory layout, its place on the cores, the
state of its threads. Their ratios are alike for that reason alone, and more of them do not help; so the bootstrap draws
launches first, and then rounds within each. (`scipy.stats.bootstrap` draws from one level only.)

References
----------
Kalibera & Jones, "Rigorous benchmarking in reasonable time", ISMM 2013, sections 4 and 7: several levels of repetition.
Davison & Hinkley, "Bootstrap methods and their application" (1997), section 3.8: resampling of hierarchical data.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["FASTER", "SAME", "SLOWER", "Comparison", "compare", "compare_launches", "quartiles", "resample"]

FASTER, SLOWER, SAME = "faster", "slower", "no difference"
LEAST_DIFFERENCE = 0.02  # smaller ones are left alone, however sure: the placement of code and data alone makes some
DRAWS = 2000
LEVEL = 0.99

Launches: TypeAlias = Sequence[Sequence[float]]
"""Seconds by launch and round."""


class Comparison(NamedTuple):
    """How many times as fast a contender is as another, with a 99 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`FASTER` or `SLOWER` where the interval leaves no doubt, else `SAME`."""
        return self.judge(LEAST_DIFFERENCE)

    def judge(self, least: float) -> str:
        """The same with another least difference that counts."""
        if self.low > 1 and self.ratio > 1 + least:
            return FASTER
        if self.high < 1 and self.ratio < 1 / (1 + least):
            return SLOWER
        return SAME

    def to_dict(self) -> dict[str, float | str]:
        return {**self._asdict(), "verdict": self.verdict}


def compare_launches(theirs: Launches, ours: Launches, generator: np.random.Generator) -> Comparison:
    """How many times as fast we are: the median ratio of `theirs` to `ours`."""
    logs = pair(theirs, ours)
    return summarize(np.nanmedian(logs), resample(logs, generator))


def compare(theirs: Sequence[float], ours: Sequence[float], generator: np.random.Generator) -> Comparison:
    """The same of a single launch, which says nothing of what another one would show."""
    return compare_launches([theirs], [ours], generator)


def summarize(median: float, draws: NDArray[np.float64]) -> Comparison:
    """The ratio of a logarithm, with the interval that bootstrap samples of it give."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Comparison(*(float(np.exp(value)) for value in (median, low, high)))


def pair(theirs: Launches, ours: Launches) -> NDArray[np.float64]:
    """Logarithms of their seconds over ours, (launches, rounds); NaN where a launch has fewer rounds than others."""
    if not theirs or len(theirs) != len(ours):
        raise ValueError(f"as many launches of one as of the other are needed, got {len(theirs)} and {len(ours)}")
    logs = np.full((len(ours), max(map(len, ours))), np.nan)
    for row, their, our in zip(logs, theirs, ours, strict=True):
        row[: len(our)] = [np.log(a / b) for a, b in zip(their, our, strict=True)]
    return logs


def resample(values: NDArray[np.float64], generator: np.random.Generator, draws: int = DRAWS) -> NDArray[np.float64]:
    """Medians of `draws` bootstrap samples of `values` (launches, rounds): launches, then rounds within each."""
    counts = np.isfinite(values).sum(axis=1)
    launches = generator.integers(0, len(values), (draws, len(values)))
    rounds = (generator.random((*launches.shape, values.shape[1])) * counts[launches][..., None]).astype(int)
    drawn = values[launches[..., None], rounds]
    drawn[np.arange(values.shape[1]) >= counts[launches][..., None]] = np.nan  # as many as the launch has
    medians: NDArray[np.float64] = np.nanmedian(drawn.reshape(draws, -1), axis=1)
    return medians


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; all the same of one value."""
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else [*values] * 3
    return low, median, high
