"""Taking hold of a thing, carrying it, setting it down: what most scripted experts share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octo_bench.experts.motions import (
    CLOSE,
    OPEN,
    Motion,
    Position,
    hold,
    nearest_turn,
    reach,
    tool_yaw,
)
from octo_bench.simulation.world import World

ABOVE = np.array([0.0, 0.0, 0.07])
_CLOSING_STEPS = 12
_OPENING_STEPS = 8
_PAD_DEPTH = 0.03
_FINGER = 0.015
_HALF_FINGER = 0.006
_NEIGHBOUR_RADIUS = 0.035


def grasp(world: World, name: str, in_the_way: str = "", arm: int = 0) -> Motion:
    """Open, go above a thing, down to it, and close, the fingers clear of a neighbour."""
    yaw = graspable_yaw(world, name, in_the_way, arm)
    yield from grasp_at(world, name, lambda: _middle(world, name), yaw, arm)


def grasp_at(world: World, name: str, where: Position, yaw: float, arm: int = 0) -> Motion:
    """Grasp a thing with the end effector at `where()` (world, metres) and at `yaw` (rad)."""
    clear = np.array([0.0, 0.0, max(ABOVE[2], heights(world, name)[1] - where()[2] + _PAD_DEPTH)])
    turn = lambda: yaw  # noqa: E731
    yield from reach(
        world, lambda: where() + clear, OPEN, tolerance=0.012, yaw=turn, turned=0.08, arm=arm
    )
    yield from reach(world, where, OPEN, tolerance=0.008, patience=30, yaw=turn, arm=arm)
    here = world.tool(arm).position
    yield from hold(world, here, CLOSE, _held(world, name, arm), _CLOSING_STEPS, yaw, arm)


def raise_to(world: World, height: float, arm: int = 0) -> Motion:
    """Raise the closed gripper straight up to a `height` in the world (m)."""
    start, yaw = world.tool(arm).position, tool_yaw(world, arm)
    goal = np.array([start[0], start[1], height])
    yield from reach(
        world, lambda: goal, CLOSE, tolerance=0.02, patience=40, yaw=lambda: yaw, arm=arm
    )


def carry(
    world: World,
    name: str,
    place: Position,
    *,
    tolerance: float,
    yaw: Callable[[], float] | None = None,
    turned: float = np.inf,
    patience: int = 60,
    looks: int = 1,
    arm: int = 0,
) -> Motion:
    """Move the held thing to `place()` (world, metres), keeping the yaw unless one is given.

    The rest as for `reach`.
    """
    kept = tool_yaw(world, arm)
    turn = yaw or (lambda: kept)

    def tool() -> np.ndarray:
        return place() - (world.thing(name).position - world.tool(arm).position)

    yield from reach(
        world,
        tool,
        CLOSE,
        tolerance=tolerance,
        patience=patience,
        yaw=turn,
        turned=turned,
        looks=looks,
        arm=arm,
    )


def let_go(world: World, arm: int = 0) -> Motion:
    """Open the gripper where it is and draw back upwards."""
    here, yaw = world.tool(arm).position, tool_yaw(world, arm)
    yield from hold(world, here, OPEN, lambda: world.opening(arm) > 0.8, _OPENING_STEPS, yaw, arm)
    yield from reach(
        world, lambda: here + ABOVE, OPEN, tolerance=0.02, patience=15, yaw=lambda: yaw, arm=arm
    )


def graspable_yaw(world: World, name: str, in_the_way: str = "", arm: int = 0) -> float:
    """The yaw (rad) at which the fingers close on a thing's narrow sides, by the smaller turn.

    Either pair of sides serves where both fit into the gripper; the other pair is taken where a
    finger would come down on the neighbour `in_the_way`.
    """
    thing = world.thing(name)
    size = np.ptp(world.extent(name), axis=0)
    across, along = _upright_axes(thing.rotation, size)
    room = world.declared.embodiment.arms[arm].gripper.open - _FINGER
    side = np.arctan2(thing.rotation[1, along], thing.rotation[0, along])
    half, quarter = np.pi, np.pi / 2
    facing = world.facing(arm)
    if size[along] > room or size[along] > 1.3 * size[across]:
        return nearest_turn(side, half, to=facing)
    nearest = nearest_turn(side, quarter, to=facing)
    if not in_the_way:
        return nearest
    reach_out = world.declared.embodiment.arms[arm].gripper.open / 2 + _HALF_FINGER
    opening = reach_out * np.array([-np.sin(nearest), np.cos(nearest)])
    neighbour = world.thing(in_the_way).position[:2] - thing.position[:2]
    clear = min(np.linalg.norm(neighbour - opening), np.linalg.norm(neighbour + opening))
    other = nearest - np.copysign(quarter, nearest - facing)
    return nearest if clear > _NEIGHBOUR_RADIUS else float(other)


def heights(world: World, name: str) -> tuple[float, float]:
    """The heights (m) of a thing's lowest and highest point."""
    thing, extent = world.thing(name), world.extent(name)
    centre = thing.position + thing.rotation @ extent.mean(axis=0)
    half = np.abs(thing.rotation[2]) @ (np.ptp(extent, axis=0) / 2)
    return float(centre[2] - half), float(centre[2] + half)


def _upright_axes(rotation: np.ndarray, size: np.ndarray) -> tuple[int, int]:
    """Of the thing's two axes that lie level: the one it is narrow along, and the other."""
    vertical = int(np.abs(rotation[2]).argmax())
    first, second = (axis for axis in range(3) if axis != vertical)
    return (first, second) if size[first] <= size[second] else (second, first)


def _middle(world: World, name: str) -> np.ndarray:
    """Where to hold a thing: its middle, or for a tall one near its top."""
    thing, extent = world.thing(name), world.extent(name)
    middle = thing.position + thing.rotation @ extent.mean(axis=0)
    middle[2] = max(middle[2], heights(world, name)[1] - _PAD_DEPTH)
    return middle


def _held(world: World, name: str, arm: int) -> Callable[[], bool]:
    """A condition: the thing has been between the pads for three looks in a row."""
    looks = 0

    def held() -> bool:
        nonlocal looks
        looks = looks + 1 if world.grasping(name, arm) else 0
        return looks >= 3

    return held
