"""Cameras of the suite's own, placed in the world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from octo_bench.definitions.environments import Camera

_WELL_WITHIN = 0.9


@dataclass(frozen=True)
class CameraPose:
    """A camera in the world: position (3,) m, unit vectors forward and up (3,), degrees."""

    position: np.ndarray
    forward: np.ndarray
    up: np.ndarray
    fovy: float


def look_at(position: np.ndarray, target: np.ndarray, up: np.ndarray, fovy: float) -> CameraPose:
    """The pose of a camera at `position` that sees `target` in its middle, `up` upwards."""
    forward = (target - position) / np.linalg.norm(target - position)
    upright = up - forward * (up @ forward)
    return CameraPose(position, forward, upright / np.linalg.norm(upright), fovy)


def placed(camera: Camera, origin: np.ndarray, rotation: np.ndarray) -> CameraPose:
    """A declared camera in the world, its frame being at `origin` with `rotation`."""
    position = origin + rotation @ np.array(camera.position)
    target = origin + rotation @ np.array(camera.target)
    return look_at(position, target, rotation @ np.array(camera.up), camera.fovy)


def shows(camera: CameraPose, point: np.ndarray) -> bool:
    """Whether a `point` (3,) m lies well within a square frame."""
    offset = point - camera.position
    depth = offset @ camera.forward
    right = np.cross(camera.forward, camera.up)
    reach = _WELL_WITHIN * depth * np.tan(np.radians(camera.fovy) / 2)
    return bool(depth > 0 and abs(offset @ right) < reach and abs(offset @ camera.up) < reach)
