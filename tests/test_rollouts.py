"""Evaluation: what the baselines score, and that nothing but the episode decides its outcome."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from octo_bench.agents.protocol import TaskInput
from octo_bench.definitions import environment
from octo_bench.errors import BadRecords, UnknownName
from octo_bench.evaluation.records import (
    TIMING_COLUMNS,
    EpisodeRecord,
    read_records,
    write_records,
)
from octo_bench.evaluation.rollouts import SLOTS, evaluate
from octo_bench.simulation.initial_states import environment_seed

LIFT = "octo_bench/Lift-Panda-v0"


def without_timing(records: list[EpisodeRecord]) -> list[dict[str, object]]:
    """Records as dictionaries, less the columns that differ from run to run."""
    rows = [dataclasses.asdict(record) for record in records]
    return [{k: v for k, v in row.items() if k not in TIMING_COLUMNS} for row in rows]


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
    assert {record.furthest_stage for record in expert} == {"success"}
    assert all(10 < record.steps < 100 and not record.error for record in expert)


def test_workers_and_shares_do_not_matter(expert: list[EpisodeRecord]) -> None:
    parallel = evaluate("expert", LIFT, 10, workers=2, progress=False)
    parts = [
        *evaluate("expert", LIFT, 3, progress=False),
        *evaluate("expert", LIFT, 7, first_episode=3, progress=False),
    ]
    assert without_timing(parallel) == without_timing(parts) == without_timing(expert)


def test_another_study_seed_is_other_states(expert: list[EpisodeRecord]) -> None:
    other = evaluate("expert", LIFT, 2, study_seed=1, progress=False)
    assert {r.initial_state_sha256 for r in other}.isdisjoint(
        r.initial_state_sha256 for r in expert
    )


def test_a_row_of_the_shipped_policy_depends_on_itself_alone() -> None:
    from octo_bench.agents.loading import load_agent

    agent = load_agent("octo-tiny", environment("Lift-Panda"))
    generator = np.random.default_rng(0)
    shape = (SLOTS, agent.window)
    observations = {
        "image_primary": generator.integers(0, 256, (*shape, 96, 96, 3), np.uint8),
        "image_wrist": generator.integers(0, 256, (*shape, 96, 96, 3), np.uint8),
        "proprio": generator.standard_normal((*shape, 10)).astype(np.float32),
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
    write_records(expert, path)
    assert read_records(path) == expert


def test_broken_record_files_are_named(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

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
