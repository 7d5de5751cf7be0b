"""Fast frames look like stock frames, follow what tasks change, and leave the physics alone."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from helpers.opengl_reference import COMPARED, needs_opengl, psnr
from octo_bench.simulation.environment import OctoBenchEnvironment

BLOCK = 8


def blocks(image: np.ndarray) -> np.ndarray:
    """The mean colours of 8 x 8 pixels each: what is left when edges do not count."""
    side = len(image) // BLOCK
    return image.reshape(side, BLOCK, side, BLOCK, 3).mean(axis=(1, 3))


def images(env_id: str, **options: str) -> dict[str, np.ndarray]:
    with closing(OctoBenchEnvironment(env_id, **options)) as env:
        observation, _ = env.reset(seed=4)
    return {name: value for name, value in observation.items() if name.startswith("image")}


@needs_opengl
@pytest.mark.parametrize("env_id", COMPARED)
def test_fast_frames_are_close_to_stock_frames(env_id: str) -> None:
    fast, stock = images(env_id), images(env_id, render="stock")
    assert len(fast) == (3 if "TwoArm" in env_id else 2)
    for camera, frame in fast.items():
        assert psnr(frame, stock[camera]) > 18
        assert psnr(blocks(frame), blocks(stock[camera])) > 23


@pytest.mark.parametrize("env_id", ["Door-Panda", "Wipe-Panda"])
def test_frames_follow_what_a_reset_places_in_the_model(env_id: str) -> None:
    with closing(OctoBenchEnvironment(env_id)) as env:
        first, again, other = (env.reset(seed=seed)[0]["image_primary"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.01


def test_wiped_dirt_is_not_seen() -> None:
    with closing(OctoBenchEnvironment("Wipe-Panda")) as env:
        env.reset(seed=0)
        model = env.world.model
        before = env.step(np.zeros(7))[0]["image_primary"]
        dirt = [geom for geom in range(model.ngeom) if model.geom(geom).name.startswith("contact")]
        model.geom_rgba[dirt, 3] = 0.0  # as robosuite does it
        after = env.step(np.zeros(7))[0]["image_primary"]
    brown = np.array([80, 60, 40])
    is_brown = [(np.abs(frame.astype(int) - brown) < 25).all(axis=2) for frame in (before, after)]
    assert is_brown[0].sum() > is_brown[1].sum() + 50


def test_frames_do_not_depend_on_other_environments() -> None:
    first, second = OctoBenchEnvironment("Lift-Panda"), OctoBenchEnvironment("PickPlaceCan-Kinova3")
    with closing(first), closing(second):
        alone, _ = first.reset(seed=1)
        second.reset(seed=2)
        again, _ = first.reset(seed=1)
    for camera in ("image_primary", "image_wrist"):
        np.testing.assert_array_equal(alone[camera], again[camera])
        assert alone[camera].std() > 10


def test_rendering_does_not_change_the_physics() -> None:
    states = []
    for drawn in (True, False):
        with closing(OctoBenchEnvironment("Lift-Panda", images=drawn)) as env:
            env.reset(seed=1)
            for _ in range(3):
                env.step(np.full(7, 0.5))
            states.append(env.world.state_sha256())
    assert states[0] == states[1]


def test_two_arms_have_two_wrist_cameras() -> None:
    with closing(OctoBenchEnvironment("TwoArmLift-TwoPandas")) as env:
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)
    assert observation["proprio"].shape == (22,)
    assert (observation["image_wrist"] != observation["image_wrist_2"]).any()
