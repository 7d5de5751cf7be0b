"""Two policies on the same initial states: success and other measures.

A comes first and B second; a difference is B minus A. Only success is tested with a guarantee over
all environments (exact McNemar, Holm); the other measures come with an interval each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from octo_bench.comparison.matching import EpisodeSet, Pair, match
from octo_bench.comparison.regression import Place
from octo_bench.definitions.environments import recorded_environment
from octo_bench.errors import Mismatch
from octo_bench.records.record import (
    OLD_RECORDS,
    EpisodeRecord,
    measure_of,
    stages_of,
    succeeded,
    success_text,
)
from octo_bench.records.record import Measure as SuccessMeasure
from octo_bench.simulation.stages import NO_STAGE
from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.medians import median_interval
from octo_bench.statistics.multiplicity import holm
from octo_bench.statistics.paired import PairedCounts, count_pairs, mcnemar_exact, tango_interval

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measure:
    """A paired measure other than success.

    Attributes:
        name: with its unit.
        pairs: how many it rests on.
        median_a, median_b: of each policy; not a number without pairs.
        difference: median of the paired differences.
        interval: of that median, 95 %.
    """

    name: str
    pairs: int
    median_a: float
    median_b: float
    difference: float
    interval: Interval

    @property
    def told_apart(self) -> bool:
        """Whether the interval excludes zero."""
        return 0.0 not in self.interval


@dataclass(frozen=True)
class PlaceComparison:
    """The result of one environment, or of all of them together.

    Attributes:
        name: the environment, with the perturbation if there is one.
        counts: pairs by who succeeded.
        interval: of the difference in success rate, Tango, 95 %.
        p_value: McNemar, exact, two-sided.
        p_adjusted: after Holm, over all rows.
        measures: beyond success; none for all environments together.
        funnel: of each stage, in order, how many episodes of A and of B reached it or a later one.
        flips: the pairs of which one succeeded and the other did not.
    """

    name: str
    counts: PairedCounts
    interval: Interval
    p_value: float
    p_adjusted: float
    measures: tuple[Measure, ...] = ()
    funnel: tuple[tuple[str, int, int], ...] = ()
    flips: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        name_a, name_b: what the sets are called.
        policy_a, policy_b: the policies, with their inference options.
        places: in the order of A's records.
        together: all environments as one; None with a single one.
        only_a, only_b: episodes that the other set does not have.
        errors: pairs with an infrastructure error on either side.
        unchecked: names of the sets that do not record their definitions and versions.
        success: which success counts.
    """

    name_a: str
    name_b: str
    policy_a: str
    policy_b: str
    places: tuple[PlaceComparison, ...]
    together: PlaceComparison | None
    only_a: int
    only_b: int
    errors: int
    unchecked: tuple[str, ...]
    success: SuccessMeasure = "once"

    @property
    def rows(self) -> tuple[PlaceComparison, ...]:
        """All that was tested."""
        return self.places if self.together is None else (*self.places, self.together)

    @property
    def pairs(self) -> int:
        """How many pairs there are in all."""
        return sum(place.counts.pairs for place in self.places)


def compare(
    a: EpisodeSet,
    b: EpisodeSet,
    allow: Collection[str] = (),
    success: SuccessMeasure | None = None,
) -> Comparison:
    """Compare two policies by their episodes.

    Args:
        a, b: episodes of one policy each.
        allow: versions that may differ, and "code"; see `match`.
        success: which success counts; if not given, "held" where all records have it.

    Raises:
        Mismatch: when they were not measured alike, have no pair to compare, or do not have the
            success that is asked for.
    """
    known = measure_of([*a.records, *b.records])
    if success == "held" and known == "once":
        old = next(each for each in (a, b) if measure_of(each.records) == "once")
        raise Mismatch(f"{old.name} was {OLD_RECORDS}; measure it again, or use --success once")
    success = known if success is None else success
    matched = match(a, b, allow)
    if not matched.pairs:
        raise Mismatch(
            f"{a.name} and {b.name} have no episode in common that both finished "
            f"({matched.errors} ended in errors); evaluate both on the same episodes again"
        )
    by_place: dict[Place, list[Pair]] = {}
    for pair in matched.pairs:
        by_place.setdefault(Place.of(pair[0]), []).append(pair)
    places = [_compare_place(place, pairs, success) for place, pairs in by_place.items()]
    rows = list(places)
    if len(places) > 1:
        rows.append(_tested("all environments", matched.pairs, success))
    adjusted = holm([row.p_value for row in rows])
    rows = [replace(row, p_adjusted=p) for row, p in zip(rows, adjusted, strict=True)]
    return Comparison(
        name_a=a.name,
        name_b=b.name,
        policy_a=policy_of(a),
        policy_b=policy_of(b),
        places=tuple(rows[: len(places)]),
        together=rows[-1] if len(places) > 1 else None,
        only_a=matched.only_first,
        only_b=matched.only_second,
        errors=matched.errors,
        unchecked=matched.unchecked,
        success=success,
    )


