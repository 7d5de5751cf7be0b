"""Pairing the episodes of two policies: same number, environment, start, definitions and versions.
Only the policy and its inference options differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from octo_bench.errors import Mismatch
from octo_bench.records.provenance import Provenance
from octo_bench.records.record import EpisodeRecord, read_provenance, read_records

Pair = tuple[EpisodeRecord, EpisodeRecord]
_Key = tuple[str, str, int, int]

CODE = "code"
"""What is named to allow other code of octo-bench."""
_CODE = "the code of octo-bench that can change an episode"
_SAME_START = ("env_seed", "initial_state_sha256")


@dataclass(frozen=True)
class EpisodeSet:
    """Episodes and what they depend on.

    Attributes:
        name: what messages call them, such as the file they are from.
        provenance: None for older records, which lack it.
    """

    name: str
    records: Sequence[EpisodeRecord]
    provenance: Provenance | None


@dataclass(frozen=True)
class Match:
    """The paired episodes of two sets, in the first one's order, and what could not be paired.

    Attributes:
        pairs: of each the first set's episode, then the second's; both ran to their end.
        only_first, only_second: how many episodes the other set does not have.
        errors: how many both have, with an infrastructure error in one or both.
        unchecked: names of the sets that do not record their definitions and versions.
    """

    pairs: tuple[Pair, ...]
    only_first: int
    only_second: int
    errors: int
    unchecked: tuple[str, ...]


def read_episodes(path: Path) -> EpisodeSet:
    """Read a file of records with what they depend on.

    Raises:
        BadRecords: for a file that is missing, broken, not of episode records, or without any.
    """
    return EpisodeSet(str(path), read_records(path), read_provenance(path))


def match(first: EpisodeSet, second: EpisodeSet, allow: Collection[str] = ()) -> Match:
    """Pair the episodes of two sets by environment, suite, level and number.

    Args:
        first, second: what is paired; each holds an episode once.
        allow: versions that may differ, by name, such as "torch": for asking what an upgrade
            changes; "code" for the code of octo-bench that can change an episode. Nothing else may.

    Raises:
        Mismatch: names the first key that differs, or an episode that a set holds twice.
    """
    for key, own, other in _differences(first, second, allow):
        raise Mismatch(
            f"{first.name} and {second.name} differ in {key} ({own} and {other}) and cannot be "
            f"compared; {_fix(key)}"
        )
    of_first, of_second = _by_key(first), _by_key(second)
    common = [key for key in of_first if key in of_second]
    if not common:
        raise Mismatch(
            f"{first.name} and {second.name} have no episode in common; "
            "measure both in the same environment, from the same episode on"
        )
    both = [(of_first[key], of_second[key]) for key in common]
    pairs = tuple(pair for pair in both if not any(record.error for record in pair))
    return Match(
        pairs=pairs,
        only_first=len(of_first) - len(common),
        only_second=len(of_second) - len(common),
        errors=len(both) - len(pairs),
        unchecked=tuple(each.name for each in (first, second) if each.provenance is None),
    )


def _differences(
    first: EpisodeSet, second: EpisodeSet, allow: Collection[str]
) -> Iterator[tuple[str, object, object]]:
    """What must be the same and is not: its name and both values."""
    if first.provenance is not None and second.provenance is not None:
        yield from _of_provenance(first.provenance, second.provenance, allow)
    of_second = _by_key(second)
    for key, own in _by_key(first).items():
        other = of_second.get(key)
        if other is None or own.error or other.error:
            continue
        for name in _SAME_START:
            values = getattr(own, name), getattr(other, name)
            if values[0] != values[1]:
                yield f"{name} of {own.env_id} episode {own.episode}", *map(_short, values)


def _fix(key: str) -> str:
    if key == _CODE:
        return f"measure one of them again with this code, or accept it with `--allow {CODE}`"
    return "measure both in the same way"


def _of_provenance(
    first: Provenance, second: Provenance, allow: Collection[str]
) -> Iterator[tuple[str, object, object]]:
    if first.study_seed != second.study_seed:
        yield "study_seed", first.study_seed, second.study_seed
    # Each may have been measured in more environments than the other.
    for name in sorted(first.definitions.keys() & second.definitions.keys()):
        own, other = first.definitions[name], second.definitions[name]
        if own != other:
            yield f"the definition of {name}", _short(own), _short(other)
    # Files of format 1 do not tell their code.
    if first.code and second.code and first.code != second.code and CODE not in allow:
        yield _CODE, _short(first.code), _short(second.code)
    for name in [*first.versions, *(second.versions.keys() - first.versions.keys())]:
        own, other = (each.versions.get(name, "unknown") for each in (first, second))
        if own != other and name not in allow:
            yield f"the version of {name}", own, other


def _by_key(episodes: EpisodeSet) -> Mapping[_Key, EpisodeRecord]:
    """The records by what they are paired on.

    Raises:
        Mismatch: when two of them are the same episode.
    """
    found: dict[_Key, EpisodeRecord] = {}
    for record in episodes.records:
        key = (record.env_id, record.suite, record.level, record.episode)
        if key in found:
            who = " and ".join(dict.fromkeys(map(_who, (found[key], record))))
            raise Mismatch(
                f"{episodes.name} has episode {record.episode} of {record.env_id} more than once "
                f"({who}); choose the episodes of one policy"
            )
        found[key] = record
    return found


def _who(record: EpisodeRecord) -> str:
    asked = f", {record.inference}" if record.inference else ""
    trained = f" after {record.demos} demonstrations" if record.demos else ""
    which = f", draw {record.draw}, seed {record.train_seed}" if record.demos else ""
    return f"{record.policy}{trained}{which}{asked}"


def _short(value: object) -> object:
    """A hash cut to what tells it from others."""
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else value
