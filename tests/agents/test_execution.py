"""Executing chunks: receding horizon, temporal ensembling, and the options that ask for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from octo_bench.agents.execution import RecedingHorizon, TemporalEnsemble, with_execution
from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.protocol import TaskInput
from octo_bench.definitions.environments import environment
from octo_bench.errors import BadInference

ROWS, CHUNK = 3, 4


class Counting:
    """Says in each entry at which query of the row, and for how many steps later, it speaks.

    The answer of row r to its query q for age a is (100 r + q, a); no noise, no observations.
    """

    window = 2
    execute = CHUNK
    noise_shape: tuple[int, ...] = (5,)
    wants_images = False
    wants_goal = True

    def __init__(self) -> None:
        self.queries = np.zeros(ROWS, int)
        self.begun: list[tuple[int, int]] = []

    def begin(self, slot: int, environment: object, seed: int) -> None:
        self.queries[slot] = 0
        self.begun.append((slot, seed))

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        chunk = np.zeros((ROWS, CHUNK, 2), np.float32)
        chunk[:, :, 0] = (100 * np.arange(ROWS) + self.queries)[:, None]
        chunk[:, :, 1] = np.arange(CHUNK)
        self.queries += 1
        return chunk


def ask(agent: TemporalEnsemble | RecedingHorizon, rows: Sequence[int]) -> np.ndarray:
    """Query with episodes in `rows` only."""
    mask = np.zeros((ROWS, 2), bool)
    mask[list(rows)] = True
    noise = np.zeros((ROWS, 5), np.float32)
    return agent.act({"timestep_pad_mask": mask}, [TaskInput()] * ROWS, noise)


def test_wrappers_are_agents_like_the_one_inside() -> None:
    for inference, execute in ((Inference(ensemble=True), 1), (Inference(execute=3), 3)):
        inside = Counting()
        agent = with_execution(inside, inference)
        assert agent.execute == execute
        assert (agent.window, agent.noise_shape) == (2, (5,))
        assert (agent.wants_images, agent.wants_goal) == (False, True)
        agent.begin(1, None, 42)
        assert inside.begun == [(1, 42)]
    assert with_execution(inside, DEFAULT) is inside
    assert with_execution(inside, Inference(diffusion_steps=2, task="none")) is inside


def test_a_receding_horizon_cuts_the_chunk() -> None:
    agent = RecedingHorizon(Counting(), 2)
    agent.begin(0, None, 0)
    chunk = ask(agent, [0])
    assert chunk.shape == (ROWS, 2, 2)
    assert chunk[0].tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("decay", [0.0, 0.01, 0.7])
def test_an_ensemble_averages_what_the_last_chunks_say_of_now(decay: float) -> None:
    agent = TemporalEnsemble(Counting(), decay)
    agent.begin(0, None, 0)
    for query in range(9):
        action = ask(agent, [0])
        assert action.shape == (ROWS, 1, 2)
        assert action.dtype == np.float32
        known = min(query + 1, CHUNK)
        oldest_first = np.arange(query - known + 1, query + 1)
        weights = np.exp(-decay * np.arange(known))
        weights /= weights.sum()
        ages = query - oldest_first
        expected = [weights @ oldest_first, weights @ ages]
        np.testing.assert_allclose(action[0, 0], expected, rtol=1e-6, atol=1e-6)


def test_older_chunks_count_more() -> None:
    agent = TemporalEnsemble(Counting(), decay=0.7)
    agent.begin(0, None, 0)
    ask(agent, [0])
    assert ask(agent, [0])[0, 0, 0] < 0.5


def test_a_new_episode_forgets_the_one_before() -> None:
    agent = TemporalEnsemble(Counting())
    agent.begin(0, None, 0)
    first = [ask(agent, [0])[0] for _ in range(3)]
    agent.begin(0, None, 1)
    again = [ask(agent, [0])[0] for _ in range(3)]
    assert np.array_equal(first, again)


def test_a_row_of_an_ensemble_depends_on_that_row_only() -> None:
    def episode(company: bool) -> list[np.ndarray]:
        agent = TemporalEnsemble(Counting())
        agent.begin(1, None, 0)
        actions = []
        for query in range(6):
            if company and query in (1, 4):
                agent.begin(0, None, query)
                agent.begin(2, None, query)
            actions.append(ask(agent, [0, 1, 2] if company and query >= 1 else [1])[1])
        return actions

    assert np.array_equal(episode(company=True), episode(company=False))


def test_rows_without_an_episode_stay_still_and_are_not_remembered() -> None:
    agent = TemporalEnsemble(Counting())
    agent.begin(0, None, 0)
    agent.begin(1, None, 0)
    ask(agent, [0, 1])
    assert not ask(agent, [0])[1:].any()
    assert ask(agent, [0, 1])[1, 0, 0] == pytest.approx(101, abs=0.01)  # of queries 0 and 2


def test_options_are_described_by_what_differs() -> None:
    assert DEFAULT.description == ""
    assert Inference(execute=2, diffusion_steps=5).description == "execute=2,diffusion_steps=5"
    everything = Inference(ensemble=True, precision="bfloat16", compiled=True, task="goal")
    assert everything.description == "ensemble,precision=bfloat16,compiled,task=goal"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"execute": 0}, "execute = 0"),
        ({"diffusion_steps": -1}, "diffusion_steps = -1"),
        ({"execute": 2, "ensemble": True}, "leave out execute"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(BadInference, match=message):
        Inference(**options)


@pytest.mark.parametrize(
    ("policy", "inference", "message"),
    [
        ("octo-tiny", Inference(execute=5), "octo-tiny predicts chunks of 4 actions"),
        ("octo-tiny", Inference(diffusion_steps=11), "trained with 10 diffusion steps"),
        ("octo-tiny-categorical", Inference(diffusion_steps=5), "no diffusion head"),
        ("expert", Inference(ensemble=True), "expert has no inference options; .* ensemble"),
        ("random", Inference(task="goal"), "random has no inference options; .* task=goal"),
    ],
)
def test_options_that_a_policy_does_not_have_are_refused(
    policy: str, inference: Inference, message: str
) -> None:
    from octo_bench.agents.sources import load_agent

    with pytest.raises(BadInference, match=message):
        load_agent(policy, environment("Lift-Panda"), inference)
