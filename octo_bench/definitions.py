"""What is benchmarked: embodiments and tasks, read from `envs/` into frozen dataclasses.

A pair of a task and an embodiment is an environment, `octo_bench/<Task>-<Embodiment>-v0`. More
embodiments and tasks are added by adding files, also in folders of one's own, named in the
environment variable `OCTO_BENCH_ENVS` (as `PATH` lists folders).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from octo_bench.declarations import read_declaration
from octo_bench.errors import BadDefinition, UnknownName
from octo_bench.paths import definitions_root

Vector = tuple[float, float, float]
ACTION_SIZE_PER_ARM = 7


@dataclass(frozen=True)
class Gripper:
    """Finger pads by the names of their collision geoms, without robosuite's prefix.

    `closed` and `open` are the distances in metres between the pads' centres at either limit;
    the gripper opening is linear between them, 0 closed and 1 open, on every gripper.
    """

    left_pads: tuple[str, ...]
    right_pads: tuple[str, ...]
    closed: float
    open: float


@dataclass(frozen=True)
class Embodiment:
    """An arm with its gripper.

    `initial_joints` (rad) is its posture at the start of an episode, before noise: all arms start
    with the tool at the same pose. `tool_yaw` (degrees) turns robosuite's grip site about the
    approach axis into the canonical tool frame: z along the approach, y along the opening.
    """

    name: str
    robot: str
    initial_joints: tuple[float, ...]
    tool_yaw: float
    gripper: Gripper


@dataclass(frozen=True)
class Camera:
    """A camera that looks from `position` to `target` (metres), vertical field of view in degrees.

    The frame is the workspace for `image_primary`, the canonical tool for `image_wrist`.
    """

    position: Vector
    target: Vector
    up: Vector
    fovy: float


@dataclass(frozen=True)
class Task:
    """A task of robosuite, as this benchmark words, frames and times it.

    `workspace` is the origin of the workspace frame in the world (metres, table top); `horizon`
    is in control steps of 1/20 s. `stages` are what a successful episode passes, in order;
    `object` and `target` are the things they speak of, by their names in robosuite's task.
    """

    name: str
    robosuite: str
    demonstrator: str
    instruction: str
    paraphrases: tuple[str, ...]
    horizon: int
    workspace: Vector
    primary_camera: Camera
    stages: tuple[Literal["reach", "grasp", "lift", "align", "success"], ...]
    object: str
    target: str = ""
    wrist_camera: Camera = field(
        default=Camera(
            position=(0.13, 0.0, -0.09), target=(0.0, 0.0, 0.06), up=(-1.0, 0.0, 0.0), fovy=70.0
        )
    )


@dataclass(frozen=True)
class Environment:
    """A task on an embodiment."""

    task: Task
    embodiment: Embodiment

    @property
    def id(self) -> str:
        """The Gymnasium id."""
        return f"octo_bench/{self.task.name}-{self.embodiment.name}-v0"

    @property
    def action_size(self) -> int:
        """Entries of an action, 7 an arm."""
        return ACTION_SIZE_PER_ARM


@cache
def environments() -> tuple[Environment, ...]:
    """Every declared environment, by task and embodiment.

    Raises:
        BadDefinition: when a file of `envs/` cannot be read.
    """
    tasks = _read_all("tasks", Task)
    embodiments = _read_all("embodiments", Embodiment)
    return tuple(Environment(task, arm) for task in tasks for arm in embodiments)


def environment(env_id: str) -> Environment:
    """The declared environment with this id; the namespace and version may be left out.

    Raises:
        UnknownName: when there is none; the nearest are offered.
    """
    by_id = {declared.id: declared for declared in environments()}
    full = env_id if "/" in env_id else f"octo_bench/{env_id}"
    full = full if full.endswith("-v0") else f"{full}-v0"
    if full not in by_id:
        raise UnknownName("environment", full, by_id)
    return by_id[full]


def environment_ids() -> tuple[str, ...]:
    """The ids of all environments, from the files' names: nothing is read yet."""
    return tuple(
        f"octo_bench/{task.stem}-{arm.stem}-v0"
        for task in _files("tasks")
        for arm in _files("embodiments")
    )


def _files(kind: str) -> list[Path]:
    own = os.environ.get("OCTO_BENCH_ENVS", "")
    roots = [definitions_root(), *(Path(folder) for folder in own.split(os.pathsep) if folder)]
    return [path for root in roots for path in sorted((root / kind).glob("*.toml"))]


def _read_all(kind: str, declared: type) -> list:
    return [
        read_declaration(path, declared, BadDefinition, name=path.stem) for path in _files(kind)
    ]
