"""Tests and intervals for two policies, against other implementations and by enumeration."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from octo_bench.statistics.completion import Completion
from octo_bench.statistics.intervals import clopper_pearson
from octo_bench.statistics.multiplicity import holm
from octo_bench.statistics.paired import (
    PairedCounts,
    count_pairs,
    mcnemar_exact,
    score,
    tango_interval,
)
from octo_bench.statistics.unpaired import agresti_caffo_interval

tables = st.builds(PairedCounts, *[st.integers(0, 40)] * 4)


def test_pairs_are_counted_by_who_succeeded() -> None:
    counts = count_pairs([True, True, False, False, True], [True, False, True, False, False])
    assert counts == PairedCounts(both=1, only_a=2, only_b=1, neither=1)
    assert (counts.pairs, counts.discordant) == (5, 3)
    assert (counts.rate_a, counts.rate_b) == (0.6, 0.4)
    assert counts.difference == pytest.approx(-0.2)
    with pytest.raises(ValueError):
        count_pairs([True], [True, False])
    with pytest.raises(ValueError):
        PairedCounts(1, 2, -1, 0)


@given(tables)
def test_mcnemar_agrees_with_scipy_and_statsmodels(counts: PairedCounts) -> None:
    table = [[counts.both, counts.only_a], [counts.only_b, counts.neither]]
    assert mcnemar_exact(counts) == pytest.approx(mcnemar(table, exact=True).pvalue)
    if counts.discordant:
        for alternative in ("less", "greater"):
            expected = binomtest(counts.only_b, counts.discordant, alternative=alternative).pvalue
            assert mcnemar_exact(counts, alternative) == pytest.approx(expected)


def test_mcnemar_says_nothing_without_discordant_pairs() -> None:
    for alternative in ("two-sided", "less", "greater"):
        assert mcnemar_exact(PairedCounts(30, 0, 0, 20), alternative) == 1.0


@given(tables.filter(lambda counts: counts.pairs > 0), st.integers(-95, 95))
def test_score_uses_the_maximum_likelihood_under_the_hypothesis(
    counts: PairedCounts, percent: int
) -> None:
    difference = percent / 100
    agreeing = counts.pairs - counts.discordant

    def cost(only_a: float) -> float:
        only_b = only_a + difference
        terms = ((counts.only_a, only_a), (counts.only_b, only_b), (agreeing, 1 - only_a - only_b))
        return -sum(count * log(max(chance, 1e-300)) for count, chance in terms if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    only_a = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = 2 * only_a + difference - difference**2
    expected = (counts.difference - difference) / np.sqrt(variance / counts.pairs)
    found = float(score(counts.only_a, counts.only_b, counts.pairs, difference))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


@given(tables, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_tango_ends_where_the_score_test_rejects(counts: PairedCounts, confidence: float) -> None:
    interval = tango_interval(counts, confidence)
    assert -1.0 <= interval.low <= interval.high <= 1.0
    swapped = tango_interval(
        PairedCounts(counts.both, counts.only_b, counts.only_a, counts.neither), confidence
    )
    assert (swapped.low, swapped.high) == pytest.approx((-interval.high, -interval.low), abs=1e-9)
    if counts.pairs:
        assert counts.difference in interval
        z = norm.isf((1 - confidence) / 2)
        for limit, sign in ((interval.low, 1), (interval.high, -1)):
            if abs(limit) < 1.0:
                value = float(score(counts.only_a, counts.only_b, counts.pairs, limit))
                assert sign * value == pytest.approx(z, abs=1e-6)


@pytest.mark.parametrize("pairs", [1, 5, 29, 200])
def test_tango_stays_wide_where_all_pairs_agree(pairs: int) -> None:
    z2 = norm.isf(0.025) ** 2
    interval = tango_interval(PairedCounts(pairs, 0, 0, 0))
    assert (interval.low, interval.high) == pytest.approx((-z2 / (pairs + z2), z2 / (pairs + z2)))


def test_tango_knows_nothing_without_pairs() -> None:
    assert (tango_interval(PairedCounts(0, 0, 0, 0)).width) == 2.0
    with pytest.raises(ValueError):
        tango_interval(PairedCounts(1, 0, 0, 0), 1.0)


@given(*[st.integers(0, 30)] * 2, *[st.integers(30, 60)] * 2)
def test_agresti_caffo_agrees_with_statsmodels(a: int, b: int, of_a: int, of_b: int) -> None:
    interval = agresti_caffo_interval(a, of_a, b, of_b)
    expected = confint_proportions_2indep(b, of_b, a, of_a, method="agresti-caffo")
    assert (interval.low, interval.high) == pytest.approx(np.clip(expected, -1, 1))


@pytest.mark.parametrize("counts", [(5, 4, 0, 1), (0, 1, -1, 1)])
def test_agresti_caffo_refuses_impossible_counts(counts: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError):
        agresti_caffo_interval(*counts)


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


def test_holm_of_nothing_and_of_nonsense() -> None:
    assert holm([]) == ()
    with pytest.raises(ValueError):
        holm([0.5, float("nan")])


def test_errors_widen_what_is_known_of_a_rate() -> None:
    completion = Completion(successes=6, completed=8, errors=2)
    assert (completion.rate, completion.worst, completion.best) == (0.75, 0.6, 0.8)
    assert completion.error_share == 0.2
    assert completion.interval() == clopper_pearson(6, 8)
    assert completion.bounds().low == clopper_pearson(6, 10).low
    assert completion.bounds().high == clopper_pearson(8, 10).high
    whole = Completion(6, 8)
    assert whole.bounds() == whole.interval()
    assert Completion(0, 0, 3).bounds().width == 1.0
    assert np.isnan(Completion(0, 0).worst)
    with pytest.raises(ValueError):
        Completion(3, 2)
