"""Finding the first checkpoint that is worse than the baseline, by the gate's test.

Each probe is the gate on one checkpoint, at alpha and beta divided by the number of probes there
may be, so that all probes together are wrong no more often than one gate. That the checkpoint
found is worse and the one before it is not holds by itself; that it is the first takes that
what has become worse stays so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

from octo_bench.comparison.matching import EpisodeSet
from octo_bench.comparison.regression import Regression, regress
from octo_bench.records.record import Measure
from octo_bench.statistics.sequential import GateDesign, Verdict


@dataclass(frozen=True)
class Bisection:
    """What is known about a series of checkpoints.

    Attributes:
        checkpoints: in order, the oldest first.
        probes: by position, in the order in which they were made.
        good: position of the last one that is no worse; -1 if only the baseline itself.
        bad: position of the first one that is worse; None if none was found.
    """

    checkpoints: tuple[str, ...]
    probes: dict[int, Regression]
    good: int
    bad: int | None

    @property
    def found(self) -> str | None:
        """The first checkpoint that is worse; None where there is none or it is not certain."""
        exact = self.bad is not None and self.bad == self.good + 1
        return self.checkpoints[self.bad] if exact else None

    @property
    def suspects(self) -> tuple[str, ...]:
        """Those of which one is the first that is worse; empty if none is."""
        return () if self.bad is None else self.checkpoints[self.good + 1 : self.bad + 1]

    @property
    def verdict(self) -> Verdict:
        """ "worse" if some checkpoint is, "no worse" if the last one is not."""
        if self.bad is not None:
            return Verdict.WORSE
        last = self.good == len(self.checkpoints) - 1
        return Verdict.NO_WORSE if last else Verdict.CANNOT_TELL


def most_probes(checkpoints: int) -> int:
    """How many checkpoints of a row are probed at most: the last, and those of a bisection."""
    return 1 + ceil(log2(checkpoints))


def bisect(
    checkpoints: Sequence[str],
    baseline: EpisodeSet,
    design: GateDesign,
    *,
    allow: Collection[str] = (),
    measure: Measure = "held",
    order_seed: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Bisection:
    """Find the first checkpoint that is worse.

    The last one is probed first, then the middle of what is left. Where a probe cannot tell, its
    neighbour is probed instead, while probes are left; what stays open is said.

    Args:
        checkpoints: policies in order, the oldest first; at least one.
        baseline: episodes of a policy that is good.
        design: error rates of all probes together, and the episodes of each probe.
        allow, measure, order_seed, workers, progress: as for `regress`.

    Raises:
        Mismatch, OctoBenchError: as `regress` does.
    """
    left = most_probes(len(checkpoints))
    shared = replace(design, alpha=design.alpha / left, beta=design.beta / left)
    probes: dict[int, Regression] = {}
    good, bad = -1, None
    position: int | None = len(checkpoints) - 1
    while position is not None and left:
        left -= 1
        probes[position] = regress(
            checkpoints[position],
            baseline,
            shared,
            allow=allow,
            measure=measure,
            order_seed=order_seed,
            workers=workers,
            progress=progress,
        )
        match probes[position].verdict:
            case Verdict.WORSE:
                bad = position
            case Verdict.NO_WORSE:
                good = position
        position = None if bad is None else _middle(good, bad, probes)
    return Bisection(tuple(checkpoints), probes, good, bad)


def _middle(good: int, bad: int, probed: Collection[int]) -> int | None:
    """The position between two that is nearest to their middle and not probed; None without."""
    between = [each for each in range(good + 1, bad) if each not in probed]
    return min(between, key=lambda each: abs(2 * each - good - bad), default=None)
