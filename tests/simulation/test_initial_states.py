"""The bank of frozen initial states: what it holds, what episodes it starts, its errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from octo_bench.cli import run
from octo_bench.definitions.environments import environment, environments
from octo_bench.errors import BadInitialStates, UnknownInitialState, UnknownName
from octo_bench.files import sha256_file
from octo_bench.paths import definitions_root
from octo_bench.rollouts.evaluate import evaluate
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.initial_states import (
    FIRST_EVALUATION_SEED,
    FOLDER,
    SUMS,
    check_sums,
    environment_seed,
    find_bank,
    freeze,
)
from octo_bench.simulation.world import World

OWN = "octo_bench/Raise-Panda-v1"
OWN_FILE = "Raise-Panda.safetensors"


def forget() -> None:
    environments.cache_clear()
    find_bank.cache_clear()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of frozen states beside a task of one's own, four states of it frozen."""
    (tmp_path / "tasks").mkdir()
    shutil.copy(definitions_root() / "tasks" / "Lift.toml", tmp_path / "tasks" / "Raise.toml")
    monkeypatch.setenv("OCTO_BENCH_ENVS", str(tmp_path))
    forget()
    freeze([OWN], states=4, progress=False)
    yield tmp_path / FOLDER
    forget()


def list_sums(folder: Path) -> None:
    """Write the list of hashes again, for files that were changed on purpose."""
    lines = [f"{sha256_file(path)}  {path.name}\n" for path in folder.glob("*.safetensors")]
    (folder / SUMS).write_text("".join(lines))


def trajectory(env: OctoBenchEnvironment, start: dict) -> list[bytes]:
    """States and frames along 20 actions."""
    observation, _ = env.reset(**start)
    generator = np.random.default_rng(0)
    seen = []
    for step in range(21):
        if step:
            action = generator.uniform(-1, 1, env.action_space.shape)
            observation, *_ = env.step(action)
        seen += [env.world.scene().tobytes(), *(each.tobytes() for each in observation.values())]
    return seen


@pytest.mark.parametrize("pair", ["Lift-Panda", "PickPlaceCan-UR5e", "Door-Kinova3", "Wipe-IIWA"])
def test_a_frozen_state_starts_the_same_episode_as_its_seed(pair: str) -> None:
    env = OctoBenchEnvironment(pair)
    for number in (3, 199):
        from_seed = trajectory(env, {"seed": FIRST_EVALUATION_SEED + number})
        trajectory(env, {"seed": number})  # another episode comes in between
        frozen = trajectory(env, {"options": {"initial_state": number}})
        assert frozen == from_seed
    env.close()


def test_every_shipped_bank_is_intact_and_has_two_hundred_states() -> None:
    folder = definitions_root() / FOLDER
    check = check_sums(folder)
    assert check.problems == ()
    assert check.files == check.intact >= 60
    for path in folder.glob("*.safetensors"):
        assert len(load_file(path)["values"]) >= 200


def test_a_bank_comes_out_the_same_bit_for_bit(tmp_path: Path) -> None:
    names = ["Lift-Panda", "Wipe-UR5e"]
    assert freeze(names, tmp_path, workers=2, progress=False) == 2
    for name in names:
        shipped = definitions_root() / FOLDER / f"{name}.safetensors"
        assert (tmp_path / shipped.name).read_bytes() == shipped.read_bytes()


def test_a_freeze_goes_on_where_it_stopped(tmp_path: Path) -> None:
    names = ["Lift-Panda", "Lift-Kinova3", "Stack-Panda"]
    assert freeze(names, tmp_path, states=2, progress=False) == 3
    kept, spoilt, gone = (tmp_path / f"{name}.safetensors" for name in names)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (kept, spoilt, gone)}
    spoilt.write_bytes(b"half of it")
    gone.unlink()
    assert freeze(names, tmp_path, states=2, progress=False) == 2
    assert kept.stat().st_mtime_ns == before[kept][0]
    assert all(path.read_bytes() == before[path][1] for path in before)
    assert check_sums(tmp_path).problems == ()
    assert freeze(["Lift-Panda"], tmp_path, states=3, progress=False) == 1  # more are wanted


