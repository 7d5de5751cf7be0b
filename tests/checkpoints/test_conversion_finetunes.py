"""Checkpoints as the original's fine-tuning writes them, made from the miniature checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from test_conversion import POOL, made_up

from helpers.flax_files import write_arrays
from helpers.octo_1_5_files import BATCH, CONFIG, HEAD, PARAMETERS, STATISTICS, WIDTH, edit_json
from helpers.octo_1_5_reference import FIXTURE, inputs_of, reference
from octo_bench.agents.octo_1_5 import Octo15Agent
from octo_bench.agents.protocol import TaskInput
from octo_bench.agents.sources import load_agent
from octo_bench.checkpoints.arrays import read_arrays
from octo_bench.checkpoints.conversion import convert
from octo_bench.checkpoints.folder import Policy, read_policy
from octo_bench.cli import run
from octo_bench.definitions.environments import environment
from octo_bench.errors import UnsupportedEnvironment

FINETUNE = "finetune_config.json"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The miniature with its pre-training's configuration, which fine-tuning leaves as it is."""
    return Path(shutil.copytree(FIXTURE, tmp_path / "source"))


def converted(source: Path) -> Policy:
    convert(str(source), source.parent / "converted")
    return read_policy(source.parent / "converted")


def keep_arrays(file: Path, unwanted: tuple[str, ...], **more: np.ndarray) -> None:
    """Leave out the arrays whose path begins with something unwanted, and add some."""
    arrays = {k: v for k, v in read_arrays(file).items() if not k.startswith(unwanted)}
    write_arrays(file, {**arrays, **more})


def table_of(size: int, seed: int) -> dict[str, list[float]]:
    """What the original computes of a data set's actions or proprioception."""
    values = np.random.default_rng(seed).normal(0.5, 2.0, (500, size))
    names = {"mean": values.mean(0), "std": values.std(0), "max": values.max(0)}
    names |= {"min": values.min(0), "p01": np.quantile(values, 0.01, 0)}
    names |= {"p99": np.quantile(values, 0.99, 0)}
    return {name: numbers.tolist() for name, numbers in names.items()}


def fine_tuned(source: Path, **dataset_kwargs: Any) -> dict[str, Any]:
    """Make it a fine-tune on language by the original's script; returns its statistics."""
    keep_arrays(source / BATCH, ("task/image", "task/pad_mask_dict/image"))
    mask = [True] * 6 + [False]
    statistics = {
        "action": {**table_of(7, 1), "mask": mask},
        "proprio": table_of(8, 2),
        "num_transitions": 500,
        "num_trajectories": 10,
    }
    (source / STATISTICS).write_text(json.dumps(statistics))
    declared = {"name": "my_kitchen", "data_dir": "data", "action_normalization_mask": mask}
    table = {
        "pretrained_path": "hf://rail-berkeley/octo-small-1.5",
        "modality": "language_conditioned",
        "dataset_kwargs": {**declared, **dataset_kwargs},
        "traj_transform_kwargs": {"window_size": 2, "action_horizon": 4},
    }
    (source / FINETUNE).write_text(json.dumps(table))
    return statistics


@pytest.mark.parametrize("kind", ["normal", "bounds", None])
def test_a_language_fine_tune_has_its_own_data_set_and_normalisation(
    source: Path, kind: str | None
) -> None:
    options = {} if kind is None else {"action_proprio_normalization_type": kind}
    action = fine_tuned(source, **options)["action"]
    policy = converted(source)
    statistics = policy.statistics
    assert statistics.actions.keys() == {"my_kitchen", "default"}
    assert statistics.kind == ("bounds" if kind == "bounds" else "mean_std")
    normalised = np.random.default_rng(0).uniform(-1, 1, (5, 7)).astype(np.float32)
    if kind == "bounds":
        low, high = np.array(action["p01"]), np.array(action["p99"])
        raw = (normalised + 1) * (high - low) / 2 + low
    else:
        raw = normalised * np.array(action["std"]) + np.array(action["mean"])
    raw[:, 6] = normalised[:, 6]
    for name in ("my_kitchen", "default"):
        restored = statistics.actions_of(name).restore(normalised)
        np.testing.assert_allclose(restored, raw, rtol=1e-5, atol=1e-5)


def test_a_language_fine_tune_computes_what_the_original_does(source: Path) -> None:
    fine_tuned(source)
    model = converted(source).model
    with torch.inference_mode():
        readouts = model.readouts(inputs_of(model, "language")).numpy()
    np.testing.assert_allclose(readouts, reference("language", "readout_action"), atol=1e-4)


@pytest.mark.parametrize(("kind", "largest"), [("bounds", 1.0), ("normal", 100.0)])
def test_proprioception_scaled_to_bounds_is_clipped(
    source: Path, kind: str, largest: float
) -> None:
    fine_tuned(source, action_proprio_normalization_type=kind)
    proprio = converted(source).statistics.proprio
    assert np.abs(proprio.normalise(np.full(8, 1000.0))).max() <= largest or kind == "normal"
    assert (np.abs(proprio.normalise(np.full(8, 1000.0))) > 1).all() == (kind == "normal")


