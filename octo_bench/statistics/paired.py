"""Two policies on the same initial states: what differs between them, A first and B second.

A difference is the rate of B minus the rate of A: below zero, B is worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import binom, norm

from octo_bench.statistics.intervals import Interval

Alternative = Literal["two-sided", "less", "greater"]


@dataclass(frozen=True)
class PairedCounts:
    """Pairs of episodes by who succeeded.

    Raises:
        ValueError: for a count below zero.
    """

    both: int
    only_a: int
    only_b: int
    neither: int

    def __post_init__(self) -> None:
        if min(self.both, self.only_a, self.only_b, self.neither) < 0:
            raise ValueError(f"a count is below zero in {self}")

    @property
    def pairs(self) -> int:
        """All of them."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def discordant(self) -> int:
        """Pairs in which one succeeded and the other did not."""
        return self.only_a + self.only_b

    @property
    def rate_a(self) -> float:
        """Success rate of A; not a number without pairs."""
        return (self.both + self.only_a) / self.pairs if self.pairs else float("nan")

    @property
    def rate_b(self) -> float:
        """Success rate of B; not a number without pairs."""
        return (self.both + self.only_b) / self.pairs if self.pairs else float("nan")

    @property
    def difference(self) -> float:
        """Rate of B minus rate of A; not a number without pairs."""
        return (self.only_b - self.only_a) / self.pairs if self.pairs else float("nan")


def count_pairs(a: Sequence[bool], b: Sequence[bool]) -> PairedCounts:
    """Count the outcomes of A and B on the same initial states, in the same order.

    Raises:
        ValueError: when there are not as many of the one as of the other.
    """
    pairs = [(bool(first), bool(second)) for first, second in zip(a, b, strict=True)]
    return PairedCounts(
        both=pairs.count((True, True)),
        only_a=pairs.count((True, False)),
        only_b=pairs.count((False, True)),
        neither=pairs.count((False, False)),
    )


def mcnemar_exact(counts: PairedCounts, alternative: Alternative = "two-sided") -> float:
    """The exact p-value of "A and B succeed equally often"; 1 without discordant pairs.

    Given m discordant pairs, those that only B won are binomial (m, 1/2) under the hypothesis, so
    the p-value for "B is less successful" is P(X <= only_b), for "greater" P(X >= only_b), and
    two-sided twice the smaller one, at most 1.

    Source: Q. McNemar, "Note on the sampling error of the difference between correlated
    proportions or percentages", Psychometrika 12 (1947), 153-157; exact as in A. Agresti,
    "Categorical Data Analysis", 3rd edition (2013), section 11.1.1.
    """
    less = float(binom.cdf(counts.only_b, counts.discordant, 0.5))
    greater = float(binom.sf(counts.only_b - 1, counts.discordant, 0.5))
    if alternative == "less":
        return less
    if alternative == "greater":
        return greater
    return min(1.0, 2.0 * min(less, greater))


def score(
    only_a: ArrayLike, only_b: ArrayLike, pairs: ArrayLike, difference: float
) -> NDArray[np.float64]:
    """Tango's score statistic of "the difference is `difference`", standard normal if it is.

    With b = only_b, c = only_a, n pairs and difference D between -1 and 1, exclusively:

        (b - c - n D) / sqrt(n (2 q + D (1 - D)))

    where q, the maximum-likelihood probability of "only A" under that difference, is the larger
    root of 2 n q^2 + (-b - c + (2 n - b + c) D) q - c D (1 - D) = 0. It is 0 where numerator and
    variance both vanish, and infinite where the variance alone does.

    Source: T. Tango, "Equivalence test and confidence interval for the difference in proportions
    for the paired-sample design", Statistics in Medicine 17 (1998), 891-908, equations 8 to 11.
    """
    c, b, n = (np.asarray(count, dtype=float) for count in (only_a, only_b, pairs))
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    q = (np.sqrt(np.maximum(linear**2 - 8 * n * constant, 0.0)) - linear) / (4 * n)
    numerator = b - c - n * difference
    variance = n * np.maximum(2 * q + difference * (1 - difference), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = numerator / np.sqrt(variance)
    return np.where(numerator == 0.0, 0.0, statistic)


def tango_interval(counts: PairedCounts, confidence: float = 0.95) -> Interval:
    """The score interval of the difference: those that the score test does not reject.

    Unlike the interval of the textbook it does not shrink to nothing without discordant pairs:
    with z the normal quantile it is then +- z^2 / (n + z^2). Without pairs it is [-1, 1]. Its
    coverage is nominal on average over the rates, not at each of them.

    Source: Tango (1998), as for `score`.

    Raises:
        ValueError: unless `0 < confidence < 1`.
    """
    return tango_limits(counts.only_a, counts.only_b, counts.pairs, confidence)


def tango_limits(only_a: float, only_b: float, pairs: float, confidence: float) -> Interval:
    """As `tango_interval`, for counts that need not be whole numbers."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    if not pairs:
        return Interval(-1.0, 1.0)
    z = float(norm.isf((1.0 - confidence) / 2.0))
    edge = 1.0 - 1e-12

    def excess(difference: float, sign: float) -> float:
        return sign * float(score(only_a, only_b, pairs, difference)) - z

    estimate = min(max((only_b - only_a) / pairs, -edge), edge)
    low, high = -1.0, 1.0
    if estimate > -edge and excess(-edge, 1.0) > 0.0:
        low = brentq(excess, -edge, estimate, args=(1.0,), xtol=1e-12)
    if estimate < edge and excess(edge, -1.0) > 0.0:
        high = brentq(excess, estimate, edge, args=(-1.0,), xtol=1e-12)
    return Interval(low, high)
