"""The fine-tuning table: success by demonstrations, with intervals, beside a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import mean

from octo_bench.records.conditions import PLAIN, Condition, condition_of
from octo_bench.records.record import EpisodeRecord, Measure, measure_of, succeeded
from octo_bench.statistics.completion import Completion
from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.stratified import mean_rate
from octo_bench.tables.references import Against, Reference, ReferencePoint, against
from octo_bench.tables.uncertainty import Uncertainty, of_counts, of_mean, of_records

TOLERATED_ERRORS = 0.05
"""With more than this fraction of infrastructure errors a rate means nothing: the run is
invalid."""

MEAN = "mean over "
"""What stands for the environment where the mean is meant; no environment is called so."""


@dataclass(frozen=True)
class Row:
    """One policy in one environment after one number of demonstrations, under one condition.

    Episodes of all draws and seeds are counted together.

    Attributes:
        head: "" for a baseline.
        episodes: without those that ended in an infrastructure error.
        errors: how many those are.
        training_minutes: mean over the fine-tunings; 0 without demonstrations.
        several: what may be said of the rate where it is that of several trainings; None of one.
        measure: which success `successes` counts.
        reached: episodes that succeeded at some step, whether or not it held; None where
            `successes` counts these.
    """

    policy: str
    head: str
    env_id: str
    demos: int
    successes: int
    episodes: int
    errors: int
    training_minutes: float
    condition: Condition = PLAIN
    several: Uncertainty | None = field(default=None, compare=False)
    measure: Measure = "once"
    reached: int | None = None

    @property
    def once(self) -> int:
        """Episodes that succeeded at some step, whether or not it held."""
        return self.successes if self.reached is None else self.reached

    @property
    def once_rate(self) -> float:
        """These by episodes, not a number without episodes."""
        return self.once / self.episodes if self.episodes else float("nan")

    @property
    def rate(self) -> float:
        """Successes by episodes, not a number without episodes."""
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def uncertainty(self) -> Uncertainty:
        """Intervals of the rate, at 95 %."""
        return self.several or of_counts(self.successes, self.episodes)

    @property
    def interval(self) -> Interval:
        """For these policies, as they were trained, 95 %."""
        return self.uncertainty.as_trained

    @property
    def completion(self) -> Completion:
        """The counts with the errors, which bound the rate."""
        return Completion(self.successes, self.episodes, self.errors)

    @property
    def worst(self) -> float:
        """The rate with every error counted as a failure."""
        return self.completion.worst

    @property
    def best(self) -> float:
        """The rate with every error counted as a success."""
        return self.completion.best

    @property
    def invalid(self) -> bool:
        """Whether too many episodes ended in an infrastructure error."""
        return self.completion.error_share > TOLERATED_ERRORS


@dataclass(frozen=True)
class Mean:
    """One policy under one condition after one number of demonstrations, over several targets.

    Attributes:
        rows: of each target one; all weigh alike, however many episodes they have.
    """

    rows: tuple[Row, ...]

    @property
    def policy(self) -> str:
        """As of its rows."""
        return self.rows[0].policy

    @property
    def head(self) -> str:
        """As of its rows."""
        return self.rows[0].head

    @property
    def demos(self) -> int:
        """As of its rows."""
        return self.rows[0].demos

    @property
    def measure(self) -> Measure:
        """As of its rows."""
        return self.rows[0].measure

    @property
    def once(self) -> int:
        """Of all targets together."""
        return sum(row.once for row in self.rows)

    @property
    def once_rate(self) -> float:
        """The unweighted mean of the targets' rates; not a number if one has no episodes."""
        return mean_rate([(row.once, row.episodes) for row in self.rows])

    @property
    def condition(self) -> Condition:
        """As of its rows."""
        return self.rows[0].condition

    @property
    def env_id(self) -> str:
        """What stands for the environment: "mean over 6 targets"."""
        return f"{MEAN}{len(self.rows)} targets"

    @property
    def rate(self) -> float:
        """The unweighted mean of the targets' rates; not a number if one has no episodes."""
        return mean_rate([(row.successes, row.episodes) for row in self.rows])

    @property
    def uncertainty(self) -> Uncertainty:
        """What may be said of the mean over these targets, at 95 %; see `of_mean`."""
        rates = [row.rate for row in self.rows]
        return of_mean(rates, [row.uncertainty for row in self.rows])

    @property
    def interval(self) -> Interval:
        """For these policies, as they were trained, and these targets, 95 %."""
        return self.uncertainty.as_trained

    @property
    def successes(self) -> int:
        """Of all targets together."""
        return sum(row.successes for row in self.rows)

    @property
    def episodes(self) -> int:
        """Of all targets together, without errors."""
        return sum(row.episodes for row in self.rows)

    @property
    def errors(self) -> int:
        """Of all targets together."""
        return sum(row.errors for row in self.rows)

    @property
    def worst(self) -> float:
        """The mean with every error counted as a failure."""
        return mean(row.worst for row in self.rows)

    @property
    def best(self) -> float:
        """The mean with every error counted as a success."""
        return mean(row.best for row in self.rows)

    @property
    def invalid(self) -> bool:
        """Whether one of the rows is."""
        return any(row.invalid for row in self.rows)

    @property
    def training_minutes(self) -> float:
        """The mean over the targets."""
        return mean(row.training_minutes for row in self.rows)


