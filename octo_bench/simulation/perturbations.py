"""Perturbations of an episode: another look, camera or instruction, the same physics.

All is drawn from the suite and the episode's environment seed alone, and the level says how much
of it there is: a higher level changes the same things in the same direction, by more.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field, replace
from zlib import crc32

import mujoco
import numpy as np

from octo_bench.definitions.environments import Camera, Task, file_of
from octo_bench.definitions.suites import (
    CameraShift,
    Clutter,
    Level,
    LightChange,
    Recolouring,
    Rewording,
)
from octo_bench.errors import BadDefinition
from octo_bench.rendering.cameras import placed, shows
from octo_bench.rendering.look import Lamps, Look, Prop
from octo_bench.simulation.world import World

_TRIES = 300
_DROP = 0.6
_TABLE_BODIES = ("table", "bin")
_ROBOT_BODIES = ("robot", "gripper", "fixed_mount", "mobilebase", "leftmount", "nullmount")
_OWN_COLOUR = 0.5  # robosuite leaves geoms that have a material at MuJoCo's grey


@dataclass(frozen=True)
class Variation:
    """What an episode shows and says instead of the task's own."""

    primary_camera: Camera
    wrist_camera: Camera
    instruction: str
    look: Look = field(default_factory=Look)


def plain(task: Task) -> Variation:
    """The task as it is declared."""
    return Variation(task.primary_camera, task.wrist_camera, task.instruction)


def vary(level: Level, suite: str, seed: int, world: World) -> Variation:
    """The variation of the episode that `world` has just been reset to by environment seed `seed`.

    Raises:
        BadDefinition: when a rewording is asked for of a task without held-out paraphrases.
    """
    generator = np.random.default_rng([crc32(suite.encode()), seed])
    task = world.declared.task
    varied = plain(task)
    if level.camera is not None:
        camera = _shifted(task.primary_camera, level.camera, generator)
        varied = replace(varied, primary_camera=camera)
    if level.wrist_camera is not None:
        camera = _shifted(task.wrist_camera, level.wrist_camera, generator)
        varied = replace(varied, wrist_camera=camera)
    look = varied.look
    if level.light is not None:
        look = replace(look, lamps=_lamps(level.light, world, generator))
    if level.colour is not None:
        colours, materials = _recoloured(level.colour, world, generator)
        look = replace(look, colours=colours, materials=materials)
    if level.clutter is not None:
        look = replace(look, props=_scattered(level.clutter, world, generator))
    if level.instruction is not None:
        varied = replace(varied, instruction=_reworded(level.instruction, task, generator))
    return replace(varied, look=look)


def _shifted(camera: Camera, shift: CameraShift, generator: np.random.Generator) -> Camera:
    position = np.array(camera.position) + shift.position * _direction(generator)
    target = np.array(camera.target) + shift.target * _direction(generator)
    return replace(
        camera,
        position=tuple(position),
        target=tuple(target),
        fovy=camera.fovy + shift.fovy * generator.choice([-1, 1]),
    )


def _lamps(change: LightChange, world: World, generator: np.random.Generator) -> Lamps:
    model = world.model
    brightness = 1 + change.intensity * generator.choice([-1, 1])
    tint = _mixed(np.ones(3), np.array(colorsys.hsv_to_rgb(generator.random(), 1, 1)), change.tint)
    angle = generator.uniform(0, 2 * np.pi)
    axis = np.array([np.cos(angle), np.sin(angle), 0.0])
    quaternion, turned = np.empty(4), np.empty(9)
    mujoco.mju_axisAngle2Quat(quaternion, axis, np.radians(change.turn))
    mujoco.mju_quat2Mat(turned, quaternion)
    turn = turned.reshape(3, 3).T
    return Lamps(
        positions=(model.light_pos - world.workspace) @ turn + world.workspace,
        directions=model.light_dir @ turn,
        brightness=brightness * tint,
    )


