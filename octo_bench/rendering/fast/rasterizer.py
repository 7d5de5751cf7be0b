"""The compiled core, `rasterizer.c`: loading it, and its structures as ctypes.

Pointers are plain addresses here; whoever fills a structure keeps alive what it points to.
"""

from __future__ import annotations

import ctypes
import hashlib
from ctypes import c_double, c_float, c_int32, c_size_t
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from octo_bench.errors import MissingDependency

MOST_LEVELS = 16
MOST_LIGHTS = 8
MOST_THINGS = 4096
GLOSS_STEPS = 1024
FLAT, CUBE = 0, 1
DIRECTIONAL, SPOT = 0, 1

SOURCE = Path(__file__).with_suffix(".c")
_INSTALL = "run: pip install --editable ., or in a clone: python setup.py build_ext --inplace"


class ShapeStruct(ctypes.Structure):
    """A mesh or primitive, in its geom's frame."""

    _fields_ = (
        ("points", c_size_t),
        ("triangles", c_size_t),
        ("normals", c_size_t),
        ("texcoords", c_size_t),
        ("n_points", c_int32),
        ("stride", c_int32),
        ("n_triangles", c_int32),
        ("center", c_float * 3),
        ("radius", c_float),
    )


class TextureStruct(ctypes.Structure):
    """A texture with its mipmaps."""

    _fields_ = (
        ("texels", c_size_t),
        ("decoded", c_size_t),
        ("kind", c_int32),
        ("width", c_int32),
        ("height", c_int32),
        ("n_levels", c_int32),
        ("face_step", c_int32),
        ("offsets", c_int32 * MOST_LEVELS),
    )


class ThingStruct(ctypes.Structure):
    """A geom or a prop: shape and look."""

    _fields_ = (
        ("shape", c_size_t),
        ("texture", c_size_t),
        ("gloss", c_size_t),
        ("rgba", c_float * 4),
        ("specular", c_float),
        ("emission", c_float),
        ("scale", c_float * 3),
        ("offset", c_float * 3),
        ("reach", c_float),
        ("is_plane", c_int32),
    )


class LightStruct(ctypes.Structure):
    """A lamp in the world."""

    _fields_ = (
        ("falloff", c_size_t),
        ("kind", c_int32),
        ("ambient", c_float * 3),
        ("diffuse", c_float * 3),
        ("specular", c_float * 3),
        ("position", c_float * 3),
        ("direction", c_float * 3),
        ("attenuation", c_float * 3),
        ("cutoff", c_float),
    )


class CameraStruct(ctypes.Structure):
    """An eye in the world; `half` is the tangent of half its field of view."""

    _fields_ = (
        ("position", c_double * 3),
        ("forward", c_double * 3),
        ("up", c_double * 3),
        ("half", c_double),
    )


class SceneStruct(ctypes.Structure):
    """All that is drawn."""

    _fields_ = (
        ("things", c_size_t),
        ("positions", c_size_t),
        ("rotations", c_size_t),
        ("lights", c_size_t),
        ("n_things", c_int32),
        ("n_lights", c_int32),
        ("near", c_float),
        ("far", c_float),
        ("ambient", c_float),
    )


_STRUCTURES = (ShapeStruct, TextureStruct, ThingStruct, LightStruct, CameraStruct, SceneStruct)


@cache
def source_sha256() -> str:
    """Hex SHA-256 of the source of the core."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


@cache
def library() -> ctypes.CDLL:
    """The compiled core.

    Raises:
        MissingDependency: when it was not compiled, or from another source than the one here.
    """
    files = [SOURCE.with_name(f"_rasterizer{suffix}") for suffix in EXTENSION_SUFFIXES]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise MissingDependency(f"the renderer {SOURCE} is not compiled; {_INSTALL}")
    try:
        core = ctypes.CDLL(str(found))
    except OSError as error:
        raise MissingDependency(f"{found} does not load ({error}); {_INSTALL}") from error
    made_from = ctypes.c_char_p.in_dll(core, "octo_bench_source").value
    if made_from != source_sha256().encode():
        raise MissingDependency(f"{found} is older than {SOURCE.name}; {_INSTALL}")
    sizes = (c_int32 * len(_STRUCTURES))()
    core.octo_bench_sizes(sizes)
    if list(sizes) != [ctypes.sizeof(each) for each in _STRUCTURES]:
        raise MissingDependency(f"{found} lays out its structures in another way; {_INSTALL}")
    core.octo_bench_working_bytes.restype = c_size_t
    core.octo_bench_working_bytes.argtypes = (ctypes.c_int,) * 4
    core.octo_bench_draw.restype = None
    core.octo_bench_draw.argtypes = (
        *(c_size_t, c_size_t),  # scene, cameras
        *(ctypes.c_int,) * 4,  # cameras, size, triangles, points
        *(c_size_t, c_size_t),  # frames, working memory
    )
    return core
