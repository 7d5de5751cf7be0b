"""The gate on real rollouts, by its command: a checkpoint against itself, and a spoilt copy."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from octo_bench.checkpoints.config import find_policy
from octo_bench.checkpoints.folder import read_policy, write_policy
from octo_bench.cli import run
from octo_bench.comparison.golden import golden_path
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import read_provenance, read_records, write_records
from octo_bench.rollouts.evaluate import evaluate

POLICY, LIFT = "octo-tiny", "octo_bench/Lift-Panda-v1"
EPISODES = 44
"""A little more than "no worse" takes of a policy that does the same."""
NOISE = 0.5
"""Of each tensor's standard deviation: success falls from 86 % to about a third."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def baseline(folder: Path) -> Path:
    records = evaluate(POLICY, LIFT, EPISODES, progress=False)
    write_records(records, folder / "baseline.parquet", provenance_of(records, 0))
    return folder / "baseline.parquet"


@pytest.fixture(scope="module")
def golden(baseline: Path) -> Path:
    assert run(["regress", POLICY, "--baseline", str(baseline), "--write-golden"]) == 0
    return golden_path(baseline)


@pytest.fixture(scope="module")
def spoilt(folder: Path) -> Path:
    """A copy of the policy with noise in its weights."""
    policy = read_policy(find_policy(POLICY))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in policy.model.parameters():
            if tensor.numel() > 1:
                noise = torch.randn(tensor.shape, generator=generator)
                tensor += NOISE * tensor.std() * noise
    write_policy(
        folder / "spoilt", policy.model, policy.config.execute, policy.statistics, "# spoilt\n"
    )
    return folder / "spoilt"


def gate(policy: object, baseline: Path, *options: object) -> int:
    arguments = ["regress", policy, "--baseline", baseline, "--workers", 1, *options]
    return run([str(each) for each in arguments])


