"""Tiny scenes of known colours: light, textures, transparency, clipping at the near plane."""

from __future__ import annotations

import hashlib

import mujoco
import numpy as np
import pytest

from helpers.opengl_reference import fast_by_opengl, needs_opengl, psnr
from octo_bench.errors import UnsupportedEnvironment
from octo_bench.rendering.cameras import CameraPose, look_at
from octo_bench.rendering.fast.elementary import powers, sine_cosine, tangent
from octo_bench.rendering.fast.rasterizer import SOURCE, source_sha256
from octo_bench.rendering.fast.renderer import FastRenderer
from octo_bench.rendering.fast.textures import linear_light
from octo_bench.rendering.look import Look, Prop

SIZE = 64
AMBIENT_ONLY = '<visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>'
IN_FRONT = look_at(np.array([-1.0, 0, 0]), np.zeros(3), np.array([0.0, 0, 1]), 45.0)


def model_of(geoms: str, assets: str = "", lights: str = AMBIENT_ONLY) -> mujoco.MjModel:
    geoms = geoms.replace("<geom ", '<geom group="1" ')
    return mujoco.MjModel.from_xml_string(
        f"<mujoco>{lights}<asset>{assets}</asset><worldbody>{geoms}</worldbody></mujoco>"
    )


def frame_of(
    model: mujoco.MjModel, camera: CameraPose = IN_FRONT, size: int = SIZE, look: Look | None = None
) -> np.ndarray:
    renderer = FastRenderer(model, size)
    if look is not None:
        renderer.wear(look)
    return renderer.frames(np.zeros(model.nq), [camera])[0]


def test_ambient_light_alone_shows_the_colour() -> None:
    frame = frame_of(model_of('<geom type="box" size=".2 .2 .2" rgba=".2 .4 .6 1"/>'))
    assert frame[32, 32].tolist() == [51, 102, 153]
    assert frame[1, 1].tolist() == [0, 0, 0]
    # Half of 2 x tan(22.5 degrees) x 0.8 m is 0.66 m, of 64 pixels: 0.4 m are 39.
    assert (frame[32] > 0).any(axis=1).sum() == pytest.approx(39, abs=1)


def test_a_lamp_lights_what_faces_it() -> None:
    lamp = '<light type="directional" dir="1 0 -1" diffuse=".5 .5 .5" specular="0 0 0"/>'
    off = '<visual><headlight active="0"/></visual>'
    box = '<geom type="box" size=".2 .2 .2" rgba="1 1 1 1"/>'
    frame = frame_of(model_of(lamp + box, lights=off))
    assert frame[32, 32].tolist() == [round(255 * 0.5 * 0.5**0.5)] * 3
    assert frame_of(model_of(box, lights=off))[32, 32].tolist() == [77] * 3  # 0.3 without lamps


def test_what_is_behind_shines_through_twice_blended() -> None:
    geoms = (
        '<geom type="box" size=".1 .3 .3" pos=".3 0 0" rgba="1 0 0 1"/>'
        '<geom type="box" size=".1 .1 .1" pos="-.2 0 0" rgba="0 0 1 .5"/>'
    )
    # MuJoCo draws transparent things from front to back and again from back to front.
    np.testing.assert_allclose(frame_of(model_of(geoms))[32, 32], [64, 0, 191], atol=1)
    hidden = geoms.replace("-.2 0 0", ".6 0 0")
    assert frame_of(model_of(hidden))[32, 32].tolist() == [255, 0, 0]


