"""Demonstrators that lift and stack cubes."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.motions import CLOSE, OPEN, Motion, hold, reach
from octo_bench.simulation.world import World

_ABOVE = np.array([0.0, 0.0, 0.07])
_LIFTED = np.array([0.0, 0.0, 0.10])
_CLOSING_STEPS = 12
_HALF_FINGER = 0.006
_NEIGHBOUR_RADIUS = 0.035


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
        start = world.tool().position
        yield from reach(
            world, lambda start=start: start + _LIFTED, CLOSE, tolerance=0.02, patience=30
        )
        if world.grasping(task.object):
            yield from _set_down(world, task.object, task.target)


def grasp(world: World, name: str, in_the_way: str = "") -> Motion:
    """Open, go above the cube, down to it, and close, the fingers clear of a neighbour."""
    yaw = _graspable_yaw(world, name, in_the_way)
    where = lambda: world.thing(name).position  # noqa: E731
    yield from reach(world, lambda: where() + _ABOVE, OPEN, tolerance=0.015, yaw=lambda: yaw)
    yield from reach(world, where, OPEN, tolerance=0.008, patience=30, yaw=lambda: yaw)
    here = world.tool().position
    yield from hold(world, here, CLOSE, _held(world, name), _CLOSING_STEPS, yaw)


def _set_down(world: World, name: str, target: str) -> Motion:
    """Carry the held thing over the target, lower it onto it, let go and draw back."""
    yaw = _tool_yaw(world)

    def over(height: float) -> np.ndarray:
        """Where the tool has to be for the thing to be `height` above its place."""
        in_hand = world.thing(name).position - world.tool().position
        place = world.thing(target).position + np.array([0.0, 0.0, 0.045 + height])
        return place - in_hand

    yield from reach(world, lambda: over(0.04), CLOSE, tolerance=0.012, yaw=lambda: yaw)
    yield from reach(
        world, lambda: over(0.002), CLOSE, tolerance=0.008, patience=25, yaw=lambda: yaw
    )
    here = world.tool().position
    yield from hold(world, here, OPEN, lambda: world.opening() > 0.8, 8, yaw)
    yield from reach(
        world, lambda: here + _ABOVE, OPEN, tolerance=0.02, patience=15, yaw=lambda: yaw
    )


def _held(world: World, name: str):
    """A condition: the thing has been between the pads for three looks in a row."""
    looks = 0

    def held() -> bool:
        nonlocal looks
        looks = looks + 1 if world.grasping(name) else 0
        return looks >= 3

    return held


def _graspable_yaw(world: World, name: str, in_the_way: str) -> float:
    """The yaw (rad) of one pair of the cube's sides: the pair that needs the smaller turn.

    The other pair, where a finger would come down on the neighbour `in_the_way`.
    """
    cube = world.thing(name)
    side = np.arctan2(cube.rotation[1, 0], cube.rotation[0, 0])
    quarter = np.pi / 2
    nearest = float((side + quarter / 2) % quarter - quarter / 2)
    if not in_the_way:
        return nearest
    reach = world.declared.embodiment.gripper.open / 2 + _HALF_FINGER
    opening = reach * np.array([-np.sin(nearest), np.cos(nearest)])
    neighbour = world.thing(in_the_way).position[:2] - cube.position[:2]
    clear = min(np.linalg.norm(neighbour - opening), np.linalg.norm(neighbour + opening))
    return nearest if clear > _NEIGHBOUR_RADIUS else nearest - np.copysign(quarter, nearest)


def _tool_yaw(world: World) -> float:
    forward = world.tool().rotation[:, 0]
    return float(np.arctan2(forward[1], forward[0]))
