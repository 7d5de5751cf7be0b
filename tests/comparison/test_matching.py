"""Pairing the episodes of two sets of records, and refusing what cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.synthetic_records import LIFT, STACK, record
from octo_bench.comparison.matching import EpisodeSet, match, read_episodes
from octo_bench.errors import Mismatch
from octo_bench.records.provenance import Provenance
from octo_bench.records.record import EpisodeRecord, write_records

HERE = Provenance(
    study_seed=0,
    definitions={LIFT: "a" * 64, STACK: "b" * 64},
    versions={"octo-bench": "0.1.0", "mujoco": "3.3.7", "torch": "2.9.0"},
)


def episodes(
    records: Sequence[EpisodeRecord], name: str = "a", provenance: Provenance | None = HERE
) -> EpisodeSet:
    return EpisodeSet(name, records, provenance)


def other(records: Sequence[EpisodeRecord], **changes: object) -> EpisodeSet:
    return episodes(records, "b", replace(HERE, **changes))


def test_episodes_are_paired_in_the_first_ones_order() -> None:
    first = [record(2), record(0), record(1), record(0, env_id=STACK)]
    second = [record(n, policy="new", inference="execute=2", success_once=False) for n in range(3)]
    found = match(episodes(first), other(second))
    assert [(a.episode, b.episode) for a, b in found.pairs] == [(2, 2), (0, 0), (1, 1)]
    assert all(a.policy == "octo-tiny" and b.policy == "new" for a, b in found.pairs)
    assert (found.only_first, found.only_second, found.errors) == (1, 0, 0)
    assert found.unchecked == ()


def test_levels_of_a_suite_are_episodes_of_their_own() -> None:
    first = [record(0), record(0, suite="lighting", level=1)]
    second = [record(0, suite="lighting", level=2), record(0)]
    found = match(episodes(first), other(second))
    assert len(found.pairs) == 1
    assert (found.only_first, found.only_second) == (1, 1)


def test_an_episode_with_an_error_is_counted_and_not_paired() -> None:
    first = [record(0), record(1, error="FatalError"), record(2), record(3, error="FatalError")]
    second = [record(0, error="killed", initial_state_sha256=""), *map(record, (1, 2))]
    found = match(episodes(first), other(second))
    assert [a.episode for a, _ in found.pairs] == [2]
    assert (found.errors, found.only_first, found.only_second) == (2, 1, 0)


@pytest.mark.parametrize(
    ("second", "key"),
    [
        (other([record(0)], study_seed=1), r"study_seed \(0 and 1\)"),
        (other([record(0, env_seed=5)]), r"env_seed of octo_bench/Lift-Panda-v1 episode 0 \(1"),
        (other([record(0, initial_state_sha256="f" * 64)]), r"initial_state_sha256 of .*\(0{12}…"),
        (other([record(0)], definitions={LIFT: "c" * 64}), r"the definition of octo_bench/Lift-"),
        (
            other([record(0)], versions={**HERE.versions, "mujoco": "3.4.0"}),
            r"the version of mujoco \(3\.3\.7 and 3\.4\.0\)",
        ),
        (
            other([record(0)], versions={**HERE.versions, "numba": "0.62"}),
            r"the version of numba \(unknown and 0\.62\)",
        ),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_what_differs_is_refused_by_name(second: EpisodeSet, key: str) -> None:
    with pytest.raises(Mismatch, match=rf"^a and b differ in {key}.*cannot be compared") as refused:
        match(episodes([record(0)]), second)
    assert refused.value.exit_code == 2
    assert len(str(refused.value).splitlines()) == 1


def test_versions_that_are_asked_about_may_differ_and_no_others() -> None:
    newer = other([record(0)], versions={**HERE.versions, "torch": "2.10.0"})
    assert match(episodes([record(0)]), newer, allow=["torch"]).pairs
    with pytest.raises(Mismatch, match="torch"):
        match(episodes([record(0)]), newer, allow=["mujoco", "study_seed"])


def test_environments_that_only_one_was_measured_in_do_not_matter() -> None:
    only_lift = other([record(0)], definitions={LIFT: "a" * 64})
    assert len(match(episodes([record(0), record(0, env_id=STACK)]), only_lift).pairs) == 1


def test_records_of_before_are_compared_by_their_starts_and_it_is_told() -> None:
    older = episodes([record(0)], "old", provenance=None)
    assert match(episodes([record(0)]), older).unchecked == ("old",)
    moved = replace(older, records=[record(0, initial_state_sha256="f" * 64)])
    with pytest.raises(Mismatch, match="initial_state_sha256"):
        match(episodes([record(0)]), moved)


def test_sets_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(Mismatch, match="no episode in common"):
        match(episodes([record(0)]), other([record(1)]))
    twice = [record(0), record(0, demos=50, train_seed=1)]
    who = r"b has episode 0 .* \(octo-tiny and octo-tiny after 50 demonstrations, draw 0, seed 1\)"
    with pytest.raises(Mismatch, match=who):
        match(episodes([record(0)]), other(twice))


def test_files_are_called_by_their_path(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_records([record(0)], path, HERE)
    assert read_episodes(path) == EpisodeSet(str(path), [record(0)], HERE)
