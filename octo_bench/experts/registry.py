"""Which scripted expert shows which task."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octo_bench.definitions.environments import file_of
from octo_bench.errors import BadDefinition
from octo_bench.experts import bins, cubes, doors, nuts, two_arms, wiping
from octo_bench.experts.motions import Motion, still
from octo_bench.simulation.world import World

_DEMONSTRATORS: dict[str, Callable[[World], Motion]] = {
    "lift": cubes.lift,
    "stack": cubes.stack,
    "place_in_bin": bins.place_in_bin,
    "thread_nut": nuts.thread_nut,
    "open_door": doors.open_door,
    "wipe": wiping.wipe,
    "lift_pot": two_arms.lift_pot,
    "hand_over": two_arms.hand_over,
}


_GOING_ON = ("open_door", "lift_pot")
"""Those whose motion goes on after a success, and keeps it: an arm that only holds still is pulled
back by the spring of the door's handle, or down by the weight of the pot."""


def demonstrate(world: World) -> Motion:
    """The clean actions (A,) that do the task of `world`, one for each look at it, without end.

    A mobile base is left where it is.

    Raises:
        BadDefinition: when the task names a scripted expert that does not exist.
    """
    task = world.declared.task
    if task.demonstrator not in _DEMONSTRATORS:
        path = file_of("tasks", task.name)
        known = ", ".join(sorted(_DEMONSTRATORS))
        raise BadDefinition(
            path, f"no scripted expert '{task.demonstrator}'", f"use one of {known}"
        )
    base = np.zeros(world.declared.embodiment.base_actions)
    return (np.concatenate([arms, base]) for arms in _DEMONSTRATORS[task.demonstrator](world))


def after_success(world: World, motion: Motion, last: np.ndarray) -> np.ndarray:
    """The expert's action (A,) in a step after its first success.

    It holds still, with the grippers as they were. It opens the door a little further,
    and lifts the pot higher, and keeps them there.

    Args:
        world: where it acts.
        motion: what `demonstrate` gave.
        last: its action before.
    """
    if world.declared.task.demonstrator in _GOING_ON:
        return next(motion)
    return still(last, world.declared.gripper_entries)
