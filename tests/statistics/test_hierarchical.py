"""Two levels of luck, on synthetic data whose variance components are known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from octo_bench.calibration.calibrate import two_level_coverage
from octo_bench.statistics.hierarchical import two_level, two_level_difference
from octo_bench.statistics.intervals import clopper_pearson
from octo_bench.statistics.paired import count_pairs, mcnemar_exact, tango_interval


def trainings(rates: list[float], states: int, seed: int = 0) -> np.ndarray:
    """Independent outcomes with these rates."""
    generator = np.random.default_rng(seed)
    return generator.random((len(rates), states)) < np.array(rates)[:, None]


def test_one_training_says_nothing_of_the_recipe() -> None:
    found = two_level([[1, 0, 1, 1, 0, 1, 1, 1, 1, 1]])
    assert found.trained_anew is None and found.units == 1
    exact = clopper_pearson(8, 10)
    assert (found.as_trained.low, found.as_trained.high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("number", [2, 3, 5])
def test_trainings_that_differ_widen_the_interval(number: int) -> None:
    found = two_level(trainings(np.linspace(0.3, 0.9, number).tolist(), 100))
    assert found.spread > 0.1
    assert found.trained_anew.width > 1.5 * found.as_trained.width
    assert found.trained_anew.low <= found.as_trained.low
    assert found.trained_anew.high >= found.as_trained.high


@pytest.mark.parametrize("number", [2, 3, 5])
def test_trainings_that_do_not_differ_leave_the_pooled_interval(number: int) -> None:
    # The same number of successes in each, on independent states: nothing is left to explain.
    generator = np.random.default_rng(number)
    outcomes = np.array([generator.permutation([1] * 30 + [0] * 20) for _ in range(number)])
    found = two_level(outcomes)
    assert found.spread == 0.0
    assert found.trained_anew == found.as_trained
    pooled = clopper_pearson(30 * number, 50 * number)
    assert found.as_trained.width == pytest.approx(pooled.width, rel=0.25)
    assert found.as_trained.width >= pooled.width - 1e-9


def test_known_components_decide_how_often_the_intervals_differ_and_what_they_hold() -> None:
    generator = np.random.default_rng(0)
    same = two_level_coverage(5, 0.5, 0.0, 200, generator)
    other = two_level_coverage(5, 0.5, 0.2, 200, generator)
    assert same.same > 0.4 and same.width < 1.3
    assert other.same < 0.1 and other.width > 2.0
    assert same.trained_anew > 0.93 and other.trained_anew > 0.90
    assert same.as_trained > 0.93 and other.as_trained > 0.93
    assert other.pooled < 0.7  # what pooling the episodes of trainings that differ would claim


def test_components_are_those_of_the_analysis_of_variance() -> None:
    outcomes = trainings([0.3, 0.5, 0.8], 40).astype(float)
    unit, state = np.indices(outcomes.shape)
    data = pd.DataFrame({"y": outcomes.ravel(), "unit": unit.ravel(), "state": state.ravel()})
    squares = anova_lm(ols("y ~ C(unit) + C(state)", data).fit())["mean_sq"]
    found = two_level(outcomes)
    assert found.spread**2 == pytest.approx((squares["C(unit)"] - squares["Residual"]) / 40)


def test_large_differences_give_about_the_t_interval_of_the_trainings() -> None:
    rates = [0.35, 0.45, 0.55, 0.65]
    outcomes = np.arange(400) < 400 * np.array(rates)[:, None]
    outcomes = np.random.default_rng(0).permuted(outcomes, axis=1)
    found = two_level(outcomes)
    half = student.ppf(0.975, 3) * np.std(rates, ddof=1) / 2
    assert found.trained_anew.width == pytest.approx(2 * half, rel=0.15)


def test_states_that_are_hard_for_all_count_once() -> None:
    # Three trainings that do exactly the same know no more of new states than one of them.
    one = trainings([0.6], 60)
    found = two_level(np.repeat(one, 3, axis=0))
    alone = clopper_pearson(int(one.sum()), 60)
    assert found.as_trained.width == pytest.approx(alone.width, rel=0.05)
    assert found.trained_anew == found.as_trained


def test_seeds_of_one_draw_are_one_unit() -> None:
    outcomes = trainings([0.3, 0.3, 0.8, 0.8], 80)
    by_draw = two_level(outcomes, draws=["a", "a", "b", "b"])
    assert by_draw.units == 2
    assert by_draw.as_trained == two_level(outcomes).as_trained
    assert by_draw.trained_anew.width > two_level(outcomes).trained_anew.width
    assert two_level(outcomes, draws=[0, 0, 0, 0]).trained_anew is None


def test_errors_are_left_out() -> None:
    outcomes = trainings([0.4, 0.7], 50).astype(float)
    whole = two_level(outcomes)
    outcomes[0, :3] = np.nan
    found = two_level(outcomes)
    assert found.episodes == whole.episodes - 3 == 97
    assert found.rate == pytest.approx(np.nanmean(outcomes))
    assert found.trained_anew.width > found.as_trained.width


@pytest.mark.parametrize("rate", [0, 1])
def test_where_all_is_alike_each_state_counts_once(rate: int) -> None:
    found = two_level(np.full((3, 20), rate))
    exact = clopper_pearson(20 * rate, 20)
    assert (found.as_trained.low, found.as_trained.high) == pytest.approx((exact.low, exact.high))
    assert found.trained_anew == found.as_trained


@pytest.mark.parametrize(
    ("outcomes", "arguments"),
    [
        ([[np.nan, np.nan]], {}),
        ([[0.5, 1.0]], {}),
        ([[0, 1]], {"confidence": 1.0}),
        ([[0, 1], [1, 0]], {"draws": ["a"]}),
        ([[1, np.nan, 1], [np.nan, 1, 0]], {}),
    ],
)
def test_what_cannot_be_analysed_is_refused(outcomes: list, arguments: dict) -> None:
    with pytest.raises(ValueError):
        two_level(outcomes, **arguments)


def test_one_training_of_each_is_compared_by_mcnemar_and_tango() -> None:
    a, b = trainings([0.7], 60, seed=1), trainings([0.4], 60, seed=2)
    counts = count_pairs(a[0], b[0])
    found = two_level_difference(a, b)
    assert found.difference == pytest.approx(counts.difference)
    assert found.p_value == pytest.approx(mcnemar_exact(counts))
    exact = tango_interval(counts)
    assert (found.as_trained.low, found.as_trained.high) == pytest.approx((exact.low, exact.high))
    assert found.trained_anew is None


def test_random_signs_are_enumerated() -> None:
    a, b = trainings([0.6, 0.6], 7, seed=5), trainings([0.4, 0.2], 7, seed=6)
    sums = (b.astype(int) - a.astype(int)).sum(axis=0)
    signed = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=7)]
    expected = np.mean(np.array(signed) >= abs(sums.sum()))
    assert two_level_difference(a, b).p_value == pytest.approx(expected)


def test_a_difference_that_four_trainings_share_is_found() -> None:
    a, b = trainings([0.8] * 4, 50, seed=1), trainings([0.5] * 4, 50, seed=2)
    found = two_level_difference(a, b)
    assert found.p_value < 0.001
    assert found.as_trained.high < 0.0 and found.difference in found.as_trained


def test_a_difference_that_depends_on_the_training_is_not_claimed_of_the_recipe() -> None:
    a, b = trainings([0.5] * 3, 80, seed=1), trainings([0.2, 0.5, 0.6], 80, seed=2)
    found = two_level_difference(a, b)
    assert found.spread > 0.05
    assert found.trained_anew.width > 1.5 * found.as_trained.width
    assert 0.0 in found.trained_anew


def test_no_difference_anywhere_leaves_what_the_states_allow() -> None:
    a = trainings([0.5, 0.7], 40)
    a = a.astype(float)
    found = two_level_difference(a, a)
    assert (found.difference, found.p_value, found.spread) == (0.0, 1.0, 0.0)
    agreeing = tango_interval(count_pairs(a[0], a[0]))
    assert found.as_trained.width == pytest.approx(agreeing.width)
    with_error = a.copy()
    with_error[0, 0] = np.nan
    assert two_level_difference(a, with_error).pairs == 79


def test_intervals_of_differences_hold_them() -> None:
    generator = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(300):
        rates_a, rates_b = generator.beta(8, 4, 4), generator.beta(6, 6, 4)
        hardness = generator.random(50)
        a, b = (
            0.5 * generator.random((4, 50)) + 0.5 * hardness
            < np.where(rates < 0.5, np.sqrt(rates / 2), 1 - np.sqrt((1 - rates) / 2))[:, None]
            for rates in (rates_a, rates_b)
        )
        found = two_level_difference(a, b)
        held += (
            (rates_b - rates_a).mean() in found.as_trained,
            6 / 12 - 8 / 12 in found.trained_anew,
        )
    assert (held / 300 > (0.92, 0.90)).all()


def test_differences_of_unequal_studies_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        two_level_difference([[0, 1]], [[0, 1], [1, 1]])
    with pytest.raises(ValueError, match="both completed"):
        two_level_difference([[0, np.nan]], [[np.nan, 1]])
