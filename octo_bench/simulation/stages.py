"""How far an episode got: the stages that a task declares, judged on the simulation's state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from octo_bench.simulation.world import World

_REACHED = 0.03
_LIFTED = 0.03
_ALIGNED = 0.02


class StageTracker:
    """Follows one episode and remembers the furthest stage reached, in the declared order."""

    def __init__(self, world: World) -> None:
        """Begin at the state that `world` is in now."""
        self._world = world
        self._start_height = world.thing(world.declared.task.object).position[2]
        self.furthest = "none"
        self._next = 0

    def update(self, succeeded: bool) -> None:
        """Take the present state into account; a success counts for all stages."""
        stages = self._world.declared.task.stages
        if succeeded:
            self._next = len(stages)
        while self._next < len(stages) and _CHECKS[stages[self._next]](self):
            self._next += 1
        if self._next:
            self.furthest = stages[self._next - 1]

    def _position(self, name: str) -> np.ndarray:
        return self._world.thing(name).position

    def _reach(self) -> bool:
        task = self._world.declared.task
        gap = self._world.tool().position - self._position(task.object)
        return bool(np.linalg.norm(gap) < _REACHED)

    def _grasp(self) -> bool:
        return self._world.grasping(self._world.declared.task.object)

    def _lift(self) -> bool:
        height = self._position(self._world.declared.task.object)[2]
        return bool(height > self._start_height + _LIFTED)

    def _align(self) -> bool:
        task = self._world.declared.task
        gap = self._position(task.object) - self._position(task.target)
        return bool(np.linalg.norm(gap[:2]) < _ALIGNED and gap[2] > 0)

    def _success(self) -> bool:
        return False  # `update` is told of it


_CHECKS: dict[str, Callable[[StageTracker], bool]] = {
    "reach": StageTracker._reach,
    "grasp": StageTracker._grasp,
    "lift": StageTracker._lift,
    "align": StageTracker._align,
    "success": StageTracker._success,
}
