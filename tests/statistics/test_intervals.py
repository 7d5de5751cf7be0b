"""Intervals: against independent implementations, and their defining property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from statsmodels.stats.proportion import proportion_confint

from octo_bench.statistics.intervals import clopper_pearson

counts = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@given(counts, confidences)
def test_clopper_pearson_agrees_with_scipy_and_statsmodels(
    count: tuple[int, int], confidence: float
) -> None:
    successes, trials = count
    interval = clopper_pearson(successes, trials, confidence)
    scipy = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    statsmodels = proportion_confint(successes, trials, 1 - confidence, method="beta")
    assert (interval.low, interval.high) == pytest.approx((scipy.low, scipy.high), abs=1e-6)
    assert (interval.low, interval.high) == pytest.approx(statsmodels, abs=1e-9)


@given(counts)
def test_clopper_pearson_holds_the_rate_and_mirrors_successes_and_failures(
    count: tuple[int, int],
) -> None:
    successes, trials = count
    interval = clopper_pearson(successes, trials)
    assert successes / trials in interval
    mirrored = clopper_pearson(trials - successes, trials)
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-9)


@given(st.integers(1, 60), st.integers(0, 1000).map(lambda thousandths: thousandths / 1000))
def test_clopper_pearson_covers_any_rate_at_least_as_often_as_it_says(
    trials: int, rate: float
) -> None:
    covered = sum(
        binom.pmf(successes, trials, rate)
        for successes in range(trials + 1)
        if rate in clopper_pearson(successes, trials)
    )
    assert covered >= 0.95 - 1e-9


def test_clopper_pearson_at_the_ends() -> None:
    # With no success in n trials the upper bound is 1 - (a/2)^(1/n), by hand.
    assert clopper_pearson(0, 50).low == 0.0
    assert clopper_pearson(0, 50).high == pytest.approx(1 - 0.025 ** (1 / 50))
    assert clopper_pearson(50, 50).high == 1.0
    assert clopper_pearson(0, 0).low == 0.0 and clopper_pearson(0, 0).high == 1.0


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0), (1, 5, 0.0)]
)
def test_clopper_pearson_refuses_impossible_counts(
    successes: int, trials: int, confidence: float
) -> None:
    with pytest.raises(ValueError):
        clopper_pearson(successes, trials, confidence)
