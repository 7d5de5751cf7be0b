"""Observations kept from episodes, to ask policies about without a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import numpy as np

from octo_bench.agents.history import PAD_MASK
from octo_bench.agents.protocol import Agent, TaskInput
from octo_bench.rollouts.episodes import SLOTS, roll_out_by_queries
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.world import CONTROL_FREQUENCY

EVERY = CONTROL_FREQUENCY // 2
"""Steps from one kept observation to the next, about."""
MOMENTS = 4
"""Observations that are kept of each episode."""


@dataclass(frozen=True)
class Visited:
    """N observations, as inputs of a policy.

    Attributes:
        observations: as for `Agent.act`, (N, W, ...) each.
        tasks: N.
        episodes: numbers of the episodes that they are from, (N,).
    """

    observations: Mapping[str, np.ndarray]
    tasks: tuple[TaskInput, ...]
    episodes: np.ndarray

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def window(self) -> int:
        """How many steps of history there are, W."""
        return self.observations[PAD_MASK].shape[1]

    def of_last(self, window: int) -> Visited:
        """The same with less history."""
        last = {key: values[:, -window:] for key, values in self.observations.items()}
        return replace(self, observations=last)


def ask(agent: Agent, visited: Visited, noise: np.ndarray) -> np.ndarray:
    """What a policy does in each of N places, in batches as in a rollout.

    Args:
        agent: looks back as far as `visited` does.
        visited: N observations.
        noise: (N, *agent.noise_shape) float32.

    Returns:
        (N, T, A) float32.
    """
    chunks = []
    for start in range(0, len(visited), SLOTS):
        rows = slice(start, start + SLOTS)
        tasks = [*visited.tasks[rows]]
        empty = SLOTS - len(tasks)
        observations = {key: _padded(each[rows]) for key, each in visited.observations.items()}
        chunk = agent.act(observations, tasks + [TaskInput()] * empty, _padded(noise[rows]))
        chunks.append(chunk[: SLOTS - empty])
    return np.concatenate(chunks)


def visit(
    agent: Agent,
    env_id: str,
    numbers: Sequence[int],
    study_seed: int,
    *,
    suite: str = "",
    level: int = 1,
    window: int,
    images: bool,
    goals: bool,
) -> tuple[Visited, np.ndarray, np.ndarray]:
    """Follow an agent for a while and keep what it sees.

    Args:
        agent: who acts.
        env_id, numbers, study_seed, suite, level: where it acts, in `SLOTS` episodes at most.
        window: steps of history that are kept; the agent's own if it looks at any.
        images, goals: whether they are drawn.

    Returns:
        What was seen, the noise (N, *agent.noise_shape) of the queries, and the
        agent's chunks (N, T, A).
    """
    overheard = _Overheard(agent, numbers, window, images, goals)
    queries = (MOMENTS - 1) * max(1, EVERY // agent.execute) + 1
    with ExitStack() as stack:
        environments = [
            stack.enter_context(
                closing(OctoBenchEnvironment(env_id, images=images, suite=suite, level=level))
            )
            for _ in numbers
        ]
        rolled = stack.enter_context(
            closing(roll_out_by_queries(overheard, environments, numbers, study_seed))
        )
        for _ in zip(range(queries), rolled, strict=False):
            pass
    return overheard.kept(step=max(1, EVERY // agent.execute))


class _Overheard:
    """An agent, with a record of its inputs and chunks."""

    def __init__(
        self, agent: Agent, numbers: Sequence[int], window: int, images: bool, goals: bool
    ) -> None:
        self._agent = agent
        self._numbers = np.asarray(numbers)  # one a row: none is refilled
        self.window = window
        self.execute = agent.execute
        self.noise_shape = agent.noise_shape
        self.wants_images = images
        self.wants_goal = goals
        self._queries: list[tuple[Visited, np.ndarray, np.ndarray]] = []

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """See `Agent.begin`."""
        self._agent.begin(slot, environment, seed)

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """See `Agent.act`."""
        chunk = self._agent.act(observations, tasks, noise)
        asked = observations[PAD_MASK].any(axis=1)
        seen = {key: values[asked] for key, values in observations.items()}
        of_asked = tuple(task for task, row in zip(tasks, asked, strict=True) if row)
        numbers = self._numbers[asked[: len(self._numbers)]]
        self._queries.append((Visited(seen, of_asked, numbers), noise[asked], chunk[asked]))
        return chunk

    def kept(self, step: int) -> tuple[Visited, np.ndarray, np.ndarray]:
        """Every `step`-th query, one after the other."""
        visited, noise, chunks = zip(*self._queries[::step], strict=True)
        keys = visited[0].observations
        observations = {
            key: np.concatenate([each.observations[key] for each in visited]) for key in keys
        }
        tasks = tuple(task for each in visited for task in each.tasks)
        episodes = np.concatenate([each.episodes for each in visited])
        return Visited(observations, tasks, episodes), np.concatenate(noise), np.concatenate(chunks)


def _padded(values: np.ndarray) -> np.ndarray:
    """`values` (n, ...) with rows of zeros up to `SLOTS`."""
    missing = [(0, SLOTS - len(values)), *[(0, 0)] * (values.ndim - 1)]
    return np.pad(values, missing)
