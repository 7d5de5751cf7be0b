"""Power, and agreement with a reference: by brute force over all outcomes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, boschloo_exact, multinomial

from octo_bench.statistics.equivalence import Agreement, agreement_of, compare_with_reference
from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.paired import PairedCounts, mcnemar_exact
from octo_bench.statistics.power import (
    boschloo_power,
    boschloo_table,
    mcnemar_power,
    smallest_number,
)

ALTERNATIVES = ("two-sided", "less", "greater")


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_power_of_mcnemar_is_the_probability_of_its_rejections(alternative: str) -> None:
    pairs, only_a, only_b = 14, 0.35, 0.1
    expected = sum(
        multinomial.pmf([a, b, pairs - a - b], pairs, [only_a, only_b, 1 - only_a - only_b])
        for a, b in product(range(pairs + 1), repeat=2)
        if a + b <= pairs
        and mcnemar_exact(PairedCounts(pairs - a - b, a, b, 0), alternative) <= 0.05
    )
    assert mcnemar_power(pairs, only_a, only_b, 0.05, alternative) == pytest.approx(expected)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_all_of_boschloos_p_values_agree_with_scipy(alternative: str) -> None:
    table = boschloo_table(9, alternative)
    mirrored = {"two-sided": "two-sided", "less": "greater", "greater": "less"}[alternative]
    for a, b in product(range(0, 10, 3), repeat=2):
        expected = boschloo_exact([[a, b], [9 - a, 9 - b]], mirrored, n=64).pvalue
        expected = 1.0 if np.isnan(expected) else min(expected, 1.0)
        assert table[a, b] == pytest.approx(expected, rel=2e-3)


def test_power_of_boschloo_is_the_probability_of_its_rejections() -> None:
    rejected = boschloo_table(12) <= 0.05
    expected = sum(
        binom.pmf(a, 12, 0.2) * binom.pmf(b, 12, 0.8)
        for a, b in product(range(13), repeat=2)
        if rejected[a, b]
    )
    assert boschloo_power(12, 0.2, 0.8) == pytest.approx(expected)
    assert boschloo_power(40, 0.5, 0.5) <= 0.05


def test_chances_that_exclude_each_other_are_at_most_1_together() -> None:
    with pytest.raises(ValueError):
        mcnemar_power(10, 0.6, 0.5)
    assert mcnemar_power(10, 0.0, 0.0) == 0.0


@pytest.mark.parametrize("least", [1, 2, 3, 7, 64, 100])
def test_the_smallest_number_is_found(least: int) -> None:
    assert smallest_number(lambda number: float(number >= least), 1.0, 100) == least


@pytest.mark.parametrize(
    ("inner", "outer", "agreement"),
    [
        (Interval(0.62, 0.74), Interval(0.60, 0.76), Agreement.AGREES),
        (Interval(0.57, 0.74), Interval(0.55, 0.76), Agreement.CANNOT_TELL),
        (Interval(0.58, 0.70), Interval(0.56, 0.72), Agreement.CANNOT_TELL),  # just on the margin
        (Interval(0.40, 0.57), Interval(0.38, 0.59), Agreement.CANNOT_TELL),
        (Interval(0.40, 0.56), Interval(0.38, 0.57), Agreement.DIFFERS),
        (Interval(0.80, 0.90), Interval(0.79, 0.91), Agreement.DIFFERS),
    ],
)
def test_agreement_with_68_percent_give_or_take_10(
    inner: Interval, outer: Interval, agreement: Agreement
) -> None:
    assert agreement_of(inner, outer, 0.68, 0.10) is agreement


def test_a_measured_rate_beside_a_reference() -> None:
    assert compare_with_reference(340, 500, 0.68, 0.1).agreement is Agreement.AGREES
    assert compare_with_reference(35, 100, 0.68, 0.1).agreement is Agreement.DIFFERS
    undecided = compare_with_reference(6, 10, 0.68, 0.1)
    assert undecided.agreement is Agreement.CANNOT_TELL
    assert undecided.inner == clopper_pearson(6, 10, 0.90)
    assert undecided.outer == clopper_pearson(6, 10, 0.95)
    nothing = compare_with_reference(0, 0, 0.68, 0.1)
    assert nothing.agreement is Agreement.CANNOT_TELL and nothing.episodes_needed is None


@pytest.mark.parametrize(("successes", "trials"), [(7, 10), (4, 10), (10, 10), (0, 10)])
def test_the_number_of_episodes_decides_and_one_less_does_not(successes: int, trials: int) -> None:
    needed = compare_with_reference(successes, trials, 0.68, 0.1).episodes_needed
    rate = successes / trials
    right = Agreement.AGREES if abs(rate - 0.68) < 0.1 else Agreement.DIFFERS

    def chance(episodes: int) -> float:
        return sum(
            binom.pmf(x, episodes, rate)
            for x in range(episodes + 1)
            if compare_with_reference(x, episodes, 0.68, 0.1).agreement is right
        )

    assert chance(needed) >= 0.8 > chance(needed - 1)


def test_a_rate_on_the_margin_is_never_decided() -> None:
    assert compare_with_reference(58, 100, 0.68, 0.1).episodes_needed is None


def test_a_margin_beyond_0_or_1_is_one_sided() -> None:
    assert compare_with_reference(100, 100, 0.95, 0.1).agreement is Agreement.AGREES
    assert compare_with_reference(0, 100, 0.05, 0.1).agreement is Agreement.AGREES
    assert compare_with_reference(60, 100, 0.95, 0.1).agreement is Agreement.DIFFERS


@pytest.mark.parametrize(
    ("reference", "margin", "alpha", "power"),
    [(1.2, 0.1, 0.05, 0.8), (0.5, 0.0, 0.05, 0.8), (0.5, 0.1, 0.5, 0.8), (0.5, 0.1, 0.05, 1.0)],
)
def test_impossible_questions_are_refused(
    reference: float, margin: float, alpha: float, power: float
) -> None:
    with pytest.raises(ValueError):
        compare_with_reference(5, 10, reference, margin, alpha, power)
