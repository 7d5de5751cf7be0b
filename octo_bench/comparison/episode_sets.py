"""Putting episodes together for a comparison: of several files as one, or some of those of a file.

A study's file holds the episodes of several policies, `evaluate` writes one for each environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from octo_bench.comparison.matching import EpisodeSet
from octo_bench.definitions.environments import recorded_id
from octo_bench.errors import Mismatch, UnknownName
from octo_bench.records.provenance import Provenance

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
        value = recorded_id(value) if column == "env_id" else value
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


def merge(sets: Sequence[EpisodeSet]) -> EpisodeSet:
    """The episodes of several sets as one, such as one policy's in several environments.

    Raises:
        Mismatch: when they were not measured alike; names what differs.
    """
    first, *others = sets
    if not others:
        return first
    known = [each.provenance for each in sets if each.provenance is not None]
    for other in others:
        if key := _difference(first.provenance, other.provenance):
            raise Mismatch(
                f"{first.name} and {other.name} differ in {key} and are no one baseline; "
                "measure both in the same way"
            )
    definitions = {name: value for each in known for name, value in each.definitions.items()}
    return EpisodeSet(
        name=" and ".join(each.name for each in sets),
        records=[record for each in sets for record in each.records],
        provenance=replace(known[0], definitions=definitions) if len(known) == len(sets) else None,
    )


def _difference(first: Provenance | None, other: Provenance | None) -> str:
    """What differs between what two sets depend on; "" if nothing is known to."""
    if first is None or other is None:
        return ""
    if first.study_seed != other.study_seed:
        return "study_seed"
    for name in first.definitions.keys() & other.definitions.keys():
        if first.definitions[name] != other.definitions[name]:
            return f"the definition of {name}"
    names = [*first.versions, *other.versions]
    differing = [name for name in names if first.versions.get(name) != other.versions.get(name)]
    return f"the version of {differing[0]}" if differing else ""
