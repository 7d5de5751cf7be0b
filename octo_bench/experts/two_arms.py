"""Scripted experts for two arms: lifting a pot together, handing a hammer over."""

from __future__ import annotations

import numpy as np

from octo_bench.definitions.environments import HOLD_STEPS
from octo_bench.experts.grasping import carry, grasp_at, let_go
from octo_bench.experts.motions import (
    CLOSE,
    OPEN,
    Motion,
    hold,
    nearest_turn,
    reach,
    servo,
    together,
    tool_yaw,
)
from octo_bench.simulation.world import World

_UP = np.array([0.0, 0.0, 1.0])
_LIFTED = 0.2
_MEETING_HEIGHT = 0.25
_FROM_THE_MIDDLE = 0.07
_GIVER, _TAKER = 0, 1


def lift_pot(world: World) -> Motion:
    """Each arm grasps the handle on its side, then both go up and stay; again when one slips."""
    pot = world.declared.task.object
    while True:
        yield from together(world, *(_grasp_handle(world, pot, arm) for arm in range(2)))
        if all(world.grasping(pot, arm) for arm in range(2)):
            yield from together(world, *(_raise(world, arm) for arm in range(2)))


def _grasp_handle(world: World, pot: str, arm: int) -> Motion:
    bar = world.thing(pot).rotation[:, 0]
    yaw = nearest_turn(float(np.arctan2(bar[1], bar[0])), np.pi, to=world.facing(arm))
    handle = lambda: world.thing(f"{pot}_handle{arm}").position  # noqa: E731
    yield from grasp_at(world, pot, handle, yaw, arm)


def _raise(world: World, arm: int) -> Motion:
    goal, yaw = world.tool(arm).position + _LIFTED * _UP, tool_yaw(world, arm)
    yield from reach(
        world, lambda: goal, CLOSE, tolerance=0.02, patience=40, yaw=lambda: yaw, arm=arm
    )
    pot = world.declared.task.object
    yield from hold(world, goal, CLOSE, lambda: not world.grasping(pot, arm), HOLD_STEPS, yaw, arm)


def hand_over(world: World) -> Motion:
    """The first arm brings the hammer to the middle, the second takes it by the handle."""
    hammer = world.declared.task.object
    while True:
        yield from together(world, _fetch(world, hammer), _stay(world, _TAKER, OPEN))
        if not world.grasping(hammer, _GIVER):
            continue
        yield from together(world, _stay(world, _GIVER, CLOSE), _take(world, hammer))
        if world.grasping(hammer, _TAKER):
            yield from together(world, let_go(world, _GIVER), _keep(world))


def _fetch(world: World, hammer: str) -> Motion:
    """Grasp the hammer at the end on the giver's side and carry it to the meeting point."""
    across = _across(world)
    thing = world.thing(hammer)
    handle = float(np.arctan2(thing.rotation[1, 2], thing.rotation[0, 2]))
    yaw = nearest_turn(handle, np.pi, to=world.facing(_GIVER))
    goal = nearest_turn(across, np.pi, to=yaw)
    # After the turn to `goal`, the end that the end effector's -x side held is on the giver's own
    # side.
    behind = -1.0 if np.cos(yaw - handle) > 0 else 1.0
    if np.cos(goal - across) < 0:
        behind = -behind
    end = behind * _FROM_THE_MIDDLE

    def grip() -> np.ndarray:
        thing = world.thing(hammer)
        return thing.position + end * thing.rotation[:, 2]

    yield from grasp_at(world, hammer, grip, yaw, _GIVER)
    if world.grasping(hammer, _GIVER):
        place = world.workspace + _MEETING_HEIGHT * _UP
        above = np.array([*world.thing(hammer).position[:2], place[2]])
        yield from carry(world, hammer, lambda: above, tolerance=0.03, patience=40, arm=_GIVER)
        yield from carry(
            world,
            hammer,
            lambda: place,
            tolerance=0.02,
            yaw=lambda: goal,
            turned=0.1,
            patience=100,
            arm=_GIVER,
        )


def _take(world: World, hammer: str) -> Motion:
    """Grasp the hammer at the end that the giver does not hold."""
    thing = world.thing(hammer)
    handle = float(np.arctan2(thing.rotation[1, 2], thing.rotation[0, 2]))
    yaw = nearest_turn(handle, np.pi, to=world.facing(_TAKER))
    held = (world.tool(_GIVER).position - thing.position) @ thing.rotation[:, 2]
    end = -np.copysign(_FROM_THE_MIDDLE, held)

    def grip() -> np.ndarray:
        thing = world.thing(hammer)
        return thing.position + end * thing.rotation[:, 2]

    yield from grasp_at(world, hammer, grip, yaw, _TAKER)


def _keep(world: World) -> Motion:
    """The taker holds on while the giver lets go."""
    here, yaw = world.tool(_TAKER).position, tool_yaw(world, _TAKER)
    yield from hold(world, here, CLOSE, lambda: False, 30, yaw, _TAKER)


def _stay(world: World, arm: int, gripper: float) -> Motion:
    """Stay where it is, for one step; `together` goes on with that."""
    yield servo(world, world.tool(arm).position, gripper, tool_yaw(world, arm), arm)


def _across(world: World) -> float:
    """The direction (rad) from the giver's side to the taker's."""
    gap = world.tool(_TAKER).position - world.tool(_GIVER).position
    return float(np.arctan2(gap[1], gap[0]))
