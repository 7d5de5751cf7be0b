"""Evaluating into a file: what is done is kept, goes on, and is never overwritten in silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from octo_bench.agents.sources import policy_fingerprint
from octo_bench.cli import run
from octo_bench.errors import BadRecords
from octo_bench.records.record import (
    VARYING_COLUMNS,
    EpisodeRecord,
    read_records,
    write_records,
)
from octo_bench.rollouts import evaluate, resuming
from octo_bench.rollouts.resuming import evaluate_into

LIFT = "octo_bench/Lift-Panda-v1"


def determined(records: Sequence[EpisodeRecord]) -> list[dict[str, Any]]:
    """Records without what differs from run to run."""
    rows = [dataclasses.asdict(record) for record in records]
    return [{k: v for k, v in row.items() if k not in VARYING_COLUMNS} for row in rows]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "episodes.parquet"
    assert evaluate_into(out, "random", LIFT, 4, progress=False).found == 0
    return out


def interrupt_after(monkeypatch: pytest.MonkeyPatch, episodes: int) -> None:
    """Ctrl-C when so many episodes have finished."""
    roll = evaluate.roll_shares

    def rolling(*arguments: Any, **options: Any) -> Any:
        done = 0
        for finished in roll(*arguments, **options):
            yield finished
            done += len(finished)
            if done >= episodes:
                raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "roll_shares", rolling)


def test_an_interrupted_evaluation_keeps_its_episodes_and_goes_on(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "episodes.parquet"
    monkeypatch.setattr("octo_bench.rollouts.batches.EPISODES_PER_SHARE", 2)
    with monkeypatch.context() as interrupted, pytest.raises(KeyboardInterrupt):
        interrupt_after(interrupted, 2)
        evaluate_into(out, "random", LIFT, 4, progress=False)
    assert [file.name for file in tmp_path.iterdir()] == [".episodes.parquet.part"]
    part = (tmp_path / ".episodes.parquet.part").read_bytes()
    fewer = tmp_path / "fewer.parquet"
    (tmp_path / ".fewer.parquet.part").write_bytes(part)
    assert evaluate_into(fewer, "random", LIFT, 1, progress=False).found == 1
    assert len(read_records(fewer)) == 1
    fewer.unlink()
    assert evaluate_into(out, "random", LIFT, 4, progress=False).found == 2
    assert determined(read_records(out)) == determined(read_records(undisturbed))
    assert [file.name for file in tmp_path.iterdir()] == ["episodes.parquet"]


def test_what_is_complete_is_confirmed_and_not_written_again(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = undisturbed.stat().st_mtime_ns
    command = ["evaluate", "random", LIFT, "--episodes", "4", "--out", str(undisturbed)]
    assert run(command) == 0
    said = capsys.readouterr()
    assert f"{undisturbed}: 4 of 4 episodes were there" in said.err
    assert "0 of 4 episodes succeeded" in said.out
    assert undisturbed.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"policy": "expert"}, "holds episodes of policy random, not expert"),
        ({"env_id": "Stack-Panda"}, "not octo_bench/Stack-Panda-v1"),
        ({"study_seed": 1}, "of study seed 0"),
        ({"suite": "lighting"}, "of suite None, not lighting"),
        ({"episodes": 3}, "has more than 3 episodes"),
    ],
)
def test_a_file_of_other_episodes_is_refused_and_left_alone(
    undisturbed: Path, changed: dict[str, Any], problem: str
) -> None:
    before = undisturbed.read_bytes()
    asked = {"policy": "random", "env_id": LIFT, "episodes": 4, **changed}
    with pytest.raises(BadRecords, match=problem):
        evaluate_into(undisturbed, **asked, progress=False)
    assert undisturbed.read_bytes() == before


def test_episodes_of_other_code_or_of_a_file_that_does_not_tell_are_refused(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent.parquet"
    write_records(read_records(undisturbed), silent, None)
    with pytest.raises(BadRecords, match="does not record what its episodes depend on"):
        evaluate_into(silent, "random", LIFT, 4, progress=False)
    monkeypatch.setattr("octo_bench.records.provenance.code_sha256", lambda: "0" * 64)
    with pytest.raises(BadRecords, match="was measured with other code"):
        evaluate_into(undisturbed, "random", LIFT, 4, progress=False)


def test_more_episodes_are_added_and_those_with_an_error_are_repeated(
    undisturbed: Path, tmp_path: Path
) -> None:
    out, whole = tmp_path / "episodes.parquet", read_records(undisturbed)
    kept = [*whole[:2], dataclasses.replace(whole[2], error="MemoryError")]
    write_records(kept, out, resuming.read_provenance(undisturbed))
    assert evaluate_into(out, "random", LIFT, 4, progress=False).found == 2
    assert determined(read_records(out)) == determined(whole)


def test_a_damaged_partial_file_is_begun_again(undisturbed: Path, tmp_path: Path) -> None:
    (tmp_path / ".episodes.parquet.part").write_bytes(b"PAR1 half of it")
    out = tmp_path / "episodes.parquet"
    assert evaluate_into(out, "random", LIFT, 1, progress=False).found == 0
    assert determined(read_records(out)) == determined(read_records(undisturbed))[:1]


def test_records_name_the_weights_and_the_head(undisturbed: Path) -> None:
    (record,) = {(r.policy_fingerprint, r.head) for r in read_records(undisturbed)}
    assert record == ("random", "")
    assert len(policy_fingerprint("octo-tiny")) == 64