def policy_of(episodes: EpisodeSet) -> str:
    """ "octo-tiny, diffusion head, after 50 demonstrations, with execute=2"."""
    first = episodes.records[0]
    parts = [
        first.policy,
        f"{first.head} head" if first.head else "",
        f"after {first.demos} demonstrations" if first.demos else "",
        f"with {first.inference}" if first.inference else "",
    ]
    return ", ".join(part for part in parts if part)


def outcome(record: EpisodeRecord) -> str:
    """ "success after 52 steps", "failed, furthest stage 'grasp'", or the error."""
    if record.error:
        return f"error ({record.error})"
    if record.success_once:
        return success_text(record)
    fault = f" ({record.policy_fault})" if record.policy_fault else ""
    if record.furthest_stage == NO_STAGE:
        return f"failed before the first stage{fault}"
    return f"failed, furthest stage '{record.furthest_stage}'{fault}"


def measure(name: str, a: Sequence[float], b: Sequence[float]) -> Measure:
    """Compare paired values by their median difference."""
    before, after = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    differences = after - before

    def median(values: np.ndarray) -> float:
        return float(np.median(values)) if len(values) else float("nan")

    return Measure(
        name=name,
        pairs=len(differences),
        median_a=median(before),
        median_b=median(after),
        difference=median(differences),
        interval=median_interval(differences, CONFIDENCE),
    )


def _compare_place(place: Place, pairs: Sequence[Pair], success: SuccessMeasure) -> PlaceComparison:
    solved = [pair for pair in pairs if all(record.success_once for record in pair)]
    declared = recorded_environment(place.env_id).task.stages
    stages = stages_of(declared, [record for pair in pairs for record in pair])
    return replace(
        _tested(str(place), pairs, success),
        measures=(
            _measured("steps to the first success, where both have one", solved, _first_success),
            _measured("latency of a query, ms", pairs, lambda r: r.latency_ms_p50),
            _measured("jerk of the commanded translation", pairs, lambda r: r.action_jerk),
        ),
        funnel=tuple(
            (stage, *(_reaching(stages[number:], records) for records in zip(*pairs, strict=True)))
            for number, stage in enumerate(stages)
        ),
        flips=tuple((a, b) for a, b in pairs if succeeded(a, success) != succeeded(b, success)),
    )


def _tested(name: str, pairs: Sequence[Pair], success: SuccessMeasure) -> PlaceComparison:
    counts = count_pairs(
        [succeeded(a, success) for a, _ in pairs], [succeeded(b, success) for _, b in pairs]
    )
    p_value = mcnemar_exact(counts)
    return PlaceComparison(name, counts, tango_interval(counts, CONFIDENCE), p_value, p_value)


def _measured(name: str, pairs: Sequence[Pair], value: Callable[[EpisodeRecord], float]) -> Measure:
    return measure(name, [value(a) for a, _ in pairs], [value(b) for _, b in pairs])


def _first_success(record: EpisodeRecord) -> float:
    return record.first_success_step


def _reaching(stages: Sequence[str], records: Sequence[EpisodeRecord]) -> int:
    """How many episodes reached each stage."""
    return sum(record.furthest_stage in stages for record in records)
