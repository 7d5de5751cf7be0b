"""The scripted expert that turns a handle and opens the door."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.motions import CLOSE, OPEN, Motion, reach_pose, servo_pose
from octo_bench.simulation.world import Pose, World

_HELD_AT = 0.11  # m from the latch's axis; the handle's bar ends at 0.15
_OFFSET = 0.10  # m from the middle of the door to the bar, robosuite's door
_BEFORE = 0.10
_DEEP = 0.01
_LEAN = np.radians(60.0)
_UP = np.array([0.0, 0.0, 1.0])
_CLOSING_STEPS = 10
_TURNING_STEPS = 60
_PULLING_STEPS = 80
_BACKING_STEPS = 10
_TURNED = 1.25
_TURN_AHEAD = 0.4
_PULL_AHEAD = 0.06
_OPENED = 0.36  # rad; from 0.3 on robosuite calls it open, at 0.4 its hinge ends
_LOST = 0.06


def open_door(world: World) -> Motion:
    """Grip the handle's bar, turn it down and pull the door open; again when the bar slips out."""
    shut = world.thing("Door_door").rotation
    while True:
        yield from _grip(world)
        yield from _turn(world)
        yield from _pull(world, shut)
        yield from _keep(world)
        for _ in range(_BACKING_STEPS):
            yield servo_pose(world, _at_bar(world, _turned(world), outward=_BEFORE), OPEN)


def _grip(world: World) -> Motion:
    """Come to the level bar with a finger above it and one below, and close."""
    before, around = (lambda deep=deep: _at_bar(world, 0.0, deep) for deep in (-_BEFORE, _DEEP))
    yield from reach_pose(world, before, OPEN, tolerance=0.03, turned=0.2, patience=80)
    yield from reach_pose(world, around, OPEN, tolerance=0.01, turned=0.2, patience=25)
    for _ in range(_CLOSING_STEPS):
        yield servo_pose(world, around(), CLOSE)


def _turn(world: World) -> Motion:
    """Turn the held bar down, until the latch is clear of the frame."""
    for _ in range(_TURNING_STEPS):
        if _turned(world) > _TURNED or _lost(world):
            return
        yield servo_pose(world, _at_bar(world, _turned(world) + _TURN_AHEAD), CLOSE)


def _pull(world: World, shut: np.ndarray) -> Motion:
    """Pull the door open by the bar, which is kept turned against its spring.

    Args:
        world: where the door is.
        shut: its rotation matrix (3, 3) while it is shut.
    """
    for _ in range(_PULLING_STEPS):
        turn = world.thing("Door_door").rotation @ shut.T
        if _lost(world) or np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)) > _OPENED:
            return
        yield servo_pose(world, _at_bar(world, np.pi / 2, outward=_PULL_AHEAD), CLOSE)


def _keep(world: World) -> Motion:
    """Stay where the door is open, which the spring of the bar would pull shut again."""
    here = world.tool()
    while not _lost(world):
        yield servo_pose(world, here, CLOSE)


def _at_bar(world: World, angle: float, deep: float = 0.0, outward: float = 0.0) -> Pose:
    """Where the end effector holds the bar turned to `angle` (rad) below level, at most upright.

    The end effector turns with the bar: it points across the bar and towards the door, and its
    fingers open across both. It leans only so far towards the door, as not every arm points level.
    `deep` (m) is along the end effector's approach, `outward` (m) off the door.
    """
    angle = min(angle, np.pi / 2)
    latch, door = world.thing("Door_latch"), world.thing("Door_door")
    hinge_side, inward = door.rotation[:, 0], door.rotation[:, 1]
    along = np.cos(angle) * hinge_side - np.sin(angle) * _UP
    across = -np.cos(angle) * _UP - np.sin(angle) * hinge_side
    approach = np.cos(_LEAN) * across + np.sin(_LEAN) * inward
    position = latch.position + _HELD_AT * along - (_OFFSET + outward) * inward + deep * approach
    return Pose(position, np.stack([-along, np.cross(approach, -along), approach], axis=1))


def _lost(world: World) -> bool:
    """Whether the end effector is not at the bar any more."""
    gap = _at_bar(world, _turned(world)).position - world.tool().position
    return bool(np.linalg.norm(gap) > _LOST)


def _turned(world: World) -> float:
    """How far the handle is turned (rad), either way."""
    latch, door = world.thing("Door_latch").rotation, world.thing("Door_door").rotation
    relative = door.T @ latch
    return abs(float(np.arctan2(relative[2, 0], relative[0, 0])))
