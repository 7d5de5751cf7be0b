"""Demonstration files of each action size replay to success, and robomimic reads them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import h5py
import numpy as np
import pytest
import torchvision  # noqa: F401  (before anything is drawn: see octo_bench/agents/folder.py)

from octo_bench.cli import run
from octo_bench.demonstrations.collecting import collect
from octo_bench.demonstrations.playback import replay
from octo_bench.errors import BadDemonstrations

SIZES = {"Lift-Panda": 7, "Lift-PandaOmron": 12, "TwoArmLift-TwoPandas": 14}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("demonstrations")
    for pair in SIZES:
        collect(pair, 2, folder / f"{pair}.hdf5", progress=False)
    return {pair: folder / f"{pair}.hdf5" for pair in SIZES}


@pytest.mark.parametrize("pair", SIZES)
def test_demonstrations_replay_to_success_from_their_recorded_states(
    pair: str, files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    replays = replay(files[pair], progress=False)
    assert len(replays) == 2
    assert all(each.success and each.agrees_until == each.steps > 10 for each in replays)
    assert run(["verify", str(files[pair])]) == 0


@pytest.mark.parametrize("pair", SIZES)
def test_robomimics_data_set_reads_them(pair: str, files: dict[str, Path]) -> None:
    pytest.importorskip("robomimic")
    from robomimic.utils.dataset import SequenceDataset
    from robomimic.utils.file_utils import get_shape_metadata_from_dataset
    from robomimic.utils.obs_utils import initialize_obs_utils_with_obs_specs

    with h5py.File(files[pair]) as file:
        demo = file["data/demo_0"]
        actions, proprio = demo["actions"][()], demo["obs/proprio"][()]
        images = [key for key in demo["obs"] if key.startswith("image")]
        total = int(file["data"].attrs["total"])
    specs = {"obs": {"low_dim": ["proprio"], "rgb": images}}
    initialize_obs_utils_with_obs_specs(specs)
    shapes = get_shape_metadata_from_dataset(
        str(files[pair]), all_obs_keys=["proprio", *images], verbose=False
    )
    assert shapes["ac_dim"] == SIZES[pair]
    data = SequenceDataset(
        str(files[pair]),
        obs_keys=["proprio", *images],
        dataset_keys=["actions"],
        frame_stack=2,
        seq_length=4,
        load_next_obs=False,
    )
    assert len(data) == total
    window = data[7]
    np.testing.assert_array_equal(window["actions"], actions[6:11])
    np.testing.assert_array_equal(window["obs"]["proprio"], proprio[6:11])
    assert all(window["obs"][key].shape == (5, 96, 96, 3) for key in images)


def test_robomimics_own_environment_plays_them_back(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("robomimic")
    # robomimic 0.3.0 takes an exception type from the predecessor of `mujoco`, and nothing else.
    predecessor = ModuleType("mujoco_py")
    predecessor.builder = SimpleNamespace(MujocoException=RuntimeError)
    monkeypatch.setitem(sys.modules, "mujoco_py", predecessor)
    from robomimic.utils.env_utils import create_env_from_metadata
    from robomimic.utils.file_utils import get_env_metadata_from_dataset
    from robomimic.utils.obs_utils import initialize_obs_utils_with_obs_specs

    path = files["Lift-Panda"]
    initialize_obs_utils_with_obs_specs({"obs": {"low_dim": ["proprio"], "rgb": []}})
    env = create_env_from_metadata(get_env_metadata_from_dataset(str(path)))
    with h5py.File(path) as file:
        demo = file["data/demo_0"]
        for state in demo["states"]:
            env.reset_to({"states": state})
            np.testing.assert_array_equal(env.get_state()["states"], state)
        env.reset_to({"model": demo.attrs["model_file"], "states": demo["states"][0]})
        for action in demo["actions_executed"]:
            env.step(action)
    assert env.is_success()["task"]


def test_a_demonstration_that_does_not_replay_is_named(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered = tmp_path / "altered.hdf5"
    altered.write_bytes(files["Lift-Panda"].read_bytes())
    with h5py.File(altered, "r+") as file:
        file["data/demo_1/actions_executed"][5:, 2] = 1.0
    assert run(["verify", str(altered)]) == 1
    err = capsys.readouterr().err
    assert f"{altered}: demo_1: 6 of " in err
    assert "demo_0: " not in err
    with h5py.File(altered, "r+") as file:
        states = file["data/demo_0/states"][:, :-1]
        del file["data/demo_0/states"]
        file["data/demo_0/states"] = states
    with pytest.raises(BadDemonstrations, match="demo_0 has states of another size"):
        replay(altered, progress=False)
    with h5py.File(altered, "r+") as file:
        del file["data/demo_1/actions_executed"]
    with pytest.raises(BadDemonstrations, match="lacks a key"):
        replay(altered, progress=False)
    with pytest.raises(BadDemonstrations, match="no such file"):
        replay(tmp_path / "absent.hdf5", progress=False)
    text = tmp_path / "notes.hdf5"
    text.write_text("not HDF5")
    assert run(["verify", str(text)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {text}: is not a readable HDF5")