def test_a_checkpoint_against_itself_passes(
    baseline: Path, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    junit = tmp_path / "junit.xml"
    assert gate(POLICY, baseline, "--junit", junit, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    (place,) = said["environments"]
    assert said["verdict"] == "no worse"
    assert place["same_courses"] == place["pairs"] == said["pairs"] < EPISODES
    assert said["flips"] == []
    assert said["golden"]["agrees"] and said["golden"]["same_files"]
    assert ElementTree.parse(junit).getroot().get("failures") == "0"


def shape_of_film(path: Path) -> list[int]:
    """Read in another process: imageio cannot start FFmpeg where many environments are open."""
    program = f"import imageio.v3; print(*imageio.v3.imread({str(path)!r}).shape)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    return [int(size) for size in said.stdout.split()]


def test_a_spoilt_copy_fails(
    baseline: Path, golden: Path, spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = tmp_path / "new.parquet"
    assert gate(spoilt, baseline, "--out", out, "--json") == 1
    said = json.loads(capsys.readouterr().out)
    (place,) = said["environments"]
    assert said["verdict"] == "worse"
    assert place["difference"] < -0.2
    assert not said["golden"]["agrees"] and not said["golden"]["same_files"]
    assert len(read_records(out)) >= said["pairs"]
    assert read_provenance(out) == read_provenance(baseline)


def test_the_flipped_episodes_and_no_others_are_filmed(
    baseline: Path, spoilt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = tmp_path / "films"
    soon = ["--margin", 0.5, "--alpha", 0.2]  # a verdict after a few episodes: few films
    assert gate(spoilt, baseline, *soon, "--films", films, "--baseline-policy", POLICY) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if " -> " in line]
    flipped = [int(line.partition(" episode ")[2].partition(":")[0]) for line in lines]
    assert sorted(file.name for file in films.iterdir()) == [
        f"Lift-Panda-v1_{episode:03d}.mp4" for episode in sorted(flipped)
    ]
    first = flipped[0]
    steps = read_records(baseline)[first].steps  # a failure lasts longer: it is the horizon's
    length, *frame = shape_of_film(films / f"Lift-Panda-v1_{first:03d}.mp4")
    assert length > steps
    assert frame == [288, 512, 3]  # both sides


def test_golden_answers_alone_are_enough_only_where_all_agree(
    baseline: Path, golden: Path, spoilt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate(POLICY, baseline, "--golden-only") == 0
    assert "16 of 16 agree" in capsys.readouterr().out
    assert gate(spoilt, baseline, "--golden-only") == 3
    assert "Its actions differ" in capsys.readouterr().out
    assert gate("octo-tiny-categorical", baseline, "--golden-only") == 3
    assert "cannot be compared, its head draws other noise" in capsys.readouterr().out


def test_golden_answers_tell_a_changed_scaling(
    baseline: Path, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in the weights: what an export can get wrong."""
    shutil.copytree(find_policy(POLICY), tmp_path / "copy")
    statistics = tmp_path / "copy" / "statistics.json"
    table = json.loads(statistics.read_text())
    scales = next(iter(table["actions"].values()))["scale"]
    scales[0] *= 1.001
    for actions in table["actions"].values():
        actions["scale"] = scales
    statistics.write_text(json.dumps(table))
    assert gate(tmp_path / "copy", baseline, "--golden-only") == 3
    assert "Its actions differ" in capsys.readouterr().out


def mistake(capsys: pytest.CaptureFixture[str], policy: object, baseline: Path, *more: str) -> str:
    """The one line that a gate which cannot be run gives."""
    capsys.readouterr()
    assert gate(policy, baseline, *more) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def truncated(baseline: Path, folder: Path) -> Path:
    path = folder / "truncated.parquet"
    path.write_bytes(baseline.read_bytes()[:-100])
    return path


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"text", "is not a readable Parquet file")]
)
@pytest.mark.parametrize("command", ["regress", "compare", "bisect"])
def test_a_broken_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes, message: str
) -> None:
    path = tmp_path / "broken.parquet"
    path.write_bytes(content)
    ways = {"compare": [str(path)] * 2}
    assert run([command, *ways.get(command, ["random", "--baseline", str(path)])]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {path}: {message}")
    assert err.count("\n") == 1


def test_a_truncated_a_foreign_and_a_missing_file_are_one_line(
    truncated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is not a readable Parquet file" in mistake(capsys, POLICY, truncated)
    foreign = tmp_path / "foreign.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"episode": [1]}), foreign)
    assert "has no column" in mistake(capsys, POLICY, foreign)
    assert "no such file" in mistake(capsys, POLICY, tmp_path / "absent.parquet")


def test_another_policy_or_environment_than_there_is_is_one_line(
    baseline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "did you mean octo-tiny" in mistake(capsys, "octo-tinny", baseline)
    assert "no episodes with env_id" in mistake(capsys, POLICY, baseline, "--env", "Stack-Panda")
    assert "has no weights" in mistake(capsys, "octo-small-1.5", baseline)


def test_a_policy_of_another_action_size_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = evaluate("expert", "TwoArmHandover-TwoPandas", 2, progress=False)
    path = tmp_path / "two_arms.parquet"
    write_records(records, path, provenance_of(records, 0))
    assert "has actions of 7 entries" in mistake(capsys, POLICY, path)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("version of torch", {"versions": {"torch": "0.1"}}),
        (f"definition of {LIFT}", {"definitions": {LIFT: "0" * 64}}),
    ],
)
def test_other_versions_or_definitions_are_refused_with_the_key_named(
    baseline: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    changes: dict[str, dict[str, str]],
) -> None:
    kept = read_provenance(baseline)
    merged = {name: {**getattr(kept, name), **values} for name, values in changes.items()}
    path = tmp_path / "other.parquet"
    write_records(read_records(baseline), path, dataclasses.replace(kept, **merged))
    assert key in mistake(capsys, POLICY, path)


def test_other_initial_states_are_refused_with_the_key_named(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        dataclasses.replace(record, initial_state_sha256="0" * 64)
        for record in read_records(baseline)[:8]
    ]
    path = tmp_path / "other.parquet"
    write_records(records, path, read_provenance(baseline))
    assert gate("random", path) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "differ in initial_state_sha256 of" in error


def broken_golden(kind: str, path: Path) -> None:
    match kind:
        case "no arrays":
            path.write_bytes(b"nothing")
        case "objects":
            np.savez(path, description=np.array([{}], dtype=object))
        case "another archive":
            np.savez(path, weights=np.zeros(3))


@pytest.mark.parametrize("kind", ["absent", "no arrays", "objects", "another archive"])
def test_broken_golden_answers_are_one_line(
    baseline: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    copy = Path(shutil.copy(baseline, tmp_path / "copy.parquet"))
    broken_golden(kind, golden_path(copy))
    line = mistake(capsys, POLICY, copy, "--golden-only")
    assert line.startswith(f"error: {golden_path(copy)}: ")
    assert "--write-golden" in line
