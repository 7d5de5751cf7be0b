"""Whether a measured rate agrees with a reference, as a study's page says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octo_bench.evaluation.records import EpisodeRecord
from octo_bench.reports.table import Mean, ReferencePoint, Row
from octo_bench.reports.uncertainty import Uncertainty, of_mean, of_records
from octo_bench.reports.wording import ALPHA, say_agreement
from octo_bench.statistics.equivalence import Agreement, agreement_of, compare_with_reference

MARGIN = 0.10
"""How far from the reference still agrees with it."""


@dataclass(frozen=True)
class Against:
    """A measured rate beside a reference.

    Attributes:
        remark: what would decide it, or on which side it is.
        trained_anew: the verdict is on training again, not on the trainings at hand.
    """

    reference: ReferencePoint
    agreement: Agreement
    remark: str
    trained_anew: bool


def against_row(
    row: Row, records: Sequence[EpisodeRecord], reference: ReferencePoint | None
) -> Against | None:
    """The verdict on a row; None without a reference.

    It is on the recipe where that was trained on several draws, else on these trainings.

    Args:
        row: measured.
        records: its episodes.
        reference: what to compare it with.
    """
    if reference is None:
        return None
    inner, outer = (of_records(records, 1 - share) for share in (2 * ALPHA, ALPHA))
    if inner.trainings > 1:
        return _verdict(row.rate, inner, outer, reference)
    rate = reference.success_rate
    compared = compare_with_reference(row.successes, row.episodes, rate, MARGIN, ALPHA)
    return Against(reference, compared.agreement, say_agreement(compared), trained_anew=False)


def against_mean(
    mean: Mean, records: Sequence[Sequence[EpisodeRecord]], reference: ReferencePoint | None
) -> Against | None:
    """The verdict on a mean over targets, by its intervals; None without a reference.

    Args:
        mean: measured.
        records: of each of its rows.
        reference: what to compare it with.
    """
    if reference is None:
        return None
    rates = [row.rate for row in mean.rows]
    inner, outer = (
        of_mean(rates, [of_records(each, 1 - share) for each in records])
        for share in (2 * ALPHA, ALPHA)
    )
    return _verdict(mean.rate, inner, outer, reference)


def _verdict(
    rate: float, inner: Uncertainty, outer: Uncertainty, reference: ReferencePoint
) -> Against:
    """By the intervals for training anew where they are there, else by those as trained.

    Args:
        rate: measured.
        inner: its uncertainty for the test of agreement.
        outer: and for that of a difference.
        reference: what to compare it with.
    """
    anew = inner.trained_anew is not None and outer.trained_anew is not None
    of_inner = inner.trained_anew or inner.as_trained
    of_outer = outer.trained_anew or outer.as_trained
    agreement = agreement_of(of_inner, of_outer, reference.success_rate, MARGIN)
    above, decides = rate > reference.success_rate, "trainings" if anew else "episodes"
    remark = _remark(agreement, above, f"more {decides} would decide")
    return Against(reference, agreement, remark, trained_anew=anew)


def _remark(agreement: Agreement, above: bool, decides: str) -> str:
    margin = f"{100 * MARGIN:.0f} points"
    return {
        Agreement.CANNOT_TELL: decides,
        Agreement.AGREES: f"within {margin}",
        Agreement.DIFFERS: f"{'above' if above else 'below'} it by more than {margin}",
    }[agreement]
