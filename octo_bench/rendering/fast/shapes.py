"""Triangles of MuJoCo's primitives and meshes, as its OpenGL renderer cuts them.

After `render_context.c` of MuJoCo 3.6.0, with the fast look's coarseness: 16 slices and 4 stacks
for cylinders and spheres, 2 x 2 squares for a side of a box. Shapes are kept once in a process.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from weakref import WeakValueDictionary

import mujoco
import numpy as np

from octo_bench.rendering.fast.elementary import sine_cosine, unit
from octo_bench.rendering.fast.rasterizer import ShapeStruct

SLICES, STACKS, SQUARES = 16, 4, 2
_PLANE_LINES = 200
_ENDLESS, _ENDLESS_CELL = 20.0, 1.0  # m, half size and cell of a plane without a size
_SMOOTH = 0.8  # cosine between a corner's and the triangle's normal below which it is an edge

Corners = tuple[np.ndarray, np.ndarray]
"""Positions and normals of triangles' corners, each (T, 3, 3)."""


class Shape:
    """Triangles in the frame of a geom, metres, laid out for the compiled core.

    Attributes:
        struct: for the core; it points into arrays that live as long as this object.
        n_triangles: how many.
        n_points: how many, with those that fill the last group of four.
    """

    def __init__(
        self,
        points: np.ndarray,
        triangles: np.ndarray,
        normals: np.ndarray,
        texcoords: np.ndarray | None = None,
    ) -> None:
        """Lay out a shape.

        Args:
            points: (P, 3).
            triangles: (T, 3) indices of points, counter-clockwise seen from outside.
            normals: (T, 3, 3) of each triangle's corners, unit length.
            texcoords: (T, 3, 2) of each triangle's corners; None if a material's apply.
        """
        stride = max(4, -(-len(points) // 4) * 4)
        self._points = np.zeros((3, stride), np.float32)
        self._points[:, : len(points)] = points.T
        self._triangles = np.ascontiguousarray(triangles, np.int32)
        self._normals = _of_axes(normals)
        self._texcoords = None if texcoords is None else _of_axes(texcoords)
        low, high = (bound(self._points[:, : len(points)], axis=1) for bound in (np.min, np.max))
        center = (low.astype(np.float64) + high) / 2
        offset = np.asarray(points, np.float64) - center
        x, y, z = offset.T
        radius = np.sqrt((x * x + y * y + z * z).max())
        self.n_triangles, self.n_points = len(triangles), stride
        self.struct = ShapeStruct(
            self._points.ctypes.data,
            self._triangles.ctypes.data,
            self._normals.ctypes.data,
            0 if self._texcoords is None else self._texcoords.ctypes.data,
            len(points),
            stride,
            len(triangles),
            tuple(center),
            radius * (1 + 1e-5),
        )

    @property
    def address(self) -> int:
        """Of the structure."""
        return ctypes.addressof(self.struct)

    @property
    def has_texcoords(self) -> bool:
        """Whether it says itself where a texture lies on it."""
        return self._texcoords is not None


def _of_axes(values: np.ndarray) -> np.ndarray:
    """Values of corners (T, 3, n) as (T, n, 4): an axis of the three corners, and a 0."""
    laid = np.zeros((len(values), values.shape[2], 4), np.float32)
    laid[:, :, :3] = values.transpose(0, 2, 1)
    return laid


_kept: WeakValueDictionary[bytes, Shape] = WeakValueDictionary()


def kept(key: bytes, make: Callable[[], Shape]) -> Shape:
    """The shape of a key, made where no simulation of the process has it yet."""
    shape = _kept.get(key)
    if shape is None:
        shape = _kept[key] = make()
    return shape


def primitive(kind: int, size: np.ndarray) -> Shape | None:
    """The shape of a geom of one of MuJoCo's types (mjtGeom); None for one that is no primitive.

    Args:
        kind: mjtGeom.
        size: (3,) m, as in the model.
    """
    if kind not in _PRIMITIVES and kind != mujoco.mjtGeom.mjGEOM_PLANE:
        return None
    size = np.asarray(size, np.float64)
    key = b"%d %s" % (kind, size.tobytes())
    if kind == mujoco.mjtGeom.mjGEOM_PLANE:
        return kept(key, lambda: _joined(*_plane(size)))
    unit_corners, scale = _PRIMITIVES[kind]
    return kept(key, lambda: _scaled(unit_corners(size), scale(size)))


def mesh(
    points: np.ndarray, triangles: np.ndarray, corner_normals: np.ndarray, texcoords: np.ndarray
) -> Shape:
    """The shape of a mesh.

    Args:
        points: (P, 3) float32.
        triangles: (T, 3) indices of points.
        corner_normals: (T, 3, 3) float32, the normals of the corners.
        texcoords: (T, 3, 2) float32, or empty. Without them, corners whose normal is far from
            their triangle's get that.
    """
    normals = unit(corner_normals)
    if len(texcoords):
        return Shape(points, triangles, normals, texcoords)
    a, b, c = (points[triangles[:, corner]].astype(np.float64) for corner in range(3))
    (ux, uy, uz), (vx, vy, vz) = (b - a).T, (c - a).T
    flat = unit(np.stack([uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx], -1))
    along = sum(normals[:, :, axis] * flat[:, None, axis] for axis in range(3))
    normals = np.where((along < _SMOOTH)[..., None], flat[:, None], normals)
    return Shape(points, triangles, normals)


def digest(*arrays: np.ndarray) -> bytes:
    """Of the contents of arrays."""
    found = hashlib.blake2b(digest_size=32)
    for array in arrays:
        found.update(repr((array.shape, array.dtype.str)).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.digest()


def _scaled(corners: Corners, scale: np.ndarray) -> Shape:
    positions, normals = corners
    safe = np.where(scale > 0, scale, 1e-15)
    return _joined(positions * scale, unit(normals / safe))


def _joined(positions: np.ndarray, normals: np.ndarray) -> Shape:
    """A shape whose corners (T, 3, 3) at the same place are one point."""
    points, index = np.unique(
        positions.reshape(-1, 3).astype(np.float32), axis=0, return_inverse=True
    )
    return Shape(points, index.reshape(-1, 3), normals)


def _split(positions: np.ndarray, normals: np.ndarray) -> Corners:
    """Quads (Q, 4, 3) as triangles, as OpenGL splits them."""
    parts = [[0, 1, 3], [1, 2, 3]]
    return (
        np.concatenate([positions[:, part] for part in parts]),
        np.concatenate([normals[:, part] for part in parts]),
    )


@cache
def _circle() -> np.ndarray:
    """(SLICES + 1, 2) points of the unit circle, the last being the first."""
    angles = [2 * math.pi * step / SLICES for step in range(SLICES // 2)]
    half = np.array([sine_cosine(angle)[::-1] for angle in angles])
    return np.concatenate([half, -half, half[:1]])


def _box(size: np.ndarray) -> Corners:
    lines = 2 * np.arange(SQUARES + 1) / SQUARES - 1
    u, v = (part.ravel() for part in np.meshgrid(lines[:-1], lines[:-1], indexing="ij"))
    step = 2 / SQUARES
    square = np.stack(
        [
            np.stack(part, -1)
            for part in ((u, v), (u + step, v), (u + step, v + step), (u, v + step))
        ],
        axis=1,
    )
    positions, normals = [], []
    for axis in range(3):
        across, up = (axis + 1) % 3, (axis + 2) % 3
        for side in (1.0, -1.0):
            quads = np.empty((len(square), 4, 3))
            quads[..., axis] = side
            quads[..., across], quads[..., up] = square[..., 0], square[..., 1]
            if side < 0:
                quads = quads[:, ::-1]
            normal = np.zeros(3)
            normal[axis] = side
            positions.append(quads)
            normals.append(np.broadcast_to(normal, quads.shape))
    return _split(np.concatenate(positions), np.concatenate(normals))


def _ring(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Quads (SLICES, 4, 3) between two rings given as radius and height (2,)."""
    circle = _circle()

    def at(points: np.ndarray, ring: np.ndarray) -> np.ndarray:
        return np.concatenate([points * ring[0], np.full((len(points), 1), ring[1])], axis=1)

    here, there = circle[:-1], circle[1:]
    return np.stack([at(here, low), at(there, low), at(there, high), at(here, high)], axis=1)


def _cap(radius: float, height: float, top: float, side: float) -> np.ndarray:
    """Triangles (SLICES, 3, 3) between a ring and a point on the axis at height `top`."""
    quads = _ring(np.array([radius, height]), np.array([0.0, top]))[:, :3]
    return quads if side > 0 else quads[:, ::-1]


def _disc(side: float) -> Corners:
    rings = STACKS // 2
    centre = _cap(1 / rings, side, side, side)
    triangles = [centre]
    for ring in range(1, rings):
        outer, inner = np.array([(ring + 1) / rings, side]), np.array([ring / rings, side])
        quads = _ring(outer, inner)
        quads = quads if side > 0 else quads[:, ::-1]
        triangles.append(_split(quads, quads)[0])
    positions = np.concatenate(triangles)
    return positions, np.broadcast_to([0.0, 0.0, side], positions.shape)


def _tube() -> Corners:
    heights = 2 * np.arange(STACKS + 1) / STACKS - 1
    quads = np.concatenate(
        [_ring(np.array([1.0, low]), np.array([1.0, high])) for low, high in pairwise(heights)]
    )
    return _split(quads, quads * [1.0, 1.0, 0.0])


def _cylinder(size: np.ndarray) -> Corners:
    parts = _disc(-1.0), _tube(), _disc(1.0)
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def _half_sphere(side: float, stacks: int) -> np.ndarray:
    """Positions (T, 3, 3) of half a unit sphere, which are its normals, too."""
    elevations = [sine_cosine(math.pi / 2 * step / stacks) for step in range(stacks)]
    rings = [np.array([cosine, side * sine]) for sine, cosine in elevations]
    triangles = [_cap(*rings[-1], side, side)]
    for low, high in pairwise(rings):
        quads = _ring(low, high)
        quads = quads if side > 0 else quads[:, ::-1]
        triangles.append(_split(quads, quads)[0])
    return np.concatenate(triangles)


def _sphere(size: np.ndarray) -> Corners:
    positions = np.concatenate([_half_sphere(side, STACKS // 2) for side in (-1.0, 1.0)])
    return positions, positions


def _capsule(size: np.ndarray) -> Corners:
    """In units of (radius, radius, half length): a tube, and half spheres at its ends."""
    ratio = size[0] / max(size[1], 1e-15)
    positions, normals = _tube()
    squash = np.array([1.0, 1.0, ratio])
    for side in (-1.0, 1.0):
        half = _half_sphere(side, STACKS // 2)
        positions = np.concatenate([positions, half * squash + [0.0, 0.0, side]])
        normals = np.concatenate([normals, half / squash])
    return positions, normals


def _plane(size: np.ndarray) -> Corners:
    grids = []
    for half in size[:2]:
        if half <= 0:
            steps = round(2 * _ENDLESS / _ENDLESS_CELL)
            grids.append(np.arange(steps + 1) * _ENDLESS_CELL - _ENDLESS)
            continue
        cell = max(size[2], half / (_PLANE_LINES - 2))
        count = int(half // cell) // 2 * 2
        pad = half - count * cell
        inner = -half + pad + 2 * cell * np.arange(count + 1)
        grids.append(np.concatenate([[-half], inner, [inner[-1] + pad]]))
    left, right = grids[0][:-1], grids[0][1:]
    low, high = grids[1][:-1], grids[1][1:]
    corners = [(left, low), (right, low), (right, high), (left, high)]
    quads = np.stack([np.stack(np.meshgrid(*each, indexing="ij"), -1) for each in corners], axis=2)
    quads = quads.reshape(-1, 4, 2)
    quads = np.concatenate([quads, np.zeros((*quads.shape[:2], 1))], axis=2)
    return _split(quads, np.broadcast_to([0.0, 0.0, 1.0], quads.shape))


def _same(size: np.ndarray) -> np.ndarray:
    return size


def _round(size: np.ndarray) -> np.ndarray:
    return size[[0, 0, 0]]


def _upright(size: np.ndarray) -> np.ndarray:
    return size[[0, 0, 1]]


_PRIMITIVES: dict[int, tuple[Callable[[np.ndarray], Corners], Callable[..., np.ndarray]]] = {
    int(mujoco.mjtGeom.mjGEOM_BOX): (_box, _same),
    int(mujoco.mjtGeom.mjGEOM_CYLINDER): (_cylinder, _upright),
    int(mujoco.mjtGeom.mjGEOM_CAPSULE): (_capsule, _upright),
    int(mujoco.mjtGeom.mjGEOM_SPHERE): (_sphere, _round),
    int(mujoco.mjtGeom.mjGEOM_ELLIPSOID): (_sphere, _same),
}
