"""An interval, and the exact one for a success rate."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.stats import beta


@dataclass(frozen=True)
class Interval:
    """A closed interval, `low <= high`, of success rates or of differences between them."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        """From one end to the other."""
        return self.high - self.low


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """The exact interval for a binomial proportion.

    With x successes in n trials and a = 1 - confidence, the bounds are quantiles of the beta
    distribution: low = B(a/2; x, n - x + 1), or 0 for x = 0, and high = B(1 - a/2; x + 1, n - x),
    or 1 for x = n. It covers the true rate with probability at least `confidence`, whatever the
    rate. With no trials it is [0, 1].

    Source: C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits illustrated
    in the case of the binomial", Biometrika 26 (1934), 404-413; the beta form is eq. (4) of
    L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial proportion",
    Statistical Science 16 (2001), 101-133.

    Raises:
        ValueError: unless `0 <= successes <= trials` and `0 < confidence < 1`.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} successes in {trials} trials")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    failures = trials - successes
    tail = (1.0 - confidence) / 2.0
    low = float(beta.ppf(tail, successes, failures + 1)) if successes else 0.0
    high = float(beta.ppf(1.0 - tail, successes + 1, failures)) if failures else 1.0
    return Interval(low, high)
