"""Replaying a recorded episode: the film of the one that was counted, and whether it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.reading_films import frames_of
from helpers.synthetic import tiny_config, toy_demonstrations
from octo_bench.agents.inference import Inference
from octo_bench.checkpoints.folder import write_policy
from octo_bench.cli import run
from octo_bench.cli.exits import FAILED
from octo_bench.demonstrations.windows import statistics_of
from octo_bench.errors import BadFile, BadRecords, OctoBenchError, UnknownName
from octo_bench.models.octo import Octo
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import EpisodeRecord, Labels, read_records, write_records
from octo_bench.rollouts.evaluate import evaluate
from octo_bench.studies.replaying import choose, find_records, policy_of

LIFT = "octo_bench/Lift-Panda-v1"
KEY = "0123456789abcdef" * 4
SEED = 3


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study: the scripted expert's episodes and those of a "fine-tuned" policy."""
    folder = tmp_path_factory.mktemp("study")
    torch.manual_seed(0)
    policy = folder / "cells" / KEY[:16] / "policy"
    statistics = statistics_of([toy_demonstrations()], "bounds")
    write_policy(policy, Octo(tiny_config(window=2, image_size=96)), 4, statistics, "# card\n")
    tuned = evaluate(
        str(policy),
        LIFT,
        2,
        study_seed=SEED,
        labels=Labels(demos=50),
        inference=Inference(execute=2),
        progress=False,
    )
    expert = evaluate("expert", LIFT, 3, study_seed=SEED, suite="lighting", progress=False)
    records = [*expert, *(replace(record, policy="tiny") for record in tuned)]
    write_records(records, folder / "episodes.parquet", provenance_of(records, SEED))
    cell = {"policy": "tiny", "env_id": LIFT, "demos": 50, "draw": 0, "train_seed": 0, "key": KEY}
    result = {
        "workers": 1,
        "wall_seconds": 1.0,
        "process_seconds": {},
        "machine": {"processor": "one", "cores": 1, "python": "3.11"},
        "versions": {},
        "policies": {},
        "demonstrations": {},
        "cells": [{**cell, "training": None}],
    }
    (folder / "study_result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def records(study: Path) -> list[EpisodeRecord]:
    return read_records(study / "episodes.parquet")


def test_the_same_episode_is_filmed(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["replay", str(study), "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("2.mp4: success after ")
    assert said[1:] == [
        "initial_state_sha256: the same",
        "trajectory_sha256: the same",
        "outcome: the same",
    ]
    recorded = read_records(study / "episodes.parquet")[2]
    assert len(frames_of(tmp_path / "2.mp4")) == recorded.steps + 1


def test_a_fine_tuned_policy_is_found_and_asked_as_it_was(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(2)  # with which its actions would be others
    options = ["--policy", "tiny", "--out", str(tmp_path / "film.gif")]
    assert run(["replay", str(study / "episodes.parquet"), "1", *options]) == 0
    assert "trajectory_sha256: the same" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, trajectory_sha256="0" * 64), "trajectory_sha256: DIFFERS"),
        (lambda r: replace(r, steps=r.steps + 1), "outcome: DIFFERS"),
        (lambda r: replace(r, initial_state_sha256="0" * 64), "initial_state_sha256: DIFFERS"),
    ],
)
def test_another_episode_is_not_taken_for_it(
    records: list[EpisodeRecord],
    change: Callable[[EpisodeRecord], EpisodeRecord],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "records.parquet"
    kept = provenance_of(records[:1], SEED)
    older = replace(kept, versions={**kept.versions, "mujoco": "3.0.0"})
    write_records([change(records[0])], file, older)
    out = str(tmp_path / "film.gif")
    assert run(["replay", str(file), "0", "--out", out]) == FAILED
    printed = capsys.readouterr()
    assert said in printed.out
    assert "recorded: success after" in printed.err
    assert "measured with mujoco 3.0.0, here" in printed.err


def test_records_of_before_are_compared_by_what_they_have(
    records: list[EpisodeRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "records.parquet"
    write_records([replace(records[0], trajectory_sha256="")], file, None)
    assert run(["replay", str(file), "0", "--out", str(tmp_path / "film.gif")]) == 0
    assert "trajectory_sha256: not recorded" in capsys.readouterr().out


def test_the_choices_are_listed(records: list[EpisodeRecord]) -> None:
    path = Path("episodes.parquet")
    listed = (
        r"2 episodes of number 1; choose one by --policy \(expert, tiny\), "
        r'--head \("", diffusion\), --demos \(0, 50\), --suite \(lighting, ""\), '
        r'--level \(1, 0\), --inference \("", execute=2\)$'
    )
    with pytest.raises(OctoBenchError, match=listed):
        choose(records, 1, {}, path)
    assert choose(records, 1, {"demos": 50, "policy": None}, path).policy == "tiny"
    with pytest.raises(BadRecords, match="has no episode 9; choose one from 0 to 2"):
        choose(records, 9, {}, path)
    with pytest.raises(BadRecords, match="no episode 1 with --demos 51; choose --demos from 0, 50"):
        choose(records, 1, {"demos": 51}, path)
    with pytest.raises(BadRecords, match="more than once"):
        choose([records[0], records[0]], 0, {}, path)


def test_records_are_found_by_name_folder_and_file(study: Path) -> None:
    file = study / "episodes.parquet"
    assert find_records(str(study)) == find_records(str(file)) == file
    assert find_records("quick").parts[-2:] == ("quick", "episodes.parquet")
    with pytest.raises(UnknownName, match="did you mean quick"):
        find_records("quik")


def test_a_policy_that_is_not_there_is_told_with_the_way_to_get_it(
    study: Path,
    records: list[EpisodeRecord],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tuned = records[-1]
    quick = tmp_path / "quick"  # as in a fresh clone: where the study has run, the policy is there
    quick.mkdir()
    for file in (each for each in find_records("quick").parent.iterdir() if each.is_file()):
        shutil.copy(file, quick)
    monkeypatch.setattr("octo_bench.studies.replaying.study_roots", lambda: (tmp_path,))
    missing = replace(tuned, policy="octo-tiny", env_id="octo_bench/Wipe-Panda-v1")
    with pytest.raises(
        BadFile, match=r"50 demonstrations is not available here; .*`octo-bench reproduce quick`"
    ):
        policy_of(missing, quick / "episodes.parquet")
    with pytest.raises(BadFile, match="lists no cell of this episode"):
        policy_of(replace(tuned, draw=1), study / "episodes.parquet")
    file = tmp_path / "alone.parquet"
    write_records([tuned], file, None)
    assert run(["replay", str(file), "1"]) == 2
    assert "is not in its study's folder" in capsys.readouterr().err
    cell = study / "cells" / KEY[:16]
    records_of_cell = cell / "0123456789abcdef" / "episodes-00000-00001.parquet"
    assert policy_of(tuned, records_of_cell) == str(cell / "policy")


def test_a_study_without_records_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.toml").touch()
    assert run(["replay", str(tmp_path), "0"]) == 2
    assert f"make them with `octo-bench reproduce {tmp_path}`" in capsys.readouterr().err
    assert run(["replay", str(tmp_path / "absent.parquet"), "0"]) == 2
    assert "absent.parquet: no such file" in capsys.readouterr().err
