"""Fast frames look like stock frames, and leave the physics alone."""

from __future__ import annotations

import numpy as np
import pytest

from octo_bench.simulation.environment import OctoBenchEnvironment


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 images, dB."""
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("arm", ["Panda", "IIWA", "Kinova3", "XArm7"])
def test_fast_frames_are_close_to_stock_frames(arm: str) -> None:
    frames = {}
    for quality in ("fast", "stock"):
        env = OctoBenchEnvironment(f"Stack-{arm}", render=quality)
        frames[quality], _ = env.reset(seed=4)
        env.close()
    for camera in ("image_primary", "image_wrist"):
        assert psnr(frames["fast"][camera], frames["stock"][camera]) > 15


def test_frames_do_not_depend_on_other_environments() -> None:
    first, second = (OctoBenchEnvironment("Lift-Panda") for _ in range(2))
    alone, _ = first.reset(seed=1)
    second.reset(seed=2)
    again, _ = first.reset(seed=1)
    for camera in ("image_primary", "image_wrist"):
        np.testing.assert_array_equal(alone[camera], again[camera])
        assert alone[camera].std() > 10
    first.close()
    second.close()


def test_rendering_does_not_change_the_physics() -> None:
    states = []
    for images in (True, False):
        env = OctoBenchEnvironment("Lift-Panda", images=images)
        env.reset(seed=1)
        for _ in range(3):
            env.step(np.full(7, 0.5))
        states.append(env.world.state_sha256())
        env.close()
    assert states[0] == states[1]
