"""Goal images: how the scene of an episode looks once its task is done."""

from __future__ import annotations

from typing import Any

import numpy as np

from octo_bench.experts.registry import demonstrate
from octo_bench.simulation.environment import OctoBenchEnvironment


def goal_image(
    environment: OctoBenchEnvironment, seed: int, options: dict[str, Any]
) -> np.ndarray | None:
    """What the front camera sees when the scripted expert has done the task from the same start.

    The episode itself is not touched by it: it starts with a `reset` of its own, which determines
    all of it, and the scripted expert draws nothing.

    Args:
        environment: where the episode will run, with images; it is left where the goal is.
        seed, options: of the `reset` that starts the episode.

    Returns:
        (H, W, 3) uint8, seen under the episode's perturbation; None where the scripted expert
        fails.
    """
    environment.reset(seed=seed, options=options)
    motion = demonstrate(environment.world)
    while True:
        action = next(motion).astype(np.float32)
        observation, _, _, truncated, info = environment.step(action)
        if info["success"]:
            return observation["image_primary"]
        if truncated:
            return None
