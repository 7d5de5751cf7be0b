"""Perturbed variants: suites of growing difficulty, read from `envs/suites/` into dataclasses.

A suite changes what a policy sees or is told, and nothing of the physics: the same initial states
are measured with and without it. One file is one suite; more are added by adding files, also in
the folders that `OCTO_BENCH_ENVS` names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from octo_bench.definitions.declarations import read_declaration
from octo_bench.definitions.environments import roots
from octo_bench.errors import BadDefinition, UnknownLevel, UnknownName

FOLDER = "suites"
MOST_LEVELS = 100
MOST_THINGS = 100


@dataclass(frozen=True)
class CameraShift:
    """A camera elsewhere: lengths (metres) by which its position and the point it looks
    at are moved, in some direction; `fovy` (degrees) is how much wider or narrower it sees."""

    position: float
    target: float
    fovy: float


@dataclass(frozen=True)
class LightChange:
    """Other light: `intensity` is the share by which it grows or falls, `turn` (degrees) the angle
    by which the lamps are turned about the workspace, `tint` from 0 (white) to 1 how coloured."""

    intensity: float
    turn: float
    tint: float


@dataclass(frozen=True)
class Recolouring:
    """Other colours, from 0 (its own) to 1 (any); `materials` gives the table or the bins the
    material of a part of the room."""

    table: float
    room: float
    robot: float
    materials: bool = False


@dataclass(frozen=True)
class Clutter:
    """Things that are only to be seen: how many, their sizes (m, least and most half width) and
    hues (of 1), the gap (m) they keep to everything, and how far (m) from the workspace's origin
    they may lie along either axis."""

    count: int
    sizes: tuple[float, float]
    hues: tuple[float, float]
    gap: float
    reach: float


@dataclass(frozen=True)
class Rewording:
    """One of the task's held-out paraphrases, put where `{}` is in one of the `phrases`."""

    phrases: tuple[str, ...]


@dataclass(frozen=True)
class Level:
    """What a suite changes at one level; `camera` is the front one."""

    camera: CameraShift | None = None
    wrist_camera: CameraShift | None = None
    light: LightChange | None = None
    colour: Recolouring | None = None
    clutter: Clutter | None = None
    instruction: Rewording | None = None


@dataclass(frozen=True)
class Suite:
    """A kind of perturbation, the mildest level first; levels are counted from 1."""

    name: str
    description: str
    levels: tuple[Level, ...]


@cache
def suites() -> tuple[Suite, ...]:
    """Every declared suite, by name.

    Raises:
        BadDefinition: when a file cannot be read.
    """
    paths = [path for root in roots() for path in sorted((root / FOLDER).glob("*.toml"))]
    return tuple(_read(path) for path in paths)


def _read(path: Path) -> Suite:
    suite = read_declaration(path, Suite, BadDefinition, name=path.stem)
    if not 1 <= len(suite.levels) <= MOST_LEVELS:
        problem = f"has {len(suite.levels)} levels; 1 to {MOST_LEVELS} are read"
        raise BadDefinition(path, problem, "correct 'levels'")
    for number, level in enumerate(suite.levels, 1):
        clutter, wording = level.clutter, level.instruction
        if clutter is not None and not 0 <= clutter.count <= MOST_THINGS:
            problem = f"'levels[{number - 1}].clutter.count' must lie between 0 and {MOST_THINGS}"
            raise BadDefinition(path, problem, "correct it")
        if wording is not None and not wording.phrases:
            problem = f"'levels[{number - 1}].instruction.phrases' must not be empty"
            raise BadDefinition(path, problem, "add a phrase")
    return suite


def find_level(suite: str, level: int) -> Level:
    """Level `level` of the suite of this name.

    Raises:
        UnknownName: when there is no such suite; the nearest are offered.
        UnknownLevel: when it has no such level.
    """
    by_name = {declared.name: declared for declared in suites()}
    if suite not in by_name:
        raise UnknownName("suite", suite, by_name)
    levels = by_name[suite].levels
    if not 1 <= level <= len(levels):
        raise UnknownLevel(suite, level, len(levels))
    return levels[level - 1]
