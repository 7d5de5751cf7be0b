"""The gate: is the new policy worse than the baseline? Asked after every pair of episodes.

Pairs of outcomes on the same initial states arrive one by one; d is +1 where only the new policy
succeeded, -1 where only the baseline did, 0 where they agree. Two hypotheses are tested at once,
each by betting against it:

    "no loss":     the mean of d is at least 0        rejected: the verdict is "worse"
    "real loss":   the mean of d is at most -margin   rejected: the verdict is "no worse"

A capital starts at 1 and is multiplied by 1 + bet x, where x = -d against "no loss" and
x = d + margin against "real loss". While the hypothesis holds, the mean of x is at most 0, so
whatever non-negative bet is chosen from the past, the capital is not expected to grow, and by
Ville's inequality it ever reaches 1/alpha with probability at most alpha: one may look after
every pair and stop when one likes. This needs neither a model nor a number of pairs fixed before,
only that the pairs come in an order that does not depend on their outcomes.

The bets decide how soon the answer comes, not whether it is right. Each is the larger of two:
- margin / E[x^2], which is about the fastest growth if the other hypothesis is just true, where
  E[x^2] is learnt from the share of discordant pairs so far;
- sqrt(2 log(target / capital) / (E[x^2] pairs left)), which still reaches the target within the
  budget when the first would be too slow.
Both are bounded by a share of what could be lost in one pair, so the capital never comes to 0.

Sources: J. Ville, "Etude critique de la notion de collectif" (1939), for the inequality;
I. Waudby-Smith and A. Ramdas, "Estimating means of bounded random variables by betting", Journal
of the Royal Statistical Society B 86 (2024), 1-27, for betting and the first bet (their
approximate GRAPA, with the mean under the other hypothesis instead of an estimate); V. Voracek and
F. Orabona, "STaR-Bets: sequential target-recalculating bets for tighter confidence intervals",
arXiv:2505.22422 (2025), for the second.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, log

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.paired import PairedCounts

# The share of discordant pairs before any is seen, as if so many of so many had been. More caution
# costs pairs where the policies agree, less costs power where they do not.
_PRIOR_DISCORDANT, _PRIOR_PAIRS = 4.0, 20.0
# Bounds of the two bets, as shares of the bet that a single pair could lose all of.
_BOUND_OF_FASTEST, _BOUND_OF_IN_TIME = 0.8, 0.5
_STAKES = np.linspace(0.0125, 0.9875, 40)  # shares of the capital, mixed for `anytime_interval`


class Verdict(StrEnum):
    """What the gate says of the new policy."""

    WORSE = "worse"
    NO_WORSE = "no worse"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True)
class GateDesign:
    """What the gate guarantees, and what it may spend.

    Attributes:
        margin: the loss of success rate that must not pass, in (0, 1). A loss between 0 and the
            margin may be called either way, or not at all.
        alpha: probability, at most, of "worse" when there is no loss, whenever one stops.
        beta: probability, at most, of "no worse" when the loss is `margin` or more.
        budget: pairs of episodes, at most.

    Raises:
        ValueError: when one of them is out of range.
    """

    margin: float = 0.10
    alpha: float = 0.05
    beta: float = 0.05
    budget: int = 200

    def __post_init__(self) -> None:
        for name, value in (("margin", self.margin), ("alpha", self.alpha), ("beta", self.beta)):
            if not 0.0 < value < 1.0:
                raise ValueError(f"{name} {value} is not between 0 and 1")
        if self.budget < 1:
            raise ValueError(f"a budget of {self.budget} pairs")

    def shared_by(self, comparisons: int) -> GateDesign:
        """The design of each of several comparisons, any one of which may say "worse".

        Alpha is divided (Bonferroni), so that it holds for all of them together. Beta is not: "no
        worse" as a whole needs each of them to say so.
        """
        return replace(self, alpha=self.alpha / comparisons)


@dataclass(frozen=True)
class Progress:
    """What the gate knows after some pairs; see `begin`.

    Attributes:
        log_worse: log of the capital won against "no loss"; "worse" from log(1/alpha) on.
        log_no_worse: log of the capital won against "real loss"; "no worse" from log(1/beta) on.
    """

    design: GateDesign
    counts: PairedCounts
    log_worse: float
    log_no_worse: float

    def after(self, baseline: bool, new: bool) -> Progress:
        """What it knows after one more pair: did the baseline succeed, and the new policy?

        Raises:
            ValueError: when the test is over.
        """
        if not self.running:
            raise ValueError(f"the test is over after {self.pairs} pairs: {self.verdict}")
        baseline, new = bool(baseline), bool(new)
        counts = replace(
            self.counts,
            both=self.counts.both + (baseline and new),
            only_a=self.counts.only_a + (baseline and not new),
            only_b=self.counts.only_b + (new and not baseline),
            neither=self.counts.neither + (not baseline and not new),
        )
        log_worse, log_no_worse = advance(
            self.design,
            self.log_worse,
            self.log_no_worse,
            pairs=self.pairs,
            discordant=self.counts.discordant,
            difference=int(new) - int(baseline),
        )
        return Progress(self.design, counts, float(log_worse), float(log_no_worse))

    @property
    def pairs(self) -> int:
        """Pairs so far."""
        return self.counts.pairs

    @property
    def verdict(self) -> Verdict:
        """The verdict so far; "cannot tell" until there is another one."""
        if self.log_worse >= -log(self.design.alpha):
            return Verdict.WORSE
        if self.log_no_worse >= -log(self.design.beta):
            return Verdict.NO_WORSE
        return Verdict.CANNOT_TELL

    @property
    def decided(self) -> bool:
        """Whether it said "worse" or "no worse"."""
        return self.verdict is not Verdict.CANNOT_TELL

    @property
    def exhausted(self) -> bool:
        """Whether the budget is spent."""
        return self.pairs >= self.design.budget

    @property
    def running(self) -> bool:
        """Whether another pair would help, and may be had."""
        return not self.decided and not self.exhausted

    @property
    def evidence_worse(self) -> float:
        """The capital won against "no loss": an e-value, 1 to begin with."""
        return exp(self.log_worse)

    @property
    def evidence_no_worse(self) -> float:
        """The capital won against "real loss": an e-value, 1 to begin with."""
        return exp(self.log_no_worse)


def begin(design: GateDesign) -> Progress:
    """The gate before the first pair."""
    return Progress(design, PairedCounts(0, 0, 0, 0), 0.0, 0.0)


def follow(design: GateDesign, pairs: Iterable[tuple[bool, bool]]) -> Progress:
    """Feed (baseline succeeded, new policy succeeded), in order, until the test is over."""
    progress = begin(design)
    for baseline, new in pairs:
        if not progress.running:
            break
        progress = progress.after(baseline, new)
    return progress


def advance(
    design: GateDesign,
    log_worse: ArrayLike,
    log_no_worse: ArrayLike,
    *,
    pairs: int,
    discordant: ArrayLike,
    difference: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both log capitals after one more pair; numbers, or arrays of many comparisons.

    Args:
        design: of all of them.
        log_worse: log capital against "no loss" before the pair.
        log_no_worse: log capital against "real loss" before the pair.
        pairs: how many there were before.
        discordant: how many of them were discordant.
        difference: of the pair: +1, -1 or 0.
    """
    share = (np.asarray(discordant) + _PRIOR_DISCORDANT) / (pairs + _PRIOR_PAIRS)
    left = max(design.budget - pairs, 1)
    margin = design.margin
    bet = _bet(margin, share, 1.0, -log(design.alpha) - np.asarray(log_worse), left)
    worse = log_worse + np.log1p(-bet * np.asarray(difference))
    moment = share + margin**2  # of d + margin where the mean of d is 0
    bet = _bet(margin, moment, 1.0 - margin, -log(design.beta) - np.asarray(log_no_worse), left)
    return worse, log_no_worse + np.log1p(bet * (np.asarray(difference) + margin))


