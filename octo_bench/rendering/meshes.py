"""Visual meshes with fewer triangles, for rendering small frames.

Frames of a hundred pixels cost what their vertices cost: robosuite's arms have hundreds of
thousands.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from functools import cache
from pathlib import Path

import fast_simplification
import mujoco
import numpy as np

from octo_bench.errors import BadFile
from octo_bench.files import atomic_path
from octo_bench.reading import read_bytes

FACES_PER_MESH = 400
_FEWEST = 40
_FULL_SIZE = 0.03
_GRIDS = (512, 256, 192, 128, 96, 64, 48, 32, 24)
_DIGEST = hashlib.sha256().digest_size
_LARGEST_FILE = 2**26

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vertices (V, 3) float32, triangles (F, 3) int32 and unit normals (V, 3) float32."""


def cache_folder() -> Path:
    """Where simplified meshes are kept between processes (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "octo-bench" / "meshes"


def simplified(model: mujoco.MjModel, mesh: int, faces: int = FACES_PER_MESH) -> Mesh | None:
    """A mesh of a model with at most `faces` triangles where that is possible.

    One of less than 3 cm radius gets fewer, in proportion. Meshes are simplified by quadric error
    metrics (Garland and Heckbert, 1997) with smooth normals, and cached by content. The cache is
    checked as it is read, made again where it is damaged, and done without where it cannot be
    written.

    Returns:
        None if it is drawn as it is: it has so few already, carries a texture, or would get more
        points than it has.
    """
    points, normals = int(model.mesh_vertnum[mesh]), int(model.mesh_normalnum[mesh])
    vertex, face = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
    vertices = model.mesh_vert[vertex : vertex + points]
    triangles = model.mesh_face[face : face + model.mesh_facenum[mesh]]
    radius = np.linalg.norm(np.ptp(vertices, axis=0)) / 2
    allowed = max(_FEWEST, round(faces * min(1.0, radius / _FULL_SIZE)))
    if len(triangles) <= allowed or _is_textured(model, mesh):
        return None
    made = _simplified(vertices, triangles, allowed)
    return made if len(made[0]) <= min(points, normals) else None


def _is_textured(model: mujoco.MjModel, mesh: int) -> bool:
    drawn = (model.geom_type == mujoco.mjtGeom.mjGEOM_MESH) & (model.geom_dataid == mesh)
    materials = model.geom_matid[drawn & (model.geom_matid >= 0)]
    return bool((model.mat_texid[materials] >= 0).any())


def _simplified(vertices: np.ndarray, triangles: np.ndarray, faces: int) -> Mesh:
    """Vertices (V, 3) float32, triangles (F, 3) int32 and unit normals (V, 3) float32."""
    digest = hashlib.sha256(_code() + bytes(str(faces), "ascii"))
    digest.update(fast_simplification.__version__.encode())
    digest.update(vertices.tobytes())
    digest.update(triangles.tobytes())
    path = cache_folder() / f"{digest.hexdigest()}.mesh"
    kept = _read_kept(path, len(vertices), faces_before=len(triangles))
    if kept is not None:
        return kept
    points, corners = _reduced(vertices, triangles, faces)
    arrays = (
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(corners, np.int32),
        _normals(points, corners),
    )
    _keep(path, arrays)
    return arrays


def _read_kept(path: Path, points: int, faces_before: int) -> Mesh | None:
    """The mesh in a file of the cache; None if it is not there, or not what was written.

    The file is the SHA-256 of the rest, the numbers of points and of triangles, and the arrays.
    """
    try:
        content = read_bytes(path, BadFile, "", limit=_LARGEST_FILE)
    except BadFile:
        return None
    digest, body = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(body).digest() != digest:
        return None
    n_points, n_faces = np.frombuffer(body, "<i8", 2).tolist()
    split = 16 + np.cumsum([12 * n_points, 12 * n_faces, 12 * n_points])
    if split[-1] != len(body) or n_points > points or n_faces > faces_before:
        return None
    vertices = np.frombuffer(body[16 : split[0]], "<f4").reshape(-1, 3)
    corners = np.frombuffer(body[split[0] : split[1]], "<i4").reshape(-1, 3)
    normals = np.frombuffer(body[split[1] :], "<f4").reshape(-1, 3)
    if n_faces and not 0 <= corners.min() <= corners.max() < n_points:
        return None
    return vertices, corners, normals


def _keep(path: Path, mesh: Mesh) -> None:
    """Write a mesh to the cache; where that cannot be done, say so once and go on without."""
    points, corners, normals = mesh
    sizes = np.array([len(points), len(corners)], "<i8")
    body = b"".join(part.tobytes() for part in (sizes, points, corners, normals))
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(hashlib.sha256(body).digest() + body)
    except (OSError, BadFile) as error:
        _warn_once(f"simplified meshes are not kept between processes: {error}")


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


@cache
def _code() -> bytes:
    """Hash of this file, which decides what is in the cache."""
    return hashlib.sha256(Path(__file__).read_bytes()).digest()


def _reduced(
    vertices: np.ndarray, triangles: np.ndarray, faces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Points (V, 3) float32 and triangles (F, 3) int32, F at most `faces` where that is possible.

    Meshes come with a vertex per corner; simplification needs them joined. Many small loose parts
    resist edge collapse: on a grid they melt together, the finest grid that does it being taken.
    """
    joined, index = np.unique(vertices.round(6), axis=0, return_inverse=True)
    whole = joined.astype(np.float32), index.reshape(-1)[triangles].astype(np.int32)
    points, corners = _collapse(*whole, faces)
    for cells in _GRIDS:
        if len(corners) <= faces:
            break
        points, corners = _collapse(*_cluster(*whole, cells), faces)
    return points, corners


def _collapse(points: np.ndarray, corners: np.ndarray, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Edge collapse towards `faces` triangles; triangles without area are dropped first."""
    a, b, c = corners.T
    proper = np.ascontiguousarray(corners[(a != b) & (b != c) & (a != c)])
    if len(proper) <= faces:
        return points, proper
    return fast_simplification.simplify(np.ascontiguousarray(points), proper, target_count=faces)


def _cluster(points: np.ndarray, corners: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Join the vertices that share a cell of a grid, `cells` along the longest side.

    Vertex clustering as in Rossignac and Borrel, "Multi-resolution 3D approximations" (1993).
    """
    low = points.min(axis=0)
    size = (points.max(axis=0) - low).max() / cells
    keys = ((points - low) / size).astype(np.int64)
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    merged = index.reshape(-1)[corners].astype(np.int32)
    ordered = np.sort(merged, axis=1)
    _, kept = np.unique(ordered, axis=0, return_index=True)
    return points[first], merged[np.sort(kept)]


def _normals(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Area-weighted vertex normals, unit length."""
    a, b, c = (points[corners[:, i]] for i in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros_like(points)
    for corner in range(3):
        np.add.at(normals, corners[:, corner], face_normals)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    return (normals / np.maximum(lengths, 1e-12)).astype(np.float32)