def test_data_that_was_not_scaled_is_left_as_it_is(source: Path) -> None:
    fine_tuned(source, skip_norm=True)
    scaling = converted(source).statistics.actions_of("my_kitchen")
    assert (scaling.offset == 0).all() and (scaling.scale == 1).all()


def test_an_unknown_normalisation_is_named(source: Path, capsys: Any) -> None:
    fine_tuned(source, action_proprio_normalization_type="quantiles")
    assert run(["convert", str(source), str(source.parent / "converted")]) == 2
    err = capsys.readouterr().err
    assert f"{source / FINETUNE}: 'action_proprio_normalization_type' of 'my_kitchen'" in err


def test_a_wrist_tokenizer_without_wrist_images_has_no_part_in_the_network(source: Path) -> None:
    keep_arrays(
        source / BATCH,
        tuple(f"{part}{name}" for part in ("observation/", "task/") for name in WRIST_INPUTS),
    )
    keep_arrays(source / PARAMETERS, WRIST_PARAMETERS)
    policy = converted(source)
    assert [image.name for image in policy.config.model.images] == ["primary"]
    assert list(policy.model.images) == ["primary"]


WRIST_INPUTS = ("image_wrist", "pad_mask_dict/image_wrist")
WRIST_PARAMETERS = (
    "octo_transformer/observation_tokenizers_wrist",
    "octo_transformer/obs_wrist",
)
JOINTS, CHUNK = 14, 50


def example_02(source: Path) -> None:
    """The layout of the original's examples/02_finetune_new_observation_action.py."""
    unwanted = ("task/image", "task/pad_mask_dict/image")
    keep_arrays(source / BATCH, (*unwanted, *(f"observation/{name}" for name in WRIST_INPUTS)))
    batch = {k: v[:, :1] if k.startswith("observation/") else v for k, v in batch_of(source)}
    batch["observation/proprio"] = np.zeros((1, 1, JOINTS), np.float32)
    write_arrays(source / BATCH, batch)
    edit_json(source / CONFIG, "model.observation_tokenizers.wrist")
    proprio = {"n_bins": 256, "bin_type": "normal", "low": -2.0, "high": 2.0}
    spec = {
        "module": "octo.model.components.tokenizers",
        "name": "LowdimObsTokenizer",
        "args": [],
        "kwargs": {**proprio, "obs_keys": ["proprio"]},
    }
    edit_json(source / CONFIG, "model.observation_tokenizers.proprio", spec)
    edit_json(source / CONFIG, f"{HEAD}.name", "L1ActionHead")
    kwargs = {"action_horizon": CHUNK, "action_dim": JOINTS, "readout_key": "readout_action"}
    edit_json(source / CONFIG, f"{HEAD}.kwargs", kwargs)
    outputs = CHUNK * JOINTS
    mean = {"kernel": (WIDTH, outputs), "bias": (outputs,)}
    tokens = {
        "obs_proprio_projection/kernel": (1, WIDTH),
        "obs_proprio_projection/bias": (WIDTH,),
        "obs_proprio_pos_embedding": (1, 10, JOINTS, WIDTH),
    }
    keep_arrays(
        source / PARAMETERS,
        ("heads_action", *WRIST_PARAMETERS),
        **made_up(POOL, "heads_action/map_head"),
        **made_up(mean, "heads_action/mean_proj"),
        **made_up(tokens, "octo_transformer"),
    )
    statistics = {"action": table_of(JOINTS, 1), "proprio": table_of(JOINTS, 2)}
    (source / STATISTICS).write_text(json.dumps({**statistics, "num_transitions": 500}))
    shutil.move(source / "300000", source / "999")


def batch_of(source: Path) -> list[tuple[str, np.ndarray]]:
    return list(read_arrays(source / BATCH).items())


def test_the_layout_of_example_02(source: Path, capsys: Any) -> None:
    example_02(source)
    destination = source.parent / "converted"
    assert run(["convert", str(source), str(destination)]) == 0
    out = capsys.readouterr().out
    assert "l1 head, step 999" in out and "Datasets: finetuned; default: finetuned" in out
    assert "Nothing says how its actions were normalized: mean and deviation are assumed" in out
    policy = read_policy(destination)
    config = policy.config.model
    assert (config.head, config.chunk, config.action_size, config.window) == ("l1", 50, 14, 1)
    assert config.proprio.entries == tuple(range(JOINTS)) and config.proprio.bins == 0
    agent = Octo15Agent(policy)
    observations = {
        "image_primary": np.zeros((1, 1, 64, 64, 3), np.uint8),
        "proprio": np.zeros((1, 1, JOINTS), np.float32),
        "timestep_pad_mask": np.ones((1, 1), bool),
    }
    actions = agent.act(observations, [TaskInput()], np.zeros((1, 0), np.float32))
    assert actions.shape == (1, CHUNK, JOINTS)
    # Joint positions as in its data set: neither turned into other units nor clipped.
    assert np.abs(actions).max() > 1


def test_actions_of_unknown_meaning_are_not_executed(source: Path) -> None:
    example_02(source)
    folder = converted(source).folder
    with pytest.raises(UnsupportedEnvironment, match=r"14 action entries .* fine-tune it on"):
        load_agent(str(folder), environment("TwoArmLift-TwoPandas"))
