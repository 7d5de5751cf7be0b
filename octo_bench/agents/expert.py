"""The scripted expert as an agent: the ceiling of every comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from octo_bench.agents.protocol import TaskInput
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
