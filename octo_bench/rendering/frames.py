"""Frames from cameras of the suite's own, without touching the physics.

A renderer has a copy of the compiled model. A frame copies the joint positions into it and runs
forward kinematics, so that what is seen depends on the joint positions alone. Cameras are put
into the scene directly: they need not exist in the model.

`quality="fast"` simplifies the visual meshes (`meshes`), leaves out shadows, reflections and
multisampling, and makes cylinders and textures coarser; `quality="stock"` is robosuite's own look.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import mujoco
import numpy as np

from octo_bench.errors import MissingDependency
from octo_bench.rendering.cameras import CameraPose
from octo_bench.rendering.graphics import require_backend
from octo_bench.rendering.meshes import simplify_meshes
from octo_bench.rendering.opengl import abandon, drawing

Quality = Literal["fast", "stock"]

_NEAR, _FAR = 0.01, 10.0
_MAX_GEOMS = 2000
_FAST_QUALITY = {
    "offsamples": 0,
    "shadowsize": 0,
    # Cylinders and spheres are as finely made as needed for small frames; boxes and planes are
    # cut into so many squares to a side, at whose corners light is computed.
    "numslices": 16,
    "numstacks": 4,
    "numquads": 2,
}
_COSTLY = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


@dataclass(frozen=True)
class Prop:
    """A thing that is only to be seen.

    `shape` is MuJoCo's mjtGeom, `size` (3,) m half sizes, `position` (3,) m and `rotation` (3, 3)
    in the world, `rgba` (4,).
    """

    shape: int
    size: np.ndarray
    position: np.ndarray
    rotation: np.ndarray
    rgba: np.ndarray


@dataclass(frozen=True)
class Lamps:
    """The model's lights elsewhere: `positions` and `directions` (nlight, 3) in the world, and
    `brightness` (3,), a factor on red, green and blue of all light."""

    positions: np.ndarray
    directions: np.ndarray
    brightness: np.ndarray


@dataclass(frozen=True)
class Look:
    """What is drawn otherwise than the model says: `colours` (ngeom, 3), `materials` (ngeom,)."""

    lamps: Lamps | None = None
    colours: np.ndarray | None = None
    materials: np.ndarray | None = None
    props: tuple[Prop, ...] = ()


class Renderer:
    """Draws square frames of one model."""

    def __init__(self, model: mujoco.MjModel, size: int, quality: Quality) -> None:
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
        fast = quality == "fast"
        self._model.vis.global_.offwidth = self._model.vis.global_.offheight = size
        if fast:
            simplify_meshes(self._model)
            for name, value in _FAST_QUALITY.items():
                setattr(self._model.vis.quality, name, value)
        self._fast = fast
        with drawing() as opengl:
            self._create_context(opengl)
        self._scene = mujoco.MjvScene(self._model, maxgeom=_MAX_GEOMS)
        # Views of the scene, kept: making them again takes time.
        self._eyes, self._slots = list(self._scene.camera), self._scene.geoms
        if fast:
            for flag in _COSTLY:
                self._scene.flags[flag] = 0
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
        if self._fast:
            _use_one_mipmap(self._context)
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


def renderer_name() -> str:
    """The renderer's name, from OpenGL; "none" where nothing can draw."""
    try:
        require_backend()
    except MissingDependency:
        return "none"
    with drawing():
        from OpenGL import GL  # after MuJoCo has chosen how OpenGL is reached

        names = [GL.glGetString(name) for name in (GL.GL_RENDERER, GL.GL_VERSION)]
    return ", ".join(name.decode() for name in names if name) or "none"


def _free(context: mujoco.MjrContext, made_in: mujoco.GLContext) -> None:
    with drawing() as opengl:
        if opengl is made_in:
            context.free()
        else:
            abandon(context)


def _use_one_mipmap(context: mujoco.MjrContext) -> None:
    """Take each texel from the nearest mipmap instead of from two: a seventh of a frame's time."""
    from OpenGL import GL  # after MuJoCo has chosen how OpenGL is reached

    for texture, kind in zip(context.texture, context.textureType, strict=True):
        if texture:
            flat = kind == mujoco.mjtTexture.mjTEXTURE_2D
            target = GL.GL_TEXTURE_2D if flat else GL.GL_TEXTURE_CUBE_MAP
            GL.glBindTexture(target, int(texture))
            GL.glTexParameteri(target, GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR_MIPMAP_NEAREST)
