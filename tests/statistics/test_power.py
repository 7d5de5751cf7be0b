"""Power: by brute force over all outcomes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, boschloo_exact, multinomial

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
