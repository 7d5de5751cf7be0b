"""The mean difference over targets: by brute force where that is possible, else simulated."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from octo_bench.statistics.hierarchical import two_level_difference
from octo_bench.statistics.stratified_pairs import Stratum, stratified_difference


def stratum(a: np.ndarray, b: np.ndarray, task: str = "stack") -> Stratum:
    trainings, states = a.shape
    return Stratum(a, b, list(range(trainings)), [(task, state) for state in range(states)])


def outcomes(
    generator: np.random.Generator, rate: float, shape: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """Outcomes of two policies that succeed at this rate; some states are hard for both."""
    hard = np.where(generator.random(shape[1]) < 0.3, rate - 0.25, rate + 0.75 * 0.25 / 1.75)
    return tuple((generator.random(shape) < hard).astype(float) for _ in range(2))


def test_one_target_with_one_training_is_the_difference_of_that_target() -> None:
    a, b = outcomes(np.random.default_rng(1), 0.6, (1, 80))
    found, own = stratified_difference([stratum(a, b)]), two_level_difference(a, b, draws=[0])
    assert found.difference == pytest.approx(own.difference)
    assert found.p_value == pytest.approx(own.p_value)
    assert found.as_trained.low == pytest.approx(own.as_trained.low, abs=0.003)
    assert found.as_trained.high == pytest.approx(own.as_trained.high, abs=0.003)


def test_targets_weigh_alike_whatever_they_have() -> None:
    one = stratum(np.zeros((1, 20)), np.ones((1, 20)))
    often = stratum(np.zeros((3, 40)), np.zeros((3, 40)), "can")
    found = stratified_difference([one, often])
    assert found.difference == pytest.approx(0.5)
    assert (found.pairs, found.units) == (140, 1)


def test_missing_pairs_are_left_out() -> None:
    a, b = np.zeros((2, 10)), np.ones((2, 10))
    a[0, 3] = np.nan
    found = stratified_difference([stratum(a, b), stratum(a[1:], b[1:], "can")])
    assert (found.pairs, found.difference) == (29, pytest.approx(1.0))
    with pytest.raises(ValueError, match="no targets"):
        stratified_difference([])


def test_the_p_value_is_that_of_all_signs_of_the_scenes() -> None:
    generator = np.random.default_rng(2)
    a, b = ((generator.random((2, 6)) < rate).astype(float) for rate in (0.3, 0.8))
    c, d = ((generator.random((1, 6)) < rate).astype(float) for rate in (0.4, 0.7))
    # The same task on two arms: scene k of one is scene k of the other.
    found = stratified_difference([stratum(a, b), stratum(c, d)])
    sums = (b - a).sum(axis=0) / 24 + (d - c).sum(axis=0) / 12
    signed = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=6)]
    expected = np.mean(np.array(signed) >= abs(sums.sum()) - 1e-9)
    assert found.p_value == pytest.approx(expected)


def test_the_interval_covers_and_the_test_keeps_its_level() -> None:
    generator, covered, rejected, trials = np.random.default_rng(3), 0, 0, 200
    for _ in range(trials):
        strata = [
            stratum(*outcomes(generator, rate, (trainings, 50)), task)
            for rate, trainings, task in ((0.6, 2, "stack"), (0.9, 2, "can"), (0.8, 1, "stack"))
        ]
        found = stratified_difference(strata)
        covered += 0.0 in found.as_trained
        rejected += found.p_value < 0.05
    assert covered / trials >= 0.92
    assert rejected / trials <= 0.08
