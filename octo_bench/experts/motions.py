"""The motions that scripted experts are made of.

A motion is a generator: it looks at the world again before each action that it yields, so that a
disturbance in between is answered, and ends when its goal is reached or its patience is over. It
moves one arm; `together` moves two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import mujoco
import numpy as np

from octo_bench.simulation.world import Pose, World

OPEN, CLOSE = -1.0, 1.0
Motion = Iterator[np.ndarray]
Position = Callable[[], np.ndarray]

_DOWN = np.array([0.0, 0.0, -1.0])
_METRES_PER_UNIT = 0.05
_RADIANS_PER_UNIT = 0.5
_GAIN = 1.7
_TURN_GAIN = 1.0
_UPRIGHT_REACH = 0.62
_LEAN_PER_METRE = 2.2


def servo(
    world: World, position: np.ndarray, gripper: float, yaw: float = 0.0, arm: int = 0
) -> np.ndarray:
    """One action (7,) towards an end-effector `position` (m, world), pointing down, at `yaw` (rad).

    A proportional controller on the pose error, within the action's limits.
    """
    tool = world.tool(arm)
    shift = _GAIN * (position - tool.position) / _METRES_PER_UNIT
    tilt = np.cross(tool.rotation[:, 2], _DOWN)
    turn = _TURN_GAIN * (tilt + np.array([0.0, 0.0, _swing(tool.rotation, yaw)]))
    # The course over the table is kept where the length has to be cut; height is not traded for it.
    shift[:2] /= max(1.0, np.abs(shift[:2]).max())
    shift[2] = np.clip(shift[2], -1.0, 1.0)
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
    looks: int = 1,
) -> Motion:
    """Move the end effector to `position()` (world, metres) until it is within `tolerance`.

    The turn to `yaw()` (rad) need only be within `turned` of its end. The goal has to be
    seen reached in so many `looks` in a row.
    """
    seen = 0
    for _ in range(patience):
        tool = world.tool(arm)
        near = np.linalg.norm(position() - tool.position) < tolerance
        seen = seen + 1 if near and abs(_swing(tool.rotation, yaw())) < turned else 0
        if seen == looks:
            return
        yield servo(world, position(), gripper, yaw(), arm)


def servo_pose(world: World, goal: Pose, gripper: float, arm: int = 0) -> np.ndarray:
    """One action (7,) that brings the end-effector frame to a `goal`, straight and by one turn."""
    tool = world.tool(arm)
    shift = _GAIN * (goal.position - tool.position) / _METRES_PER_UNIT
    turn = _TURN_GAIN * _turn_between(tool.rotation, goal.rotation) / _RADIANS_PER_UNIT
    shift, turn = (part / max(1.0, np.abs(part).max()) for part in (shift, turn))
    return np.concatenate([shift, turn, [gripper]])


def reach_pose(
    world: World,
    goal: Callable[[], Pose],
    gripper: float,
    *,
    tolerance: float,
    turned: float,
    patience: int,
    arm: int = 0,
) -> Motion:
    """Move the end-effector frame to within `tolerance` (m) and `turned` (rad) of `goal()`."""
    for _ in range(patience):
        tool, wanted = world.tool(arm), goal()
        gap = np.linalg.norm(wanted.position - tool.position)
        turn = np.linalg.norm(_turn_between(tool.rotation, wanted.rotation))
        if gap < tolerance and turn < turned:
            return
        yield servo_pose(world, wanted, gripper, arm)


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


def still(action: np.ndarray, grippers: Sequence[int]) -> np.ndarray:
    """The action that moves nothing and commands the grippers, at these entries, as `action`."""
    held = np.zeros_like(action)
    held[list(grippers)] = action[list(grippers)]
    return held


def leaning(world: World, motion: Motion, most: float = 0.6) -> Motion:
    """The same motion, the end effector leaning outwards far from the base to reach further.

    For what need not be upright; by at most `most` (rad). The first arm alone.
    """
    for action in motion:
        tool = world.tool()
        outward = (tool.position - world.base()) * [1.0, 1.0, 0.0]
        distance = np.linalg.norm(outward)
        angle = np.clip(_LEAN_PER_METRE * (distance - _UPRIGHT_REACH), 0.0, most)
        lean = np.cos(angle) * _DOWN + np.sin(angle) * outward / distance
        more = _TURN_GAIN * np.cross(tool.rotation[:, 2], lean - _DOWN) / _RADIANS_PER_UNIT
        turn = np.clip(action[3:6] + more, -1.0, 1.0)
        yield np.concatenate([action[:3], turn, action[6:]])


def tool_yaw(world: World, arm: int = 0) -> float:
    """The yaw (rad) of an end effector that points down: the direction of its x axis."""
    forward = world.tool(arm).rotation[:, 0]
    return float(np.arctan2(forward[1], forward[0]))


def nearest_turn(angle: float, period: float, to: float = 0.0) -> float:
    """The angle equal to `angle` modulo `period` (rad) that is nearest to `to`."""
    return float((angle - to + period / 2) % period - period / 2 + to)


def _swing(rotation: np.ndarray, yaw: float) -> float:
    """The turn (rad) about the vertical from an end effector's x axis to `yaw`."""
    forward = rotation[:, 0]
    wanted = np.array([np.cos(yaw), np.sin(yaw), 0.0])
    return float(np.arctan2(np.cross(forward, wanted)[2], forward[:2] @ wanted[:2]))


def _turn_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The turn (3,) from one rotation matrix to another: axis times angle (rad), in the world."""
    quaternion, turn = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, (end @ start.T).ravel())
    mujoco.mju_quat2Vel(turn, quaternion, 1.0)
    return turn
