"""The agent that acts at random: the floor of every comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from octo_bench.agents.inference import Inference
from octo_bench.agents.protocol import Agent, TaskInput
from octo_bench.agents.sources import require_defaults
from octo_bench.definitions.environments import Environment
from octo_bench.simulation.environment import OctoBenchEnvironment


class RandomAgent:
    """Actions uniform in [-1, 1], made of the episode's noise."""

    window = 1
    execute = 1
    wants_images = False
    wants_goal = False

    def __init__(self, action_size: int) -> None:
        """Act with `action_size` entries."""
        self.noise_shape = (1, action_size)

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """Nothing to prepare."""

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """See `Agent.act`; standard normal noise through its own distribution is uniform."""
        from scipy.special import ndtr

        return (2.0 * ndtr(noise) - 1.0).astype(np.float32)


class RandomSource:
    """See `PolicySource`."""

    trainable = False
    privileged = False

    def check(self, policy: str) -> None:
        """It is always there."""

    def files(self, policy: str) -> dict[str, str]:
        """It has no files."""
        return {"agent": policy}

    def head(self, policy: str) -> str:
        """It has no head."""
        return ""

    def load(
        self, policy: str, declared: Environment, inference: Inference, image_size: int
    ) -> Agent:
        """See `load_agent`."""
        require_defaults(policy, inference)
        return RandomAgent(declared.action_size)


SOURCE = RandomSource()
