"""Stock robosuite, to compare with: its own step, controller, observables and cameras."""

from __future__ import annotations

import numpy as np

from octo_bench.definitions.environments import Environment
from octo_bench.simulation.world import World

CAMERAS = ("agentview", "robot0_eye_in_hand")


class StockSimulation:
    """An environment of ours in stock robosuite, with two of robosuite's cameras.

    It has the same model, controller settings and starts. Object positions are not among its
    observations, as no policy sees them. Only one may draw in a process, and nothing else: its
    renderer does not ask for its own OpenGL context before each frame.
    """

    def __init__(self, declared: Environment, image_size: int) -> None:
        """Build it; frames are `image_size` pixels high and wide.

        Raises:
            BadDefinition, MissingDependency: as `World`.
        """
        self._world = World(
            declared,
            "stock",
            has_offscreen_renderer=True,
            use_camera_obs=True,
            camera_names=list(CAMERAS),
            camera_heights=image_size,
            camera_widths=image_size,
        )
        self.suite = self._world._suite

    def reset(self, seed: int) -> None:
        """Start the episode that `seed` determines."""
        self._world.reset(seed)

    def step(self, action: np.ndarray) -> dict[str, np.ndarray]:
        """Advance by one control step under `action` (A,); robosuite's observations."""
        observations, *_ = self.suite.step(self._world._command(action))
        return observations

    def state(self) -> np.ndarray:
        """As `World.state`."""
        return self._world.state()

    def succeeded(self) -> bool:
        """Whether the task is done now, as robosuite defines it."""
        return self._world.succeeded()
