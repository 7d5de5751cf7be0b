"""The mean difference of two policies over several targets, from all pairs that there are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from octo_bench.statistics.hierarchical import TwoLevelDifference, two_level_difference
from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.paired import tango_limits
from octo_bench.statistics.stratified import mean_interval

_GRID = 100  # steps of the sign test in the smallest weight of a pair


@dataclass(frozen=True)
class Stratum:
    """The pairs of one target.

    Attributes:
        a, b: (trainings, initial states) of either policy; 1 for a success, 0 for a failure, not
            a number where there is no pair.
        draws: the demonstration draw of each training.
        scenes: of each initial state, what it shares with states of other targets, such as the
            places of the objects. Pairs of one scene are not taken for independent.
    """

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    draws: Sequence[Hashable]
    scenes: Sequence[Hashable]


def stratified_difference(
    strata: Sequence[Stratum], confidence: float = 0.95
) -> TwoLevelDifference:
    """B minus A, averaged over K targets that weigh alike; every recorded pair counts.

    Targets may have different trainings and numbers of pairs: with n_k pairs in target k, each of
    its pairs weighs w = 1 / (K n_k), and the difference is the sum of w d over all pairs, d = -1,
    0 or 1. Pairs of the same scene, of whatever training and target, form one of C clusters. With
    e_c the sum of w (d - mean of its target) over cluster c,

        V = C / (C - 1) sum_c e_c^2

    is the variance of the difference as trained (Taylor linearization, clusters drawn within
    strata). The interval is Tango's with as many pairs as carry that variance, as in
    `two_level_difference`, never more than there are. The p-value is that of the exact sign test
    on clusters: the probability that the sum of w d with a random sign for each cluster is as far
    from 0 as the one seen. Weights are rounded to a hundredth of the smallest, which keeps it
    exact, since any weights would.

    The interval for training anew is the method of variance estimates recovery (`mean_interval`)
    over the targets' own ones, None unless each has one.

    Source: W. G. Cochran, "Sampling Techniques" (1977), sections 5.9 and 11.6, and as of
    `two_level_difference`.

    Args:
        strata: of each target its pairs.
        confidence: in (0, 1).

    Raises:
        ValueError: without strata, or where a target has no pair, or other outcomes.
    """
    if not strata:
        raise ValueError("no targets")
    own = [two_level_difference(each.a, each.b, confidence, each.draws) for each in strata]
    weights, differences, residuals, clusters = [], [], [], []
    numbers: dict[Hashable, int] = {}
    for each, found in zip(strata, own, strict=True):
        table = np.asarray(each.b, dtype=float) - np.asarray(each.a, dtype=float)
        seen = ~np.isnan(table)
        of_scene = np.array([numbers.setdefault(scene, len(numbers)) for scene in each.scenes])
        weights.append(np.full(found.pairs, 1.0 / (len(strata) * found.pairs)))
        differences.append(table[seen])
        residuals.append(table[seen] - found.difference)
        clusters.append(np.broadcast_to(of_scene, table.shape)[seen])
    weight, d = np.concatenate(weights), np.concatenate(differences)
    cluster, pairs = np.concatenate(clusters), len(d)
    difference = float(weight @ d)
    effective = _effective_number(
        np.bincount(cluster, weight * np.concatenate(residuals), len(numbers)),
        float(weight @ (d - difference) ** 2),
        pairs,
        (1.0 - confidence) / 2.0,
    )
    only_a, only_b = (float(weight[d == sign].sum()) for sign in (-1.0, 1.0))
    anew = [each.trained_anew for each in own if each.trained_anew is not None]
    return TwoLevelDifference(
        difference=difference,
        p_value=_random_signs(np.bincount(cluster, weight * d, len(numbers)), float(weight.min())),
        units=min(each.units for each in own),
        pairs=pairs,
        confidence=confidence,
        as_trained=tango_limits(only_a * effective, only_b * effective, effective, confidence),
        trained_anew=_anew(own, anew),
        spread=float(np.mean([each.spread for each in own])),
    )


def _anew(own: Sequence[TwoLevelDifference], anew: Sequence[Interval]) -> Interval | None:
    if len(anew) < len(own):
        return None
    return mean_interval([each.difference for each in own], anew, lowest=-1.0)


def _effective_number(
    of_clusters: NDArray[np.float64], of_pair: float, pairs: int, tail: float
) -> float:
    """How many independent pairs carry the variance over clusters; `of_pair` is that of one."""
    number = len(of_clusters)
    variance = 0.0
    if number > 1:
        variance = number / (number - 1) * float(of_clusters @ of_clusters)
    if variance <= 1e-15:
        return float(number)  # nothing tells how pairs of a scene hang together
    quantiles = stdtrit(np.array([pairs - 1, number - 1], dtype=float), 1.0 - tail)
    return min(float(pairs), of_pair / variance * float(quantiles[0] / quantiles[1]) ** 2)


def _random_signs(sums: NDArray[np.float64], smallest: float) -> float:
    """Probability that the sum, with random signs, is at least as far from 0, by convolution."""
    steps = np.rint(sums / smallest * _GRID).astype(int)
    steps //= max(1, int(np.gcd.reduce(steps)))
    sizes = np.abs(steps[steps != 0])
    chances = np.ones(1)  # of the sums from -reach to reach
    for size in sizes:
        padding = np.zeros(2 * size)
        chances = 0.5 * (np.concatenate([chances, padding]) + np.concatenate([padding, chances]))
    reach = (len(chances) - 1) // 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(int(steps.sum()))
    return min(1.0, float(chances[far].sum()))