@dataclass(frozen=True)
class Table:
    """All rows of a study, and what to compare them with.

    Attributes:
        references: by environment id, then by demonstrations.
        beside: rows of other studies; those with a row's environment, condition and
            demonstrations stand beside it.
        targets: environments to take the mean over; none to give no means.
        finished, declared: cells of the study that are measured, of all there are.
    """

    title: str
    rows: tuple[Row, ...]
    references: Mapping[str, Reference]
    beside: tuple[Row, ...] = ()
    targets: tuple[str, ...] = ()
    finished: int = 0
    declared: int = 0

    @property
    def measure(self) -> Measure:
        """Which success its rates count: "held" where all rows do, else "once"."""
        return "held" if all(row.measure == "held" for row in self.rows) else "once"

    @property
    def means(self) -> tuple[Mean, ...]:
        """The mean over all targets, where every one of them has been measured."""
        groups: dict[tuple[str, str, Condition, int], dict[str, Row]] = {}
        for row in self.rows:
            group = groups.setdefault((row.policy, row.head, row.condition, row.demos), {})
            group[row.env_id] = row
        return tuple(
            Mean(tuple(group[target] for target in self.targets))
            for group in groups.values()
            if self.targets and group.keys() >= set(self.targets)
        )

    def beside_policies(self) -> tuple[str, ...]:
        """The policies of other studies, in their order."""
        return tuple(dict.fromkeys(row.policy for row in self.beside))

    def counterpart(self, row: Row | Mean, policy: str) -> Row | None:
        """The row of `policy` in another study that stands beside `row`."""
        place = (policy, row.env_id, row.demos, row.condition)
        for other in self.beside:
            if (other.policy, other.env_id, other.demos, other.condition) == place:
                return other
        return None

    def reference_of(self, row: Row | Mean) -> ReferencePoint | None:
        """What to compare a row with: nothing for a baseline, or what was measured perturbed.

        For a mean it is the mean of what the targets are compared with, if all are.
        """
        if not row.condition.is_plain or not row.head:
            return None
        if isinstance(row, Row):
            return self.references.get(row.env_id, {}).get(row.demos)
        points = [self.reference_of(each) for each in row.rows]
        known = [point for point in points if point is not None]
        if len(known) < len(points):
            return None
        return ReferencePoint(
            mean(point.success_rate for point in known),
            mean(point.training_minutes for point in known),
        )

    def against(self, row: Row | Mean) -> Against | None:
        """How a row compares with the reference; None where there is nothing to compare with."""
        point = self.reference_of(row)
        return None if point is None else against(row.rate, row.uncertainty, point)


def summarise(
    records: Iterable[EpisodeRecord],
    training_minutes: Mapping[tuple[str, str, int], float],
    measure: Measure | None = None,
) -> tuple[Row, ...]:
    """Count successes by policy, environment, demonstrations and condition.

    Rows are in the order of first appearance.

    Args:
        records: episodes.
        training_minutes: by policy, environment id and demonstrations.
        measure: which success counts; if not given, "held" where all records have it.
    """
    records = tuple(records)
    if measure is None:
        measure = measure_of(records)
    groups: dict[tuple[str, str, str, int, Condition], list[EpisodeRecord]] = {}
    for record in records:
        condition = condition_of(record)
        group = (record.policy, record.head, record.env_id, record.demos, condition)
        groups.setdefault(group, []).append(record)
    rows = []
    for (policy, head, env_id, demos, condition), episodes in groups.items():
        fit = [record for record in episodes if not record.error]
        trainings = {(record.draw, record.train_seed) for record in episodes}
        rows.append(
            Row(
                policy=policy,
                head=head,
                env_id=env_id,
                demos=demos,
                successes=sum(succeeded(record, measure) for record in fit),
                episodes=len(fit),
                errors=len(episodes) - len(fit),
                training_minutes=training_minutes.get((policy, env_id, demos), 0.0),
                condition=condition,
                several=of_records(episodes, measure) if len(trainings) > 1 else None,
                measure=measure,
                reached=sum(r.success_once for r in fit) if measure == "held" else None,
            )
        )
    return tuple(rows)