def _recoloured(
    change: Recolouring, world: World, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (ngeom, 3) and materials (ngeom,) of the geoms."""
    model = world.model
    textured = model.geom_matid >= 0
    plain_grey = (model.geom_rgba[:, :3] == _OWN_COLOUR).all(axis=1)
    own = model.geom_rgba[:, :3].copy()
    by_material = textured & plain_grey
    own[by_material] = model.mat_rgba[model.geom_matid[by_material], :3]
    colours, materials = model.geom_rgba[:, :3].copy(), model.geom_matid.copy()
    parts = _parts(world)
    for name, share in (("table", change.table), ("room", change.room), ("robot", change.robot)):
        colours[parts[name]] = _mixed(own[parts[name]], _colour(generator), share)
    material = generator.choice(np.unique(model.geom_matid[parts["room"] & textured]))
    if change.materials:
        materials[parts["table"] & textured] = material
    return colours, materials


def _parts(world: World) -> dict[str, np.ndarray]:
    """Which geoms are the table or the bins, the room, and the robots: masks (ngeom,)."""
    model = world.model
    names = np.array([model.body(body).name for body in range(model.nbody)])[model.geom_bodyid]
    opaque = (model.geom_rgba[:, 3] == 1) & (
        (model.geom_matid < 0) | (model.mat_rgba[model.geom_matid, 3] == 1)
    )
    seen = opaque & (model.geom_group != 0)
    return {
        "table": seen & _start_with(names, _TABLE_BODIES),
        "room": seen & (names == "world"),
        "robot": seen & _start_with(names, _ROBOT_BODIES),
    }


def _start_with(names: np.ndarray, beginnings: tuple[str, ...]) -> np.ndarray:
    return np.any([np.char.startswith(names, each) for each in beginnings], axis=0)


def _scattered(clutter: Clutter, world: World, generator: np.random.Generator) -> tuple[Prop, ...]:
    """Props on free places that the front camera sees; fewer where there is no more room."""
    camera = placed(world.declared.task.primary_camera, world.workspace, np.eye(3))
    props: list[Prop] = []
    spots: list[tuple[np.ndarray, float]] = []
    for _ in range(_TRIES):
        if len(props) == clutter.count:
            break
        offset = generator.uniform(-clutter.reach, clutter.reach, 2)
        halves = generator.uniform(*clutter.sizes, 3)
        colour = _colour(generator, clutter.hues)
        yaw = generator.uniform(0, np.pi)
        kind = generator.choice(list(_SHAPES))
        place = world.workspace[:2] + offset
        radius = float(np.linalg.norm(halves[:2]))
        apart = all(
            np.linalg.norm(place - other) > radius + taken + clutter.gap for other, taken in spots
        )
        height = _free_height(world, place, radius + clutter.gap) if apart else None
        if height is None or not shows(camera, np.array([*place, height])):
            continue
        spots.append((place, radius))
        rotation = np.array(
            [[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1.0]]
        )
        size, lift = _SHAPES[kind](halves)
        position = np.array([*place, height + lift])
        props.append(Prop(kind, size, position, rotation, np.array([*colour, 1.0])))
    return tuple(props)


def _free_height(world: World, place: np.ndarray, radius: float) -> float | None:
    """The table's height (m) at `place` (2,), None unless it lies bare for `radius` around."""
    model, data = world.model, world.data
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = place + np.concatenate([np.zeros((1, 2)), radius * ring, radius / 2 * ring])
    groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    hit, down = np.zeros(1, np.int32), np.array([0.0, 0.0, -1.0])
    heights = []
    for point in points:
        start = np.array([*point, world.workspace[2] + _DROP])
        fallen = mujoco.mj_ray(model, data, start, down, groups, 1, -1, hit)
        heights.append(start[2] - fallen)
        body = model.geom_bodyid[hit[0]] if hit[0] >= 0 else 0
        if body == 0 or model.body_weldid[body] != 0 or abs(heights[-1] - heights[0]) > 1e-3:
            return None
    return heights[0]


def _box(halves: np.ndarray) -> tuple[np.ndarray, float]:
    return halves, halves[2]


def _cylinder(halves: np.ndarray) -> tuple[np.ndarray, float]:
    return np.array([halves[0], halves[0], halves[2]]), halves[2]


def _ellipsoid(halves: np.ndarray) -> tuple[np.ndarray, float]:
    return halves, halves[2]


_SHAPES = {
    int(mujoco.mjtGeom.mjGEOM_BOX): _box,
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): _cylinder,
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): _ellipsoid,
}


def _reworded(change: Rewording, task: Task, generator: np.random.Generator) -> str:
    if not task.held_out_paraphrases:
        path = file_of("tasks", task.name)
        raise BadDefinition(path, "has no 'held_out_paraphrases'", "add some")
    wording = task.held_out_paraphrases[generator.integers(len(task.held_out_paraphrases))]
    return change.phrases[generator.integers(len(change.phrases))].replace("{}", wording)


def _direction(generator: np.random.Generator) -> np.ndarray:
    """A unit vector (3,), all directions alike."""
    vector = generator.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _colour(generator: np.random.Generator, hues: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """A colour (3,) in [0, 1], its hue between `hues`, neither black nor white."""
    hue = generator.uniform(*hues)
    saturation, value = generator.uniform(0.3, 1, 2)
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _mixed(own: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    return (1 - share) * own + share * other
