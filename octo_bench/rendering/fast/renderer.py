"""The fast look, drawn on the processor: MuJoCo's picture without OpenGL, display or GPU.

Meshes are simplified; there are no shadows, no reflections, and no multisampling. Every processor
gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import mujoco
import numpy as np

from octo_bench.rendering.cameras import CameraPose
from octo_bench.rendering.fast.elementary import radians, tangent
from octo_bench.rendering.fast.rasterizer import CameraStruct, library
from octo_bench.rendering.fast.scene import Scene
from octo_bench.rendering.look import Look


class FastRenderer:
    """Draws square frames of one model."""

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        """Prepare to draw `model` in frames of `size` pixels.

        `model` is followed in what tasks change there: where a reset puts bodies without a joint,
        and geoms that become transparent.

        Raises:
            MissingDependency: when the compiled core is missing.
            UnsupportedEnvironment: for a kind of geom that is not drawn here.
        """
        self._core = library()
        self._model, self._size = model, size
        self._data = mujoco.MjData(model)
        self._scene = Scene(model)
        self.wear(Look())

    def wear(self, look: Look) -> None:
        """Draw all that follows with this look, whatever it was before."""
        self._scene.wear(look)
        wanted = self._core.octo_bench_working_bytes(
            self._size, self._scene.n_triangles, self._scene.n_things, self._scene.n_points
        )
        self._working = np.empty(wanted, np.uint8)

    def frames(self, qpos: np.ndarray, cameras: Sequence[CameraPose]) -> list[np.ndarray]:
        """One (size, size, 3) uint8 frame a camera, at joint positions `qpos`."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        scene = self._scene.place(self._data)
        eyes = np.array([_eye(camera) for camera in cameras], np.dtype(CameraStruct))
        frames = np.empty((len(eyes), self._size, self._size, 3), np.uint8)
        self._core.octo_bench_draw(
            scene,
            eyes.ctypes.data,
            len(eyes),
            self._size,
            self._scene.n_triangles,
            self._scene.n_points,
            frames.ctypes.data,
            self._working.ctypes.data,
        )
        return list(frames)

    def close(self) -> None:
        """Nothing is held that others would have to free."""


def _eye(camera: CameraPose) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    return camera.position, camera.forward, camera.up, _half(float(camera.fovy))


@lru_cache(maxsize=64)
def _half(fovy: float) -> float:
    """The tangent of half a field of view in degrees."""
    return tangent(radians(fovy) / 2)
