"""What every arm has in common: start pose, end-effector frame, gripper, standing still."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from octo_bench.definitions.environments import Environment, environment, environments
from octo_bench.errors import BadDefinition, MissingDependency
from octo_bench.simulation.world import World

SINGLE = {declared.embodiment.name for declared in environments() if declared.task.arms == 1}
PAIRS = {declared.embodiment.name for declared in environments() if declared.task.arms == 2}


@pytest.fixture(scope="module", params=sorted(SINGLE | PAIRS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    task = "Lift" if request.param in SINGLE else "TwoArmLift"
    built = World(environment(f"{task}-{request.param}"))
    yield built
    built.close()


def _command(world: World, grippers: float, steps: int, up: float = 0.0) -> None:
    action = np.zeros(world.declared.action_size)
    hands = action[: 7 * world.declared.task.arms].reshape(-1, 7)
    hands[:, 2], hands[:, 6] = up, grippers
    for _ in range(steps):
        world.step(action)


def test_arms_start_above_the_table_with_the_tool_upright(world: World) -> None:
    arms = range(world.declared.task.arms)
    places, axes = [], []
    for seed in range(8):  # robosuite adds noise to the joints
        world.reset(seed)
        tools = [world.tool(arm) for arm in arms]
        places.append([tool.position - world.workspace for tool in tools])
        axes.append([tool.rotation for tool in tools])
    places, axes = np.mean(places, axis=0), np.mean(axes, axis=0)
    np.testing.assert_allclose(axes[:, :, 2], [[0, 0, -1] for _ in arms], atol=0.05)
    if len(arms) == 1:
        np.testing.assert_allclose(places[0], [-0.10, 0.0, 0.20], atol=0.02)
        np.testing.assert_allclose(axes[0][:, 0], [1, 0, 0], atol=0.05)
    else:  # one on each side, the first on the right of one who looks along x
        np.testing.assert_allclose(places[0] * [1, -1, 1], places[1], atol=0.03)
        assert places[0][1] < -0.1
        assert 0.15 < places[0][2] < 0.35


def test_the_tool_is_between_the_pads_with_y_along_the_opening(world: World) -> None:
    world.reset(0)
    _command(world, -1.0, 25)
    for arm, hand in enumerate(world._hands):
        left, right = (world._fresh().geom_xpos[pads].mean(axis=0) for pads in hand.pads)
        tool = world.tool(arm)
        assert np.linalg.norm((left + right) / 2 - tool.position) < 0.035
        opening = (left - right) / np.linalg.norm(left - right)
        assert abs(opening @ tool.rotation[:, 1]) > 0.99


def test_the_opening_goes_from_one_to_zero(world: World) -> None:
    world.reset(0)
    ends = []
    for command in (-1.0, 1.0):
        _command(world, command, 25, up=0.05)
        ends += [world.opening(arm) for arm in range(world.declared.task.arms)]
    half = len(ends) // 2
    assert ends == pytest.approx([1.0] * half + [0.0] * half, abs=0.05)


def test_it_stands_still_when_told_nothing(world: World) -> None:
    world.reset(0)
    arms = range(world.declared.task.arms)
    before = [world.tool(arm).position for arm in arms]
    _command(world, 0.0, 40)
    for arm in arms:
        assert np.linalg.norm(world.tool(arm).position - before[arm]) < 0.005


def test_a_robot_that_robosuite_lacks_names_the_file() -> None:
    with pytest.raises(BadDefinition, match=r"embodiments/Panda\.toml.*R2D2"):
        World(_panda(robots=("R2D2",)))


def test_a_package_that_is_not_installed_says_how_to_get_it() -> None:
    with pytest.raises(MissingDependency, match=r"embodiments/Panda\.toml.*no_such_robots.*pip"):
        World(_panda(package="no_such_robots"))


def test_a_pad_that_the_gripper_lacks_names_the_file() -> None:
    (arm,) = environment("Lift-Panda").embodiment.arms
    gripper = dataclasses.replace(arm.gripper, left_pads=("thumb",))
    arms = (dataclasses.replace(arm, gripper=gripper),)
    with pytest.raises(BadDefinition, match=r"embodiments/Panda\.toml.*thumb"):
        World(_panda(arms=arms))


def _panda(**changes: object) -> Environment:
    declared = environment("Lift-Panda")
    embodiment = dataclasses.replace(declared.embodiment, **changes)
    return dataclasses.replace(declared, embodiment=embodiment)
