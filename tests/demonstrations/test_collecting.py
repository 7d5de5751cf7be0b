"""Collecting demonstrations: the layout, what is kept, and what happens when it is cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from octo_bench.cli import run
from octo_bench.cli.exits import TERMINATED
from octo_bench.definitions.environments import HOLD_STEPS, Disturbance, environment
from octo_bench.demonstrations.attempts import attempt
from octo_bench.demonstrations.collecting import collect
from octo_bench.demonstrations.dataset import read_demonstrations
from octo_bench.errors import BadDemonstrations, UnknownName
from octo_bench.simulation.world import World

LIFT = "octo_bench/Lift-Panda-v1"
ARMS = ("Panda", "IIWA", "Kinova3", "XArm7")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demonstrations") / "lift.hdf5"
    summary = collect(LIFT, 3, out, first_seed=5, progress=False)
    assert summary.kept == 3
    return out


def contents(path: Path) -> dict[str, np.ndarray]:
    """Every data set of a file."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file["data"].visititems(
            lambda name, item: found.update({name: item[()]} if hasattr(item, "shape") else {})
        )
    return found


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("task", ["Lift", "Stack"])
def test_the_demonstrator_succeeds_despite_noise(task: str, arm: str) -> None:
    results = [attempt(f"octo_bench/{task}-{arm}-v1", seed) for seed in (21, 22)]
    assert all(result.success for result in results)
    for result in results:  # it holds still after the first success
        assert result.steps == result.first_success_step + HOLD_STEPS
        end = result.actions[-HOLD_STEPS:]
        assert not end[:, :6].any() and len(set(end[:, 6])) == 1
        assert np.array_equal(end, result.executed[-HOLD_STEPS:])


def test_the_file_has_robomimics_layout(collected: Path) -> None:
    with h5py.File(collected) as file:
        data = file["data"]
        assert json.loads(data.attrs["env_args"])["env_name"] == "Lift"
        assert data.attrs["total"] == sum(demo.attrs["num_samples"] for demo in data.values())
        for demo in data.values():
            steps = demo.attrs["num_samples"]
            assert demo.attrs["model_file"].startswith("<mujoco")
            assert demo["actions"].shape == (steps, 7)
            assert demo["states"].shape[0] == steps
            assert demo["obs/image_primary"].shape == (steps, 96, 96, 3)
            assert demo["obs/proprio"].shape == (steps, 11)
            rewards, dones = demo["rewards"][()], demo["dones"][()]
            assert rewards.shape == dones.shape == (steps,)
            assert not rewards[: -HOLD_STEPS - 1].any() and rewards[-HOLD_STEPS - 1 :].all()
            assert not dones[:-1].any() and dones[-1] == 1


def test_what_was_executed_differs_from_the_clean_action(collected: Path) -> None:
    with h5py.File(collected) as file:
        demo = file["data/demo_0"]
        difference = demo["actions_executed"][()] - demo["actions"][()]
    declared = environment(LIFT).task.disturbance
    inner = np.abs(difference) < 0.9  # what is executed is clipped
    for entries, deviation in (
        (slice(0, 3), declared.translation),
        (slice(3, 6), declared.rotation),
    ):
        spread = difference[:, entries][inner[:, entries]].std()
        assert 0.6 * deviation < spread < 1.3 * deviation
    assert np.abs(difference[:, 6]).max() == 0


def test_executed_actions_replay_to_success_from_the_first_state(collected: Path) -> None:
    world = World(environment(LIFT))
    with h5py.File(collected) as file:
        demo = file["data/demo_1"]
        world.reset(int(demo.attrs["seed"]))
        np.testing.assert_array_equal(world.state(), demo["states"][0])
        for action in demo["actions_executed"]:
            world.step(action)
    assert world.succeeded()


