"""What is benchmarked: embodiments and tasks, read from `envs/` into frozen dataclasses.

A pair of a task and an embodiment is an environment, `octo_bench/<Task>-<Embodiment>-v1`. More
embodiments and tasks are added by adding files, also in folders of one's own, named in the
environment variable `OCTO_BENCH_ENVS` (as `PATH` lists folders).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from octo_bench.definitions.declarations import read_declaration, read_table
from octo_bench.errors import BadDefinition, OutdatedEnvironment, UnknownName
from octo_bench.paths import definitions_root
from octo_bench.reading import is_folder

Vector = tuple[float, float, float]
VERSION = 1
"""Version of all environments. In version 0, an episode ended at the first success."""
HOLD_STEPS = 20
"""Control steps for which an episode goes on after the first success."""
IMAGE_SIZE = 96
"""Height and width of the images in an observation, pixels, unless others are asked for."""
ACTION_SIZE_PER_ARM = 7
PROPRIO_SIZE_PER_ARM = 11
LONGEST_HORIZON = 20_000
T = TypeVar("T")
HELD = "hold"
"""The stage after `success`, of an episode whose success has held to its end."""
Stage = Literal[
    "reach", "grasp", "lift", "align", "turn", "wipe", "grasp_both", "hand_over", "success"
]


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
class Arm:
    """One arm with its gripper.

    `initial_joints` (rad) is its posture at the start of an episode, before noise: all arms start
    with the end effector at the same pose. `tool_yaw` (degrees) turns robosuite's grip site about
    the approach axis into the canonical end-effector frame: z along the approach, y along the
    opening. `tool_offset` (metres) is from there along the approach to between the finger pads, for
    grippers whose grip site is elsewhere.
    """

    initial_joints: tuple[float, ...]
    tool_yaw: float
    gripper: Gripper
    tool_offset: float = 0.0


@dataclass(frozen=True)
class Unsupported:
    """A task that an embodiment is known not to do, and why."""

    task: str
    reason: str


@dataclass(frozen=True)
class Embodiment:
    """What acts: one or two arms.

    `robots` are robosuite's, `arms` theirs in the order of the action. `package` is the Python
    package that brings the robots, where robosuite itself does not. A mobile base adds
    `base_actions` entries to the action: its x, y and yaw, its column's height, and above 0 for
    the arm to keep its goal while the base moves. `base_shift` (metres) moves a robot that is too
    short to reach from where robosuite mounts it. `rubbing` are collision geoms that touch the
    robot's own base and hold its first joint by friction; they are left out of collisions.
    """

    name: str
    robots: tuple[str, ...]
    arms: tuple[Arm, ...]
    package: str = ""
    base_actions: int = 0
    base_shift: Vector = (0.0, 0.0, 0.0)
    rubbing: tuple[str, ...] = ()
    unsupported: tuple[Unsupported, ...] = ()


@dataclass(frozen=True)
class Camera:
    """A camera that looks from `position` to `target` (metres), vertical field of view in degrees.

    The frame is the workspace for `image_primary`, the canonical end-effector frame for
    `image_wrist`.
    """

    position: Vector
    target: Vector
    up: Vector
    fovy: float


@dataclass(frozen=True)
class Disturbance:
    """Noise on what a scripted expert executes: standard deviations, in units of the action."""

    translation: float = 0.15
    rotation: float = 0.0


@dataclass(frozen=True)
class Task:
    """A task of robosuite, as this benchmark words, frames and times it.

    `workspace` is the origin of the workspace frame in the world (metres, table top); `horizon`
    is in control steps of 1/20 s. `stages` are what a successful episode passes, in order;
    `object` and `target` are the things they speak of, by their names in robosuite's task.
    `held_out_paraphrases` are for measuring only: nothing is trained on them. `arms` is how many
    arms it takes, and `tool` what they have at their ends. `disturbance` is that of its
    scripted expert, so that demonstrations show recoveries.
    """

    name: str
    robosuite: str
    demonstrator: str
    instruction: str
    paraphrases: tuple[str, ...]
    horizon: int
    workspace: Vector
    primary_camera: Camera
    stages: tuple[Stage, ...]
    object: str = ""
    target: str = ""
    held_out_paraphrases: tuple[str, ...] = ()
    arms: int = 1
    tool: Literal["gripper", "wiper"] = "gripper"
    disturbance: Disturbance = field(default_factory=Disturbance)
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
        return _id(self.task.name, self.embodiment.name)

    @property
    def action_size(self) -> int:
        """Entries of an action: 7 an arm, and those of a mobile base."""
        arms = ACTION_SIZE_PER_ARM * len(self.embodiment.arms)
        return arms + self.embodiment.base_actions

    @property
    def gripper_entries(self) -> tuple[int, ...]:
        """Entries of an action that are gripper commands, not distances: the last of each arm."""
        arms = len(self.embodiment.arms)
        return tuple(ACTION_SIZE_PER_ARM * (arm + 1) - 1 for arm in range(arms))

    @property
    def proprio_size(self) -> int:
        """Entries of an observation's proprioception, 11 an arm."""
        return PROPRIO_SIZE_PER_ARM * len(self.embodiment.arms)


