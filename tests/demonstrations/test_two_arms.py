"""Both wrists and both arms' proprioception are used: collected, trained on and acted upon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.synthetic import tiny_config, toy_demonstrations, write_octo_1_5
from octo_bench.agents.octo import OctoAgent
from octo_bench.agents.octo_1_5 import Octo15Agent
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.folder import read_policy, write_policy
from octo_bench.cli import run
from octo_bench.definitions.environments import PROPRIO_SIZE_PER_ARM
from octo_bench.demonstrations.dataset import Demonstrations, read_demonstrations
from octo_bench.demonstrations.windows import Windows, statistics_of
from octo_bench.errors import BadRecipe
from octo_bench.models.octo import Octo
from octo_bench.training.finetune import FinetuneSettings, finetune
from octo_bench.training.pretrain import pretrain_on
from octo_bench.training.recipes import Data, Recipe
from octo_bench.training.settings import Optimisation

ENV = "TwoArmLift-TwoPandas"
READ = (0, 1, 9)
FAST = Optimisation(steps=3, batch_size=4, learning_rate=1e-2, warmup=1, noise_draws=2)


def write_one_armed(folder: Path, image_size: int, **changes: object) -> Path:
    """A tiny policy of one arm, random weights."""
    torch.manual_seed(0)
    model = Octo(tiny_config(image_size=image_size, proprio=READ, **changes))
    write_policy(folder, model, 4, statistics_of([toy_demonstrations()], "bounds"), "# tiny\n")
    return folder


def two_armed(demonstrations: Demonstrations) -> Demonstrations:
    """The same with a second arm that does something else."""
    random = np.random.default_rng(0)
    episodes = [
        replace(
            episode,
            proprio=np.concatenate([episode.proprio, random.random(episode.proprio.shape)], 1),
            actions=np.concatenate([episode.actions, -episode.actions], 1),
            image_wrist_2=random.integers(0, 256, episode.image_wrist.shape, np.uint8),
        )
        for episode in demonstrations.episodes
    ]
    return replace(demonstrations, episodes=tuple(episodes), grippers=(6, 13))


def depends_on(
    agent: OctoAgent | Octo15Agent, data: Demonstrations, name: str, *, second_arm_only: bool
) -> bool:
    """Whether the agent's actions change with an observation."""
    first = data.episodes[0]
    shape = (1, agent.window)
    seen: Mapping[str, np.ndarray] = {
        **{camera: getattr(first, camera)[:1] for camera in first.cameras},
        "proprio": first.proprio[:1],
    }
    observations = {k: np.repeat(v[None], agent.window, 1) for k, v in seen.items()}
    observations["timestep_pad_mask"] = np.ones(shape, bool)
    noise = np.random.default_rng(1).standard_normal((1, *agent.noise_shape), np.float32)
    before = agent.act(observations, [TaskInput("go to the square")], noise)
    changed = observations[name].copy()
    part = changed[..., PROPRIO_SIZE_PER_ARM:] if second_arm_only else changed
    part[:] = part[:] // 2 if part.dtype == np.uint8 else part[:] + 1
    after = agent.act({**observations, name: changed}, [TaskInput("go to the square")], noise)
    return not np.array_equal(before, after)


def test_collect_finetune_and_evaluate_with_two_arms(tmp_path: Path) -> None:
    file, out, records = (tmp_path / name for name in ("pot.hdf5", "tuned", "records.parquet"))
    assert run(["collect", ENV, "--demos", "1", "--out", str(file)]) == 0
    start = write_one_armed(tmp_path / "start", 96)
    training = ["--demonstrations", str(file), "--demos", "1", "--steps", "2", "--batch-size", "2"]
    assert run(["finetune", str(start), *training, "--out", str(out)]) == 0
    config = read_policy(out).config.model
    assert config.wrist_cameras == 2 and config.action_size == 14
    assert config.proprio == (*READ, *(PROPRIO_SIZE_PER_ARM + entry for entry in READ))
    demonstrations = read_demonstrations(file)
    assert demonstrations.grippers == (6, 13)
    assert "image_wrist_2" in demonstrations.episodes[0].cameras
    evaluating = ["evaluate", str(out), ENV, "--episodes", "1", "--out", str(records)]
    assert run(evaluating) == 0


