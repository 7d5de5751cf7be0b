"""Perturbed variants change what is seen or said, by their seed alone, and never the physics."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import gymnasium
import numpy as np
import pyarrow.parquet
import pytest

import octo_bench  # noqa: F401  (registers the environments)
from octo_bench.cli import run
from octo_bench.definitions.environments import environment
from octo_bench.definitions.suites import find_level, suites
from octo_bench.errors import BadDefinition, UnknownLevel, UnknownName
from octo_bench.records.record import read_records
from octo_bench.rollouts.evaluate import evaluate
from octo_bench.simulation.environment import OctoBenchEnvironment

STACK = "octo_bench/Stack-Panda-v1"
SEEN = ("camera", "lighting", "texture", "distractors")


def rollout(suite: str = "", level: int = 1, seed: int = 3) -> tuple[dict, str, str]:
    """The first observation, the instruction, and the hash of the state some steps on."""
    with closing(OctoBenchEnvironment(STACK, suite=suite, level=level)) as env:
        observation, info = env.reset(seed=seed)
        for _ in range(3):
            env.step(np.full(7, 0.5))
        return observation, info["instruction"], env.world.state_sha256()


def changed(a: dict, b: dict, camera: str = "image_primary") -> float:
    """Mean absolute difference of two frames, of 255."""
    return float(np.abs(a[camera].astype(int) - b[camera].astype(int)).mean())


@pytest.fixture(scope="module")
def declared() -> tuple[dict, str, str]:
    return rollout()


def test_every_suite_has_three_levels() -> None:
    names = {suite.name for suite in suites()}
    assert {*SEEN, "wrist_camera", "training", "paraphrases"} <= names
    assert all(len(suite.levels) >= 3 for suite in suites())


@pytest.mark.parametrize("suite", SEEN)
def test_a_suite_changes_the_frames_and_not_the_physics(
    suite: str, declared: tuple[dict, str, str]
) -> None:
    frames, instruction, state = rollout(suite, 3)
    again, _, _ = rollout(suite, 3)
    assert (instruction, state) == declared[1:]
    assert changed(frames, declared[0]) > 1
    np.testing.assert_array_equal(frames["proprio"], declared[0]["proprio"])
    for camera in ("image_primary", "image_wrist"):
        np.testing.assert_array_equal(frames[camera], again[camera])


@pytest.mark.parametrize("suite", SEEN)
def test_a_higher_level_changes_more(suite: str, declared: tuple[dict, str, str]) -> None:
    first, third = (rollout(suite, level)[0] for level in (1, 3))
    assert 0 < changed(first, declared[0]) < changed(third, declared[0])


@pytest.mark.parametrize("suite", SEEN)
def test_another_episode_is_perturbed_in_another_way(suite: str) -> None:
    with closing(OctoBenchEnvironment(STACK, suite=suite, level=3)) as env:
        frames = []
        for seed in (0, 1, 0):
            env.reset(seed=seed)
            frames.append(env.reset(seed=seed)[0]["image_primary"])
    np.testing.assert_array_equal(frames[0], frames[2])
    assert (frames[0] != frames[1]).any()


def test_the_wrist_camera_moves_and_the_front_one_does_not(
    declared: tuple[dict, str, str],
) -> None:
    first, third = (rollout("wrist_camera", level)[0] for level in (1, 3))
    assert changed(first, declared[0]) == changed(third, declared[0]) == 0
    wrist = [changed(frames, declared[0], "image_wrist") for frames in (first, third)]
    assert 0 < wrist[0] < wrist[1]


def test_paraphrases_are_held_out_ones(declared: tuple[dict, str, str]) -> None:
    task = environment(STACK).task
    frames, instruction, state = rollout("paraphrases", 1)
    assert instruction in task.held_out_paraphrases
    assert instruction not in (task.instruction, *task.paraphrases)
    assert state == declared[2]
    assert changed(frames, declared[0]) == 0
    _, wrapped, _ = rollout("paraphrases", 3)
    assert instruction in wrapped
    assert len(wrapped) > len(instruction)


def test_gymnasium_makes_a_perturbed_environment() -> None:
    env = gymnasium.make(STACK, suite="camera", level=2, render_mode="rgb_array", images=False)
    plain = gymnasium.make(STACK, render_mode="rgb_array", images=False)
    for each in (env, plain):
        each.reset(seed=0)
    assert (env.render() != plain.render()).any()  # the film is perturbed as well
    env.close()
    plain.close()


def test_records_name_the_suite(tmp_path: Path) -> None:
    out = tmp_path / "episodes.parquet"
    arguments = ["evaluate", "expert", STACK, "--episodes", "2", "--out", str(out)]
    assert run([*arguments, "--suite", "paraphrases", "--level", "2"]) == 0
    perturbed, own = read_records(out), evaluate("expert", STACK, 2, progress=False)
    assert {(record.suite, record.level) for record in perturbed} == {("paraphrases", 2)}
    assert {(record.suite, record.level) for record in own} == {("", 0)}
    states = [[record.initial_state_sha256 for record in records] for records in (perturbed, own)]
    assert states[0] == states[1]


def test_records_without_the_columns_are_of_no_suite(tmp_path: Path) -> None:
    out = tmp_path / "episodes.parquet"
    assert run(["evaluate", "expert", STACK, "--episodes", "1", "--out", str(out)]) == 0
    table = pyarrow.parquet.read_table(out).drop_columns(["suite", "level"])
    pyarrow.parquet.write_table(table, out)
    (record,) = read_records(out)
    assert (record.suite, record.level) == ("", 0)


def test_what_is_not_declared_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnknownName, match=r"suite 'camra'; did you mean camera"):
        OctoBenchEnvironment(STACK, suite="camra")
    with pytest.raises(UnknownLevel, match="'camera' has no level 4; use 1 to 3"):
        find_level("camera", 4)
    out = str(tmp_path / "film.png")
    assert run(["watch", "expert", STACK, "--suite", "camera", "--level", "0", "--out", out]) == 2
    assert capsys.readouterr().err == "error: suite 'camera' has no level 0; use 1 to 3\n"


def test_a_suite_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "suites"
    folder.mkdir()
    own = folder / "dusk.toml"
    own.write_text(
        'description = "dark"\n[[levels]]\nlight = { intensity = 0.5, turn = 0.0, tint = 0.0 }\n'
    )
    monkeypatch.setenv("OCTO_BENCH_ENVS", str(tmp_path))
    suites.cache_clear()
    assert find_level("dusk", 1).light.intensity == 0.5
    own.write_text('description = "dark"\n[[levels]]\nlight = { intensty = 0.5 }\n')
    suites.cache_clear()
    with pytest.raises(BadDefinition, match=r"dusk\.toml.*intensty.*did you mean 'intensity'"):
        suites()
    monkeypatch.undo()
    suites.cache_clear()