@pytest.mark.parametrize("alpha", ["1", ".5"])
def test_ground_that_goes_on_behind_the_camera_is_cut_off_at_the_near_plane(alpha: str) -> None:
    ground = f'<geom type="box" size="5 5 .5" pos="0 0 -.6" rgba="0 1 0 {alpha}"/>'
    level = look_at(np.zeros(3), np.array([1.0, 0.2, 0]), np.array([0.0, 0, 1]), 90.0)
    frame = frame_of(model_of(ground), level)
    shown = 255 if alpha == "1" else 191
    np.testing.assert_allclose(frame[SIZE // 2 + 2 :, :, 1].astype(int), shown, atol=1)
    assert (frame[: SIZE // 2] == 0).all()


def test_a_camera_inside_of_a_thing_does_not_see_it() -> None:
    frame = frame_of(model_of('<geom type="box" size="1.5 1.5 1.5" rgba="1 1 1 1"/>'))
    assert (frame == 0).all()


def test_what_is_beyond_ten_metres_is_not_seen() -> None:
    wall = '<geom type="box" size=".1 9 9" pos="{} 0 0" rgba="1 1 1 1"/>'
    assert (frame_of(model_of(wall.format(8.5)))[32, 32] == 255).all()
    assert (frame_of(model_of(wall.format(9.5)))[32, 32] == 0).all()


@pytest.mark.parametrize("kind", ["2d", "cube"])
def test_a_texture_colours_what_carries_it(kind: str) -> None:
    assets = (
        f'<texture name="t" type="{kind}" builtin="flat" rgb1=".2 .4 .6" width="8" height="8"/>'
        '<material name="m" texture="t" rgba="1 1 .5 1"/>'
    )
    box = '<geom type="box" size=".3 .3 .3" material="m"/>'
    assert frame_of(model_of(box, assets))[32, 32].tolist() == [51, 102, 77]


def test_squares_of_a_texture_lie_where_they_belong_and_melt_far_away() -> None:
    assets = (
        '<texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1" width="64"'
        ' height="64"/><material name="m" texture="t" texrepeat="{} {}" reflectance="0"/>'
    )
    plane = '<geom type="plane" size="1 1 1" material="m"/>'
    above = look_at(np.array([0, 0, 2.0]), np.zeros(3), np.array([0.0, 1, 0]), 53.0)
    frame = frame_of(model_of(plane, assets.format(1, 1)), above)
    quarters = [frame[y, x].tolist() for y in (16, 48) for x in (16, 48)]
    red, blue = [255, 0, 0], [0, 0, 255]
    assert quarters in ([red, blue, blue, red], [blue, red, red, blue])
    fine = frame_of(model_of(plane, assets.format(64, 64)), above)
    mixed = np.broadcast_to([128, 0, 128], (6, 6, 3))
    np.testing.assert_allclose(fine[10:50:7, 10:50:7], mixed, atol=1)


def test_props_are_drawn() -> None:
    prop = Prop(
        int(mujoco.mjtGeom.mjGEOM_ELLIPSOID),
        np.array([0.1, 0.1, 0.2]),
        np.zeros(3),
        np.eye(3),
        np.array([1.0, 0, 0, 1]),
    )
    model = model_of('<geom type="box" size=".1 .1 .1" pos="5 0 9"/>')
    assert frame_of(model, look=Look(props=(prop,)))[32, 32].tolist() == [255, 0, 0]
    assert (frame_of(model)[32, 32] == 0).all()


VARIED = (
    '<light type="directional" dir="-.2 -.2 -.9" diffuse=".7 .7 .7" specular=".3 .3 .3"/>'
    '<light type="spot" pos="-1 0 1" dir="1 0 -1" cutoff="30" exponent="10" diffuse=".6 .2 .2"'
    ' attenuation="1 .2 .1"/>'
    '<geom type="plane" size="2 2 .2" pos="0 0 -.4" material="floor"/>'
    '<geom type="capsule" size=".07 .2" pos="0 -.3 0" rgba=".9 .6 .1 1" quat=".8 .6 0 0"/>'
    '<geom type="ellipsoid" size=".1 .2 .1" pos=".2 .1 .2" material="cube"/>'
    '<geom type="cylinder" size=".1 .15" pos="-.1 .2 -.1" material="cube"/>'
    '<geom type="sphere" size=".1" pos="-.3 0 0" rgba=".1 .8 .8 .4"/>'
    '<geom type="box" size=".1 .12 .2" pos=".4 -.2 0" quat=".9 .1 .3 .3" material="wood"/>'
)
VARIED_ASSETS = (
    '<texture name="a" type="2d" builtin="checker" rgb1=".8 .3 .2" rgb2=".1 .4 .7" width="75"'
    ' height="50"/>'
    '<texture name="b" type="cube" builtin="gradient" rgb1="1 .5 .2" rgb2=".2 .4 .9" width="40"'
    ' height="40"/>'
    '<material name="floor" texture="a" texrepeat="5 5" texuniform="true"/>'
    '<material name="wood" texture="a" texrepeat="2 1" shininess=".9" specular=".8"/>'
    '<material name="cube" texture="b" shininess="0" specular=".2"/>'
)
VARIED_LIGHTS = '<visual><headlight ambient=".1 .1 .1" diffuse=".4 .4 .4"/></visual>'


@needs_opengl
@pytest.mark.parametrize("size", [96, 131])
def test_a_varied_scene_looks_as_in_opengl(size: int) -> None:
    model = model_of(VARIED, VARIED_ASSETS, VARIED_LIGHTS)
    reference = fast_by_opengl(model, size)
    theirs = reference.frames(np.zeros(0), [IN_FRONT])[0]
    reference.close()
    assert psnr(frame_of(model, size=size), theirs) >= 36


def test_every_processor_gives_the_same_bytes() -> None:
    frame = frame_of(model_of(VARIED, VARIED_ASSETS, VARIED_LIGHTS), size=96)
    assert hashlib.sha256(frame.tobytes()).hexdigest()[:16] == "9f09de6d2e56f6b6"


def test_height_fields_are_refused() -> None:
    assets = '<hfield name="h" nrow="2" ncol="2" size="1 1 1 1"/>'
    with pytest.raises(UnsupportedEnvironment, match="height fields"):
        FastRenderer(model_of('<geom type="hfield" hfield="h"/>', assets), SIZE)


def test_elementary_functions_agree_with_the_library() -> None:
    angles = np.linspace(-np.pi, np.pi, 101)
    np.testing.assert_allclose(
        [sine_cosine(angle) for angle in angles],
        np.stack([np.sin(angles), np.cos(angles)], 1),
        atol=1e-15,
    )
    assert tangent(0.7) == pytest.approx(np.tan(0.7), rel=1e-15)
    bases = np.linspace(0, 1, 101)
    for exponent in (0.0, 0.5, 12.8, 64.0, 128.0):
        np.testing.assert_allclose(powers(bases, exponent), bases**exponent, rtol=1e-12)
    encoded = np.arange(256) / 255
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(linear_light(), light, rtol=1e-6)


def test_the_compiled_core_is_that_of_the_source() -> None:
    assert source_sha256() == hashlib.sha256(SOURCE.read_bytes()).hexdigest()
