"""What a study's page shows, computed from its records; the template only prints it.

Episodes that were perturbed in another way, or with other inference options, are never counted
together: each such condition has its own table and figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from octo_bench.definitions.environments import Stage, recorded_environment
from octo_bench.errors import UnknownName
from octo_bench.records.conditions import Condition, condition_of
from octo_bench.records.record import (
    EpisodeRecord,
    Measure,
    measure_of,
    stages_of,
    succeeded,
)
from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.standing import Standing
from octo_bench.tables.head_pairs import HeadPair, compare_heads
from octo_bench.tables.references import Against, ReferencePoint
from octo_bench.tables.table import Mean, Row, Table, summarise
from octo_bench.tables.wording import (
    demonstrations,
    environment_name,
    percent,
)

_FAILED_AT_ONCE = "none"


@dataclass(frozen=True)
class Measured:
    """A row of the table: one policy in one environment after so many demonstrations, or a mean.

    Attributes:
        against: None where the reference has no value.
        beside: rows of other studies.
    """

    row: Row | Mean
    against: Against | None
    beside: tuple[Row, ...] = ()

    @property
    def as_trained(self) -> Interval:
        """The interval for these trainings, whose only luck is the initial states."""
        return self.row.interval

    @property
    def trained_anew(self) -> Interval | None:
        """The interval for the recipe; None if it was trained once."""
        return self.row.uncertainty.trained_anew

    @property
    def counts(self) -> str:
        """ "46 of 50"; of a mean "1,000 episodes on 6 targets", whose sum is not its rate."""
        if isinstance(self.row, Mean):
            return f"{self.row.episodes:,} episodes on {len(self.row.rows)} targets"
        return f"{self.row.successes} of {self.row.episodes}"

    @property
    def units(self) -> int:
        """How many independent trainings tell that."""
        return self.row.uncertainty.units


@dataclass(frozen=True)
class Group:
    """All rows of one policy in one environment, or its means over all targets."""

    policy: str
    head: str
    env_id: str
    rows: tuple[Measured, ...]

    @property
    def name(self) -> str:
        return f"{self.policy}, {environment_name(self.env_id)}"


@dataclass(frozen=True)
class SummaryLine:
    """A line of the first table: a policy, by demonstrations; None where it was not measured."""

    name: str
    cells: tuple[Measured | None, ...]


@dataclass(frozen=True)
class Summary:
    """The first table of the page: policies by numbers of demonstrations.

    Attributes:
        where: what all lines are of; "" where each names its own.
        reference: by demonstrations; empty where the lines do not share one.
    """

    where: str
    demos: tuple[int, ...]
    lines: tuple[SummaryLine, ...]
    reference: tuple[ReferencePoint | None, ...]


@dataclass(frozen=True)
class Funnel:
    """How far the episodes of a group got.

    Attributes:
        stages: in order, the last is success.
        columns: by demonstrations: episodes in all, and how many reached each stage or one
            beyond.
        ended: the stage after which most failures ended, "" for none reached, and how many of
            how many failures; None without failures.
    """

    policy: str
    env_id: str
    stages: tuple[str, ...]
    columns: tuple[tuple[int, int, tuple[int, ...]], ...]
    ended: tuple[str, int, int] | None


@dataclass(frozen=True)
class HeatMap:
    """Success rates of one policy after so many demonstrations, by task and arm."""

    policy: str
    demos: int
    tasks: tuple[str, ...]
    arms: tuple[str, ...]
    cells: Mapping[tuple[str, str], Row]


@dataclass(frozen=True)
class Section:
    """All that was measured under one condition.

    Attributes:
        means: over all targets, a group a policy; none without several targets.
        groups: a group a policy and environment.
        references: by environment, also by what stands for it in `means`, then by demonstrations.
    """

    condition: Condition
    means: tuple[Group, ...]
    groups: tuple[Group, ...]
    references: Mapping[str, Mapping[int, ReferencePoint]]
    heads: tuple[HeadPair, ...]
    heat: tuple[HeatMap, ...]
    funnels: tuple[Funnel, ...]

    @property
    def shown(self) -> tuple[Group, ...]:
        """All groups, the means first."""
        return (*self.means, *self.groups)

    @property
    def rows(self) -> tuple[Measured, ...]:
        """Without the means."""
        return tuple(row for group in self.groups for row in group.rows)

    @property
    def single_pairs(self) -> int:
        """How many comparisons of heads are of one target."""
        return sum(len(pair.env_ids) == 1 for pair in self.heads)

    @property
    def trained_several_times(self) -> bool:
        """Whether it can say anything of training anew."""
        return any(row.trained_anew is not None for row in self.rows)


def sections_of(
    records: Sequence[EpisodeRecord], table: Table, recipes: Mapping[str, str] | None = None
) -> tuple[Section, ...]:
    """A section for each condition, the unperturbed one first.

    Args:
        records: of the whole study.
        table: of the same study; what it is compared with is taken from there.
        recipes: how each policy was fine-tuned, but for its head; see `compare_heads`.
    """
    minutes = {(r.policy, r.env_id, r.demos): r.training_minutes for r in table.rows}
    by_condition: dict[Condition, list[EpisodeRecord]] = {}
    for record in records:
        by_condition.setdefault(condition_of(record), []).append(record)
    measure = measure_of(records)
    sections = []
    for condition, episodes in sorted(by_condition.items()):
        counted = replace(table, rows=summarise(episodes, minutes, measure))
        sections.append(_section(condition, episodes, counted, recipes or {}, measure))
    return tuple(sections)


def headline(sections: Sequence[Section]) -> str:
    """The study's result in two sentences: its longest row of rates, and its verdicts."""
    section = sections[0]
    group = max(section.means or section.groups, key=lambda group: len(group.rows))
    ordered = sorted(group.rows, key=lambda measured: measured.row.demos)
    first, last = ordered[0].row, ordered[-1].row
    where = "" if section.means else f"at {environment_name(group.env_id)} "
    text = (
        f"{group.policy} succeeds {where}in {percent(first.rate)} of the episodes "
        f"{demonstrations(first.demos)}"
    )
    if last is not first:
        text += f" and in {percent(last.rate)} {demonstrations(last.demos)}"
    if section.means:
        text += f", {group.env_id}"
    return f"{text}. {_verdicts(ordered)}".strip()


