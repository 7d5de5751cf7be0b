"""The furthest stage of an episode, of those that its task declares."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octo_bench.definitions.environments import HELD, Stage
from octo_bench.simulation.world import World

NO_STAGE = "none"
_REACHED = 0.015
_LIFTED = 0.03
_ALIGNED = 0.02
_TURNED = np.radians(30.0)


class StageTracker:
    """Follows one episode and remembers the furthest stage reached, in the declared order."""

    def __init__(self, world: World) -> None:
        """Start from the present state of `world`."""
        self._world = world
        self._task = world.declared.task
        self._start = world.thing(self._task.object) if self._task.object else None
        self._dirt = len(world.dirt())
        self.furthest = NO_STAGE
        self._next = 0

    def update(self, succeeded: bool) -> None:
        """Take the present state into account; a success counts for all stages."""
        stages = self._task.stages
        if succeeded:
            self._next = len(stages)
        while self._next < len(stages) and _CHECKS[stages[self._next]](self):
            self._next += 1
        if self._next and self.furthest != HELD:
            self.furthest = stages[self._next - 1]

    def hold(self) -> None:
        """The success has held until the end of the episode."""
        self.furthest = HELD

    def _position(self, name: str) -> np.ndarray:
        return self._world.thing(name).position

    def _reach(self) -> bool:
        """Some end effector is at the object, or at some of the dirt."""
        return any(
            self._distance(self._world.tool(arm).position) < _REACHED
            for arm in range(self._task.arms)
        )

    def _distance(self, position: np.ndarray) -> float:
        """Metres from a position to the object, if it has a size to its box, or to the dirt."""
        world, name = self._world, self._task.object
        if not name:
            return float(np.linalg.norm(world.dirt() - position, axis=1).min(initial=np.inf))
        thing = world.thing(name)
        local = thing.rotation.T @ (position - thing.position)
        low, high = world.extent(name)
        return float(np.linalg.norm(local - np.clip(local, low, high)))

    def _grasp(self) -> bool:
        """Some arm holds the object."""
        arms = range(self._task.arms)
        return any(self._world.grasping(self._task.object, arm) for arm in arms)

    def _grasp_both(self) -> bool:
        """All arms hold the object."""
        arms = range(self._task.arms)
        return all(self._world.grasping(self._task.object, arm) for arm in arms)

    def _hand_over(self) -> bool:
        """The last arm holds the object."""
        return self._world.grasping(self._task.object, self._task.arms - 1)

    def _lift(self) -> bool:
        height = self._position(self._task.object)[2]
        return bool(height > self._start.position[2] + _LIFTED)

    def _align(self) -> bool:
        gap = self._position(self._task.object) - self._position(self._task.target)
        return bool(np.linalg.norm(gap[:2]) < _ALIGNED and gap[2] > 0)

    def _turn(self) -> bool:
        """The object has been turned from where it was."""
        turned = self._world.thing(self._task.object).rotation @ self._start.rotation.T
        return bool(np.arccos(np.clip((np.trace(turned) - 1) / 2, -1, 1)) > _TURNED)

    def _wipe(self) -> bool:
        """Half of the dirt is gone."""
        return len(self._world.dirt()) <= self._dirt / 2

    def _success(self) -> bool:
        return False  # `update` is told of it


_CHECKS: dict[Stage, Callable[[StageTracker], bool]] = {
    "reach": StageTracker._reach,
    "grasp": StageTracker._grasp,
    "grasp_both": StageTracker._grasp_both,
    "hand_over": StageTracker._hand_over,
    "lift": StageTracker._lift,
    "align": StageTracker._align,
    "turn": StageTracker._turn,
    "wipe": StageTracker._wipe,
    "success": StageTracker._success,
}
