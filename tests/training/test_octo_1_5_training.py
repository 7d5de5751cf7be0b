"""Fine-tuning an Octo 1.5 checkpoint: what is trained, what is new, adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.synthetic import toy_demonstrations, write_octo_1_5
from octo_bench.agents.octo_1_5 import Octo15Agent
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.folder import read_policy
from octo_bench.demonstrations.dataset import Demonstrations
from octo_bench.errors import BadCheckpoint
from octo_bench.training.adaptation import adapt
from octo_bench.training.adapters import load_adapters
from octo_bench.training.finetune import FinetuneSettings, finetune
from octo_bench.training.settings import Augmentation, Optimisation, TaskModes

FAST = Optimisation(steps=4, batch_size=4, warmup=1, noise_draws=1, checkpoint_every=2, log_every=2)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_octo_1_5(tmp_path_factory.mktemp("policies") / "start")


def tuned(
    start: Path, out: Path, demonstrations: Demonstrations | None = None, **settings: object
) -> tuple[str, ...]:
    """Fine-tune on a new arm; returns the modules that are new."""
    data = demonstrations or toy_demonstrations(seed=5, embodiment="New")
    chosen = FinetuneSettings(**{"optimisation": FAST, **settings})
    return finetune(start, data, out, chosen, progress=False).new


def changed(before: Path, after: Path) -> set[str]:
    """Parts of the model whose tensors differ."""
    old, new = (load_file(folder / "model.safetensors") for folder in (before, after))
    return {
        name.rpartition(".")[0] or name
        for name in old
        if name not in new or old[name].shape != new[name].shape or not old[name].equal(new[name])
    }


def chunk_of(folder: Path, embodiment: str = "New") -> np.ndarray:
    agent = Octo15Agent(read_policy(folder), embodiment=embodiment)
    rng = np.random.default_rng(0)
    seen = {
        "image_primary": rng.integers(0, 256, (2, 2, 24, 24, 3), dtype=np.uint8),
        "image_wrist": rng.integers(0, 256, (2, 2, 24, 24, 3), dtype=np.uint8),
        "proprio": rng.normal(size=(2, 2, 11)).astype(np.float32),
        "timestep_pad_mask": np.ones((2, 2), bool),
    }
    noise = rng.standard_normal((2, *agent.noise_shape), dtype=np.float32)
    return agent.act(seen, [TaskInput("go to the square")] * 2, noise)


def test_full_trains_everything_but_t5(start: Path, tmp_path: Path) -> None:
    assert tuned(start, tmp_path / "out") == ()
    parts = changed(start, tmp_path / "out")
    assert not any(name.startswith("language.t5") for name in parts)
    for part in ("images.primary.stem.0.conv", "language.projection", "readout", "head.output"):
        assert part in parts
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").is_file()
    assert chunk_of(tmp_path / "out").shape == (2, 4, 7)


def test_head_trains_the_head_alone(start: Path, tmp_path: Path) -> None:
    tuned(start, tmp_path / "out", mode="head")
    assert {name.partition(".")[0] for name in changed(start, tmp_path / "out")} == {"head"}


def test_lora_is_kept_as_peft_adapters_that_merge(start: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tuned(start, out, mode="lora", optimisation=replace(FAST, learning_rate=1e-2, steps=8))
    parts = {name for name in changed(start, out) if not name.startswith("head")}
    assert parts == {
        f"transformer.blocks.{layer}.attention.{name}"
        for layer in (0, 1)
        for name in ("q_proj", "v_proj")
    }
    policy, merged = read_policy(start), read_policy(out)
    adapted = load_adapters(policy.model, out / "adapter")
    config = adapted.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (16, 32, 0.05)
    inputs_agent = Octo15Agent(replace(policy, statistics=merged.statistics), embodiment="New")
    agent = Octo15Agent(merged, embodiment="New")
    rng = np.random.default_rng(1)
    seen = {
        "image_primary": rng.integers(0, 256, (2, 2, 24, 24, 3), dtype=np.uint8),
        "image_wrist": rng.integers(0, 256, (2, 2, 24, 24, 3), dtype=np.uint8),
        "timestep_pad_mask": np.ones((2, 2), bool),
    }
    noise = rng.standard_normal((2, *agent.noise_shape), dtype=np.float32)
    tasks = [TaskInput("follow the square")] * 2
    wanted = agent.act(seen, tasks, noise)
    np.testing.assert_allclose(inputs_agent.act(seen, tasks, noise), wanted, atol=1e-5)
    policy = replace(policy, model=adapted.merge_and_unload(), statistics=merged.statistics)
    again = Octo15Agent(policy, embodiment="New")
    np.testing.assert_allclose(again.act(seen, tasks, noise), wanted, atol=1e-5)


@pytest.mark.parametrize("mode", ["full", "lora", "head"])
def test_a_new_arm_gets_a_new_tokenizer_and_head(start: Path, tmp_path: Path, mode: str) -> None:
    new = tuned(start, tmp_path / "out", mode=mode, head="l1", proprio=True)
    assert set(new) == {"head", "proprio"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert all(f"`{name}`" in card for name in new)
    policy = read_policy(tmp_path / "out")
    assert policy.config.model.head == "l1"
    assert policy.config.model.proprio.entries == tuple(range(11))
    assert chunk_of(tmp_path / "out").shape == (2, 4, 7)


def with_actions(size: int) -> Demonstrations:
    data = toy_demonstrations(seed=3, embodiment="Wide")
    wide = tuple(
        replace(each, actions=np.resize(each.actions, (len(each.actions), size)))
        for each in data.episodes
    )
    return replace(data, episodes=wide)


def test_another_action_size_takes_what_fits(start: Path, tmp_path: Path) -> None:
    new = tuned(start, tmp_path / "out", with_actions(14))
    # The denoising network's hidden layers fit; what reads or writes actions does not.
    assert set(new) == {"head.input.weight", "head.output"}
    assert chunk_of(tmp_path / "out", "Wide").shape == (2, 4, 14)


def test_metric_actions_are_relearned_in_the_environment_s(tmp_path: Path) -> None:
    metric = write_octo_1_5(tmp_path / "metric", actions="metric")
    data = toy_demonstrations(seed=5, embodiment="New")
    tuned(metric, tmp_path / "out", data)
    policy = read_policy(tmp_path / "out")
    assert policy.config.actions == "environment"
    actions = np.concatenate([each.actions for each in data.episodes])
    np.testing.assert_allclose(
        policy.statistics.actions_of("New").offset[:2], actions.mean(0)[:2], atol=1e-6
    )


def test_a_head_that_the_architecture_lacks_is_one_clear_line(start: Path, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match="no head 'categorical'; use one of diffusion, l1"):
        tuned(start, tmp_path / "out", head="categorical")


def test_adapters_that_do_not_fit_are_one_clear_line(start: Path, tmp_path: Path) -> None:
    other = write_octo_1_5(tmp_path / "other", width=64)
    tuned(other, tmp_path / "out", mode="lora")
    with pytest.raises(BadCheckpoint, match="does not fit the network"):
        load_adapters(read_policy(start).model, tmp_path / "out" / "adapter")
    (tmp_path / "out" / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match=r"has no adapter_model\.safetensors"):
        load_adapters(read_policy(other).model, tmp_path / "out" / "adapter")
    with pytest.raises(BadCheckpoint, match=r"has no adapter_config\.json"):
        load_adapters(read_policy(other).model, tmp_path / "other")


@pytest.mark.parametrize("modes", [TaskModes(0, 1, 0, 0), TaskModes(0, 0, 0, 1)])
def test_without_instructions_no_tokenizer_is_needed(tmp_path: Path, modes: TaskModes) -> None:
    folder = write_octo_1_5(tmp_path / "start")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    tuned(folder, tmp_path / "out", optimisation=replace(FAST, task_modes=modes))


def test_from_scratch_keeps_t5_and_nothing_else(start: Path, tmp_path: Path) -> None:
    data = toy_demonstrations(seed=5, embodiment="New")
    settings = FinetuneSettings(optimisation=replace(FAST, steps=1, learning_rate=1e-9))
    finetune(start, data, tmp_path / "out", settings, from_scratch=True, progress=False)
    parts = changed(start, tmp_path / "out")
    assert not any(name.startswith("language.t5") for name in parts)
    assert "transformer.blocks.0.attention.q_proj" in parts


def test_adapt_keeps_a_network_that_fits(start: Path) -> None:
    policy = read_policy(start)
    model, new = adapt(policy, policy.config.model, seed=0)
    assert model is policy.model
    assert new == []


def test_training_lowers_the_loss(start: Path, tmp_path: Path) -> None:
    """The toy task's square is found from the images: some hundred steps fit two episodes."""
    settings = FinetuneSettings(
        head="mse",
        optimisation=Optimisation(
            steps=200,
            batch_size=16,
            learning_rate=3e-3,
            warmup=10,
            ema_decay=0.9,
            augmentation=Augmentation(0, 0, 0, 0),
            checkpoint_every=1000,
        ),
    )
    data = toy_demonstrations(2, seed=5, embodiment="New")
    torch.manual_seed(0)
    summary = finetune(start, data, tmp_path / "out", settings, progress=False)
    # Three entries move, with a mean square of about 1 each: the mean chunk alone leaves 3.
    assert summary.final_loss < 1.5
