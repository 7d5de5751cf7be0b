"""The stock look: frames from cameras of the suite's own, without touching the physics.

A renderer has a copy of the compiled model. A frame copies the joint positions into it and runs
forward kinematics, so that what is seen depends on the joint positions alone. Cameras are put
into the scene directly: they need not exist in the model.

The look is robosuite's own, as MuJoCo draws it with OpenGL.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np

from octo_bench.rendering.cameras import CameraPose
from octo_bench.rendering.graphics import require_backend
from octo_bench.rendering.look import Lamps, Look, Prop
from octo_bench.rendering.opengl import abandon, drawing

_NEAR, _FAR = 0.01, 10.0
_MAX_GEOMS = 2000


class StockRenderer:
    """Draws square frames of one model."""

    def __init__(self, model: mujoco.MjModel, size: int) -> None:
        """Prepare to draw `model`, of which a copy is made, in frames of `size` pixels.

        The copy follows `model` in what tasks change there: where a reset puts bodies without a
        joint, and geoms that become transparent.

        Raises:
            MissingDependency: when there is no OpenGL to draw with.
        """
        require_backend()
        self._followed = model
        self._model = copy.deepcopy(model)
        self._data = mujoco.MjData(self._model)
        self._size = size
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
        with drawing() as opengl:
            self._create_context(opengl)
        self._scene = mujoco.MjvScene(self._model, maxgeom=_MAX_GEOMS)
        # Views of the scene, kept: making them again takes time.
        self._eyes, self._slots = list(self._scene.camera), self._scene.geoms
        self._options = mujoco.MjvOption()
        # robosuite keeps collision geoms in group 0 and what is to be seen in group 1.
        self._options.geomgroup[0] = 0
        self._options.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._props: tuple[Prop, ...] = ()

    def wear(self, look: Look) -> None:
        """Draw all that follows with this look, whatever it was before."""
        model, own = self._model, self._followed
        model.geom_rgba[:, :3] = own.geom_rgba[:, :3] if look.colours is None else look.colours
        model.geom_matid[:] = own.geom_matid if look.materials is None else look.materials
        lamps = look.lamps or Lamps(own.light_pos, own.light_dir, np.ones(3))
        model.light_pos[:], model.light_dir[:] = lamps.positions, lamps.directions
        for kind in ("ambient", "diffuse", "specular"):
            getattr(model, f"light_{kind}")[:] = getattr(own, f"light_{kind}") * lamps.brightness
            headlight = getattr(own.vis.headlight, kind) * lamps.brightness
            getattr(model.vis.headlight, kind)[:] = headlight
        self._props = look.props

    def frames(self, qpos: np.ndarray, cameras: Sequence[CameraPose]) -> list[np.ndarray]:
        """One (size, size, 3) uint8 frame a camera, at joint positions `qpos`."""
        self._model.body_pos[:] = self._followed.body_pos
        self._model.body_quat[:] = self._followed.body_quat
        self._model.geom_rgba[:, 3] = self._followed.geom_rgba[:, 3]
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(
            self._model, self._data, self._options, None, self._camera, everything, self._scene
        )
        for prop in self._props:
            self._add(prop)
        with drawing() as opengl:
            if opengl is not self._opengl:
                abandon(self._context)
                self._free.detach()
                self._create_context(opengl)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            return [self._draw(camera) for camera in cameras]

    def close(self) -> None:
        """Free what the graphics library holds."""
        self._free()

    def _create_context(self, opengl: mujoco.GLContext) -> None:
        self._opengl = opengl
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self._free = weakref.finalize(self, _free, self._context, opengl)
        self._free.atexit = False

    def _add(self, prop: Prop) -> None:
        mujoco.mjv_initGeom(
            self._slots[self._scene.ngeom],
            prop.shape,
            prop.size,
            prop.position,
            prop.rotation.ravel(),
            prop.rgba.astype(np.float32),
        )
        self._scene.ngeom += 1

    def _draw(self, pose: CameraPose) -> np.ndarray:
        half = _NEAR * np.tan(np.radians(pose.fovy) / 2)
        for eye in self._eyes:
            eye.pos, eye.forward, eye.up = pose.position, pose.forward, pose.up
            eye.frustum_near, eye.frustum_far = _NEAR, _FAR
            eye.frustum_bottom, eye.frustum_top = -half, half
            eye.frustum_center, eye.frustum_width = 0.0, half
        frame = np.empty((self._size, self._size, 3), np.uint8)
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        mujoco.mjr_readPixels(frame, None, self._viewport, self._context)
        return np.ascontiguousarray(frame[::-1])


def _free(context: mujoco.MjrContext, made_in: mujoco.GLContext) -> None:
    with drawing() as opengl:
        if opengl is made_in:
            context.free()
        else:
            abandon(context)
