"""Evaluation: what the baselines score, and that nothing but the episode decides its outcome."""

from __future__ import annotations

import dataclasses
from itertools import repeat
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from helpers.synthetic import tiny_config, toy_demonstrations
from octo_bench.agents.expert import ExpertAgent
from octo_bench.agents.inference import Inference
from octo_bench.agents.protocol import TaskInput
from octo_bench.agents.random import RandomAgent
from octo_bench.checkpoints.folder import write_policy
from octo_bench.definitions.environments import HOLD_STEPS, environment
from octo_bench.demonstrations.windows import statistics_of
from octo_bench.errors import BadRecords, UnknownName
from octo_bench.experts.registry import demonstrate
from octo_bench.models.octo import Octo
from octo_bench.records.record import (
    VARYING_COLUMNS,
    EpisodeRecord,
    read_records,
    write_records,
)
from octo_bench.rollouts import batches, goals
from octo_bench.rollouts.episodes import SLOTS, roll_out
from octo_bench.rollouts.evaluate import evaluate
from octo_bench.rollouts.goals import goal_image
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.initial_states import environment_seed

LIFT = "octo_bench/Lift-Panda-v1"


def determined(records: list[EpisodeRecord]) -> list[dict[str, object]]:
    """Records as dictionaries, less the columns that differ from run to run."""
    rows = [dataclasses.asdict(record) for record in records]
    return [{k: v for k, v in row.items() if k not in VARYING_COLUMNS} for row in rows]


@pytest.fixture(scope="module")
def expert() -> list[EpisodeRecord]:
    return evaluate("expert", LIFT, 10, progress=False)


def test_the_demonstrator_succeeds_and_the_random_policy_does_not(
    expert: list[EpisodeRecord],
) -> None:
    random = evaluate("random", LIFT, 10, progress=False)
    assert all(record.success_once for record in expert)
    assert not any(record.success_once for record in random)
    same = [r.initial_state_sha256 for r in random] == [r.initial_state_sha256 for r in expert]
    assert same


def test_records_say_what_happened(expert: list[EpisodeRecord]) -> None:
    assert [record.episode for record in expert] == list(range(10))
    assert [record.env_seed for record in expert] == [environment_seed(0, k) for k in range(10)]
    assert len({record.initial_state_sha256 for record in expert}) == 10
    assert {(record.furthest_stage, record.success_held) for record in expert} == {("hold", True)}
    assert all(record.steps == record.first_success_step + HOLD_STEPS for record in expert)
    assert all(10 < record.steps < 100 and not record.error for record in expert)


