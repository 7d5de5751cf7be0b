"""A policy folder as an agent: contract, independence of rows, and what a bad folder says."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.synthetic import SIZE, tiny_config, toy_demonstrations, write_tokenizer
from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.octo import OctoAgent
from octo_bench.agents.protocol import TaskInput
from octo_bench.agents.sources import load_agent
from octo_bench.checkpoints.config import find_policy
from octo_bench.checkpoints.folder import read_policy, write_policy
from octo_bench.definitions.environments import environment
from octo_bench.demonstrations.normalisation import Affine
from octo_bench.demonstrations.windows import statistics_of
from octo_bench.errors import BadCheckpoint, UnknownName, UnsupportedEnvironment
from octo_bench.models.config import LanguageConfig, OctoConfig, TransformerConfig
from octo_bench.models.octo import Octo

BATCH = 4


def policy(folder: Path, config: OctoConfig | None = None) -> Path:
    torch.manual_seed(0)
    statistics = statistics_of([toy_demonstrations()], "bounds")
    write_policy(folder, Octo(config or tiny_config(window=2)), 2, statistics, "# card\n")
    return folder


def load(folder: Path, inference: Inference = DEFAULT, embodiment: str | None = None) -> OctoAgent:
    return OctoAgent(read_policy(folder), inference, embodiment)


def test_a_policy_of_another_proprioception_is_refused(tmp_path: Path) -> None:
    folder = policy(tmp_path / "policy")
    read = read_policy(folder)
    shorter = Affine(read.statistics.proprio.offset[:10], read.statistics.proprio.scale[:10])
    statistics = replace(read.statistics, proprio=shorter)
    write_policy(folder, read.model, 2, statistics, "# card\n")
    with pytest.raises(BadCheckpoint, match="'proprio' has 10 entries, observations have 11"):
        load_agent(str(folder), environment("Lift-Panda"))


def test_a_policy_of_another_image_size_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    statistics = statistics_of([toy_demonstrations()], "bounds")
    write_policy(tmp_path / "small", Octo(tiny_config()), 2, statistics, "# card\n")
    said = f"small sees images of {SIZE} x {SIZE} pixels and is shown 96 x 96"
    with pytest.raises(UnsupportedEnvironment, match=said):
        load_agent(str(tmp_path / "small"), environment("Lift-Panda"))
    agent = load_agent(str(tmp_path / "small"), environment("Lift-Panda"), image_size=SIZE)
    observations, tasks, noise = query(agent)
    observations["image_primary"] = np.zeros((BATCH, agent.window, 94, 94, 3), np.uint8)
    with pytest.raises(UnsupportedEnvironment, match="is shown 94 x 94"):
        agent.act(observations, tasks, noise)


def query(agent: OctoAgent, seed: int = 0) -> tuple[dict, list[TaskInput], np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (BATCH, agent.window, SIZE, SIZE, 3)
    observations = {
        "image_primary": rng.integers(0, 256, shape, dtype=np.uint8),
        "image_wrist": rng.integers(0, 256, shape, dtype=np.uint8),
        "proprio": rng.normal(size=(BATCH, agent.window, 11)).astype(np.float32),
        "timestep_pad_mask": np.ones((BATCH, agent.window), bool),
    }
    goal = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    tasks = [TaskInput(f"task {row % 2}", goal) for row in range(BATCH)]
    noise = rng.standard_normal((BATCH, *agent.noise_shape)).astype(np.float32)
    return observations, tasks, noise


@pytest.mark.parametrize("head", ["diffusion", "categorical"])
@pytest.mark.parametrize("mode", ["language", "goal", "both", "none"])
def test_a_rows_answer_depends_on_that_row_only(tmp_path: Path, head: str, mode: str) -> None:
    folder = policy(tmp_path, tiny_config(window=2, head=head))
    agent = load(folder, Inference(task=mode))
    observations, tasks, noise = query(agent)
    chunk = agent.act(observations, tasks, noise)
    assert chunk.shape == (BATCH, 4, 7)
    assert chunk.dtype == np.float32
    assert np.abs(chunk).max() <= 1
    others, other_tasks, other_noise = query(agent, seed=1)
    for key, value in others.items():
        value[0] = observations[key][0]
    other_noise[0] = noise[0]
    blank = [TaskInput()] * (BATCH - 1)
    for company in (other_tasks[1:], blank):
        again = agent.act(others, [tasks[0], *company], other_noise)
        assert np.array_equal(again[0], chunk[0])
        assert not np.array_equal(again[1], chunk[1])


def test_task_mode_decides_what_is_heard(tmp_path: Path) -> None:
    folder = policy(tmp_path)
    agents = {m: load(folder, Inference(task=m)) for m in ("language", "goal", "none")}
    observations, tasks, noise = query(agents["none"])
    other_text = [replace(task, instruction="else") for task in tasks]
    other_goal = [replace(task, goal=task.goal // 2) for task in tasks]

    def same(mode: str, changed: list[TaskInput]) -> bool:
        act = agents[mode].act
        return np.array_equal(act(observations, tasks, noise), act(observations, changed, noise))

    assert not same("language", other_text)
    assert same("language", other_goal)
    assert same("goal", other_text)
    assert not same("goal", other_goal)
    assert same("none", other_text)


@pytest.mark.parametrize("missing", ["image_primary", "image_wrist"])
def test_a_missing_camera_is_masked(tmp_path: Path, missing: str) -> None:
    agent = load(policy(tmp_path))
    observations, tasks, noise = query(agent)
    whole = agent.act(observations, tasks, noise)
    model, masked = agent._model, torch.zeros(BATCH, agent.window, dtype=torch.bool)
    rest = {key: value for key, value in observations.items() if key != missing}
    without = agent.act(rest, tasks, noise)
    assert without.shape == whole.shape
    assert not np.array_equal(without, whole)
    # What is masked could be anything.
    features = model.features
    model.features = lambda *inputs, **_: features(
        *inputs, **{f"{missing.removeprefix('image_')}_mask": masked}
    )
    np.testing.assert_allclose(agent.act(observations, tasks, noise), without, atol=1e-5)


def test_a_policy_can_be_blind(tmp_path: Path) -> None:
    agent = load(policy(tmp_path))
    observations, tasks, noise = query(agent)
    blind = {key: value for key, value in observations.items() if "image" not in key}
    assert np.isfinite(agent.act(blind, tasks, noise)).all()


def test_history_before_the_first_step_is_not_seen(tmp_path: Path) -> None:
    agent = load(policy(tmp_path))
    observations, tasks, noise = query(agent)
    observations["timestep_pad_mask"][:, 0] = False
    first = agent.act(observations, tasks, noise)
    for key in ("image_primary", "image_wrist", "proprio"):
        observations[key][:, 0] = 0
    np.testing.assert_allclose(agent.act(observations, tasks, noise), first, atol=1e-5)
    observations["timestep_pad_mask"][:, 0] = True
    assert np.abs(agent.act(observations, tasks, noise) - first).max() > 1e-3


@pytest.mark.parametrize("mode", ["language", "goal", "both"])
def test_what_is_missing_of_a_task_is_as_if_nothing_was_asked(tmp_path: Path, mode: str) -> None:
    folder = policy(tmp_path)
    agent, unasked = load(folder, Inference(task=mode)), load(folder, Inference(task="none"))
    observations, tasks, noise = query(agent)
    without = [TaskInput()] * BATCH
    np.testing.assert_allclose(
        agent.act(observations, without, noise), unasked.act(observations, tasks, noise), atol=1e-5
    )
    assert agent.wants_goal == (mode != "language")


@pytest.mark.parametrize("head", ["diffusion", "categorical"])
def test_half_precision_is_close_and_keeps_rows_apart(tmp_path: Path, head: str) -> None:
    folder = policy(tmp_path, tiny_config(window=2, head=head))
    agent = load(folder, Inference(precision="bfloat16", task="both"))
    dtypes = {name: p.dtype for name, p in agent._model.named_parameters()}
    in_full = {n.split(".")[0] for n, dtype in dtypes.items() if dtype == torch.float32}
    assert in_full == {"language", "head"}
    observations, tasks, noise = query(agent)
    chunk = agent.act(observations, tasks, noise)
    assert chunk.dtype == np.float32
    full = load(folder, Inference(task="both")).act(observations, tasks, noise)
    assert np.abs(chunk - full).mean() < 0.1
    others, other_tasks, other_noise = query(agent, seed=1)
    for key, value in others.items():
        value[0] = observations[key][0]
    other_noise[0] = noise[0]
    again = agent.act(others, [tasks[0], *other_tasks[1:]], other_noise)
    assert np.array_equal(again[0], chunk[0])


def test_fewer_diffusion_steps_take_less_noise(tmp_path: Path) -> None:
    folder = policy(tmp_path)
    agent = load(folder, Inference(diffusion_steps=5))
    assert agent.noise_shape == (1, 4, 7)
    query_ = query(agent)
    chunk = agent.act(*query_)
    assert np.isfinite(chunk).all()
    assert np.array_equal(agent.act(*query_), chunk)
    assert load(folder).noise_shape == (10, 4, 7)


def test_compiled_gives_the_same_actions(tmp_path: Path) -> None:
    folder = policy(tmp_path, tiny_config(transformer=TransformerConfig(1, 2, 64)))
    agent, eager = load(folder, Inference(compiled=True)), load(folder)
    query_ = query(agent)
    np.testing.assert_allclose(agent.act(*query_), eager.act(*query_), atol=1e-5)


def test_instructions_of_a_pretrained_t5_need_its_tokenizer(tmp_path: Path) -> None:
    language = LanguageConfig(
        pretrained=str(tmp_path / "t5"), vocabulary=11, layers=1, width=16, heads=2, feed_forward=32
    )
    folder = policy(tmp_path / "policy", tiny_config(window=2, language=language))
    query_ = query(load(folder))
    assert np.isfinite(load(folder, Inference(task="goal")).act(*query_)).all()
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json"):
        load(folder).act(*query_)
    write_tokenizer(folder)
    assert np.isfinite(load(folder).act(*query_)).all()


LATE_NETWORK = """
import gymnasium as gym
import octo_bench, sys
environment = gym.make("octo_bench/Lift-Panda-v1")
observation, _ = environment.reset(seed=0)
assert observation["image_primary"].any()
assert "torch" not in sys.modules, "or this test shows nothing"
from octo_bench.agents.sources import load_agent
from octo_bench.agents.protocol import TaskInput
from octo_bench.definitions.environments import environment as declared
import numpy as np
agent = load_agent("octo-tiny", declared("octo_bench/Lift-Panda-v1"))
stacked = {key: observation[key][None, None] for key in ("image_primary", "image_wrist", "proprio")}
stacked["timestep_pad_mask"] = np.ones((1, 1), bool)
noise = np.zeros((1, *agent.noise_shape), np.float32)
chunk = agent.act(stacked, [TaskInput("lift the cube")], noise)
environment.step(chunk[0, 0])
import peft
print("fine")
"""


def test_a_network_can_be_loaded_after_a_frame_was_drawn() -> None:
    done = subprocess.run([sys.executable, "-c", LATE_NETWORK], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["fine"]), done.stderr[-2000:]


def test_rows_without_an_episode_are_harmless(tmp_path: Path) -> None:
    agent = load(policy(tmp_path))
    observations, tasks, noise = query(agent)
    for value in observations.values():
        value[1:] = 0
    assert np.isfinite(agent.act(observations, [tasks[0]] + [TaskInput()] * 3, noise)).all()


def test_actions_are_scaled_by_the_embodiment_or_the_pool(tmp_path: Path) -> None:
    folder = policy(tmp_path)
    table = json.loads((folder / "statistics.json").read_text())
    table["actions"]["Toy"] = {"offset": [0.5] * 7, "scale": [1e-6] * 7}
    (folder / "statistics.json").write_text(json.dumps(table))
    known = load(folder, embodiment="Toy")
    query_ = query(known)
    np.testing.assert_allclose(known.act(*query_), 0.5, atol=1e-4)
    unseen = load(folder, embodiment="Unseen").act(*query_)
    np.testing.assert_array_equal(unseen, load(folder).act(*query_))
    assert np.abs(unseen - 0.5).max() > 0.1


def rewrite(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["proprio.weight"] = torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("proprio.weight"), r"tensor 'proprio\.weight' is missing"),
        (reshape, r"tensor 'proprio\.weight' has shape \(3, 3\), not \(32, 3\)"),
        (lambda t: t.update(extra=torch.zeros(1)), "tensor 'extra' is not part of the model"),
    ],
)
def test_bad_tensor_is_named(tmp_path: Path, change, message: str) -> None:
    path = policy(tmp_path) / "model.safetensors"
    rewrite(path, change)
    with pytest.raises(BadCheckpoint, match=message) as error:
        load(tmp_path)
    assert str(path) in str(error.value)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = policy(tmp_path) / "model.safetensors"
    path.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(BadCheckpoint, match="is not a safetensors file"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors: no such file"):
        load(tmp_path)


def test_truncated_weights_are_named(tmp_path: Path) -> None:
    path = policy(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadCheckpoint, match="is not a safetensors file"):
        load(tmp_path)


def unknown_key(table: dict) -> None:
    table["model"]["withd"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_key, r"unknown key 'model\.withd'"),
        (lambda t: t.update(format=9), "has format 9, not 1"),
        (lambda t: t.update(execute=7), "'execute' = 7"),
        (lambda t: t["model"]["vision"].update(blocks=[1]), "one entry per stage"),
        (lambda t: t["model"].update(proprio=[30]), "the model reads more"),
    ],
)
def test_bad_config_is_named(tmp_path: Path, change, message: str) -> None:
    path = policy(tmp_path) / "config.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))
    with pytest.raises(BadCheckpoint, match=message):
        load(tmp_path)


def test_config_that_is_no_json(tmp_path: Path) -> None:
    (policy(tmp_path) / "config.json").write_text("{")
    with pytest.raises(BadCheckpoint, match=r"config\.json: is not valid"):
        load(tmp_path)


def test_policies_are_found_by_folder_and_unknown_names_are_refused(tmp_path: Path) -> None:
    assert find_policy(policy(tmp_path)) == tmp_path
    with pytest.raises(UnknownName, match="did you mean expert"):
        find_policy("expet")
