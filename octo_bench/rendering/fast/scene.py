"""What of a model is drawn, and with which look, laid out for the compiled core.

After `engine_vis_visualize.c`, `render_gl3.c` and `render_context.c` of MuJoCo 3.6.0. Shapes and
textures are shared by all scenes of a process.
"""

from __future__ import annotations

import ctypes
from functools import cache

import mujoco
import numpy as np

from octo_bench.errors import UnsupportedEnvironment
from octo_bench.rendering.fast import shapes
from octo_bench.rendering.fast.elementary import powers, radians, sine_cosine, unit
from octo_bench.rendering.fast.rasterizer import (
    DIRECTIONAL,
    GLOSS_STEPS,
    MOST_LIGHTS,
    MOST_THINGS,
    SPOT,
    LightStruct,
    SceneStruct,
    ThingStruct,
)
from octo_bench.rendering.fast.shapes import Shape
from octo_bench.rendering.fast.textures import Texture, texture
from octo_bench.rendering.look import Look, Prop
from octo_bench.rendering.meshes import simplified

NEAR, FAR = 0.01, 10.0
_GROUPS = (1, 2)
"""robosuite keeps collision geoms in group 0 and what is to be seen in group 1."""
_HEADLIGHT = (0.0, 0.5**0.5, -(0.5**0.5))
"""Where MuJoCo's headlight shines: along its default camera, wherever ours are."""
_OWN_COLOUR = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
"""A geom of this colour has that of its material."""
_WITHOUT_LAMPS = 0.3
_GLOSS, _SHININESS = 0.5, 128.0
_CUTOFF_OF_ALL = 180.0
_TINY = 1e-15

_Geom = mujoco.mjtGeom
_MESHES = (_Geom.mjGEOM_MESH, _Geom.mjGEOM_SDF)
_REFLECTING = (_Geom.mjGEOM_PLANE, _Geom.mjGEOM_BOX)


