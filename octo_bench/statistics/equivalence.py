"""A measured rate against a reference: does it agree?

The reference is taken as it stands: nobody knows how many episodes are behind
it. Where it has an uncertainty of its own, "differs" is said too readily.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scipy.stats import binom

from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.power import smallest_number

_MOST_EPISODES = 1_000_000


class Agreement(StrEnum):
    """What may be said of a measured rate beside a reference."""

    AGREES = "agrees"
    DIFFERS = "differs"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class Comparison:
    """A measured rate against a reference; see `compare_with_reference`.

    Attributes:
        inner: interval of confidence 1 - 2 alpha, which decides "agrees".
        outer: interval of confidence 1 - alpha, which decides "differs".
        episodes_needed: how many decide, with the power asked for, if the true rate is the
            measured one; None if no practicable number does: it is too close to the margin.
    """

    agreement: Agreement
    reference: float
    margin: float
    inner: Interval
    outer: Interval
    episodes_needed: int | None


def agreement_of(inner: Interval, outer: Interval, reference: float, margin: float) -> Agreement:
    """ "agrees" where all of `inner` is nearer than `margin`, "differs" where none of `outer` is.

    With intervals of confidence 1 - 2 alpha and 1 - alpha either answer is wrong with probability
    at most alpha. The first is the two one-sided tests of D. J. Schuirmann, "A comparison of the
    two one-sided tests procedure and the power approach for assessing the equivalence of average
    bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15 (1987), 657-680.
    """
    if reference - margin < inner.low and inner.high < reference + margin:
        return Agreement.AGREES
    if outer.high < reference - margin or reference + margin < outer.low:
        return Agreement.DIFFERS
    return Agreement.CANNOT_TELL


def compare_with_reference(
    successes: int,
    trials: int,
    reference: float,
    margin: float,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Comparison:
    """Judge a rate by Clopper-Pearson intervals; see `agreement_of`.

    "agrees" means: nearer to the reference than `margin`; "differs": farther than that. A
    rate that is significantly another one, but within the margin, agrees.

    Raises:
        ValueError: for impossible counts, or a rate, margin, alpha or power out of range.
    """
    if not 0.0 <= reference <= 1.0:
        raise ValueError(f"reference rate {reference} is not between 0 and 1")
    if not 0.0 < margin < 1.0:
        raise ValueError(f"margin {margin} is not between 0 and 1")
    if not (0.0 < alpha < 0.5 and 0.0 < power < 1.0):
        raise ValueError(f"alpha {alpha} or power {power} is out of range")
    inner = clopper_pearson(successes, trials, 1.0 - 2.0 * alpha)
    outer = clopper_pearson(successes, trials, 1.0 - alpha)
    needed = None
    if trials:
        needed = _episodes_needed(successes / trials, reference, margin, alpha, power)
    agreement = agreement_of(inner, outer, reference, margin)
    return Comparison(agreement, reference, margin, inner, outer, needed)


def _episodes_needed(
    rate: float, reference: float, margin: float, alpha: float, power: float
) -> int | None:
    below, above = reference - margin, reference + margin

    def agrees(trials: int) -> float:
        # Clopper-Pearson's lower limit is above a rate where so many successes or more would
        # have a probability below alpha under it; the upper limit likewise.
        fewest = binom.isf(alpha, trials, below) + 1 if below >= 0.0 else 0
        most = binom.ppf(alpha, trials, above) - 1 if above <= 1.0 else trials
        inside = binom.cdf(most, trials, rate) - binom.cdf(fewest - 1, trials, rate)
        return max(0.0, float(inside))

    def differs(trials: int) -> float:
        low = binom.cdf(binom.ppf(alpha / 2, trials, below) - 1, trials, rate) if below > 0 else 0
        high = binom.sf(binom.isf(alpha / 2, trials, above), trials, rate) if above < 1 else 0
        return float(low + high)

    chance = agrees if below < rate < above else differs
    return smallest_number(chance, power, _MOST_EPISODES)