@pytest.mark.parametrize("mode", ["full", "lora", "head"])
@pytest.mark.parametrize("window", [1, 2])
def test_the_seed_architecture_sees_both_arms(tmp_path: Path, mode: str, window: int) -> None:
    data = two_armed(toy_demonstrations())
    start = write_one_armed(tmp_path / "start", 24, window=window)
    settings = FinetuneSettings(mode=mode, optimisation=FAST)
    summary = finetune(start, data, tmp_path / "out", settings, progress=False)
    assert "proprio.weight" in summary.new
    assert not any(name.startswith(("vision", "transformer")) for name in summary.new)
    for name, second in (("image_wrist_2", False), ("image_wrist", False), ("proprio", True)):
        agent = OctoAgent(read_policy(tmp_path / "out"))
        assert depends_on(agent, data, name, second_arm_only=second), name


def test_octo_1_5_sees_both_arms(tmp_path: Path) -> None:
    data = two_armed(toy_demonstrations())
    start = write_octo_1_5(tmp_path / "start")
    settings = FinetuneSettings(proprio=True, optimisation=FAST)
    summary = finetune(start, data, tmp_path / "out", settings, progress=False)
    policy = read_policy(tmp_path / "out")
    assert [image.image for image in policy.config.model.images] == [
        "image_primary",
        "image_wrist",
        "image_wrist_2",
    ]
    assert policy.config.model.proprio.entries == tuple(range(2 * PROPRIO_SIZE_PER_ARM))
    assert not any(name.startswith("images") for name in summary.new)
    for name, second in (("image_wrist_2", False), ("image_wrist", False), ("proprio", True)):
        agent = Octo15Agent(read_policy(tmp_path / "out"))
        assert depends_on(agent, data, name, second_arm_only=second), name


def test_the_second_wrist_leaves_the_other_tokens_where_they_were(tmp_path: Path) -> None:
    """With a window of one, masking it gives what one arm's network gives."""
    torch.manual_seed(0)
    one = Octo(tiny_config()).eval()
    two = Octo(tiny_config(wrist_cameras=2)).eval()
    two.load_state_dict(one.state_dict())
    tokens = [torch.randn(3, 1, 32) for _ in range(3)]
    task, states = torch.randn(3, 2, 32), torch.randn(3, 1, 3)
    seen = torch.ones(3, 1, dtype=torch.bool)
    with torch.inference_mode():
        alone = one.features(task, *tokens[:2], states, seen)
        masked = two.features(
            task, *tokens[:2], states, seen, wrist_2=tokens[2], wrist_2_mask=~seen
        )
        used = two.features(task, *tokens[:2], states, seen, wrist_2=tokens[2])
    torch.testing.assert_close(masked, alone)
    assert not torch.allclose(used, alone)


def test_images_of_both_wrists_are_drawn() -> None:
    data = two_armed(toy_demonstrations())
    statistics = statistics_of([data], "bounds")
    windows = Windows([data], statistics, window=1, chunk=4, proprio=READ)
    assert windows.cameras == ("image_primary", "image_wrist", "image_wrist_2")
    seen = windows.images("image_wrist_2", torch.tensor([13]))
    np.testing.assert_array_equal(seen[0], data.episodes[1].image_wrist_2[3])


def test_a_recipe_must_say_how_many_wrists_there_are(tmp_path: Path) -> None:
    recipe = Recipe(
        data=(Data("octo_bench/Follow-Toy-v1", 4, 0),),
        model=tiny_config(action_size=14),
        optimisation=FAST,
        execute=2,
    )
    data = two_armed(toy_demonstrations())
    with pytest.raises(BadRecipe, match=r"'model.wrist_cameras' = 1, but .* has 2; set it to 2"):
        pretrain_on(recipe, [data], tmp_path, recipe=Path("r.toml"), progress=False)
