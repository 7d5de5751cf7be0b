"""The scripted expert as an agent: the ceiling of every comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from octo_bench.agents.inference import Inference
from octo_bench.agents.protocol import Agent, TaskInput
from octo_bench.agents.sources import require_defaults
from octo_bench.definitions.environments import Environment
from octo_bench.experts.motions import Motion
from octo_bench.experts.registry import after_success, demonstrate
from octo_bench.simulation.environment import OctoBenchEnvironment


class ExpertAgent:
    """Looks at the simulation itself, not at the observations; once the task is done, it holds
    still."""

    window = 1
    execute = 1
    noise_shape: tuple[int, ...] = ()
    wants_images = False
    wants_goal = False

    def __init__(self, action_size: int) -> None:
        """No episode yet in any row."""
        self._action_size = action_size
        self._motions: dict[int, Motion] = {}
        self._environments: dict[int, OctoBenchEnvironment] = {}
        self._last: dict[int, np.ndarray] = {}

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """Take up the task of the episode in row `slot`."""
        self._motions[slot] = demonstrate(environment.world)
        self._environments[slot] = environment

    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """See `Agent.act`; rows without an episode stay still."""
        chunk = np.zeros((len(tasks), 1, self._action_size), np.float32)
        for slot, motion in self._motions.items():
            if observations["timestep_pad_mask"][slot].any():
                environment = self._environments[slot]
                if environment.holding:
                    action = after_success(environment.world, motion, self._last[slot])
                else:
                    action = next(motion)
                self._last[slot] = chunk[slot, 0] = action
        return chunk


class ExpertSource:
    """See `PolicySource`."""

    trainable = False
    privileged = True

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
        return ExpertAgent(declared.action_size)


SOURCE = ExpertSource()
