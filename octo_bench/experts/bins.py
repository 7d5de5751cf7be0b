"""The scripted expert that sorts a thing from the tray into its bin."""

from __future__ import annotations

import numpy as np

from octo_bench.experts.grasping import carry, grasp, heights, let_go, raise_to
from octo_bench.experts.motions import Motion, leaning
from octo_bench.simulation.world import World

_WALL = 0.12
_CLEARANCE = 0.04
_DROP = 0.02
_BIN = np.array([0.18, 0.23])  # m, inside the walls of one bin of robosuite's PickPlace
_MARGIN = 0.02


def place_in_bin(world: World) -> Motion:
    """Grasp the thing, carry it over the walls to its place, let go; again when it slips."""
    yield from leaning(world, _place_upright(world))


def _place_upright(world: World) -> Motion:
    task = world.declared.task
    floor = world.workspace[2]
    while True:
        yield from grasp(world, task.object)
        hangs = world.tool().position[2] - heights(world, task.object)[0]
        yield from raise_to(world, floor + _WALL + _CLEARANCE + hangs)
        if not world.grasping(task.object):
            continue
        rises = world.thing(task.object).position[2] - heights(world, task.object)[0]
        place = _near_side(world)

        def above(height: float, rises: float = rises, place: np.ndarray = place) -> np.ndarray:
            return np.array([*place, floor + height + rises])

        yield from carry(world, task.object, lambda: above(_WALL + _CLEARANCE), tolerance=0.03)
        if not world.grasping(task.object):
            continue
        yield from carry(
            world, task.object, lambda: above(0.02 + _DROP), tolerance=0.02, patience=25
        )
        yield from let_go(world)


def _near_side(world: World) -> np.ndarray:
    """Where in its bin to put the thing, (2,) m: towards the arm, which may not reach further."""
    task = world.declared.task
    size = np.ptp(world.extent(task.object), axis=0)
    slack = np.maximum(_BIN / 2 - np.sort(size)[1] / 2 - _MARGIN, 0.0)
    middle = world.thing(task.target).position[:2]
    towards = world.base()[:2] - middle
    return middle + slack * towards / np.abs(towards).max()
