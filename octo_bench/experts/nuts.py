"""The scripted expert that puts a nut on its peg."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octo_bench.experts.grasping import carry, grasp_at, let_go, raise_to
from octo_bench.experts.motions import Motion, leaning, nearest_turn, tool_yaw
from octo_bench.simulation.world import World

_GRIP = 0.065
_LEVEL = np.cos(0.2)
_ABOVE_PEG = 0.17
_MOST_LEAN = 0.3
_PEG = 0.13  # m, the pegs' height over robosuite's table
_ALIGNED = 0.008
_STEP = 0.015
_LOWERING_STEPS = 60


def thread_nut(world: World) -> Motion:
    """Grasp the nut by its handle, bring it over the peg at a quarter turn, lower it."""
    yield from leaning(world, _thread_upright(world), _MOST_LEAN)


def _thread_upright(world: World) -> Motion:
    task = world.declared.task
    while True:
        yaw = nearest_turn(_yaw(world, task.object), np.pi)

        def grip() -> np.ndarray:
            nut = world.thing(task.object)
            return nut.position + _GRIP * nut.rotation[:, 0]

        yield from grasp_at(world, task.object, grip, yaw)
        if world.thing(task.object).rotation[2, 2] < _LEVEL:
            yield from let_go(world)
            continue
        peg = world.thing(task.target).position

        def over(height: float, peg: np.ndarray = peg) -> np.ndarray:
            return np.array([peg[0], peg[1], world.workspace[2] + height])

        yield from raise_to(world, world.workspace[2] + _ABOVE_PEG)
        if not world.grasping(task.object):
            continue
        goal = tool_yaw(world) + _turn_to_fit(_yaw(world, task.object))
        yield from carry(
            world,
            task.object,
            lambda: over(_ABOVE_PEG),
            tolerance=_ALIGNED,
            yaw=lambda goal=goal: goal,
            turned=0.05,
            patience=80,
            looks=3,
        )
        if world.grasping(task.object):
            yield from _lower(world, task.object, over, goal)
            yield from let_go(world)


def _lower(world: World, nut: str, over: Callable[[float], np.ndarray], yaw: float) -> Motion:
    """Bring the held nut down over the peg, step by step, and up a little where it is beside."""
    floor = world.workspace[2]

    def next_place() -> np.ndarray:
        position = world.thing(nut).position
        beside = np.linalg.norm((over(0.0) - position)[:2])
        height = position[2] - floor
        on_top = height > _PEG - 0.01
        return over(height + _STEP if on_top and beside > _ALIGNED else height - _STEP)

    for _ in range(_LOWERING_STEPS):
        if world.thing(nut).position[2] < floor + 0.02:
            return
        yield from carry(world, nut, next_place, tolerance=0.0, yaw=lambda: yaw, patience=1)


def _turn_to_fit(yaw: float) -> float:
    """The turn (rad) to the nearest quarter at which the handle does not point beyond the peg.

    With the handle pointing away from the arm, the end effector would have to reach further than
    the peg.
    """
    quarters = (np.pi / 2, np.pi, -np.pi / 2)
    return min((nearest_turn(quarter - yaw, 2 * np.pi) for quarter in quarters), key=abs)


def _yaw(world: World, name: str) -> float:
    """The direction (rad) in which a thing's x axis points, for a nut its handle."""
    rotation = world.thing(name).rotation
    return float(np.arctan2(rotation[1, 0], rotation[0, 0]))
