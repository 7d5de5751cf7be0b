"""Replaying recorded demonstrations: the executed actions, from the recorded start."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from octo_bench.definitions.environments import environment
from octo_bench.demonstrations.layout import (
    LARGEST_ACTION,
    check_demonstration,
    demo_names,
    demonstration,
    integer,
    numbers,
    open_checked,
    text,
)
from octo_bench.errors import BadDemonstrations
from octo_bench.progress import ProgressBar
from octo_bench.simulation.world import World


@dataclass(frozen=True)
class Replay:
    """The result of replaying one demonstration.

    `agrees_until` counts its leading recorded states that came out the same, bit for bit.
    """

    name: str
    steps: int
    agrees_until: int
    success: bool

    @property
    def agrees(self) -> bool:
        """Whether every recorded state came out the same, and the task was done at the end."""
        return self.success and self.agrees_until == self.steps

    def __str__(self) -> str:
        """For people: "demo_3: 17 of 42 steps as recorded, without success"."""
        success = "with success" if self.success else "without success"
        return f"{self.name}: {self.agrees_until} of {self.steps} steps as recorded, {success}"


def replay(path: Path, *, progress: bool = True) -> list[Replay]:
    """Replay every demonstration of a file that `collect` wrote.

    The episode is begun from its seed, put into the first recorded state, and the executed
    actions are taken again.

    Raises:
        BadDemonstrations: for a file that is not a readable collection.
        UnknownName: when its environment is not declared.
    """
    path = Path(path)
    env_id, recordings = _read(path)
    world = World(environment(env_id))
    with closing(world):
        size = world.state().size
        for recording in recordings:
            if recording.states.shape[1:] != (size,):
                problem = f"{recording.name} has states of another size than its environment"
                raise BadDemonstrations(path, problem, "collect it again with `octo-bench collect`")
        bar = ProgressBar(recordings, desc=f"replay {path.name}", disable=not progress)
        return [_replay(world, recording) for recording in bar]


@dataclass(frozen=True)
class _Recording:
    """What one demonstration went through: states (T, S), executed actions (T, A)."""

    name: str
    seed: int
    states: np.ndarray
    executed: np.ndarray


def _read(path: Path) -> tuple[str, list[_Recording]]:
    with open_checked(path) as file:
        recordings = []
        for name in demo_names(file):
            demo = demonstration(file, name)
            check_demonstration(demo)
            executed = numbers(demo["actions_executed"], LARGEST_ACTION)
            states = demo["states"][()]
            recordings.append(_Recording(name, integer(demo, "seed"), states, executed))
        return text(file["data"], "env_id"), recordings


def _replay(world: World, recording: _Recording) -> Replay:
    world.reset(recording.seed)
    if not np.array_equal(world.state(), recording.states[0]):
        world.restore(recording.states[0])
    agrees = []
    for state, action in zip(recording.states, recording.executed, strict=True):
        agrees.append(np.array_equal(world.state(), state))
        world.step(action)
    return Replay(
        name=recording.name,
        steps=len(agrees),
        agrees_until=len(agrees) if all(agrees) else agrees.index(False),
        success=world.succeeded(),
    )