def _verdicts(rows: Sequence[Measured]) -> str:
    """How these rows stand beside the reference, each number of demonstrations under its verdict.

    "Beside the reference: above with 0 and 50 demonstrations; cannot tell yet with 100."
    """
    by_standing: dict[Standing, list[str]] = {}
    for each in rows:
        if each.against is not None:
            by_standing.setdefault(each.against.standing, []).append(str(each.row.demos))
    if not by_standing:
        return ""
    said = [f"{verdict} with {_listed(demos)}" for verdict, demos in by_standing.items()]
    return f"Beside the reference: {'; '.join([f'{said[0]} demonstrations', *said[1:]])}."


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def summary_of(section: Section) -> Summary:
    """The first table of a page: the means over all targets, or each target where there is none."""
    groups = section.means or section.groups
    demos = tuple(sorted({each.row.demos for group in groups for each in group.rows}))
    policies = {group.policy for group in groups}
    places = {group.env_id for group in groups}
    lines = []
    for group in groups:
        named = [group.policy] if len(policies) > 1 or len(places) == 1 else []
        named += [environment_name(group.env_id)] if len(places) > 1 else []
        of_demos = {each.row.demos: each for each in group.rows}
        lines.append(SummaryLine(", ".join(named), tuple(of_demos.get(n) for n in demos)))
    return Summary(
        where=environment_name(groups[0].env_id) if len(places) == 1 else "",
        demos=demos,
        lines=tuple(lines),
        reference=_one_reference(section, groups, demos),
    )


def _one_reference(
    section: Section, groups: Sequence[Group], demos: Sequence[int]
) -> tuple[ReferencePoint | None, ...]:
    """The reference by demonstrations, where it is the same for all that have one; else nothing."""
    found: list[ReferencePoint | None] = []
    for number in demos:
        points = {section.references.get(group.env_id, {}).get(number) for group in groups}
        points.discard(None)
        if len(points) > 1:
            return ()
        found.append(points.pop() if points else None)
    return tuple(found) if any(found) else ()


