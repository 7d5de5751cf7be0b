"""The fine-tuning table: success by demonstrations, with intervals, beside published rates."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from octo_bench.errors import BadFile
from octo_bench.statistics.completion import Completion
from octo_bench.statistics.intervals import Interval, clopper_pearson

if TYPE_CHECKING:
    from octo_bench.evaluation.records import EpisodeRecord

CONFIDENCE = 0.95
TOLERATED_ERRORS = 0.05
"""Where more than this share of the episodes ended in an infrastructure error, a rate says
nothing: the run is unfit."""

_COLUMNS = (
    "policy",
    "head",
    "env_id",
    "demos",
    "successes",
    "episodes",
    "success_rate",
    "low",
    "high",
    "errors",
    "training_minutes",
)
_BOUND_COLUMNS = ("worst_case", "best_case")
_REFERENCE_COLUMNS = ("reference_success_rate", "reference_training_minutes", "against_reference")


@dataclass(frozen=True)
class Row:
    """One policy in one environment after one number of demonstrations, draws and seeds pooled.

    Attributes:
        episodes: without those that ended in an infrastructure error.
        errors: how many those are.
        training_minutes: mean over the fine-tunings; 0 without demonstrations.
    """

    policy: str
    head: str
    env_id: str
    demos: int
    successes: int
    episodes: int
    errors: int
    training_minutes: float

    @property
    def rate(self) -> float:
        """Successes by episodes, not a number without episodes."""
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def interval(self) -> Interval:
        """Clopper-Pearson, 95 %."""
        return clopper_pearson(self.successes, self.episodes, CONFIDENCE)

    @property
    def completion(self) -> Completion:
        """The counts with the errors, which bound the rate."""
        return Completion(self.successes, self.episodes, self.errors)

    @property
    def unfit(self) -> bool:
        """Whether too many episodes ended in an infrastructure error."""
        return self.completion.error_share > TOLERATED_ERRORS


@dataclass(frozen=True)
class ReferencePoint:
    """A published result: success rate in [0, 1] and training time in minutes."""

    success_rate: float
    training_minutes: float

    def against(self, measured: Row) -> str:
        """Where the measured rate is, by its interval: "above", "below" or "not told apart"."""
        if measured.interval.low > self.success_rate:
            return "above"
        return "below" if measured.interval.high < self.success_rate else "not told apart"


Reference = Mapping[int, ReferencePoint]


@dataclass(frozen=True)
class Table:
    """All rows of a study, and what to compare them with.

    Attributes:
        references: by environment id, then by demonstrations.
        beside: rows of other studies; those with a row's environment and demonstrations stand
            beside it.
    """

    title: str
    rows: tuple[Row, ...]
    references: Mapping[str, Reference]
    beside: tuple[Row, ...] = ()

    def beside_policies(self) -> tuple[str, ...]:
        """The policies of other studies, in their order."""
        return tuple(dict.fromkeys(row.policy for row in self.beside))

    def counterpart(self, row: Row, policy: str) -> Row | None:
        """The row of `policy` in another study that stands beside `row`."""
        for other in self.beside:
            if (other.policy, other.env_id, other.demos) == (policy, row.env_id, row.demos):
                return other
        return None


def summarise(
    records: Iterable[EpisodeRecord], training_minutes: Mapping[tuple[str, str, int], float]
) -> tuple[Row, ...]:
    """Count successes by policy, environment and demonstrations, in the order of first appearance.

    Args:
        records: episodes; success is `success_once`.
        training_minutes: by policy, environment id and demonstrations.
    """
    groups: dict[tuple[str, str, str, int], list[EpisodeRecord]] = {}
    for record in records:
        group = (record.policy, record.head, record.env_id, record.demos)
        groups.setdefault(group, []).append(record)
    rows = []
    for (policy, head, env_id, demos), episodes in groups.items():
        fit = [record for record in episodes if not record.error]
        rows.append(
            Row(
                policy=policy,
                head=head,
                env_id=env_id,
                demos=demos,
                successes=sum(record.success_once for record in fit),
                episodes=len(fit),
                errors=len(episodes) - len(fit),
                training_minutes=training_minutes.get((policy, env_id, demos), 0.0),
            )
        )
    return tuple(rows)


def read_reference(path: Path) -> Reference:
    """Read a reference table: columns `demos`, `success_rate` and `training_minutes`.

    Raises:
        BadFile: when it is something else.
    """
    rows = _read_csv(path, ("demos", "success_rate", "training_minutes"))
    try:
        return {
            int(row["demos"]): ReferencePoint(
                float(row["success_rate"]), float(row["training_minutes"])
            )
            for row in rows
        }
    except (TypeError, ValueError) as error:
        raise BadFile(path, f"not a number ({error})", "correct the table") from error


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read the rows of a table that `csv_text` wrote.

    Raises:
        BadFile: when it is something else.
    """
    rows = _read_csv(path, _COLUMNS)
    try:
        return tuple(
            Row(
                policy=row["policy"],
                head=row["head"],
                env_id=row["env_id"],
                demos=int(row["demos"]),
                successes=int(row["successes"]),
                episodes=int(row["episodes"]),
                errors=int(row["errors"]),
                training_minutes=float(row["training_minutes"]),
            )
            for row in rows
        )
    except (TypeError, ValueError) as error:
        raise BadFile(path, f"not a number ({error})", "make the table anew") from error


