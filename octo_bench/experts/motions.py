"""The motions that demonstrators are made of.

A motion is a generator: it looks at the world anew before each action that it yields, so that a
disturbance in between is answered, and ends when its goal is reached or its patience is over. It
moves one arm; `together` moves two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from octo_bench.simulation.world import World

OPEN, CLOSE = -1.0, 1.0
Motion = Iterator[np.ndarray]
Position = Callable[[], np.ndarray]

_METRES_PER_UNIT = 0.05
_RADIANS_PER_UNIT = 0.5
_GAIN = 1.7
_TURN_GAIN = 1.0
_DOWN = np.array([0.0, 0.0, -1.0])


def servo(
    world: World, position: np.ndarray, gripper: float, yaw: float = 0.0, arm: int = 0
) -> np.ndarray:
    """One action (7,) towards a tool `position` (world, metres), upright, at `yaw` (rad).

    A proportional controller on the pose error, within the action's limits.
    """
    tool = world.tool(arm)
    shift = _GAIN * (position - tool.position) / _METRES_PER_UNIT
    upright = np.cross(tool.rotation[:, 2], _DOWN)
    turn = _TURN_GAIN * (upright + np.array([0.0, 0.0, _swing(tool.rotation, yaw)]))
    # The direction is kept where the length has to be cut.
    shift = shift / max(1.0, np.abs(shift).max())
    return np.concatenate([shift, np.clip(turn / _RADIANS_PER_UNIT, -1.0, 1.0), [gripper]])


def reach(
    world: World,
    position: Position,
    gripper: float,
    *,
    tolerance: float,
    patience: int = 60,
    yaw: Callable[[], float] = lambda: 0.0,
    turned: float = np.inf,
    arm: int = 0,
) -> Motion:
    """Move the tool to `position()` (world, metres) until it is within `tolerance`.

    The turn to `yaw()` (rad) need only be within `turned` of its end.
    """
    for _ in range(patience):
        tool = world.tool(arm)
        near = np.linalg.norm(position() - tool.position) < tolerance
        if near and abs(_swing(tool.rotation, yaw())) < turned:
            return
        yield servo(world, position(), gripper, yaw(), arm)


def hold(
    world: World,
    position: np.ndarray,
    gripper: float,
    until: Callable[[], bool],
    patience: int,
    yaw: float = 0.0,
    arm: int = 0,
) -> Motion:
    """Stay at `position` with the gripper commanded, until a condition holds."""
    for _ in range(patience):
        if until():
            return
        yield servo(world, position, gripper, yaw, arm)


def together(world: World, *motions: Motion) -> Motion:
    """Move all arms, each by its motion, until all have ended; one that has ended stays put."""
    ended = [False] * len(motions)
    last = [np.zeros(7) for _ in motions]
    stay: list[tuple[np.ndarray, float] | None] = [None] * len(motions)
    while True:
        for arm, motion in enumerate(motions):
            if not ended[arm]:
                action = next(motion, None)
                if action is not None:
                    last[arm] = action
                    continue
                ended[arm] = True
                stay[arm] = (world.tool(arm).position, tool_yaw(world, arm))
            position, yaw = stay[arm]
            last[arm] = servo(world, position, last[arm][6], yaw, arm)
        if all(ended):
            return
        yield np.concatenate(last)


def tool_yaw(world: World, arm: int = 0) -> float:
    """The yaw (rad) of a tool that points down: the direction of its x axis."""
    forward = world.tool(arm).rotation[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def nearest_turn(angle: float, period: float, to: float = 0.0) -> float:
    """The angle equal to `angle` modulo `period` (rad) that is nearest to `to`."""
    return float((angle - to + period / 2) % period - period / 2 + to)


def _swing(rotation: np.ndarray, yaw: float) -> float:
    """The turn (rad) about the vertical from a tool's x axis to `yaw`."""
    forward = rotation[:, 0]
    wanted = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    return float(np.arctan2(np.cross(forward, wanted)[2], forward[:2] @ wanted[:2]))
