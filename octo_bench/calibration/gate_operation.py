"""The gate's errors, power, and savings against a test of fixed size.

Many comparisons are simulated at once, each stopped where the gate would stop it, after looking at
every pair. What a test of fixed size would do is enumerated exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.paired import PairedCounts, score, tango_interval
from octo_bench.statistics.power import smallest_number
from octo_bench.statistics.sequential import GateDesign, advance, anytime_interval

AGREEMENTS = ("complete", "half", "none")
LOSSES = (0.0, 0.05, 0.10, 0.20)
_ENDLESS = 5000  # a budget that is hardly ever spent
_MOST_PAIRS = 4000  # looked at for a test of fixed size


@dataclass(frozen=True)
class Scenario:
    """A baseline, a loss of success rate, and how far the outcomes of a pair hang together.

    Attributes:
        baseline: success rate of the baseline.
        loss: how much less the new policy's is.
        agreement: "none" as if the pair shared no initial state, "complete" as far as the rates
            allow, as on a deterministic benchmark where nothing but the lost episodes changed;
            "half" is half-way between their shares of discordant pairs.
    """

    baseline: float
    loss: float
    agreement: str

    @property
    def discordant(self) -> float:
        """Probability that one of a pair succeeds and the other does not."""
        new = self.baseline - self.loss
        most = self.baseline * (1 - new) + new * (1 - self.baseline)
        return {"complete": self.loss, "half": (self.loss + most) / 2, "none": most}[self.agreement]

    @property
    def only_baseline(self) -> float:
        """Probability that only the baseline succeeds."""
        return (self.discordant + self.loss) / 2

    @property
    def only_new(self) -> float:
        """Probability that only the new policy succeeds."""
        return (self.discordant - self.loss) / 2


@dataclass(frozen=True)
class Stopped:
    """Simulated comparisons, each as it was when the gate stopped; arrays of one entry each."""

    worse: NDArray[np.bool_]
    no_worse: NDArray[np.bool_]
    pairs: NDArray[np.int_]
    only_baseline: NDArray[np.int_]
    only_new: NDArray[np.int_]


@dataclass(frozen=True)
class Operation:
    """The gate within its budget, in one scenario.

    Attributes:
        worse, no_worse: shares of the comparisons with these verdicts.
        worse_interval: 95 % Clopper-Pearson of the first, for the error of the simulation.
        pairs: mean number used.
        fixed_worse, fixed_no_worse: probabilities of these verdicts of the test of fixed size
            that spends the whole budget.
        as_likely: pairs of the smallest test of fixed size that is as likely to give the right
            verdict, or as likely as the gate guarantees with enough pairs, planned by someone who
            knows the share of discordant pairs; None where neither verdict is the right one, the
            loss being between 0 and the margin.
    """

    scenario: Scenario
    worse: float
    worse_interval: Interval
    no_worse: float
    pairs: float
    fixed_worse: float
    fixed_no_worse: float
    as_likely: int | None


@dataclass(frozen=True)
class Saving:
    """The gate with a budget that does not bind, against the test of fixed size that does as well.

    Attributes:
        baseline, agreement: as in `Scenario`.
        pairs_without_loss, pairs_at_margin: mean numbers that the gate uses.
        wrong: the larger share of wrong verdicts of the two cases.
        fixed: pairs of the smallest test of fixed size that gives the right verdict with
            probability 1 - alpha or more without a loss, and 1 - beta at a loss of the margin. It
            is planned by someone who knows the share of discordant pairs; the gate does not.
        saving: of the mean over both cases, as a share of `fixed`.
    """

    baseline: float
    agreement: str
    pairs_without_loss: float
    pairs_at_margin: float
    wrong: float
    fixed: int
    saving: float


@dataclass(frozen=True)
class StoppedCoverage:
    """How often intervals of 95 % hold the true difference after the gate has stopped."""

    scenario: Scenario
    anytime: float
    tango: float


def scenarios(baselines: Iterable[float]) -> Iterator[Scenario]:
    """All combinations of these success rates of the baseline, losses and agreements."""
    for baseline, loss, agreement in product(baselines, LOSSES, AGREEMENTS):
        yield Scenario(baseline, loss, agreement)


def simulate(
    design: GateDesign, scenario: Scenario, comparisons: int, generator: np.random.Generator
) -> Stopped:
    """Run the gate on so many comparisons, looking after every pair."""
    log_worse, log_no_worse = np.zeros(comparisons), np.zeros(comparisons)
    only_baseline, only_new = np.zeros(comparisons, int), np.zeros(comparisons, int)
    pairs = np.zeros(comparisons, int)
    going = np.arange(comparisons)
    for seen in range(design.budget):
        chance = generator.random(len(going))
        lost = chance < scenario.only_baseline
        won = ~lost & (chance < scenario.discordant)
        log_worse[going], log_no_worse[going] = advance(
            design,
            log_worse[going],
            log_no_worse[going],
            pairs=seen,
            discordant=only_baseline[going] + only_new[going],
            difference=won.astype(int) - lost.astype(int),
        )
        only_baseline[going] += lost
        only_new[going] += won
        pairs[going] += 1
        open_still = (log_worse < -log(design.alpha)) & (log_no_worse < -log(design.beta))
        going = going[open_still[going]]
        if not len(going):
            break
    worse = log_worse >= -log(design.alpha)
    no_worse = ~worse & (log_no_worse >= -log(design.beta))
    return Stopped(worse, no_worse, pairs, only_baseline, only_new)


def fixed_size(design: GateDesign, scenario: Scenario, pairs: int) -> tuple[float, float]:
    """Probabilities of "worse" and of "no worse" of a test that looks once, after all pairs.

    It rejects "no loss" by McNemar's exact test, one-sided at alpha, and "real loss" by Tango's
    score test at beta. The latter keeps its level but approximately: an exact test would need
    more pairs, so what the gate saves is understated.
    """
    discordant, lost = np.indices((pairs + 1, pairs + 1)).reshape(2, -1)
    possible = lost <= discordant
    discordant, lost = discordant[possible], lost[possible]
    won = discordant - lost
    share = scenario.only_baseline / scenario.discordant if scenario.discordant else 0.0
    chances = binom.pmf(np.arange(pairs + 1), pairs, scenario.discordant)[discordant]
    chances = chances * binom.pmf(lost, discordant, share)
    worse = binom.cdf(won, discordant, 0.5) <= design.alpha
    no_worse = score(lost, won, pairs, -design.margin) >= norm.isf(design.beta)
    return float(chances @ worse), float(chances @ (no_worse & ~worse))


def operation(
    design: GateDesign, scenario: Scenario, comparisons: int, generator: np.random.Generator
) -> Operation:
    """Simulate the gate within its budget, and enumerate the test that spends all of it."""
    stopped = simulate(design, scenario, comparisons, generator)
    fixed_worse, fixed_no_worse = fixed_size(design, scenario, design.budget)
    worse = int(stopped.worse.sum())
    shares = worse / comparisons, float(stopped.no_worse.mean())
    as_likely = None
    if scenario.loss == 0.0 or scenario.loss >= design.margin:
        right, enough = (1, 1.0 - design.alpha) if scenario.loss == 0.0 else (0, 1.0 - design.beta)
        as_likely = smallest_number(
            lambda pairs: fixed_size(design, scenario, pairs)[right],
            min(shares[right], enough),
            _MOST_PAIRS,
        )
    return Operation(
        scenario,
        worse=shares[0],
        worse_interval=clopper_pearson(worse, comparisons),
        no_worse=shares[1],
        pairs=float(stopped.pairs.mean()),
        fixed_worse=fixed_worse,
        fixed_no_worse=fixed_no_worse,
        as_likely=as_likely,
    )


def saving(
    design: GateDesign,
    baseline: float,
    agreement: str,
    comparisons: int,
    generator: np.random.Generator,
) -> Saving:
    """Simulate the gate until it decides, and find the test of fixed size that does as well."""
    endless = GateDesign(design.margin, design.alpha, design.beta, _ENDLESS)
    without = Scenario(baseline, 0.0, agreement)
    at_margin = Scenario(baseline, design.margin, agreement)
    of_without = simulate(endless, without, comparisons, generator)
    of_margin = simulate(endless, at_margin, comparisons, generator)

    def does_as_well(pairs: int) -> float:
        enough_without = fixed_size(design, without, pairs)[1] >= 1.0 - design.alpha
        enough_at_margin = fixed_size(design, at_margin, pairs)[0] >= 1.0 - design.beta
        return float(enough_without and enough_at_margin)

    fixed = smallest_number(does_as_well, 1.0, _MOST_PAIRS)
    if fixed is None:
        raise ValueError(f"a margin of {design.margin} takes more than {_MOST_PAIRS} pairs")
    pairs = float(of_without.pairs.mean()), float(of_margin.pairs.mean())
    return Saving(
        baseline,
        agreement,
        pairs_without_loss=pairs[0],
        pairs_at_margin=pairs[1],
        wrong=max(float(of_without.worse.mean()), float(of_margin.no_worse.mean())),
        fixed=fixed,
        saving=1.0 - sum(pairs) / 2 / fixed,
    )


def stopped_coverage(
    design: GateDesign, scenario: Scenario, comparisons: int, generator: np.random.Generator
) -> StoppedCoverage:
    """How often the anytime interval, and Tango's, hold the difference where the gate stops."""
    stopped = simulate(design, scenario, comparisons, generator)
    tables = np.stack([stopped.pairs, stopped.only_baseline, stopped.only_new], axis=1)
    kinds, times = np.unique(tables, axis=0, return_counts=True)
    held = np.zeros(2)
    for (pairs, lost, won), number in zip(kinds.tolist(), times, strict=True):
        counts = PairedCounts(pairs - lost - won, lost, won, 0)
        for index, interval in enumerate((anytime_interval(counts), tango_interval(counts))):
            held[index] += number * (-scenario.loss in interval)
    return StoppedCoverage(scenario, *(held / comparisons).tolist())
