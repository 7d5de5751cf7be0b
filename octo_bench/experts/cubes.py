"""Scripted experts that lift and stack cubes."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.grasping import carry, grasp, let_go, raise_to
from octo_bench.experts.motions import CLOSE, Motion, reach
from octo_bench.simulation.world import World

_LIFTED = np.array([0.0, 0.0, 0.10])


def lift(world: World) -> Motion:
    """Grasp the cube and raise it; again from the start when it slips."""
    name = world.declared.task.object
    while True:
        yield from grasp(world, name)
        start = world.tool().position
        yield from reach(
            world, lambda start=start: start + _LIFTED, CLOSE, tolerance=0.01, patience=30
        )


def stack(world: World) -> Motion:
    """Grasp the one cube, carry it over the other, set it down; again when it slips."""
    task = world.declared.task
    while True:
        yield from grasp(world, task.object, task.target)
        yield from raise_to(world, world.tool().position[2] + _LIFTED[2])
        if world.grasping(task.object):
            yield from _set_down(world, task.object, task.target)


def _set_down(world: World, name: str, target: str) -> Motion:
    """Carry the held cube over the target, lower it onto it, let go and draw back."""

    def over(height: float) -> np.ndarray:
        return world.thing(target).position + np.array([0.0, 0.0, 0.045 + height])

    yield from carry(world, name, lambda: over(0.04), tolerance=0.012)
    yield from carry(world, name, lambda: over(0.002), tolerance=0.008, patience=25)
    yield from let_go(world)
