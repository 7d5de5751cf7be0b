"""`verify --determinism`: the ways agree, and what depends on more than its episode is found."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from octo_bench.agents.protocol import TaskInput
from octo_bench.agents.random import RandomAgent
from octo_bench.cli import run
from octo_bench.rollouts.determinism import (
    WAYS,
    EpisodeTrace,
    Way,
    check_determinism,
    compare,
    trace_episodes,
)

LIFT = "octo_bench/Lift-Panda-v1"


class Unseeded(RandomAgent):
    """Acts at random, and not by the noise that it is given."""

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        return super().act(observations, tasks, np.random.default_rng().normal(size=noise.shape))


class Neighbourly(RandomAgent):
    """Lets what it does in one row depend on how many other rows there are."""

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        company = observations["timestep_pad_mask"].any(axis=1).sum()
        return super().act(observations, tasks, noise) / np.float32(company)


@pytest.fixture(scope="module")
def traces() -> dict[tuple[str, int], EpisodeTrace]:
    return trace_episodes(RandomAgent(7), LIFT, [0, 1])


def test_all_ways_agree_with_the_first() -> None:
    # A perturbation is part of the episode too.
    comparisons = check_determinism(
        ["Lift-Panda"], episodes=3, suite="distractors", level=2, progress=False
    )
    assert [each.way for each in comparisons] == [way.name for way in WAYS]
    assert [each.differences for each in comparisons] == [()] * len(WAYS)
    assert {each.episodes for each in comparisons} == {3}
    assert len({each.steps for each in comparisons}) == 1
    assert comparisons[0].steps > 50


def test_an_unseeded_policy_is_found(traces: dict[tuple[str, int], EpisodeTrace]) -> None:
    once, again = (trace_episodes(Unseeded(7), LIFT, [0, 1]) for _ in range(2))
    found = compare("again", once, again)
    assert not found.agrees
    assert not found.states_agree
    assert not found.frames_agree
    assert f"{LIFT} episode 0: states differ from step 1 (again)" in found.differences


def test_a_policy_that_looks_at_other_rows_is_found(
    traces: dict[tuple[str, int], EpisodeTrace],
) -> None:
    alone = trace_episodes(Neighbourly(7), LIFT, [0, 1])
    assert compare("alone", traces, alone).agrees
    assert not compare("together", traces, trace_episodes(Neighbourly(7), LIFT, [0, 1], 2)).agrees


def test_one_altered_hash_is_named_with_its_step(
    traces: dict[tuple[str, int], EpisodeTrace],
) -> None:
    altered = copy.deepcopy(traces)
    altered[LIFT, 1].frames[5] = b"another"
    altered[LIFT, 0].record["success_once"] = True
    found = compare("altered", traces, altered)
    assert found.states_agree
    assert found.differences == (
        f"{LIFT} episode 1: frames differ from step 5 (altered)",
        f"{LIFT} episode 0: records differ (altered)",
    )
    shorter = copy.deepcopy(traces)
    del shorter[LIFT, 0].states[-1]
    last = len(traces[LIFT, 0].states) - 1
    assert f"differ from step {last} " in compare("shorter", traces, shorter).differences[0]


def test_the_first_way_is_one_at_a_time_in_this_process() -> None:
    assert WAYS[0] == Way("one at a time")
    assert {way.processes for way in WAYS} == {0, 1, 2}


def test_wrong_names_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--determinism", "--env", "Lift-Pada"]) == 2
    assert "octo_bench/Lift-Panda-v1" in capsys.readouterr().err
    assert run(["verify", "--determinism", "--suite", "camra"]) == 2
    assert "did you mean camera" in capsys.readouterr().err
    assert run(["verify", "--determinism", "--policy", "exprt"]) == 2
    assert "did you mean expert" in capsys.readouterr().err
