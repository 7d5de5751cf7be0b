"""The reference that a table stands beside, and how a measured rate compares with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan

from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.standing import Standing, episodes_needed, standing
from octo_bench.tables.uncertainty import Uncertainty
from octo_bench.tables.wording import points_between


@dataclass(frozen=True)
class ReferencePoint:
    """A value of the reference: success rate in [0, 1] and training time in minutes."""

    success_rate: float
    training_minutes: float


Reference = Mapping[int, ReferencePoint]
"""By demonstrations."""


@dataclass(frozen=True)
class Against:
    """A measured rate beside the reference.

    Attributes:
        standing: the verdict.
        interval: of the measured rate minus that of the reference, 95 %.
        trained_anew: the verdict is on training again, not on the trainings at hand.
        needed: what would decide it, such as "about 180 episodes"; "" where it is decided.
    """

    reference: ReferencePoint
    standing: Standing
    interval: Interval
    trained_anew: bool
    needed: str = ""

    @property
    def remark(self) -> str:
        """ "+2 to +30 points", and what would decide where that is open."""
        decides = f"; {self.needed} would decide" if self.needed else ""
        return f"{points_between(self.interval)}{decides}"


def against(rate: float, found: Uncertainty, point: ReferencePoint) -> Against:
    """Compare a measured rate with the reference.

    The interval for training anew decides where there is one, else the one as trained.

    Args:
        rate: measured; not a number where no episode was completed.
        found: what may be said of it.
        point: what to compare it with.
    """
    interval = found.trained_anew or found.as_trained
    verdict = standing(interval, point.success_rate)
    needed = ""
    if verdict is Standing.CANNOT_TELL:
        needed = _needed(rate, found, point.success_rate)
    return Against(
        reference=point,
        standing=verdict,
        interval=Interval(interval.low - point.success_rate, interval.high - point.success_rate),
        trained_anew=found.trained_anew is not None,
        needed=needed,
    )


def _needed(rate: float, found: Uncertainty, reference: float) -> str:
    if found.trained_anew is not None:
        return "more trainings"
    number = None
    if found.trainings == 1 and not isnan(rate):
        number = episodes_needed(rate, reference)
    return "more episodes" if number is None else f"about {number:,} episodes"
