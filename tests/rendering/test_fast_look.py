"""Our renderer draws what OpenGL draws, on every pair and with every perturbation."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest

from helpers.opengl_reference import COMPARED, fast_by_opengl, needs_opengl, psnr
from octo_bench.definitions.suites import find_level
from octo_bench.rendering.fast.renderer import FastRenderer
from octo_bench.rendering.look import Look
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.perturbations import vary

LEAST = 30.0  # dB


@needs_opengl
@pytest.mark.parametrize("env_id", COMPARED)
def test_frames_are_those_of_opengl(env_id: str) -> None:
    with closing(OctoBenchEnvironment(env_id)) as env:
        reference = fast_by_opengl(env.world.model, 96)
        with closing(reference):
            for seed in (4, 5):
                observation, _ = env.reset(seed=seed)
                ours = [frame for name, frame in observation.items() if name.startswith("image")]
                theirs = reference.frames(env.world.qpos, env.cameras())
                assert len(ours) == (3 if "TwoArm" in env_id else 2)
                assert min(psnr(*pair) for pair in zip(ours, theirs, strict=True)) >= LEAST


@needs_opengl
@pytest.mark.parametrize("env_id", ["Lift-Panda", "PickPlaceCan-Kinova3"])
def test_perturbed_frames_are_those_of_opengl(env_id: str) -> None:
    with closing(OctoBenchEnvironment(env_id)) as env:
        ours, theirs = FastRenderer(env.world.model, 96), fast_by_opengl(env.world.model, 96)
        plain, _ = env.reset(seed=3)
        for suite in ("camera", "wrist_camera", "lighting", "texture", "distractors", "training"):
            for level in (1, 2, 3):
                env._variation = vary(find_level(suite, level), suite, 3, env.world)
                for renderer in (ours, theirs):
                    renderer.wear(env._variation.look)
                frames = ours.frames(env.world.qpos, env.cameras())
                others = theirs.frames(env.world.qpos, env.cameras())
                assert min(psnr(*pair) for pair in zip(frames, others, strict=True)) >= LEAST
                assert any(
                    (frame != plain[name]).any()
                    for name, frame in zip(("image_primary", "image_wrist"), frames, strict=True)
                ), f"{suite} {level} changes nothing"
        ours.wear(Look())
        env._variation = vary(find_level("paraphrases", 1), "paraphrases", 3, env.world)
        frames = ours.frames(env.world.qpos, env.cameras())
        np.testing.assert_array_equal(frames[0], plain["image_primary"])
        theirs.close()


def test_frames_depend_on_the_scene_alone() -> None:
    with (
        closing(OctoBenchEnvironment("Lift-Panda")) as env,
        closing(OctoBenchEnvironment("Door-UR5e")) as other,
    ):
        observation, _ = env.reset(seed=1)
        other.reset(seed=1)
        qpos, cameras = env.world.qpos, env.cameras()
        again = FastRenderer(env.world.model, 96)
        together = again.frames(qpos, cameras)
        singly = [env._renderer.frames(qpos, [camera])[0] for camera in reversed(cameras)]
        for name, one, two in zip(observation.keys(), together, reversed(singly), strict=False):
            np.testing.assert_array_equal(observation[name], one)
            np.testing.assert_array_equal(one, two)
        larger = FastRenderer(env.world.model, 225).frames(qpos, cameras)[0]
        assert larger.shape == (225, 225, 3)


def test_simulations_share_meshes_and_textures() -> None:
    with (
        closing(OctoBenchEnvironment("Lift-Panda")) as env,
        closing(OctoBenchEnvironment("Lift-Panda")) as same,
        closing(OctoBenchEnvironment("PickPlaceCan-Panda")) as other,
    ):
        scenes = [each._renderer._scene for each in (env, same, other)]
        shapes = [{shape.address for shape in scene._shapes} for scene in scenes]
        textures = [{each.address for each in scene._textures.values()} for scene in scenes]
        assert shapes[0] == shapes[1]
        assert textures[0] == textures[1]
        assert len(shapes[0] & shapes[2]) > 30
        assert textures[0] & textures[2]


def test_no_opengl_is_needed() -> None:
    program = (
        "import sys\n"
        "from octo_bench.simulation.environment import OctoBenchEnvironment\n"
        "env = OctoBenchEnvironment('Lift-Panda', render_mode='rgb_array')\n"
        "observation, _ = env.reset(seed=1)\n"
        "assert observation['image_primary'].std() > 10 and env.render().std() > 10\n"
        "assert not any(name.split('.')[0] == 'OpenGL' for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "MUJOCO_GL": "off"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
