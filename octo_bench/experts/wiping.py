"""The scripted expert that wipes a table."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.motions import CLOSE, Motion, reach, servo
from octo_bench.simulation.world import World

_ABOVE = np.array([0.0, 0.0, 0.05])
_PRESS = np.array([0.0, 0.0, -0.005])


def wipe(world: World) -> Motion:
    """Come down on the nearest dirt and go on to the next nearest until none is left."""
    yield from reach(world, lambda: _nearest(world) + _ABOVE, CLOSE, tolerance=0.03)
    while True:
        yield servo(world, _nearest(world) + _PRESS, CLOSE)


def _nearest(world: World) -> np.ndarray:
    """The dirt nearest to the end effector, or the end effector itself when there is none."""
    here, dirt = world.tool().position, world.dirt()
    if not len(dirt):
        return here
    return dirt[np.linalg.norm(dirt - here, axis=1).argmin()]