def _bet(
    mean: float, moment: NDArray[np.float64], loss: float, missing: NDArray[np.float64], left: int
) -> NDArray[np.float64]:
    """How much to bet on x, of that mean and second moment, which can be as low as -`loss`.

    Args:
        mean: E[x] if the hypothesis is false.
        moment: E[x^2], likewise.
        loss: the most that can be lost on a bet of 1.
        missing: log(target / capital).
        left: pairs left in the budget.
    """
    fastest = np.minimum(mean / moment, _BOUND_OF_FASTEST / loss)
    in_time = np.sqrt(2.0 * np.maximum(missing, 0.0) / (moment * left))
    return np.maximum(fastest, np.minimum(in_time, _BOUND_OF_IN_TIME / loss))


def anytime_interval(counts: PairedCounts, confidence: float = 0.95) -> Interval:
    """An interval of the difference, B minus A, that holds whatever made one stop.

    It keeps the means m that betting against does not refute. Against "the mean is at most m" a
    share s of the capital is staked at each pair, s / (1 + m) being the bet on d - m, so that

        W(m) = mean over s of (1-s)^c (1-s + s/(1+m))^t (1-s + 2s/(1+m))^b

    after b pairs that only B won, c that only A won and t others; the limit is where W falls to
    2 / (1 - confidence), and the other one likewise with A and B exchanged. The fixed-size
    intervals, such as Tango's, are narrower, but miss too often after stopping early.

    Source: Waudby-Smith and Ramdas (2024), as above, section 4; the mixture over stakes after
    H. Robbins, "Statistical methods related to the law of the iterated logarithm", Annals of
    Mathematical Statistics 41 (1970), 1397-1409.

    Raises:
        ValueError: unless `0 < confidence < 1`.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    target = log(2.0 / (1.0 - confidence))
    agreeing = counts.both + counts.neither
    return Interval(
        _least_mean(counts.only_b, agreeing, counts.only_a, target),
        -_least_mean(counts.only_a, agreeing, counts.only_b, target),
    )


def _least_mean(gains: int, agreeing: int, losses: int, target: float) -> float:
    """The mean, from -1, up to which all are refuted."""
    if not gains + agreeing:
        return -1.0

    def excess(mean: float) -> float:
        share = _STAKES / (1.0 + mean)
        kept = 1.0 - _STAKES
        logs = (
            losses * np.log(kept)
            + agreeing * np.log(kept + share)
            + gains * np.log(kept + 2.0 * share)
        )
        highest = logs.max()
        return float(highest + np.log(np.exp(logs - highest).mean())) - target

    edge = -1.0 + 1e-9
    return brentq(excess, edge, 1.0, xtol=1e-12) if excess(edge) > 0.0 else -1.0
