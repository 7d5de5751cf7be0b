"""Frames from cameras of the suite's own, without touching the physics.

A renderer has a copy of the compiled model. A frame copies the joint positions into it and runs
forward kinematics, so that what is seen depends on the joint positions alone. Cameras are put
into the scene directly: they need not exist in the model.

`quality="fast"` simplifies the visual meshes (`meshes`) and leaves out shadows, reflections and
multisampling; `quality="stock"` is robosuite's own look.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import mujoco
import numpy as np

from octo_bench.simulation.graphics import require_backend
from octo_bench.simulation.meshes import simplify_meshes

Quality = Literal["fast", "stock"]

_NEAR, _FAR = 0.01, 10.0
_MAX_GEOMS = 2000
_COSTLY = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


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


class Renderer:
    """Draws square frames of one model."""

    def __init__(self, model: mujoco.MjModel, size: int, quality: Quality) -> None:
        """Prepare to draw `model`, which is copied, in frames of `size` pixels.

        Raises:
            MissingDependency: when there is no OpenGL to draw with.
        """
        require_backend()
        self._model = copy.deepcopy(model)
        self._data = mujoco.MjData(self._model)
        self._size = size
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
        if quality == "fast":
            simplify_meshes(self._model)
            self._model.vis.quality.offsamples = 0
            self._model.vis.quality.shadowsize = 0
        _opengl().make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self._scene = mujoco.MjvScene(self._model, maxgeom=_MAX_GEOMS)
        if quality == "fast":
            for flag in _COSTLY:
                self._scene.flags[flag] = 0
        self._options = mujoco.MjvOption()
        # robosuite keeps collision geoms in group 0 and what is to be seen in group 1.
        self._options.geomgroup[0] = 0
        self._options.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._viewport = mujoco.MjrRect(0, 0, size, size)

    @property
    def model(self) -> mujoco.MjModel:
        """The copy that is drawn; its colours and lights may be changed."""
        return self._model

    def frames(self, qpos: np.ndarray, cameras: Sequence[CameraPose]) -> list[np.ndarray]:
        """One (size, size, 3) uint8 frame a camera, at joint positions `qpos`."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, self._data, self._options, None, self._camera, everything, self._scene
        )
        _opengl().make_current()
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        return [self._draw(camera) for camera in cameras]

    def close(self) -> None:
        """Free what the graphics library holds."""
        _opengl().make_current()
        self._context.free()

    def _draw(self, pose: CameraPose) -> np.ndarray:
        half = _NEAR * np.tan(np.radians(pose.fovy) / 2)
        for eye in self._scene.camera:
            eye.pos, eye.forward, eye.up = pose.position, pose.forward, pose.up
            eye.frustum_near, eye.frustum_far = _NEAR, _FAR
            eye.frustum_bottom, eye.frustum_top = -half, half
            eye.frustum_center, eye.frustum_width = 0.0, half
        frame = np.empty((self._size, self._size, 3), np.uint8)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(frame, None, self._viewport, self._context)
        return np.ascontiguousarray(frame[::-1])


@cache
def _opengl() -> mujoco.GLContext:
    """The process's one OpenGL context; every renderer draws into a buffer of its own in it."""
    return mujoco.GLContext(64, 64)
