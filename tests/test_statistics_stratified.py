"""The interval for the mean of several rates."""

from __future__ import annotations

import math
from itertools import product

import pytest
from scipy.stats import binom

from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.stratified import mean_rate, mean_rate_interval


@pytest.mark.parametrize("successes", [0, 1, 10, 19, 20])
def test_of_one_stratum_it_is_the_exact_one(successes: int) -> None:
    exact, found = clopper_pearson(successes, 20), mean_rate_interval([(successes, 20)])
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_strata_weigh_alike_however_many_trials_they_have() -> None:
    assert mean_rate([(10, 10), (0, 1000)]) == 0.5
    found = mean_rate_interval([(10, 10), (0, 1000)])
    assert 0.5 in found
    own = clopper_pearson(10, 10)
    assert found.low == pytest.approx(0.5 - (1 - own.low) / 2)


def test_several_strata_know_more_than_one_and_about_as_much_as_one_of_all_trials() -> None:
    several = mean_rate_interval([(25, 50)] * 6)
    assert several.width < clopper_pearson(25, 50).width / 2
    assert several.width == pytest.approx(clopper_pearson(150, 300).width, rel=0.1)


def test_it_mirrors_and_stays_between_0_and_1() -> None:
    found, mirrored = mean_rate_interval([(1, 9), (3, 7)]), mean_rate_interval([(8, 9), (4, 7)])
    assert (found.low, found.high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low))
    assert mean_rate_interval([(0, 5), (0, 5)]).low == 0.0
    assert mean_rate_interval([(5, 5), (5, 5)]).high == 1.0


@pytest.mark.parametrize("trials", [(6, 6), (12, 5), (5, 5, 5)])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.08])
def test_it_covers_the_mean_as_often_as_it_says(
    trials: tuple[int, ...], rate: float, spread: float
) -> None:
    rates = [min(1.0, max(0.0, rate + spread * (k - 1))) for k in range(len(trials))]
    covered = 0.0
    for counts in product(*(range(n + 1) for n in trials)):
        strata = list(zip(counts, trials, strict=True))
        if sum(rates) / len(rates) in mean_rate_interval(strata):
            chances = (binom.pmf(x, n, p) for (x, n), p in zip(strata, rates, strict=True))
            covered += math.prod(map(float, chances))
    rare = min(n * min(p, 1 - p) for n, p in zip(trials, rates, strict=True)) < 1
    assert covered >= (0.92 if rare else 0.95)


def test_a_stratum_without_trials_leaves_everything_open() -> None:
    assert mean_rate_interval([(3, 5), (0, 0)]) == Interval(0.0, 1.0)
    assert math.isnan(mean_rate([(3, 5), (0, 0)]))
    with pytest.raises(ValueError, match="no strata"):
        mean_rate_interval([])
