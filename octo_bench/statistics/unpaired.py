"""Two policies on initial states of their own: A first and B second, as in `paired`."""

from __future__ import annotations

from math import sqrt

from scipy.stats import norm

from octo_bench.statistics.intervals import Interval


def agresti_caffo_interval(
    successes_a: int,
    trials_a: int,
    successes_b: int,
    trials_b: int,
    confidence: float = 0.95,
) -> Interval:
    """The interval of the rate of B minus the rate of A with a success and a failure added to each.

    With a = (successes_a + 1) / (trials_a + 2), b likewise, and z the normal quantile:

        b - a +- z sqrt(a (1 - a) / (trials_a + 2) + b (1 - b) / (trials_b + 2))

    cut off at -1 and 1. Its coverage is nominal on average over the rates, not at each of them,
    but at small numbers and rates near 0 and 1 it holds better than that of the score intervals,
    Newcombe's among them. Without trials of either it is [-1, 1].

    Source: A. Agresti and B. Caffo, "Simple and effective confidence intervals for proportions and
    differences of proportions result from adding two successes and two failures", The American
    Statistician 54 (2000), 280-288.

    Raises:
        ValueError: for impossible counts, or unless `0 < confidence < 1`.
    """
    _check(successes_a, trials_a)
    _check(successes_b, trials_b)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    if not trials_a or not trials_b:
        return Interval(-1.0, 1.0)
    z = float(norm.isf((1.0 - confidence) / 2.0))
    a = (successes_a + 1) / (trials_a + 2)
    b = (successes_b + 1) / (trials_b + 2)
    half = z * sqrt(a * (1 - a) / (trials_a + 2) + b * (1 - b) / (trials_b + 2))
    return Interval(max(-1.0, b - a - half), min(1.0, b - a + half))


def _check(successes: int, trials: int) -> None:
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
