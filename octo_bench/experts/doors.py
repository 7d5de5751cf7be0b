"""The demonstrator that turns a handle and opens the door."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.motions import CLOSE, OPEN, Motion, hold, nearest_turn, reach, servo
from octo_bench.simulation.world import World

_LEVER = 0.125  # m from the latch's axis to the handle, robosuite's door
_OFFSET = 0.10  # m from the door to the handle
_ABOVE = np.array([0.0, 0.0, 0.10])
_TURN_AHEAD = 0.5
_TURNED = 1.0
_PULL_AHEAD = 0.06


def open_door(world: World) -> Motion:
    """Straddle the handle from above, push it down around its axis, pull the door open."""
    while True:
        yaw = _door_yaw(world)
        where = lambda: world.thing("Door_handle").position  # noqa: E731
        turn = lambda: _door_yaw(world)  # noqa: E731
        up = np.array([*world.tool().position[:2], where()[2] + _ABOVE[2]])
        yield from reach(world, lambda up=up: up, OPEN, tolerance=0.03, yaw=turn)
        yield from reach(world, lambda: where() + _ABOVE, OPEN, tolerance=0.02, yaw=turn)
        yield from reach(world, where, OPEN, tolerance=0.012, patience=30, yaw=turn)
        yield from hold(world, world.tool().position, CLOSE, lambda: False, 8, yaw)
        for _ in range(40):
            if _turned(world) > _TURNED:
                break
            yield servo(world, _ahead(world), CLOSE, turn())
        for _ in range(60):
            outward = -world.thing("Door_door").rotation[:, 1]
            goal = where() + _PULL_AHEAD * outward
            if np.linalg.norm(where() - world.tool().position) > 0.08:
                break  # lost it
            yield servo(world, goal, CLOSE, turn())


def _door_yaw(world: World) -> float:
    """The yaw (rad) at which the fingers close across the door."""
    along = world.thing("Door_door").rotation[:, 0]
    return nearest_turn(float(np.arctan2(along[1], along[0])), np.pi)


def _turned(world: World) -> float:
    """How far the handle is turned (rad)."""
    latch, door = world.thing("Door_latch").rotation, world.thing("Door_door").rotation
    relative = door.T @ latch
    return abs(float(np.arctan2(relative[2, 0], relative[0, 0])))


def _ahead(world: World) -> np.ndarray:
    """Where the handle will be when it has turned a little further down."""
    latch, door = world.thing("Door_latch"), world.thing("Door_door")
    axis = latch.position - _OFFSET * door.rotation[:, 1]
    angle = min(_turned(world) + _TURN_AHEAD, np.pi / 2)
    level = np.cos(angle) * door.rotation[:, 0] - np.sin(angle) * np.array([0.0, 0.0, 1.0])
    return axis + _LEVER * level
