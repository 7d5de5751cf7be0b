"""How chunks of actions are executed: wrappers around an agent that are agents themselves.

A wrapper keeps its state by row and clears it when an episode begins there, so that a row's
actions depend on that row alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from octo_bench.agents.history import PAD_MASK
from octo_bench.agents.inference import Inference
from octo_bench.agents.protocol import Agent, TaskInput

if TYPE_CHECKING:
    from octo_bench.simulation.environment import OctoBenchEnvironment

ENSEMBLE_DECAY = 0.01
"""By how much the logarithm of a chunk's weight falls from one chunk to the next younger one."""


def with_execution(agent: Agent, inference: Inference) -> Agent:
    """The agent, its chunks executed as the options say."""
    if inference.ensemble:
        return TemporalEnsemble(agent)
    if inference.execute is not None:
        return RecedingHorizon(agent, inference.execute)
    return agent


class _Wrapper:
    """Calls the wrapped agent unchanged."""

    def __init__(self, agent: Agent, execute: int) -> None:
        self._agent = agent
        self.window = agent.window
        self.execute = execute
        self.noise_shape = agent.noise_shape
        self.wants_images = agent.wants_images
        self.wants_goal = agent.wants_goal

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
        return self._agent.act(observations, tasks, noise)


class RecedingHorizon(_Wrapper):
    """Executes the first `execute` actions of each chunk, then asks for the next one."""

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """See `Agent.act`; the chunks are cut to what is executed."""
        return super().act(observations, tasks, noise)[:, : self.execute]


class TemporalEnsemble(_Wrapper):
    """Asks for a chunk at every step and averages those that cover the step.

    The weights are those of Zhao et al., "Learning Fine-Grained Bimanual Manipulation with
    Low-Cost Hardware" (ACT, 2023): exp(-decay * i), the oldest chunk's i being 0, so that older
    ones count more. Octo's evaluation does the same, by default with a decay of 0, all alike.
    """

    def __init__(self, agent: Agent, decay: float = ENSEMBLE_DECAY) -> None:
        """No episode yet in any row."""
        super().__init__(agent, execute=1)
        self._decay = decay
        self._chunks: dict[int, deque[np.ndarray]] = {}

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """Forget the chunks of the episode before."""
        super().begin(slot, environment, seed)
        self._chunks[slot] = deque()

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """See `Agent.act`; chunks of one action, zeros for rows without an episode."""
        asked = super().act(observations, tasks, noise)
        actions = np.zeros_like(asked[:, :1])
        for slot, chunks in self._chunks.items():
            if observations[PAD_MASK][slot].any():
                chunks.append(asked[slot])
                if len(chunks) > len(asked[slot]):
                    chunks.popleft()
                actions[slot, 0] = self._average(chunks)
        return actions

    def _average(self, chunks: Sequence[np.ndarray]) -> np.ndarray:
        """The action (A,) of now: chunks (T, A), oldest first, one of each of the last steps."""
        of_now = [chunk[age] for age, chunk in enumerate(reversed(chunks))][::-1]
        weights = np.exp(-self._decay * np.arange(len(chunks)))
        return np.average(of_now, axis=0, weights=weights)
