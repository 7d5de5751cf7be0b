"""The verdict on a measured success rate beside a reference rate.

This is the only place that decides it; tables, CSV files and pages print what it says. One 95 %
interval of the measured rate and a margin of 10 points decide:

- "within 10 points": the whole interval lies at most 10 points from the reference.
- "above": the whole interval lies above the reference, and is not within 10 points.
- "below": the whole interval lies below the reference, and is not within 10 points.
- "cannot tell yet": anything else.

Each answer is wrong with a probability of at most 5 %: "above" or "below" where the true rate is
the reference, "within 10 points" where it is farther away. A rate that differs from the reference
for certain, but by less than 10 points for certain, is "within 10 points".

The reference is taken as exact. Where it has an uncertainty of its own, all answers but the last
are given too readily.
"""

from __future__ import annotations

from enum import StrEnum

from scipy.stats import binom

from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.power import smallest_number

MARGIN = 0.10
CONFIDENCE = 0.95
POWER = 0.8
"""Of the number of episodes that would decide."""

_MOST_EPISODES = 1_000_000
_ROUNDING = 1e-12


class Standing(StrEnum):
    """Where a measured rate stands beside a reference rate."""

    ABOVE = "above"
    BELOW = "below"
    WITHIN = f"within {100 * MARGIN:.0f} points"
    CANNOT_TELL = "cannot tell yet"


def standing(interval: Interval, reference: float, margin: float = MARGIN) -> Standing:
    """The verdict by the interval of the measured rate; see the head of this file.

    Raises:
        ValueError: for a reference or a margin that is out of range.
    """
    _check(reference, margin)
    if (
        interval.low >= reference - margin - _ROUNDING
        and interval.high <= reference + margin + _ROUNDING
    ):
        return Standing.WITHIN
    if interval.low > reference:
        return Standing.ABOVE
    return Standing.BELOW if interval.high < reference else Standing.CANNOT_TELL


def episodes_needed(rate: float, reference: float, margin: float = MARGIN) -> int | None:
    """How many episodes of one training decide with probability `POWER`, if `rate` is the true one.

    Intervals are Clopper and Pearson's; None if no practicable number decides.

    Raises:
        ValueError: for a reference or a margin that is out of range.
    """
    _check(reference, margin)
    tail = (1.0 - CONFIDENCE) / 2.0
    nearest, farthest = reference - margin, reference + margin

    def decided(trials: int) -> float:
        # Clopper-Pearson's lower limit exceeds a rate where so many successes or more would have
        # a probability below the tail under it; the upper limit likewise.
        most_below = binom.ppf(tail, trials, reference) - 1 if reference > 0.0 else -1
        least_above = binom.isf(tail, trials, reference) + 1 if reference < 1.0 else trials + 1
        least_within = binom.isf(tail, trials, nearest) + 1 if nearest > 0.0 else 0
        most_within = binom.ppf(tail, trials, farthest) - 1 if farthest < 1.0 else trials
        if least_within > most_within:  # no number of successes is within the margin
            return 1.0 - _between(most_below, least_above, trials, rate)
        left = _between(most_below, least_within, trials, rate)
        return 1.0 - left - _between(most_within, least_above, trials, rate)

    return smallest_number(decided, POWER, _MOST_EPISODES)


def _between(low: float, high: float, trials: int, rate: float) -> float:
    """Probability of a number of successes between the two, both excluded."""
    return max(0.0, float(binom.cdf(high - 1, trials, rate) - binom.cdf(low, trials, rate)))


def _check(reference: float, margin: float) -> None:
    if not 0.0 <= reference <= 1.0:
        raise ValueError(f"reference rate {reference} is not between 0 and 1")
    if not 0.0 < margin < 1.0:
        raise ValueError(f"margin {margin} is not between 0 and 1")
