"""The list of a study's episodes, for sorting and filtering."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from octo_bench.records.conditions import condition_of
from octo_bench.records.record import EpisodeRecord, measure_of, succeeded
from octo_bench.tables.wording import environment_name

Value = str | int | float

_EXPECTED = (
    ("condition", "nothing perturbed"),
    ("demonstrations", 0),
    ("draw", 0),
    ("training seed", 0),
    ("attempts", 1),
    ("policy's fault", ""),
    ("error", ""),
)
"""What is not worth a word if it holds for all episodes."""


@dataclass(frozen=True)
class EpisodeList:
    """All episodes as rows of values.

    Attributes:
        columns: their names; "outcome" is the first and "film" the last.
        rows: the values; of "film" it is the place in the page, "" without one.
        constants: what is the same in all episodes, and so is not a column.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    constants: tuple[tuple[str, Value], ...]

    @property
    def data(self) -> dict[str, Any]:
        """For the page's script."""
        return {"columns": self.columns, "rows": self.rows}


_OPTIONAL: dict[str, Callable[[EpisodeRecord], Value]] = {
    "policy": lambda record: record.policy,
    "head": lambda record: record.head,
    "environment": lambda record: environment_name(record.env_id),
    "condition": lambda record: condition_of(record).name,
    "demonstrations": lambda record: record.demos,
    "draw": lambda record: record.draw,
    "training seed": lambda record: record.train_seed,
    "attempts": lambda record: record.attempts,
    "policy's fault": lambda record: record.policy_fault,
    "error": lambda record: record.error,
}
"""Columns that are left out where all episodes have the same value."""

_ALWAYS: dict[str, Callable[[EpisodeRecord], Value]] = {
    "episode": lambda record: record.episode,
    "steps": lambda record: record.steps,
    "furthest stage": lambda record: record.furthest_stage.replace("_", " "),
    "jerk": lambda record: round(record.action_jerk, 3),
    "latency, ms": lambda record: round(record.latency_ms_p50, 1),
    "starts as": lambda record: record.initial_state_sha256[:8],
}


def list_episodes(
    records: Sequence[EpisodeRecord], films: Mapping[EpisodeRecord, str]
) -> EpisodeList:
    """The list of `records`; `films` is where in the page each filmed one is shown."""
    chosen = {
        name: value
        for name, value in _OPTIONAL.items()
        if len({value(record) for record in records}) > 1
    }
    left_out = tuple(
        (name, _OPTIONAL[name](records[0])) for name in _OPTIONAL if name not in chosen
    )
    chosen |= _ALWAYS
    return EpisodeList(
        columns=("outcome", *chosen, "film"),
        rows=tuple(
            (
                outcome_of(record),
                *(value(record) for value in chosen.values()),
                films.get(record, ""),
            )
            for record in records
        ),
        constants=tuple(each for each in left_out if each not in _EXPECTED),
    )


def outcome_of(record: EpisodeRecord) -> str:
    """ "success", "failure", or "error" for what counts as neither."""
    if record.error:
        return "error"
    return "success" if succeeded(record, measure_of([record])) else "failure"
