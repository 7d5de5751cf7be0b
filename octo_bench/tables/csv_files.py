"""Tables as CSV: a study's for programs, read back beside another's, and a reference."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from octo_bench.errors import BadFile
from octo_bench.reading import read_text
from octo_bench.records.conditions import Condition
from octo_bench.statistics.intervals import Interval
from octo_bench.tables.references import Reference, ReferencePoint
from octo_bench.tables.table import MEAN, Mean, Row, Table
from octo_bench.tables.uncertainty import Uncertainty

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
_CONDITION_COLUMNS = ("suite", "level", "inference")
_BOUND_COLUMNS = ("worst_case", "best_case")
_REFERENCE_COLUMNS = ("reference_success_rate", "reference_training_minutes", "against_reference")
_MEASURE_COLUMNS = ("measure", "successes_once", "success_once_rate")
_TRAINING_COLUMNS = ("trainings", "draws", "trained_anew_low", "trained_anew_high")


def read_reference(path: Path) -> Reference:
    """Read a reference table: columns `demos`, `success_rate` and `training_minutes`.

    Raises:
        BadFile: when it is something else.
    """
    rows = _read_csv(path, ("demos", "success_rate", "training_minutes"))
    try:
        points = {
            int(row["demos"]): ReferencePoint(
                float(row["success_rate"]), float(row["training_minutes"])
            )
            for row in rows
        }
        for demos, point in points.items():
            if not (demos >= 0 and 0 <= point.success_rate <= 1):
                raise ValueError(f"{point.success_rate} with {demos} demonstrations")
            if not 0 <= point.training_minutes < math.inf:
                raise ValueError(f"{point.training_minutes} minutes")
        return points
    except (TypeError, ValueError) as error:
        raise BadFile(path, f"not a number ({error})", "correct the table") from error


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read the rows of a table that `csv_text` wrote, without the means.

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
                condition=Condition(  # older tables do not have it
                    row.get("suite") or "", int(row.get("level") or 0), row.get("inference") or ""
                ),
                several=_several(row),
                **_measured(row),
            )
            for row in rows
            if not row["env_id"].startswith(MEAN)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(path, f"not a number ({error})", "make the table again") from error


def csv_text(table: Table) -> str:
    """The table for programs: a line a row, then a line a mean.

    Columns of other studies are named by their policy. Where the environment would stand, a mean
    has "mean over 6 targets"; its successes and episodes are those of all targets together. `low`
    and `high` are for these policies as they were trained; then come `draws` and, where there are
    enough, the interval for training anew. `measure` says which success `successes`,
    `success_rate` and the intervals count: "held" or "once".
    """
    others = table.beside_policies()
    other_columns = ("successes", "episodes", "success_rate", "low", "high", "training_minutes")
    names = [f"{policy}: {column}" for policy in others for column in other_columns]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = (_COLUMNS, _CONDITION_COLUMNS, _BOUND_COLUMNS, _REFERENCE_COLUMNS, names)
    writer.writerow(
        [*(name for each in columns for name in each), *_TRAINING_COLUMNS, *_MEASURE_COLUMNS]
    )
    for row in (*table.rows, *table.means):
        compared: list[object] = ["", "", ""]
        if (found := table.against(row)) is not None:
            point = found.reference
            compared = [point.success_rate, point.training_minutes, found.standing]
        beside: list[object] = []
        for policy in others:
            other = table.counterpart(row, policy)
            of_other = _values(other) if other is not None else {}
            beside += [of_other.get(column, "") for column in other_columns]
        bounds = [f"{rate:.4f}" for rate in (row.worst, row.best)]
        condition = [row.condition.suite, row.condition.level, row.condition.inference]
        trainings = _trainings(row)
        measure = [row.measure, row.once, f"{row.once_rate:.4f}"]
        found_here = (*condition, *bounds, *compared, *beside, *trainings, *measure)
        values = (*_values(row).values(), *found_here)
        writer.writerow(values)
    return text.getvalue()


def _values(row: Row | Mean) -> dict[str, object]:
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


def _trainings(row: Row | Mean) -> tuple[object, ...]:
    """The values of `_TRAINING_COLUMNS`."""
    found = row.uncertainty
    anew: tuple[str, ...] = ("", "")
    if found.trained_anew is not None:
        anew = tuple(f"{limit:.4f}" for limit in (found.trained_anew.low, found.trained_anew.high))
    return found.trainings, found.units, *anew


def _measured(row: Mapping[str, str]) -> dict[str, Any]:
    """Which success a line counts; older tables have "once" alone."""
    if row.get("measure") != "held":
        return {}
    return {"measure": "held", "reached": int(row["successes_once"])}


def _several(row: Mapping[str, str]) -> Uncertainty | None:
    """What a line says of the rate of several trainings; None of one, and in older tables."""
    trainings = int(row.get("trainings") or 1)
    if trainings == 1:
        return None
    anew = None
    if row["trained_anew_low"]:
        anew = Interval(float(row["trained_anew_low"]), float(row["trained_anew_high"]))
    as_trained = Interval(float(row["low"]), float(row["high"]))
    return Uncertainty(as_trained, anew, int(row["draws"]), trainings)


def _read_csv(path: Path, columns: Collection[str]) -> list[dict[str, str]]:
    text = read_text(path, BadFile, "it must be a CSV table")
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise BadFile(path, f"cannot be read ({error})", "it must be a CSV table") from error
    if missing := set(columns) - set(rows[0] if rows else ()):
        raise BadFile(path, f"lacks the column '{sorted(missing)[0]}'", "add it")
    return rows
