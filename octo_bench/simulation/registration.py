"""Makes the environments known to Gymnasium when the package is imported."""

from __future__ import annotations

import gymnasium

from octo_bench.definitions import environment_ids


def register() -> None:
    """Register every declared environment under its id; those that are registered stay."""
    for env_id in environment_ids():
        if env_id not in gymnasium.registry:
            gymnasium.register(
                id=env_id,
                entry_point="octo_bench.simulation.environment:OctoBenchEnvironment",
                kwargs={"env_id": env_id},
            )
