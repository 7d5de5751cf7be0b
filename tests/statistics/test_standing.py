"""The verdict beside a reference, by brute force over all outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.standing import POWER, Standing, episodes_needed, standing


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.60, 0.76, Standing.WITHIN),
        (0.69, 0.77, Standing.WITHIN),  # another rate for certain, but not by 10 points
        (0.69, 0.79, Standing.ABOVE),
        (0.90, 1.00, Standing.ABOVE),
        (0.50, 0.67, Standing.BELOW),
        (0.55, 0.76, Standing.CANNOT_TELL),
        (0.60, 0.80, Standing.CANNOT_TELL),
    ],
)
def test_the_verdict_goes_by_the_interval(low: float, high: float, verdict: Standing) -> None:
    assert standing(Interval(low, high), 0.68) is verdict


def test_a_margin_beyond_0_or_1_is_one_sided() -> None:
    assert standing(clopper_pearson(100, 100), 0.95) is Standing.WITHIN
    assert standing(clopper_pearson(0, 100), 0.05) is Standing.WITHIN
    assert standing(clopper_pearson(100, 100), 0.90) is Standing.WITHIN
    assert standing(clopper_pearson(60, 100), 0.95) is Standing.BELOW
    assert standing(clopper_pearson(0, 0), 0.95) is Standing.CANNOT_TELL


@pytest.mark.parametrize("reference", [0.05, 0.35, 0.68, 0.87, 0.95])
def test_no_verdict_is_wrong_more_often_than_it_says(reference: float) -> None:
    for trials in (20, 50, 200):
        verdicts = [standing(clopper_pearson(x, trials), reference) for x in range(trials + 1)]
        apart = np.isin(verdicts, (Standing.ABOVE, Standing.BELOW))
        assert binom.pmf(np.arange(trials + 1), trials, reference) @ apart <= 0.05
        within = np.array([verdict is Standing.WITHIN for verdict in verdicts])
        for true in (reference - 0.1, reference + 0.1):
            if 0.0 <= true <= 1.0:
                assert binom.pmf(np.arange(trials + 1), trials, true) @ within <= 0.025 + 1e-9


@pytest.mark.parametrize(("rate", "reference"), [(0.7, 0.68), (0.4, 0.68), (1.0, 0.87), (0.0, 0.0)])
def test_the_number_of_episodes_decides_and_one_less_does_not(
    rate: float, reference: float
) -> None:
    needed = episodes_needed(rate, reference)
    assert needed is not None

    def chance(episodes: int) -> float:
        return sum(
            binom.pmf(x, episodes, rate)
            for x in range(episodes + 1)
            if standing(clopper_pearson(x, episodes), reference) is not Standing.CANNOT_TELL
        )

    assert chance(needed) >= POWER > chance(needed - 1)


@pytest.mark.parametrize(("reference", "margin"), [(1.2, 0.1), (-0.1, 0.1), (0.5, 0.0)])
def test_impossible_questions_are_refused(reference: float, margin: float) -> None:
    with pytest.raises(ValueError):
        standing(Interval(0.1, 0.2), reference, margin)