class Scene:
    """Geoms, props and lamps of one model.

    Attributes:
        n_triangles: in all.
        n_points: of the largest shape.
        n_things: geoms and props.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        """Find what is drawn of `model`, which is followed, not copied.

        Raises:
            UnsupportedEnvironment: for a kind of geom that is not drawn here.
        """
        self._model = model
        self._geoms = _drawn(model)
        self._geom_shapes = [_shape(model, geom) for geom in self._geoms]
        self._textures: dict[int, Texture] = {}
        self._struct = SceneStruct(near=NEAR, far=FAR)

    def wear(self, look: Look) -> None:
        """Draw all that follows with this look, whatever it was before."""
        model = self._model
        self._look = look
        self._materials = model.geom_matid if look.materials is None else look.materials
        self._shapes = self._geom_shapes + [_shape_of_prop(prop) for prop in look.props]
        self.n_things = len(self._shapes)
        self.n_triangles = sum(shape.n_triangles for shape in self._shapes)
        self.n_points = max((shape.n_points for shape in self._shapes), default=0)
        if self.n_things > MOST_THINGS:
            raise UnsupportedEnvironment(
                f"the fast look draws at most {MOST_THINGS} geoms, the model has {self.n_things}; "
                "use render='stock'"
            )
        self._things = np.zeros(self.n_things, np.dtype(ThingStruct))
        self._positions = np.zeros((self.n_things, 3))
        self._rotations = np.zeros((self.n_things, 9))
        self._things["shape"] = [shape.address for shape in self._shapes]
        for place, geom in enumerate(self._geoms):
            self._set_geom(place, geom)
        for place, prop in enumerate(look.props, len(self._geoms)):
            self._set_prop(place, prop)
        self._alphas = np.empty(0, np.float32)
        self._set_lamps()
        self._struct.things = self._things.ctypes.data
        self._struct.positions = self._positions.ctypes.data
        self._struct.rotations = self._rotations.ctypes.data
        self._struct.lights = self._lights.ctypes.data
        self._struct.n_things, self._struct.n_lights = self.n_things, len(self._lights)
        self._struct.ambient = 0.0 if len(self._lights) else _WITHOUT_LAMPS

    def place(self, data: mujoco.MjData) -> int:
        """Put everything where `data` has it; returns the address of the core's structure."""
        count = len(self._geoms)
        self._positions[:count] = data.geom_xpos[self._geoms]
        self._rotations[:count] = data.geom_xmat[self._geoms]
        alphas = self._model.geom_rgba[self._geoms, 3]
        if not np.array_equal(alphas, self._alphas):
            self._alphas = alphas
            self._things["rgba"][:count] = self._colours()
        if self._look.lamps is None:
            self._lights["position"][self._of_model] = data.light_xpos[self._lamps]
            self._lights["direction"][self._of_model] = data.light_xdir[self._lamps]
        return ctypes.addressof(self._struct)

    def _colours(self) -> np.ndarray:
        """(geoms, 4): a geom's own colour, or its material's."""
        model, geoms = self._model, self._geoms
        colours = model.geom_rgba[geoms]
        if self._look.colours is not None:
            colours[:, :3] = self._look.colours[geoms]
        materials = self._materials[geoms]
        by_material = (materials >= 0) & (colours == _OWN_COLOUR).all(axis=1)
        colours[by_material] = model.mat_rgba[materials[by_material]]
        return colours

    def _set_geom(self, place: int, geom: int) -> None:
        model, thing = self._model, self._things[place]
        kind = int(model.geom_type[geom])
        material = int(self._materials[geom])
        shininess, thing["specular"] = _GLOSS, _GLOSS
        if material >= 0:
            shininess = model.mat_shininess[material]
            thing["specular"] = model.mat_specular[material]
            thing["emission"] = model.mat_emission[material]
        thing["gloss"] = _powers(float(shininess) * _SHININESS).ctypes.data
        thing["reach"] = model.geom_rbound[geom]
        thing["is_plane"] = kind == _Geom.mjGEOM_PLANE
        if material < 0:
            return
        number = int(model.mat_texid[material, mujoco.mjtTextureRole.mjTEXROLE_RGB])
        if number < 0:
            return
        if number not in self._textures:
            self._textures[number] = texture(model, number)
        found = self._textures[number]
        if self._shapes[place].has_texcoords:
            thing["texture"] = found.address if found.flat else 0
            return
        thing["texture"] = found.address
        size = _drawn_size(kind, model.geom_size[geom])
        # MuJoCo scales its primitives to size, and lays textures on them before.
        own = np.ones(3) if kind in (*_MESHES, _Geom.mjGEOM_PLANE) else 1 / np.maximum(size, _TINY)
        uniform = np.where(size > 0, size, 1.0) if model.mat_texuniform[material] else np.ones(3)
        if not found.flat:
            thing["scale"] = own * (size if model.mat_texuniform[material] else 1.0)
            return
        repeat = np.array([*model.mat_texrepeat[material], 0.0])
        if kind in (*_MESHES, _Geom.mjGEOM_PLANE):
            repeat = repeat / np.where(size > 0, size, 1.0)
        thing["scale"] = [0.5, -0.5, 0.0] * repeat * uniform * own
        thing["offset"] = [-0.5, -0.5, 0.0]

    def _set_prop(self, place: int, prop: Prop) -> None:
        thing = self._things[place]
        thing["specular"] = _GLOSS
        thing["gloss"] = _powers(_GLOSS * _SHININESS).ctypes.data
        thing["rgba"] = prop.rgba
        thing["reach"] = max(_drawn_size(prop.shape, prop.size))
        self._positions[place] = prop.position
        self._rotations[place] = prop.rotation.ravel()

    def _set_lamps(self) -> None:
        """The headlight first, then the model's, as many as OpenGL has."""
        model, lamps = self._model, self._look.lamps
        brightness = np.ones(3) if lamps is None else lamps.brightness
        with_headlight = int(bool(model.vis.headlight.active))
        self._lamps = np.flatnonzero(model.light_active)[: MOST_LIGHTS - with_headlight]
        self._of_model = slice(with_headlight, None)
        self._lights = np.zeros(with_headlight + len(self._lamps), np.dtype(LightStruct))
        own = self._lights[self._of_model]
        own["kind"] = [
            SPOT if kind == mujoco.mjtLightType.mjLIGHT_SPOT else DIRECTIONAL
            for kind in model.light_type[self._lamps]
        ]
        for name in ("ambient", "diffuse", "specular"):
            if with_headlight:
                self._lights[name][0] = getattr(model.vis.headlight, name) * brightness
            own[name] = getattr(model, f"light_{name}")[self._lamps] * brightness
        if with_headlight:
            self._lights["direction"][0] = _HEADLIGHT
        own["attenuation"] = model.light_attenuation[self._lamps]
        own["falloff"] = [_powers(float(e)).ctypes.data for e in model.light_exponent[self._lamps]]
        own["cutoff"] = [_cosine(float(angle)) for angle in model.light_cutoff[self._lamps]]
        if lamps is not None:
            own["position"] = lamps.positions[self._lamps]
            own["direction"] = unit(lamps.directions[self._lamps])


