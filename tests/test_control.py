"""The compiled controller gives robosuite's torques."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from octo_bench.definitions import environment
from octo_bench.experts.demonstrators import demonstrate
from octo_bench.simulation.control import OperationalSpaceControl
from octo_bench.simulation.world import World


@pytest.mark.parametrize("arm", ["Panda", "IIWA", "Kinova3", "XArm7"])
def test_torques_agree_along_a_stock_trajectory(arm: str) -> None:
    world = World(environment(f"Stack-{arm}"), control="stock")
    world.reset(1)
    suite, model = world._suite, world.model
    data = suite.sim.data._data
    compiled = OperationalSpaceControl(suite.robots[0], "right")
    generator = np.random.default_rng(0)
    motion = demonstrate(world)
    for _ in range(20):
        action = np.clip(next(motion) + 0.2 * generator.standard_normal(7), -1, 1)
        for substep in range(25):
            mujoco.mj_step1(model, data)
            torques = compiled.torques() if substep else None
            suite._pre_action(action, policy_step=substep == 0)
            if torques is not None:
                stock = data.ctrl[compiled._actuators]
                assert np.abs(torques - stock).max() <= 1e-9 * np.abs(stock).max()
            mujoco.mj_step2(model, data)


def test_both_controls_stay_together_over_an_episode() -> None:
    declared = environment("Stack-Panda")
    worlds = [World(declared, control) for control in ("fast", "stock")]
    for world in worlds:
        world.reset(2)
        motion = demonstrate(world)
        for _ in range(15):
            world.step(next(motion))
    np.testing.assert_allclose(worlds[0].state(), worlds[1].state(), atol=1e-6)
