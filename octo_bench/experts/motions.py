"""The motions that demonstrators are made of.

A motion is a generator: it looks at the world anew before each action that it yields, so that a
disturbance in between is answered, and ends when its goal is reached or its patience is over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from octo_bench.simulation.world import World

OPEN, CLOSE = -1.0, 1.0
Motion = Iterator[np.ndarray]

_METRES_PER_UNIT = 0.05
_RADIANS_PER_UNIT = 0.5
_GAIN = 1.7
_TURN_GAIN = 1.0
_DOWN = np.array([0.0, 0.0, -1.0])


def servo(world: World, position: np.ndarray, gripper: float, yaw: float = 0.0) -> np.ndarray:
    """One action (7,) towards a tool `position` (world, metres), upright, at `yaw` (rad).

    A proportional controller on the pose error, within the action's limits.
    """
    tool = world.tool()
    shift = _GAIN * (position - tool.position) / _METRES_PER_UNIT
    upright = np.cross(tool.rotation[:, 2], _DOWN)
    forward = tool.rotation[:, 0]
    wanted = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    swing = np.arctan2(np.cross(forward, wanted)[2], forward[:2] @ wanted[:2])
    turn = _TURN_GAIN * (upright + np.array([0.0, 0.0, swing])) / _RADIANS_PER_UNIT
    # The direction is kept where the length has to be cut.
    shift = shift / max(1.0, np.abs(shift).max())
    return np.concatenate([shift, np.clip(turn, -1.0, 1.0), [gripper]])


def reach(
    world: World,
    position: Callable[[], np.ndarray],
    gripper: float,
    *,
    tolerance: float,
    patience: int = 60,
    yaw: Callable[[], float] = lambda: 0.0,
) -> Motion:
    """Move the tool to `position()` (world, metres) until it is within `tolerance`."""
    for _ in range(patience):
        if np.linalg.norm(position() - world.tool().position) < tolerance:
            return
        yield servo(world, position(), gripper, yaw())


def hold(
    world: World,
    position: np.ndarray,
    gripper: float,
    until: Callable[[], bool],
    patience: int,
    yaw: float = 0.0,
) -> Motion:
    """Stay at `position` with the gripper commanded, until a condition holds."""
    for _ in range(patience):
        if until():
            return
        yield servo(world, position, gripper, yaw)
