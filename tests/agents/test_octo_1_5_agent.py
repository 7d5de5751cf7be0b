"""The Octo 1.5 agent: rows stand alone, what is missing is masked, units are the environment's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helpers.synthetic import toy_demonstrations, write_octo_1_5
from octo_bench.agents.inference import Inference
from octo_bench.agents.octo_1_5 import Octo15Agent, environment_actions
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.folder import read_policy
from octo_bench.demonstrations.normalisation import Affine, Statistics
from octo_bench.demonstrations.windows import statistics_of
from octo_bench.errors import BadCheckpoint

BATCH = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_octo_1_5(tmp_path_factory.mktemp("policies") / "tiny")


def agent_of(folder: Path, **options: object) -> Octo15Agent:
    return Octo15Agent(read_policy(folder), Inference(**options))


def observations(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, BATCH, 2, 24, 24, 3), dtype=np.uint8)
    return {
        "image_primary": images[0],
        "image_wrist": images[1],
        "proprio": rng.normal(size=(BATCH, 2, 11)).astype(np.float32),
        "timestep_pad_mask": np.ones((BATCH, 2), bool),
    }


def noise_for(agent: Octo15Agent, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((BATCH, *agent.noise_shape), dtype=np.float32)


TASKS = [TaskInput("go to the square")] * BATCH


def test_gives_chunks_in_the_environment_s_range(folder: Path) -> None:
    agent = agent_of(folder)
    assert (agent.window, agent.execute, agent.action_size) == (2, 2, 7)
    chunk = agent.act(observations(), TASKS, noise_for(agent))
    assert chunk.shape == (BATCH, 4, 7)
    assert chunk.dtype == np.float32
    assert np.abs(chunk).max() <= 1


@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}, {"diffusion_steps": 5}])
def test_a_row_does_not_depend_on_its_company(folder: Path, options: dict[str, object]) -> None:
    agent = agent_of(folder, **options)
    seen, noise = observations(), noise_for(agent)
    alone = {key: np.zeros_like(values) for key, values in seen.items()}
    for key, values in seen.items():
        alone[key][0] = values[0]
    chunk = agent.act(seen, TASKS, noise)
    by_itself = agent.act(alone, [TASKS[0], TaskInput(), TaskInput()], noise)
    np.testing.assert_array_equal(chunk[0], by_itself[0])


def test_options_change_little(folder: Path) -> None:
    seen, exact = observations(), agent_of(folder)
    noise = noise_for(exact)
    wanted = exact.act(seen, TASKS, noise)
    half = agent_of(folder, precision="bfloat16").act(seen, TASKS, noise)
    assert not np.array_equal(half, wanted)
    assert np.abs(half - wanted).mean() < 0.1


def test_compiled_gives_the_same(folder: Path) -> None:
    exact, compiled = agent_of(folder), agent_of(folder, compiled=True)
    noise = noise_for(exact)
    np.testing.assert_allclose(
        compiled.act(observations(), TASKS, noise),
        exact.act(observations(), TASKS, noise),
        atol=1e-3,
    )


def test_what_is_padded_or_missing_has_no_influence(folder: Path) -> None:
    agent = agent_of(folder)
    noise = noise_for(agent)
    first, second = observations(0), observations(1)
    for seen in (first, second):
        seen["timestep_pad_mask"][:, 0] = False
    for key in ("image_primary", "image_wrist"):
        second[key][:, 1] = first[key][:, 1]
    np.testing.assert_array_equal(agent.act(first, TASKS, noise), agent.act(second, TASKS, noise))
    without = {key: values for key, values in first.items() if key != "image_wrist"}
    assert np.isfinite(agent.act(without, TASKS, noise)).all()


def test_instruction_and_goal_count_when_the_task_mode_says_so(folder: Path) -> None:
    goal = np.full((24, 24, 3), 200, np.uint8)
    told = [TaskInput("lift the cube", goal)] * BATCH
    nothing = [TaskInput()] * BATCH
    for mode, text_counts, goal_counts in (
        ("language", True, False),
        ("goal", False, True),
        ("both", True, True),
        ("none", False, False),
    ):
        agent = agent_of(folder, task=mode)
        noise = noise_for(agent)
        act = {
            name: agent.act(observations(), tasks, noise)
            for name, tasks in (
                ("told", told),
                ("nothing", nothing),
                ("text", [TaskInput("lift the cube")] * BATCH),
                ("goal", [TaskInput(None, goal)] * BATCH),
            )
        }
        assert np.array_equal(act["text"], act["nothing"]) != text_counts
        assert np.array_equal(act["goal"], act["nothing"]) != goal_counts
        assert agent.wants_goal == goal_counts


def test_text_without_a_tokenizer_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = write_octo_1_5(tmp_path / "tiny")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    agent = agent_of(folder)
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json.*google-t5/t5-base"):
        agent.act(observations(), TASKS, noise_for(agent))
    agent_of(folder, task="none").act(observations(), TASKS, noise_for(agent))


def test_a_broken_tokenizer_is_one_clear_line(tmp_path: Path) -> None:
    folder = write_octo_1_5(tmp_path / "tiny")
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    agent = agent_of(folder)
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.json: is not a tokenizer"):
        agent.act(observations(), TASKS, noise_for(agent))


def test_metric_actions_become_the_environment_s() -> None:
    metric = np.array([0.05, -0.025, 0, 0.5, 0, 0, 1.0], np.float32)
    np.testing.assert_allclose(environment_actions(metric), [1, -0.5, 0, 1, 0, 0, -1], atol=1e-6)
    metric[6] = 0
    assert environment_actions(metric)[6] == 1
    assert np.isnan(environment_actions(np.full((2, 7), np.nan, np.float32))).all()


def about(axis: int, angle: float) -> np.ndarray:
    """The matrix (3, 3) of a turn about the x, y or z axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[[first, second], [first, second]] = np.cos(angle)
    matrix[second, first], matrix[first, second] = np.sin(angle), -np.sin(angle)
    return matrix


