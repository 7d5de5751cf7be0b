"""Embodiments and tasks of one's own, and what is said of a file that is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from octo_bench.cli import run
from octo_bench.definitions.environments import environment, environment_ids, environments
from octo_bench.errors import BadDefinition
from octo_bench.paths import definitions_root
from octo_bench.simulation.world import World


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for kind in ("embodiments", "tasks"):
        (tmp_path / kind).mkdir()
    monkeypatch.setenv("OCTO_BENCH_ENVS", str(tmp_path))
    environments.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    environments.cache_clear()


def _copied(own: Path, kind: str, name: str, old: str, new: str) -> Path:
    path = own / kind / f"My{name}.toml"
    text = (definitions_root() / kind / f"{name}.toml").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("kind", "name", "old", "new", "said"),
    [
        ("embodiments", "Panda", "tool_yaw = 90.0\n", "", "'arms[0].tool_yaw' is missing"),
        ("embodiments", "Panda", "tool_yaw", "tool_yow", "did you mean 'tool_yaw'?"),
        ("embodiments", "Panda", "closed = 0.0085", 'closed = "no"', "'arms[0].gripper.closed'"),
        ("tasks", "Lift", "horizon = 100\n", "", "'horizon' is missing"),
        ("tasks", "Lift", "fovy = 40.0", "fov = 40.0", "did you mean 'fovy'?"),
        ("tasks", "Lift", '"grasp"', '"grab"', "use one of"),
        ("tasks", "Lift", "horizon = 100", "horizon = = 100", "fix its syntax"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(
    own: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    name: str,
    old: str,
    new: str,
    said: str,
) -> None:
    path = _copied(own, kind, name, old, new)
    assert run(["envs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert said in line


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("horizon = 100\n", 'horizon = 100\narms = "two"\n', "'arms' must be int"),
        ("horizon = 100\n", "horizon = 100\narms = 3\n", "'arms' must be 1 or 2"),
        ("horizon = 100", f"horizon = {10**30}", "a number in it is too large"),
        ("horizon = 100", "horizon = -1", "'horizon' must lie between 1 and"),
        ("horizon = 100\n", f"horizon = 100\narms = {'[' * 20_000}\n", "nested too deeply"),
        ("fovy = 40.0", "fovy = nan", "nan is not a finite number"),
    ],
)
def test_a_bad_task_of_ones_own_costs_nothing_but_itself(
    own: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    path = _copied(own, "tasks", "Lift", old, new)
    assert "octo_bench/Lift-Panda-v1" in environment_ids()
    assert environment("Lift-Panda").task.name == "Lift"
    with pytest.raises(BadDefinition, match=f"MyLift.toml: .*{said}"):
        environment("MyLift-Panda")
    assert run(["envs"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line


@pytest.mark.parametrize("folder", ["nope", "empty", "file"])
def test_a_folder_of_ones_own_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("OCTO_BENCH_ENVS", str(tmp_path / folder))
    environments.cache_clear()
    assert run(["envs"]) == 2
    assert f"{tmp_path / folder}: " in capsys.readouterr().err
    monkeypatch.undo()
    environments.cache_clear()


def test_what_is_wrong_with_an_arm_names_its_own_file(own: Path) -> None:
    path = _copied(own, "embodiments", "Panda", "tool_yaw", "tool_yaw")
    text = path.read_text(encoding="utf-8")
    joints = re.search(r"initial_joints = \[([^\]]*)\]", text)
    for changed, said in (
        (text.replace(joints[1], "0.0, 0.1"), "'initial_joints' has 2 entries, not 7"),
        (text.replace("left_pads = [", 'left_pads = ["nothing", '), "no geom 'nothing'"),
        (text.replace('robots = ["Panda"]', 'robots = ["Pandda"]'), "robosuite has no 'Pandda'"),
    ):
        assert changed != text
        path.write_text(changed, encoding="utf-8")
        environments.cache_clear()
        with pytest.raises(BadDefinition, match=f"{path}: {said}"):
            World(environment("Lift-MyPanda"))


def test_an_arm_of_ones_own_gets_every_task_for_one_arm(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(definitions_root() / "embodiments" / "Panda.toml", own / "embodiments/Mine.toml")
    assert run(["envs", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    mine = [row for row in rows.values() if row["embodiment"] == "Mine"]
    assert {row["task"] for row in mine} == {
        row["task"] for row in rows.values() if row["embodiment"] == "Panda"
    }
    assert all(row["supported"] is None and "not measured" in row["reason"] for row in mine)
    assert {"id", "task", "horizon", "action_size", "demonstrator_success"} <= set(mine[0])


def test_action_sizes_follow_the_arms_and_the_base() -> None:
    sizes = {each.embodiment.name: each.action_size for each in environments()}
    assert sizes["Panda"] == sizes["Jaco"] == 7
    assert sizes["TwoPandas"] == sizes["Baxter"] == 14
    assert sizes["PandaOmron"] == 12