@cache
def environments() -> tuple[Environment, ...]:
    """Every declared environment, by task and embodiment.

    Raises:
        BadDefinition: when a file of `envs/` cannot be read.
    """
    roots()
    return _pairs(
        [_read(path, Task) for path in _files("tasks")],
        [_read(path, Embodiment) for path in _files("embodiments")],
    )


def environment(env_id: str) -> Environment:
    """The declared environment with this id; the namespace and version may be left out.

    Raises:
        UnknownName: when there is none; the nearest are offered.
        OutdatedEnvironment: for an earlier version of one that there is.
    """
    declared, version = _recorded(env_id)
    if version < VERSION:
        raise OutdatedEnvironment(recorded_id(env_id), declared.id)
    return declared


def recorded_environment(env_id: str) -> Environment:
    """The declared environment that an id in records or in a study names, of any version so far.

    Raises:
        UnknownName: when there is none; the nearest are offered.
    """
    return _recorded(env_id)[0]


def recorded_id(env_id: str) -> str:
    """The full id of an environment that records or a study name, of any version so far.

    The namespace may be left out; without a version it is the newest.

    Raises:
        UnknownName: when there is none; the nearest are offered.
    """
    declared, version = _recorded(env_id)
    return _id(declared.task.name, declared.embodiment.name, version)


def _recorded(env_id: str) -> tuple[Environment, int]:
    """The declared environment that an id of any version so far names, and that version."""
    full = env_id if "/" in env_id else f"octo_bench/{env_id}"
    named = re.fullmatch(r"(.+)-v(\d{1,4})", full)
    newest = f"{named[1] if named else full}-v{VERSION}"
    version = int(named[2]) if named else VERSION
    try:
        by_id = {declared.id: declared for declared in environments()}
    except BadDefinition:
        # A file that is wrong is a reason to refuse what it declares, and nothing else.
        by_id = {declared.id: declared for declared in _readable(os.environ.get(VARIABLE, ""))}
        if newest not in by_id:
            raise
    if newest not in by_id or version > VERSION:
        raise UnknownName("environment", full if named else newest, by_id)
    return by_id[newest], version


def environment_ids() -> tuple[str, ...]:
    """The ids of all environments, without checking their files: that waits for their use."""
    arms = {path: _number_of_arms(path) for path in (*_files("tasks"), *_files("embodiments"))}
    return tuple(
        _id(task.stem, embodiment.stem)
        for task in _files("tasks")
        for embodiment in _files("embodiments")
        if arms[task] == arms[embodiment]
    )


def horizons() -> dict[str, int]:
    """The horizon of each task that names one, by name, without checking the files otherwise."""
    named = {path.stem: _glance(path).get("horizon") for path in _files("tasks")}
    allowed = range(1, LONGEST_HORIZON + 1)
    return {task: steps for task, steps in named.items() if type(steps) is int and steps in allowed}


def _id(task: str, embodiment: str, version: int = VERSION) -> str:
    return f"octo_bench/{task}-{embodiment}-v{version}"


