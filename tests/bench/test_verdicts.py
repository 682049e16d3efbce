"""Verdicts on samples whose truth is known: no difference is left alone, 5 % are found, and launches count."""

import numpy as np
import pytest

from fastnn.bench import verdicts


def draw(generator, launches, rounds, *, slower=1.0, between=0.0, within=0.01):
    """Seconds by launch and round; launches differ by a factor of their own."""
    levels = np.exp(between * generator.standard_normal((launches, 1)))
    noise = np.exp(within * generator.standard_normal((launches, rounds)))
    return (slower * levels * noise).tolist()


def verdict(generator, slower, **how):
    ours = draw(generator, 8, 10, slower=slower, **how)
    return verdicts.compare_launches(draw(generator, 8, 10, **how), ours, generator).verdict


@pytest.mark.parametrize("between", [0.0, 0.05])
def test_the_same_is_no_difference(between):
    generator = np.random.default_rng(0)
    found = [verdict(generator, 1.0, between=between) for _ in range(60)]
    assert found.count(verdicts.SAME) >= 57


def test_five_percent_are_found_where_launches_are_alike():
    generator = np.random.default_rng(1)
    assert [verdict(generator, 1.05, within=0.03) for _ in range(20)].count(verdicts.SLOWER) >= 18
    assert verdict(generator, 1 / 1.05, within=0.03) == verdicts.FASTER


def test_rounds_of_one_launch_do_not_hide_that_launches_differ():
    """A bootstrap of all rounds alike would be sure of what another launch turns round."""
    generator = np.random.default_rng(2)
    found = [verdict(generator, 1.0, between=0.2, within=0.001) for _ in range(40)]
    assert found.count(verdicts.SAME) >= 37


def test_a_difference_too_small_to_matter_is_none():
    assert verdicts.Comparison(1.015, 1.012, 1.018).verdict == verdicts.SAME
    assert verdicts.Comparison(1.04, 1.01, 1.06).verdict == verdicts.FASTER
    assert verdicts.Comparison(0.96, 0.94, 0.99).verdict == verdicts.SLOWER
    assert verdicts.Comparison(1.5, 0.99, 3.0).verdict == verdicts.SAME


def test_launches_may_have_different_numbers_of_rounds():
    generator = np.random.default_rng(3)
    result = verdicts.compare_launches([[2.0, 2.0, 2.0], [2.0]], [[1.0, 1.0, 1.0], [1.0]], generator)
    assert result == pytest.approx((2.0, 2.0, 2.0))
    values = np.array([[0.0, 0.0, 0.0], [1.0, np.nan, np.nan]])
    medians = verdicts.resample(values, generator)
    assert set(medians) <= {0.0, 1.0}
    assert np.isfinite(medians).all()


def test_launches_have_to_be_as_many():
    with pytest.raises(ValueError, match="got 2 and 1"):
        verdicts.pair([[1.0], [1.0]], [[1.0]])


def test_quartiles():
    assert verdicts.quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert verdicts.quartiles([1.0, 2.0, 3.0])[1] == 2.0