def test_every_bad_file_is_named_and_the_answer_is_no(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify"]) == 0
    assert f"{own}: 1 of 1 files of initial states" in capsys.readouterr().out
    shutil.copy(own / OWN_FILE, own / "Unlisted-Panda.safetensors")
    (own / OWN_FILE).write_bytes(b"other")
    (own / SUMS).write_text((own / SUMS).read_text() + f"{'0' * 64}  Gone-Panda.safetensors\n")
    assert run(["verify"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"{own}/{name}.safetensors" for name in ("Gone-Panda", "Raise-Panda", "Unlisted-Panda")
    ]


def test_evaluation_starts_from_the_bank_as_far_as_it_goes(own: Path) -> None:
    bank = load_file(own / OWN_FILE)
    bank["values"] = bank["values"][[2, 0]].copy()  # two states, not in the order of their seeds
    save_file(bank, own / OWN_FILE)
    list_sums(own)
    find_bank.cache_clear()
    world = World(environment(OWN))
    expected = []
    for number in (2, 0, 2):  # the third from its seed: the bank has two
        world.reset(FIRST_EVALUATION_SEED + number)
        expected.append(world.state_sha256())
    records = evaluate("expert", OWN, 3, progress=False)
    assert [record.initial_state_sha256 for record in records] == expected
    assert [record.env_seed for record in records] == [environment_seed(0, k) for k in range(3)]
    other = evaluate("expert", OWN, 1, study_seed=1, progress=False)
    assert other[0].initial_state_sha256 not in expected


def test_a_bank_that_is_not_what_was_frozen_is_refused(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = load_file(own / OWN_FILE)
    bank["values"][1, 0] += 1e-9
    save_file(bank, own / OWN_FILE)
    env = OctoBenchEnvironment(OWN, images=False)
    with pytest.raises(BadInitialStates, match=rf"{OWN_FILE}.* was changed.*freeze"):
        env.reset(options={"initial_state": 1})
    out = str(tmp_path / "out.parquet")
    assert run(["evaluate", "expert", OWN, "--episodes", "1", "--out", out]) == 2
    assert capsys.readouterr().err.startswith(f"error: {own / OWN_FILE}: ")
    (own / OWN_FILE).write_bytes(b"no safetensors")
    list_sums(own)
    with pytest.raises(BadInitialStates, match="is not a bank"):
        env.reset(options={"initial_state": 1})
    (own / SUMS).write_text("what a list\n")
    with pytest.raises(BadInitialStates, match=f"{SUMS}.*line 1"):
        env.reset(options={"initial_state": 1})
    (own / SUMS).write_text("")
    with pytest.raises(BadInitialStates, match="not listed"):
        env.reset(options={"initial_state": 1})
    (own / SUMS).unlink()
    assert run(["verify"]) == 2
    assert f"{own / SUMS}: no such file" in capsys.readouterr().err


def test_states_that_do_not_exist_are_said_so(own: Path) -> None:
    env = OctoBenchEnvironment(OWN, images=False)
    for number in (4, -1, "first", 1.0):
        with pytest.raises(UnknownInitialState, match="choose one of 0 to 3"):
            env.reset(options={"initial_state": number})
    with pytest.raises(UnknownName, match="did you mean initial_state"):
        env.reset(options={"inital_state": 1})
    (own / OWN_FILE).unlink()
    find_bank.cache_clear()
    with pytest.raises(UnknownInitialState, match=f"octo-bench freeze {OWN}"):
        env.reset(options={"initial_state": 0})


def test_freezing_an_unknown_environment_offers_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["freeze", "Lift-Panada", "--out", str(tmp_path / "bank")]) == 2
    assert "octo_bench/Lift-Panda-v1" in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()