def test_collecting_goes_on_where_it_was_killed(collected: Path, tmp_path: Path) -> None:
    out = tmp_path / "lift.hdf5"
    program = (
        "from pathlib import Path\n"
        "from octo_bench.demonstrations.collecting import collect\n"
        f"collect('{LIFT}', 3, Path('{out}'), first_seed=5, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    parts = tmp_path / ".lift.hdf5.parts"
    for _ in range(600):
        if any(parts.glob("*.hdf5")):
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert not out.exists()
    collect(LIFT, 3, out, first_seed=5, workers=2, progress=False)
    assert out.read_bytes() == collected.read_bytes()
    assert list(tmp_path.iterdir()) == [out]


def test_a_suite_changes_how_demonstrations_look_and_nothing_else(
    collected: Path, tmp_path: Path
) -> None:
    out = tmp_path / "look.hdf5"
    collect(LIFT, 1, out, first_seed=5, suite="training", level=2, progress=False)
    plain, varied = (read_demonstrations(path, 1).episodes[0] for path in (collected, out))
    np.testing.assert_array_equal(varied.actions, plain.actions)
    np.testing.assert_array_equal(varied.proprio, plain.proprio)
    for before, after in (
        (plain.image_primary, varied.image_primary),
        (plain.image_wrist, varied.image_wrist),
    ):
        assert np.abs(before.astype(int) - after).mean() > 2
    with pytest.raises(BadDemonstrations, match=r"holds .*'training' at level 2 from seed 5"):
        collect(LIFT, 1, out, first_seed=5, progress=False)
    with pytest.raises(UnknownName, match="training"):
        collect(LIFT, 1, out, first_seed=5, suite="trainning", progress=False)


def test_a_demonstrator_can_be_left_undisturbed(collected: Path, tmp_path: Path) -> None:
    out = tmp_path / "calm.hdf5"
    collect(LIFT, 1, out, first_seed=5, disturbance=Disturbance(0, 0), progress=False)
    with h5py.File(out) as file:
        demo = file["data/demo_0"]
        np.testing.assert_array_equal(demo["actions_executed"], demo["actions"])
    with pytest.raises(BadDemonstrations, match="disturbed by 0 and 0; delete it"):
        collect(LIFT, 2, out, first_seed=5, progress=False)


def test_mapped_images_are_those_of_the_file(collected: Path, tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    path.write_bytes(collected.read_bytes())
    for demos, draw in ((3, 0), (1, 1), (1, 2)):
        read = read_demonstrations(path, demos, draw)
        mapped = read_demonstrations(path, demos, draw, mapped=True)
        for one, other in zip(read.episodes, mapped.episodes, strict=True):
            assert one.seed == other.seed
            np.testing.assert_array_equal(one.image_primary, other.image_primary)
            np.testing.assert_array_equal(one.image_wrist, other.image_wrist)
        assert len(list(tmp_path.glob(".*.frames"))) == 1
        del mapped, one, other
        assert not list(tmp_path.glob(".*.frames"))


def test_the_file_declares_its_grippers(collected: Path, tmp_path: Path) -> None:
    assert read_demonstrations(collected).grippers == (6,)
    copy = Path(shutil.copy(collected, tmp_path / "copy.hdf5"))
    with h5py.File(copy, "r+") as file:
        file["data"].attrs["grippers"] = "[0, 6]"
    assert read_demonstrations(copy).grippers == (0, 6)
    with h5py.File(copy, "r+") as file:
        file["data"].attrs["grippers"] = "[7]"
    with pytest.raises(BadDemonstrations, match="values that are not entries of 7-entry actions"):
        read_demonstrations(copy)
    with h5py.File(copy, "r+") as file:
        del file["data"].attrs["grippers"]  # as in older files
    assert read_demonstrations(copy).grippers == (6,)
    with h5py.File(copy, "r+") as file:
        file["data"].attrs["env_id"] = "my_lab/Pour-UR10-v3"
    with pytest.raises(BadDemonstrations, match=r"which entries .* are grippers; set"):
        read_demonstrations(copy)


def test_a_file_of_something_else_is_refused(collected: Path, tmp_path: Path) -> None:
    with pytest.raises(BadDemonstrations, match="from seed 5"):
        collect(LIFT, 4, collected, first_seed=6, progress=False)
    text = tmp_path / "notes.hdf5"
    text.write_text("not HDF5")
    with pytest.raises(BadDemonstrations, match=r"notes\.hdf5"):
        read_demonstrations(text)
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(collected.read_bytes()[: collected.stat().st_size // 2])
    with pytest.raises(BadDemonstrations, match="cut off"):
        read_demonstrations(cut)
    with pytest.raises(BadDemonstrations, match="3 demonstrations, 9 were asked for"):
        read_demonstrations(collected, 9)
    old = tmp_path / "old.hdf5"
    old.write_bytes(collected.read_bytes())
    with h5py.File(old, "r+") as file:
        entries = file["data/demo_0/obs/proprio"][:, :10]
        del file["data/demo_0/obs/proprio"]
        file["data/demo_0/obs/proprio"] = entries
    with pytest.raises(BadDemonstrations, match="has 10 entries of proprioception, 11 an arm"):
        read_demonstrations(old)
    with pytest.raises(UnknownName, match="Lift-Panda"):
        collect("Lift-Panada", 1, tmp_path / "never.hdf5", progress=False)
    assert not (tmp_path / "never.hdf5").exists()


def test_a_killed_process_costs_nothing(collected: Path, tmp_path: Path) -> None:
    out = tmp_path / "lift.hdf5"
    with _collecting(out, 3) as process:
        wait_for(lambda: len(children(process.pid)) == 2)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert process.wait(120) == 0
    whole, again = contents(collected), contents(out)
    assert whole.keys() == again.keys()
    assert all(np.array_equal(value, again[name]) for name, value in whole.items())
    assert list(tmp_path.iterdir()) == [out]


def test_two_collections_of_one_file_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lift.hdf5"
    with _collecting(out, 100) as process:
        wait_for((tmp_path / ".lift.hdf5.lock").exists)
        assert run(["collect", LIFT, "--demos", "100", "--out", str(out)]) == 2
        assert f"{out}: another process is writing it" in capsys.readouterr().err
        process.terminate()
        assert process.wait(10) == TERMINATED


def test_an_interrupt_in_the_middle_of_a_write_works_the_first_time(
    collected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 calls back into Python, which drops what is raised there."""
    out = tmp_path / "lift.hdf5"
    write = h5py.Group.create_dataset

    def interrupted(*arguments: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return write(*arguments, **options)

    monkeypatch.setattr(h5py.Group, "create_dataset", interrupted)
    with pytest.raises(KeyboardInterrupt):
        collect(LIFT, 3, out, first_seed=5, progress=False)
    monkeypatch.undo()
    assert len(list(tmp_path.glob(".lift.hdf5.parts/*.hdf5"))) == 1  # it was written whole
    collect(LIFT, 3, out, first_seed=5, progress=False)
    whole, again = contents(collected), contents(out)
    assert all(np.array_equal(value, again[name]) for name, value in whole.items())


def _collecting(out: Path, demos: int) -> subprocess.Popen[bytes]:
    """`octo-bench collect` with two workers."""
    options = ["--demos", str(demos), "--seed", "5", "--workers", "2", "--out", str(out)]
    program = "from octo_bench.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "collect", LIFT, *options], stderr=subprocess.DEVNULL
    )


def children(pid: int) -> list[int]:
    """The processes that a process has started to collect with it."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            parent = int(file.with_name("stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in file.read_bytes():
                found.append(int(file.parent.name))
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
