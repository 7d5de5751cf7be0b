"""The interval for the mean of several rates."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, norm

from octo_bench.statistics.hierarchical import two_level
from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.stratified import mean_interval, mean_rate


def mean_rate_interval(counts: list[tuple[int, int]]) -> Interval:
    """Of strata whose trials are all independent."""
    return mean_interval([s / n for s, n in counts], [clopper_pearson(s, n) for s, n in counts])


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


def test_a_stratum_without_trials_leaves_no_rate() -> None:
    assert math.isnan(mean_rate([(3, 5), (0, 0)]))
    with pytest.raises(ValueError, match="no strata"):
        mean_interval([], [])


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_it_covers_where_trainings_share_their_initial_states(spread: float) -> None:
    """Four targets, three trainings each on the same 30 states, some of which are hard for all."""
    generator = np.random.default_rng(0)
    runs, covered, pooled, anew = 300, 0, 0, 0
    for _ in range(runs):
        truths, recipes, rates, both, naive = [], [], [], [], []
        for centre in (-0.5, 0.0, 0.5, 1.0):
            skills = centre + spread * generator.standard_normal((3, 1))
            hardness = 2.0 * generator.standard_normal((1, 30))
            outcomes = generator.random((3, 30)) < expit(skills - hardness)
            grid = 2.0 * norm.ppf((np.arange(400) + 0.5) / 400)
            truths.append(float(expit(skills - grid).mean()))
            recipes.append(float(expit(centre - np.hypot(2.0, spread) / 2.0 * grid).mean()))
            rates.append(float(outcomes.mean()))
            both.append(two_level(outcomes))
            naive.append(clopper_pearson(int(outcomes.sum()), 90))
        truth = sum(truths) / 4
        covered += truth in mean_interval(rates, [each.as_trained for each in both])
        pooled += truth in mean_interval(rates, naive)
        anew += sum(recipes) / 4 in mean_interval(rates, [each.trained_anew for each in both])
    assert covered >= 0.94 * runs
    assert pooled < 0.90 * runs
    assert anew >= 0.94 * runs