def _drawn(model: mujoco.MjModel) -> np.ndarray:
    """The geoms that are drawn, a reflecting one first as MuJoCo draws it.

    Raises:
        UnsupportedEnvironment: for a kind of geom that is not drawn here.
    """
    unknown = [
        name
        for name, count in (
            ("flexes", model.nflex),
            ("skins", model.nskin),
            ("height fields", np.isin(model.geom_group, _GROUPS)[_of_type(model, "HFIELD")].sum()),
        )
        if count
    ]
    if unknown:
        raise UnsupportedEnvironment(
            f"the fast look draws no {' and no '.join(unknown)}; use render='stock'"
        )
    geoms = np.flatnonzero(np.isin(model.geom_group, _GROUPS))
    materials = model.geom_matid[geoms]
    reflecting = (
        np.isin(model.geom_type[geoms], _REFLECTING)
        & (materials >= 0)
        & (model.mat_reflectance[materials] > 0 if model.nmat else False)
    )
    first = np.flatnonzero(reflecting)[:1]
    return np.concatenate([geoms[first], np.delete(geoms, first)])


def _of_type(model: mujoco.MjModel, name: str) -> np.ndarray:
    return model.geom_type == getattr(_Geom, f"mjGEOM_{name}")


def _shape(model: mujoco.MjModel, geom: int) -> Shape:
    kind, number = int(model.geom_type[geom]), int(model.geom_dataid[geom])
    if kind in _MESHES:
        return _mesh(model, number)
    return shapes.primitive(kind, model.geom_size[geom])


def _shape_of_prop(prop: Prop) -> Shape:
    return shapes.primitive(prop.shape, prop.size)


def _mesh(model: mujoco.MjModel, number: int) -> Shape:
    vertex, normal = model.mesh_vertadr[number], model.mesh_normaladr[number]
    face, place = model.mesh_faceadr[number], model.mesh_texcoordadr[number]
    faces = slice(face, face + model.mesh_facenum[number])
    vertices = model.mesh_vert[vertex : vertex + model.mesh_vertnum[number]]
    normals = model.mesh_normal[normal : normal + model.mesh_normalnum[number]]
    triangles, of_normals = model.mesh_face[faces], model.mesh_facenormal[faces]
    texcoords = np.empty((0, 3, 2), np.float32)
    if place >= 0:
        texcoords = model.mesh_texcoord[place + model.mesh_facetexcoord[faces]]

    def make() -> Shape:
        simpler = simplified(model, number)
        if simpler is None:
            return shapes.mesh(vertices, triangles, normals[of_normals], texcoords)
        points, corners, of_points = simpler
        return shapes.mesh(points, corners, of_points[corners], np.empty((0, 3, 2), np.float32))

    # Whether a mesh is simplified depends on its triangles, its size and its texture.
    key = shapes.digest(vertices, triangles, normals, of_normals, texcoords)
    return shapes.kept(key, make)


def _drawn_size(kind: int, size: np.ndarray) -> np.ndarray:
    """The scales (3,) that MuJoCo gives a primitive."""
    if kind == _Geom.mjGEOM_SPHERE:
        return np.array(size, np.float64)[[0, 0, 0]]
    if kind in (_Geom.mjGEOM_CYLINDER, _Geom.mjGEOM_CAPSULE):
        return np.array(size, np.float64)[[0, 0, 1]]
    return np.array(size, np.float64)


@cache  # things hold its address
def _powers(exponent: float) -> np.ndarray:
    """Powers of 0, 1/1024, ... 1 and one more, (1026,) float32."""
    bases = np.minimum(np.arange(GLOSS_STEPS + 2) / GLOSS_STEPS, 1.0)
    return powers(bases, exponent).astype(np.float32)


def _cosine(cutoff: float) -> float:
    """The cosine of a spot's cutoff (degrees)."""
    return -1.0 if cutoff >= _CUTOFF_OF_ALL else sine_cosine(radians(cutoff))[1]
