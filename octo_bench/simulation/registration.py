"""Makes the environments known to Gymnasium, through its `gymnasium.envs` entry point."""

from __future__ import annotations

import gymnasium

from octo_bench.definitions import environments


def register() -> None:
    """Register every declared environment under its id; those that are registered stay."""
    for declared in environments():
        if declared.id not in gymnasium.registry:
            gymnasium.register(
                id=declared.id,
                entry_point="octo_bench.simulation.environment:OctoBenchEnvironment",
                kwargs={"env_id": declared.id},
            )
