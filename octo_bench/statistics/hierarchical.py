"""A success rate over several trainings: which claim does an interval support?

Fine-tuning is luck, too: another draw of demonstrations or another training seed gives another
policy. Episodes tell how good the policies are that were trained; only several trainings tell how
good the recipe is that trained them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, stdtrit

from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.paired import tango_limits

AS_TRAINED = "these policies, as they were trained, on new initial states"
TRAINED_ANEW = "the recipe, trained again with other draws and seeds, on new initial states"
NOT_SUPPORTED = "not supported: one training says nothing of how trainings differ"


@dataclass(frozen=True)
class TwoLevel:
    """A rate and what may be said of it.

    Attributes:
        rate: successes by completed episodes.
        units: independent trainings: draws where they are given, else trainings.
        episodes: completed ones, of all trainings together.
        confidence: of both intervals.
        as_trained: for the claim `AS_TRAINED`; the only luck in it is that of initial states.
        trained_anew: for the claim `TRAINED_ANEW`; None with one unit: `NOT_SUPPORTED`.
        spread: estimated standard deviation of the rate from unit to unit, 0 where the units
            differ no more than their episodes explain; then both intervals are the same.
    """

    rate: float
    units: int
    episodes: int
    confidence: float
    as_trained: Interval
    trained_anew: Interval | None
    spread: float


def two_level(
    outcomes: ArrayLike, confidence: float = 0.95, draws: Sequence[Hashable] | None = None
) -> TwoLevel:
    """Intervals of a rate measured by several trainings on the same initial states.

    With y_ij the outcome of unit i of U on state j of n, analysis of variance with crossed random
    effects splits what is seen into units (mean square A), states, and the rest (mean square E):

        s^2 = max(0, (A - E) / n)                       between units
        V   = sum_j (sum_i (y_ij - mean of i))^2 n / (n - 1) / N^2    of the rate, units as given
        V'  = V + s^2 / U                               of the rate, units drawn anew

    V' has about (U - 1) (V' / (A / (n U)))^2 degrees of freedom (Satterthwaite). An interval is
    Clopper-Pearson's with as many episodes as carry that variance, p (1 - p) / V, scaled by the
    squared ratio of t quantiles (Korn and Graubard); never narrower than with the N episodes
    there are. Where V is 0, for instance since all succeeded, nothing tells how the trainings hang
    together, and each state counts once. Where s^2 is 0 the second interval is the first one; of
    one training that one is Clopper-Pearson's itself.

    For the second claim the coverage is measured in results/calibration. It errs where units do
    differ but by chance do not show it: with 3 or more units it stays near the nominal one, with
    2 it is clearly below. It takes trainings of one recipe to be exchangeable.

    Source: E. L. Korn and B. I. Graubard, "Confidence intervals for proportions with small
    expected number of positive counts estimated from survey data", Survey Methodology 24 (1998),
    193-201; F. E. Satterthwaite, "An approximate distribution of estimates of variance
    components", Biometrics Bulletin 2 (1946), 110-114; S. R. Searle, G. Casella and C. E.
    McCulloch, "Variance Components" (1992), sections 4.3 to 4.7.

    Args:
        outcomes: (trainings, initial states); 1 for a success, 0 for a failure, not a number
            where the episode ended in an error. Column j is the same state for all trainings.
        confidence: in (0, 1).
        draws: the demonstration draw of each training, a unit of sampling where several seeds
            were trained on each; without, every training is a unit.

    Raises:
        ValueError: without episodes, for other outcomes, or where fewer than two initial states
            were completed by all of several units.
    """
    table = np.atleast_2d(np.asarray(outcomes, dtype=float))
    _check(table, confidence)
    seen = ~np.isnan(table)
    episodes = int(seen.sum())
    rate = float(table[seen].mean())
    of_rate = rate * (1.0 - rate)
    tail = (1.0 - confidence) / 2.0

    effective = _effective_number(table, of_rate, tail)
    as_trained = _clopper_pearson(rate, effective, tail)

    units = _units(table, draws)
    if len(units) == 1:
        return TwoLevel(rate, 1, episodes, confidence, as_trained, None, 0.0)
    between, of_mean = _between_units(units)
    trained_anew = as_trained
    if between > 0.0:
        variance = of_rate / effective + between / len(units)
        freedom = (len(units) - 1) * max(1.0, variance / of_mean) ** 2
        anew = of_rate / variance * _penalty(episodes - 1, freedom, tail)
        trained_anew = _clopper_pearson(rate, min(anew, effective), tail)
    return TwoLevel(
        rate, len(units), episodes, confidence, as_trained, trained_anew, float(np.sqrt(between))
    )


@dataclass(frozen=True)
class TwoLevelDifference:
    """What may be said of B against A, both trained several times; see `two_level_difference`.

    Attributes:
        difference: rate of B minus rate of A, over the pairs that both completed.
        p_value: of "as trained, both succeed equally often".
        pairs: completed by both, of all trainings together.
        units, confidence, as_trained, trained_anew, spread: as of `TwoLevel`, of the difference.
    """

    difference: float
    p_value: float
    units: int
    pairs: int
    confidence: float
    as_trained: Interval
    trained_anew: Interval | None
    spread: float


def two_level_difference(
    a: ArrayLike,
    b: ArrayLike,
    confidence: float = 0.95,
    draws: Sequence[Hashable] | None = None,
) -> TwoLevelDifference:
    """Compare two recipes, for instance two heads, that were trained equally often.

    The analysis of `two_level` applied to differences, -1, 0 or 1, of the outcomes of training i
    of B and of A on the same state. Intervals are Tango's with as many pairs as carry the
    variance; with one training the first one is Tango's itself.

    The p-value is that of an exact sign test on states: with D_j the sum over trainings of the
    differences on state j, it is the probability that a sum of D_j with random signs is as far
    from 0 as the one seen. With one training it is McNemar's exact p-value, two-sided.

    Source: as of `two_level`, and T. Tango, Statistics in Medicine 17 (1998), 891-908; R. A.
    Fisher, "The Design of Experiments" (1935), section 21, for random signs.

    Args:
        a: (trainings, initial states) as in `two_level`.
        b: the same for B; row i has the draw and the seed of row i of A.
        confidence: in (0, 1).
        draws: as in `two_level`.

    Raises:
        ValueError: as `two_level`, and where the shapes are not the same.
    """
    first, second = (np.atleast_2d(np.asarray(each, dtype=float)) for each in (a, b))
    if first.shape != second.shape:
        raise ValueError(f"outcomes of shape {first.shape} and {second.shape}")
    for each in (first, second):
        _check(each, confidence)
    table = second - first
    seen = ~np.isnan(table)
    if not seen.any():
        raise ValueError("no pair that both completed")
    pairs = int(seen.sum())
    difference = float(table[seen].mean())
    of_pair = float(table[seen].var())
    tail = (1.0 - confidence) / 2.0

    def interval(effective: float) -> Interval:
        only_a, only_b = (float(np.mean(table[seen] == sign)) for sign in (-1.0, 1.0))
        return tango_limits(only_a * effective, only_b * effective, effective, confidence)

    effective = _effective_number(table, of_pair, tail)
    as_trained = interval(effective)
    p_value = _random_signs(np.where(seen, table, 0.0).sum(axis=0).astype(int))

    units = _units(table, draws)
    if len(units) == 1:
        return TwoLevelDifference(difference, p_value, 1, pairs, confidence, as_trained, None, 0.0)
    between, of_mean = _between_units(units)
    trained_anew = as_trained
    if between > 0.0:
        variance = of_pair / effective + between / len(units)
        freedom = (len(units) - 1) * max(1.0, variance / of_mean) ** 2
        anew = of_pair / variance * _penalty(pairs - 1, freedom, tail)
        trained_anew = interval(min(anew, effective))
    return TwoLevelDifference(
        difference,
        p_value,
        len(units),
        pairs,
        confidence,
        as_trained,
        trained_anew,
        float(np.sqrt(between)),
    )


def _check(table: NDArray[np.float64], confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    seen = table[~np.isnan(table)]
    if not len(seen):
        raise ValueError("no completed episode")
    if not np.isin(seen, (0.0, 1.0)).all():
        raise ValueError("an outcome is neither 0 nor 1")


def _random_signs(sums: NDArray[np.int_]) -> float:
    """Probability that the sum, with random signs, is at least as far from 0, by convolution."""
    sizes = np.abs(sums[sums != 0])
    chances = np.ones(1)  # of the sums from -reach to reach
    for size in sizes:
        spaced = np.zeros(2 * size + 1)
        spaced[[0, -1]] = 0.5
        chances = np.convolve(chances, spaced)
    reach = (len(chances) - 1) // 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(int(sums.sum()))
    return min(1.0, float(chances[far].sum()))


def _units(table: NDArray[np.float64], draws: Sequence[Hashable] | None) -> NDArray[np.float64]:
    """(units, states): the mean outcome of each draw on each state; nan where none completed."""
    if draws is None:
        return table
    if len(draws) != len(table):
        raise ValueError(f"{len(draws)} draws for {len(table)} trainings")
    rows = []
    for draw in dict.fromkeys(draws):
        of_draw = table[[other == draw for other in draws]]
        completed = np.sum(~np.isnan(of_draw), axis=0)
        means = np.nansum(of_draw, axis=0) / np.maximum(completed, 1)
        rows.append(np.where(completed > 0, means, np.nan))
    return np.array(rows)


def _effective_number(table: NDArray[np.float64], of_one: float, tail: float) -> float:
    """How many independent episodes carry the variance over states; `of_one` is that of one."""
    seen = ~np.isnan(table)
    number, states = int(seen.sum()), int(seen.any(axis=0).sum())
    if len(table) == 1 or states < 2:
        return float(states)  # each state of one training counts once
    variance = _variance_over_states(table, seen, states)
    if variance == 0.0:
        return float(states)
    return min(float(number), of_one / variance * _penalty(number - 1, states - 1, tail))


def _variance_over_states(
    table: NDArray[np.float64], seen: NDArray[np.bool_], states: int
) -> float:
    """V of `two_level`, by linearisation where episodes are missing."""
    counts = np.maximum(seen.sum(axis=1, keepdims=True), 1)
    means = np.where(seen, table, 0.0).sum(axis=1, keepdims=True) / counts
    by_state = np.where(seen, table - means, 0.0).sum(axis=0)
    return float(np.sum(by_state**2) * states / (states - 1) / seen.sum() ** 2)


def _between_units(units: NDArray[np.float64]) -> tuple[float, float]:
    """s^2 and A / (n U) of `two_level`, from the states that all units completed."""
    table = units[:, ~np.isnan(units).any(axis=0)]
    number, states = table.shape
    if states < 2:
        raise ValueError("fewer than two initial states were completed by all trainings")
    of_unit = table.mean(axis=1, keepdims=True)
    of_state = table.mean(axis=0, keepdims=True)
    residual = table - of_unit - of_state + table.mean()
    mean_square = states * float(of_unit.var(ddof=1))
    error = float(np.sum(residual**2)) / ((number - 1) * (states - 1))
    # Equal rates leave rounding errors, which are not a spread.
    excess = mean_square - error
    return (excess / states if excess > 1e-12 else 0.0), mean_square / (states * number)


def _penalty(ideal: float, freedom: float, tail: float) -> float:
    """(t quantile with `ideal` degrees of freedom / with the actual ones)^2, at most 1."""
    quantiles = stdtrit(np.array([ideal, min(freedom, ideal)]), 1.0 - tail)
    return float((quantiles[0] / quantiles[1]) ** 2)


def _clopper_pearson(rate: float, episodes: float, tail: float) -> Interval:
    """Clopper-Pearson's interval, with `episodes` that need not be a whole number."""
    successes, failures = rate * episodes, (1.0 - rate) * episodes
    return Interval(
        float(betaincinv(successes, failures + 1.0, tail)) if successes else 0.0,
        float(betaincinv(successes + 1.0, failures, 1.0 - tail)) if failures else 1.0,
    )