def test_roll_pitch_and_yaw_become_the_vector_of_the_same_rotation() -> None:
    roll, pitch, yaw = 0.3, -0.4, 0.2
    turned = environment_actions(np.float32([[[0, 0, 0, roll, pitch, yaw, 0]]]))[0, 0, 3:6] * 0.5
    angle = np.linalg.norm(turned)
    x, y, z = turned / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    np.testing.assert_allclose(matrix, about(2, yaw) @ about(1, pitch) @ about(0, roll), atol=1e-6)
    assert np.abs(turned - [roll, pitch, yaw]).max() > 0.01


def test_a_dataset_s_statistics_are_undone(tmp_path: Path) -> None:
    """`mean_std` statistics of metric actions, the gripper untouched."""
    offset = np.array([0.01, 0, 0, 0, 0, 0, 0], np.float32)
    scale = np.array([0.002, 0.002, 0.002, 0.02, 0.02, 0.02, 1], np.float32)
    base = statistics_of([toy_demonstrations()], "mean_std")
    statistics = Statistics("mean_std", base.proprio, {"default": Affine(offset, scale)})
    folder = write_octo_1_5(tmp_path / "metric", statistics=statistics, actions="metric")
    metric = agent_of(folder)
    plain = agent_of(write_octo_1_5(tmp_path / "plain"))
    plain._scaling = Affine(np.zeros(7, np.float32), np.full(7, 0.2, np.float32))
    noise = noise_for(metric)
    normalised = plain.act(observations(), TASKS, noise) / 0.2
    assert np.abs(normalised).max() <= 5
    wanted = environment_actions(normalised * scale + offset).clip(-1, 1)
    np.testing.assert_allclose(metric.act(observations(), TASKS, noise), wanted, atol=1e-4)


def test_an_arm_with_fewer_entries_gets_as_many(tmp_path: Path) -> None:
    base = statistics_of([toy_demonstrations()], "mean_std")
    five = Affine(np.zeros(5, np.float32), np.ones(5, np.float32))
    statistics = replace(base, actions={**base.actions, "Small": five})
    folder = write_octo_1_5(tmp_path / "tiny", statistics=statistics)
    agent = Octo15Agent(read_policy(folder), embodiment="Small")
    assert agent.action_size == 5
    assert agent.act(observations(), TASKS, noise_for(agent)).shape == (BATCH, 4, 5)


def test_proprioception_is_normalised_and_read(tmp_path: Path) -> None:
    sizes = replace(
        read_policy(write_octo_1_5(tmp_path / "a")).config.model.proprio, entries=(0, 9)
    )
    agent = agent_of(write_octo_1_5(tmp_path / "b", proprio=sizes))
    noise, seen = noise_for(agent), observations()
    first = agent.act(seen, TASKS, noise)
    ignored = {**seen, "proprio": seen["proprio"].copy()}
    ignored["proprio"][..., 4] += 1
    np.testing.assert_array_equal(agent.act(ignored, TASKS, noise), first)
    ignored["proprio"][..., 9] += 1
    assert not np.array_equal(agent.act(ignored, TASKS, noise), first)
