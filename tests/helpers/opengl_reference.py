"""The fast look as MuJoCo draws it with OpenGL: what our own renderer is compared with."""

from __future__ import annotations

import copy
import os

import mujoco
import numpy as np
import pytest

from octo_bench.rendering.meshes import simplified
from octo_bench.rendering.opengl import drawing
from octo_bench.rendering.opengl_renderer import StockRenderer

needs_opengl = pytest.mark.skipif(
    "MUJOCO_GL" not in os.environ, reason="no OpenGL here to compare with: neither EGL nor OSMesa"
)

# Each embodiment and each task at least once.
COMPARED = (
    "Lift-Panda",
    "Stack-IIWA",
    "PickPlaceCan-Kinova3",
    "PickPlaceMilk-UR5e",
    "PickPlaceCereal-Panda",
    "PickPlaceBread-VX300S",
    "NutAssemblySquare-Sawyer",
    "NutAssemblyRound-Jaco",
    "Door-XArm7",
    "Wipe-PandaOmron",
    "TwoArmLift-Aloha",
    "TwoArmHandover-Baxter",
    "TwoArmLift-TwoPandas",
)

_QUALITY = {"offsamples": 0, "shadowsize": 0, "numslices": 16, "numstacks": 4, "numquads": 2}
_COSTLY = (
    mujoco.mjtRndFlag.mjRND_SHADOW,
    mujoco.mjtRndFlag.mjRND_REFLECTION,
    mujoco.mjtRndFlag.mjRND_SKYBOX,
    mujoco.mjtRndFlag.mjRND_HAZE,
)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two images, dB; 100 of equal ones."""
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else 100.0


def fast_by_opengl(model: mujoco.MjModel, size: int) -> StockRenderer:
    """MuJoCo's renderer with simplified meshes, no shadows, and one mipmap a texel."""
    simpler = copy.deepcopy(model)
    for mesh in range(model.nmesh):
        made = simplified(model, mesh)
        if made is not None:
            _overwrite(simpler, mesh, *made)
    for name, value in _QUALITY.items():
        setattr(simpler.vis.quality, name, value)
    renderer = StockRenderer(simpler, size)
    renderer._followed = model
    for flag in _COSTLY:
        renderer._scene.flags[flag] = 0
    with drawing():
        _use_one_mipmap(renderer._context)
    return renderer


def _overwrite(
    model: mujoco.MjModel, mesh: int, points: np.ndarray, corners: np.ndarray, normals: np.ndarray
) -> None:
    n_points, n_faces = len(points), len(corners)
    vertex, normal = model.mesh_vertadr[mesh], model.mesh_normaladr[mesh]
    face = model.mesh_faceadr[mesh]
    model.mesh_vert[vertex : vertex + n_points] = points
    model.mesh_normal[normal : normal + n_points] = normals
    model.mesh_face[face : face + n_faces] = corners
    model.mesh_facenormal[face : face + n_faces] = corners
    model.mesh_vertnum[mesh] = model.mesh_normalnum[mesh] = n_points
    model.mesh_facenum[mesh] = n_faces
    model.mesh_texcoordadr[mesh] = -1


def _use_one_mipmap(context: mujoco.MjrContext) -> None:
    from OpenGL import GL  # after MuJoCo has chosen how OpenGL is reached

    for number, kind in zip(context.texture, context.textureType, strict=True):
        if number:
            flat = kind == mujoco.mjtTexture.mjTEXTURE_2D
            target = GL.GL_TEXTURE_2D if flat else GL.GL_TEXTURE_CUBE_MAP
            GL.glBindTexture(target, int(number))
            GL.glTexParameteri(target, GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR_MIPMAP_NEAREST)