def csv_text(table: Table) -> str:
    """The table for programs: a line a row; columns of other studies are named by their policy."""
    others = table.beside_policies()
    other_columns = ("successes", "episodes", "success_rate", "low", "high", "training_minutes")
    names = [f"{policy}: {column}" for policy in others for column in other_columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_BOUND_COLUMNS, *_REFERENCE_COLUMNS, *names])
    for row in table.rows:
        values = _values(row)
        reference = table.references.get(row.env_id, {}).get(row.demos)
        published: list[object] = ["", "", ""]
        if reference is not None:
            published = [reference.success_rate, reference.training_minutes, reference.against(row)]
        beside: list[object] = []
        for policy in others:
            other = table.counterpart(row, policy)
            of_other = _values(other) if other is not None else {}
            beside += [of_other.get(column, "") for column in other_columns]
        bounds = [f"{rate:.4f}" for rate in (row.completion.worst, row.completion.best)]
        writer.writerow([*values.values(), *bounds, *published, *beside])
    return text.getvalue()


def markdown(table: Table) -> str:
    """The table for people: a section for each policy and environment."""
    lines = [f"# {table.title}", ""]
    if any(row.unfit for row in table.rows):
        lines += [
            "**Unfit.** In the rows marked so, more than "
            f"{100 * TOLERATED_ERRORS:.0f} % of the episodes ended in an infrastructure error: "
            "their rates say nothing. The same command repeats these episodes.",
            "",
        ]
    sections: dict[tuple[str, str, str], list[Row]] = {}
    for row in table.rows:
        sections.setdefault((row.policy, row.head, row.env_id), []).append(row)
    for (policy, head, env_id), rows in sections.items():
        lines += [f"## {policy} ({head} head), {env_id}", "", *_section(table, rows), ""]
    lines += [
        "Success is reached at any step of the episode; intervals are Clopper-Pearson, 95 %. "
        "Training is the wall time of one fine-tuning in one process with one thread.",
    ]
    if any(table.references.get(row.env_id) for row in table.rows):
        lines.append(
            "The last column tells on which side of our interval the published rate leaves us; "
            '"not told apart" means that it lies within.'
        )
    if errors := sum(row.errors for row in table.rows):
        lines.append(
            f"{errors} episodes ended in an infrastructure error and are not counted; the worst "
            "case counts them as failures, the best case as successes."
        )
    return "\n".join(lines) + "\n"


def _section(table: Table, rows: Sequence[Row]) -> list[str]:
    shown = [
        policy
        for policy in table.beside_policies()
        if any(table.counterpart(row, policy) for row in rows)
    ]
    reference = table.references.get(rows[0].env_id, {})
    bounded = any(row.errors for row in rows)
    header = ["Demonstrations", "Success", "95 % interval"]
    header += ["Errors", "Worst to best case"] if bounded else []
    header += ["Training", *shown]
    if reference:
        header += ["Published", "Published training", "Against published"]
    lines = [_line(header), _line(["---:"] * len(header))]
    for row in rows:
        cells = [str(row.demos), _rate(row), _interval(row)]
        cells += [_errors(row), _bounds(row)] if bounded else []
        cells.append(_minutes(row.training_minutes))
        for policy in shown:
            other = table.counterpart(row, policy)
            cells.append(f"{_rate(other)}, {_interval(other)}" if other else "")
        if reference:
            point = reference.get(row.demos)
            cells += (
                [
                    f"{100 * point.success_rate:.0f} %",
                    _minutes(point.training_minutes),
                    point.against(row),
                ]
                if point
                else ["", "", ""]
            )
        lines.append(_line(cells))
    return lines


def _values(row: Row) -> dict[str, object]:
    interval = row.interval
    values: tuple[object, ...] = (
        row.policy,
        row.head,
        row.env_id,
        row.demos,
        row.successes,
        row.episodes,
        f"{row.rate:.4f}",
        f"{interval.low:.4f}",
        f"{interval.high:.4f}",
        row.errors,
        f"{row.training_minutes:.2f}",
    )
    return dict(zip(_COLUMNS, values, strict=True))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _rate(row: Row) -> str:
    return (
        f"{row.successes}/{row.episodes} = {100 * row.rate:.0f} %"
        if row.episodes
        else "no episodes"
    )


def _interval(row: Row) -> str:
    return f"{100 * row.interval.low:.0f} to {100 * row.interval.high:.0f} %"


def _errors(row: Row) -> str:
    return f"{row.errors}, unfit" if row.unfit else str(row.errors)


def _bounds(row: Row) -> str:
    return f"{100 * row.completion.worst:.0f} to {100 * row.completion.best:.0f} %"


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f} min" if 0 < minutes < 10 else f"{minutes:.0f} min"


def _read_csv(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(path, f"cannot be read ({error})", "it must be a CSV table") from error
    if missing := set(columns) - set(rows[0] if rows else ()):
        raise BadFile(path, f"lacks the column '{sorted(missing)[0]}'", "add it")
    return rows
