"""The demonstrator that puts a nut on its peg."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.grasping import carry, grasp_at, let_go, raise_to
from octo_bench.experts.motions import Motion, nearest_turn, tool_yaw
from octo_bench.simulation.world import World

_GRIP = 0.062
_ABOVE_PEG = 0.15
_ON_PEG = 0.08


def thread_nut(world: World) -> Motion:
    """Grasp the nut by its handle, bring it over the peg at a quarter turn, lower it."""
    task = world.declared.task
    while True:
        nut = world.thing(task.object)
        handle = np.arctan2(nut.rotation[1, 0], nut.rotation[0, 0])
        yaw = nearest_turn(handle, np.pi)

        def grip() -> np.ndarray:
            nut = world.thing(task.object)
            return nut.position + _GRIP * nut.rotation[:, 0]

        yield from grasp_at(world, task.object, grip, yaw)
        peg = world.thing(task.target).position

        def over(height: float, peg: np.ndarray = peg) -> np.ndarray:
            return np.array([peg[0], peg[1], world.workspace[2] + height])

        yield from raise_to(world, world.workspace[2] + _ABOVE_PEG)
        if not world.grasping(task.object):
            continue
        turn = nearest_turn(_yaw(world, task.object), np.pi / 2) - _yaw(world, task.object)
        goal = tool_yaw(world) - nearest_turn(_yaw(world, task.object), np.pi / 2)
        del turn
        yield from carry(
            world,
            task.object,
            lambda: over(_ABOVE_PEG),
            tolerance=0.006,
            yaw=lambda goal=goal: goal,
            turned=0.05,
        )
        if not world.grasping(task.object):
            continue
        yield from carry(
            world,
            task.object,
            lambda: over(0.02),
            tolerance=0.01,
            yaw=lambda goal=goal: goal,
            patience=40,
        )
        yield from let_go(world)


def _yaw(world: World, name: str) -> float:
    rotation = world.thing(name).rotation
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))
