"""Choosing episodes out of a file that holds those of several policies, such as a study's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from octo_bench.definitions import environment
from octo_bench.errors import Mismatch, UnknownName
from octo_bench.evaluation.matching import EpisodeSet

COLUMNS = (
    *("policy", "head", "demos", "draw", "train_seed", "env_id", "suite", "level", "inference"),
)


def choose(episodes: EpisodeSet, conditions: Sequence[str]) -> EpisodeSet:
    """The episodes that meet all conditions.

    Args:
        conditions: such as "head=diffusion" or "demos=50"; several of one column are
            alternatives. An environment's namespace and version may be left out.

    Raises:
        UnknownName: for a column that there is not, or an environment that is not declared.
        Mismatch: when no episode is left; says what there is.
    """
    wanted: dict[str, set[str]] = {}
    for condition in conditions:
        column, _, value = condition.partition("=")
        if column not in COLUMNS:
            raise UnknownName("column to choose by", column, COLUMNS)
        value = environment(value).id if column == "env_id" else value
        wanted.setdefault(column, set()).add(value)
    records = list(episodes.records)
    for column, values in wanted.items():
        there = sorted({str(getattr(record, column)) for record in records})
        records = [record for record in records if str(getattr(record, column)) in values]
        if not records:
            raise Mismatch(
                f"{episodes.name} has no episodes with {column} = {' or '.join(sorted(values))}; "
                f"there are {', '.join(there)}"
            )
    name = f"{episodes.name} ({', '.join(conditions)})" if conditions else episodes.name
    return replace(episodes, name=name, records=records)