def test_workers_and_shares_do_not_matter(
    expert: list[EpisodeRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "EPISODES_PER_SHARE", 4)
    parallel = evaluate("expert", LIFT, 10, workers=2, progress=False)
    parts = [
        *evaluate("expert", LIFT, 3, progress=False),
        *evaluate("expert", LIFT, 7, first_episode=3, progress=False),
    ]
    assert determined(parallel) == determined(parts) == determined(expert)


@pytest.fixture(scope="module")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights that looks two steps back and predicts four ahead."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    model = Octo(tiny_config(window=2, image_size=96))
    write_policy(folder, model, 4, statistics_of([toy_demonstrations()], "bounds"), "# card\n")
    return folder


@pytest.fixture(scope="module")
def plain(tiny_policy: Path) -> EpisodeRecord:
    (record,) = evaluate(str(tiny_policy), LIFT, 1, progress=False)
    return record


@pytest.mark.parametrize(
    "inference",
    [Inference(execute=3, task="goal"), Inference(ensemble=True)],
    ids=lambda inference: inference.description,
)
def test_records_depend_on_the_inference_and_not_on_the_workers(
    tiny_policy: Path,
    plain: EpisodeRecord,
    inference: Inference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = evaluate(str(tiny_policy), LIFT, 2, inference=inference, progress=False)
    monkeypatch.setattr(batches, "EPISODES_PER_SHARE", 1)
    apart = evaluate(str(tiny_policy), LIFT, 2, inference=inference, workers=2, progress=False)
    assert determined(apart) == determined(together)
    assert {record.inference for record in together} == {inference.description}
    assert plain.inference == ""
    assert plain.action_jerk != together[0].action_jerk


class _LastSeen(OctoBenchEnvironment):
    """Keeps the last observation."""

    def step(self, action: np.ndarray, *, observe: bool = True) -> tuple:
        stepped = super().step(action, observe=observe)
        self.last = stepped[0]
        return stepped


@pytest.fixture(scope="module")
def lift() -> OctoBenchEnvironment:
    return _LastSeen(LIFT)


def test_a_goal_is_what_the_demonstrator_comes_to(lift: OctoBenchEnvironment) -> None:
    (record,) = roll_out(ExpertAgent(7), [lift], [0], 0)
    _, info = lift.reset(seed=record.env_seed, options={"initial_state": 0})
    motion, info = demonstrate(lift.world), {"success": False}
    while not info["success"]:
        observation, _, _, _, info = lift.step(next(motion).astype(np.float32))
    goal = goal_image(lift, record.env_seed, {"initial_state": 0})
    assert np.array_equal(goal, observation["image_primary"])
    lift.reset(seed=record.env_seed, options={"initial_state": 0})
    assert lift.world.state_sha256() == record.initial_state_sha256


def test_a_demonstrator_that_fails_gives_no_goal(
    lift: OctoBenchEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goals, "demonstrate", lambda world: repeat(np.zeros(7)))
    assert goal_image(lift, 0, {}) is None


def test_making_the_goal_does_not_touch_the_episode(lift: OctoBenchEnvironment) -> None:
    class Shown(RandomAgent):
        """Acts at random, whatever it is shown."""

        wants_goal = True

        def act(self, observations, tasks, noise):
            shown.append(tasks[0].goal)
            return super().act(observations, tasks, noise)

    shown: list[np.ndarray | None] = []
    with_goal = list(roll_out(Shown(7), [lift], [0, 1], 0))
    without = list(roll_out(RandomAgent(7), [lift], [0, 1], 0))
    assert determined(with_goal) == determined(without)
    assert all(goal.shape == (96, 96, 3) and goal.dtype == np.uint8 for goal in shown)
    assert not np.array_equal(shown[0], shown[-1])


def test_another_study_seed_is_other_states(expert: list[EpisodeRecord]) -> None:
    other = evaluate("expert", LIFT, 2, study_seed=1, progress=False)
    assert {r.initial_state_sha256 for r in other}.isdisjoint(
        r.initial_state_sha256 for r in expert
    )


def test_a_row_of_the_shipped_policy_depends_on_itself_alone() -> None:
    from octo_bench.agents.sources import load_agent

    agent = load_agent("octo-tiny", environment("Lift-Panda"))
    generator = np.random.default_rng(0)
    shape = (SLOTS, agent.window)
    observations = {
        "image_primary": generator.integers(0, 256, (*shape, 96, 96, 3), np.uint8),
        "image_wrist": generator.integers(0, 256, (*shape, 96, 96, 3), np.uint8),
        "proprio": generator.standard_normal((*shape, 11)).astype(np.float32),
        "timestep_pad_mask": np.ones(shape, bool),
    }
    noise = generator.standard_normal((SLOTS, *agent.noise_shape)).astype(np.float32)
    tasks = [TaskInput("lift the red cube")] * SLOTS
    together = agent.act(observations, tasks, noise)
    for row in range(SLOTS):
        place = (row * 3 + 1) % SLOTS  # alone, and in another place of the batch
        alone = {key: np.zeros_like(value) for key, value in observations.items()}
        for key, value in observations.items():
            alone[key][place] = value[row]
        own_noise = np.zeros_like(noise)
        own_noise[place] = noise[row]
        own_tasks = [TaskInput()] * SLOTS
        own_tasks[place] = tasks[row]
        np.testing.assert_array_equal(agent.act(alone, own_tasks, own_noise)[place], together[row])


def test_records_survive_the_file(expert: list[EpisodeRecord], tmp_path: Path) -> None:
    path = tmp_path / "episodes.parquet"
    write_records(expert, path, None)
    assert read_records(path) == expert


def test_records_of_before_there_were_options_are_readable(
    expert: list[EpisodeRecord], tmp_path: Path
) -> None:
    path = tmp_path / "episodes.parquet"
    write_records(expert, path, None)
    older = pyarrow.parquet.read_table(path).drop_columns(["inference"])
    pyarrow.parquet.write_table(older, path)
    assert read_records(path) == expert


def test_broken_record_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadRecords, match="no such file"):
        read_records(tmp_path / "absent.parquet")
    text = tmp_path / "text.parquet"
    text.write_text("not Parquet")
    with pytest.raises(BadRecords, match=r"text\.parquet"):
        read_records(text)
    foreign = tmp_path / "foreign.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"episode": [1]}), foreign)
    with pytest.raises(BadRecords, match="has no column"):
        read_records(foreign)


def test_an_unknown_policy_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="octo-tiny"):
        evaluate("octo-tinny", LIFT, 1, progress=False)