def roots() -> list[Path]:
    """The folders of declarations: the shipped one, then those of `OCTO_BENCH_ENVS`.

    Raises:
        BadDefinition: when one of them is not there, or has none of what is declared.
    """
    own = _own_folders()
    for folder in own:
        if not is_folder(folder):
            fix = f"correct {VARIABLE}, which lists folders separated by '{os.pathsep}'"
            raise BadDefinition(folder, "no such folder", fix)
        if not any(is_folder(folder / kind) for kind in _KINDS):
            problem = f"has none of the folders {', '.join(_KINDS)}"
            raise BadDefinition(folder, problem, f"correct {VARIABLE}")
    return [definitions_root(), *own]


def file_of(kind: Literal["tasks", "embodiments", "suites"], name: str) -> Path:
    """The file that declares something: that of the last folder which has it."""
    return [definitions_root() / kind / f"{name}.toml", *_files(kind, name)][-1]


VARIABLE = "OCTO_BENCH_ENVS"
_KINDS = ("embodiments", "tasks", "suites", "initial_states")


def _own_folders() -> list[Path]:
    own = os.environ.get(VARIABLE, "")
    return [Path(folder) for folder in own.split(os.pathsep) if folder]


def _number_of_arms(path: Path) -> int:
    """How many arms a task takes or an embodiment has; 1 where the file does not say."""
    arms = _glance(path).get("arms", 1)
    if isinstance(arms, list):
        return len(arms)
    return arms if isinstance(arms, int) else 1


def _glance(path: Path) -> dict[str, Any]:
    """What a file declares, unchecked; empty where it is none: reading it in earnest says why."""
    try:
        return read_table(path, BadDefinition)
    except BadDefinition:
        return {}


def _files(kind: str, name: str = "*") -> list[Path]:
    """The files of a kind, the shipped ones first; folders that are not there have none."""
    folders = (definitions_root(), *_own_folders())
    return [
        path
        for root in folders
        if is_folder(root / kind)
        for path in sorted((root / kind).glob(f"{name}.toml"))
    ]


def _pairs(tasks: Iterable[Task], embodiments: Sequence[Embodiment]) -> tuple[Environment, ...]:
    return tuple(
        Environment(task, embodiment)
        for task in tasks
        for embodiment in embodiments
        if len(embodiment.arms) == task.arms
    )


@cache
def _readable(_own: str) -> tuple[Environment, ...]:
    """The environments of the files that can be read, with the folders `_own` beside ours."""
    roots()
    found: dict[str, list[Any]] = {"tasks": [], "embodiments": []}
    for kind, declared in (("tasks", Task), ("embodiments", Embodiment)):
        for path in _files(kind):
            with suppress(BadDefinition):
                found[kind].append(_read(path, declared))
    return _pairs(found["tasks"], found["embodiments"])


def _read(path: Path, declared: type[T]) -> T:
    read = read_declaration(path, declared, BadDefinition, name=path.stem)
    for problem in _problems(read):
        raise BadDefinition(path, problem, "correct it")
    return read


def _problems(read: Any) -> Iterator[str]:
    """Checks beyond the types."""
    if isinstance(read, Task):
        if not 1 <= read.horizon <= LONGEST_HORIZON:
            yield f"'horizon' must lie between 1 and {LONGEST_HORIZON} control steps"
        if read.arms not in (1, 2):
            yield "'arms' must be 1 or 2"
        for name in ("primary_camera", "wrist_camera"):
            if not 0 < getattr(read, name).fovy < 180:
                yield f"'{name}.fovy' must lie between 0 and 180 degrees"
        noise = read.disturbance
        if not (0 <= noise.translation <= 2 and 0 <= noise.rotation <= 2):
            yield "'disturbance' must lie between 0 and 2, in units of the action"
        if not read.stages or read.stages[-1] != "success":
            yield "'stages' must end with \"success\""
    if isinstance(read, Embodiment):
        if len(read.arms) not in (1, 2):
            yield "'arms' must be 1 or 2 tables"
        if not 1 <= len(read.robots) <= len(read.arms):
            yield "'robots' must name a robot for each arm, or one for both"
        if not 0 <= read.base_actions <= 5:
            yield "'base_actions' must lie between 0 and 5"
