"""What counts as wiped is what robosuite's own task counts."""

from __future__ import annotations

import numpy as np

from octo_bench.definitions.environments import environment
from octo_bench.experts.registry import demonstrate
from octo_bench.simulation.world import World


def test_the_dirt_under_the_wiper_is_robosuites() -> None:
    world = World(environment("Wipe-Panda"))
    world.reset(3)
    suite, wiping = world._suite, world._wiping
    markers = suite.model.mujoco_arena.markers
    corners = suite.robots[0].gripper["right"].important_geoms["corners"]
    motion, seen = demonstrate(world), 0
    for _ in range(40):
        world.step(next(motion))
        stock = {marker.name for marker in suite._get_active_markers(corners)}
        ours = {markers[index].name for index in np.flatnonzero(wiping._touched())}
        assert ours == stock
        seen += bool(ours)
    assert seen > 5
    assert len(world.dirt()) == 100 - len(suite.wiped_markers) < 100
    world.close()


def test_a_new_episode_is_dirty_again() -> None:
    world = World(environment("Wipe-Panda"))
    world.reset(3)
    scene, dirt = world.scene(), world.dirt()
    motion = demonstrate(world)
    for _ in range(40):
        world.step(next(motion))
    assert len(world.dirt()) < len(dirt)
    world.reset_to(scene)
    np.testing.assert_array_equal(world.dirt(), dirt)
    world.close()
