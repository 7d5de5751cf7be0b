"""Makes the environments known to Gymnasium when the package is imported."""

from __future__ import annotations

import gymnasium
from gymnasium.envs.registration import WrapperSpec

from octo_bench.definitions.environments import HOLD_STEPS, environment_ids, horizons

_ROOM = "octo_bench.simulation.environment"
_LENGTHENED = WrapperSpec("Lengthened", f"{_ROOM}:Lengthened", {})


def register() -> None:
    """Register every declared environment under its id; those that are registered stay.

    `max_episode_steps` is the longest that an episode takes: the horizon, and the steps for which
    a success has to hold.
    """
    limits = {task: horizon + HOLD_STEPS for task, horizon in horizons().items()}
    for env_id in environment_ids():
        if env_id not in gymnasium.registry:
            task = env_id.partition("/")[2].partition("-")[0]
            gymnasium.register(
                id=env_id,
                entry_point=f"{_ROOM}:OctoBenchEnvironment",
                kwargs={"env_id": env_id},
                max_episode_steps=limits.get(task),
                additional_wrappers=(_LENGTHENED,),
            )