def _section(
    condition: Condition,
    records: Sequence[EpisodeRecord],
    table: Table,
    recipes: Mapping[str, str],
    measure: Measure,
) -> Section:
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for row in table.rows:
        grouped.setdefault((row.policy, row.head, row.env_id), []).append(row)
    by_row: dict[tuple, list[EpisodeRecord]] = {}
    for record in records:
        key = (record.policy, record.head, record.env_id, record.demos)
        by_row.setdefault(key, []).append(record)
    groups = tuple(
        Group(
            *key,
            rows=tuple(_measured(row, table) for row in rows),
        )
        for key, rows in grouped.items()
    )
    means: dict[tuple[str, str, str], list[Mean]] = {}
    for each in table.means:
        means.setdefault((each.policy, each.head, each.env_id), []).append(each)
    references = {row.env_id: {} for row in (*table.rows, *table.means)}
    for row in (*table.rows, *table.means):
        if (point := table.reference_of(row)) is not None:
            references[row.env_id][row.demos] = point
    return Section(
        condition=condition,
        means=tuple(
            Group(*key, rows=tuple(Measured(each, table.against(each)) for each in of_group))
            for key, of_group in means.items()
        ),
        groups=groups,
        references=references,
        heads=compare_heads(records, recipes, measure),
        heat=_heat_maps(table.rows, {record.env_id: record for record in records}),
        funnels=tuple(
            _funnel(group, {r.row.demos: by_row[_key(r.row)] for r in group.rows}, measure)
            for group in groups
        ),
    )


def _key(row: Row) -> tuple[str, str, str, int]:
    return row.policy, row.head, row.env_id, row.demos


def _measured(row: Row, table: Table) -> Measured:
    others = (table.counterpart(row, policy) for policy in table.beside_policies())
    return Measured(
        row=row,
        against=table.against(row),
        beside=tuple(other for other in others if other is not None),
    )


def _heat_maps(rows: Sequence[Row], example: Mapping[str, EpisodeRecord]) -> tuple[HeatMap, ...]:
    """A map for each policy and number of demonstrations, all with the same tasks and arms."""
    place = {env_id: (record.task, record.embodiment) for env_id, record in example.items()}
    tasks = tuple(dict.fromkeys(place[row.env_id][0] for row in rows))
    arms = tuple(dict.fromkeys(place[row.env_id][1] for row in rows))
    cells: dict[tuple[str, int], dict[tuple[str, str], Row]] = {}
    for row in rows:
        cells.setdefault((row.policy, row.demos), {})[place[row.env_id]] = row
    return tuple(
        HeatMap(policy, demos, tasks, arms, of_map) for (policy, demos), of_map in cells.items()
    )


def _funnel(
    group: Group, records: Mapping[int, Sequence[EpisodeRecord]], measure: Measure
) -> Funnel:
    completed = {
        demos: [record for record in episodes if not record.error]
        for demos, episodes in sorted(records.items())
    }
    everything = [record for episodes in completed.values() for record in episodes]
    stages = _stages(group.env_id, everything)
    columns = []
    for demos, episodes in completed.items():
        furthest = [
            -1 if record.furthest_stage == _FAILED_AT_ONCE else stages.index(record.furthest_stage)
            for record in episodes
        ]
        reached = tuple(sum(far >= stage for far in furthest) for stage in range(len(stages)))
        columns.append((demos, len(episodes), reached))
    failures = [record.furthest_stage for record in everything if not succeeded(record, measure)]
    ended = None
    if failures:
        most = max(dict.fromkeys(failures), key=failures.count)
        ended = ("" if most == _FAILED_AT_ONCE else most, failures.count(most), len(failures))
    return Funnel(group.policy, group.env_id, stages, tuple(columns), ended)


def _stages(env_id: str, records: Sequence[EpisodeRecord]) -> tuple[str, ...]:
    """The task's stages, as declared; of a task that is not declared any more, those seen."""
    seen = {record.furthest_stage for record in records} - {_FAILED_AT_ONCE}
    try:
        declared = stages_of(recorded_environment(env_id).task.stages, records)
    except UnknownName:
        declared = ()
    if seen <= set(declared):
        return declared
    known = [*get_args(Stage), *sorted(seen - set(get_args(Stage)))]
    return tuple(stage for stage in known if stage in seen)
