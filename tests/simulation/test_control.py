"""The compiled controllers give MuJoCo what robosuite's give it."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from octo_bench.definitions.environments import Environment, environment, environments
from octo_bench.simulation.world import World

Actions = Callable[[int, int], np.ndarray]
EMBODIMENTS = sorted({declared.embodiment.name for declared in environments()})
FULLY_STRETCHED = 45  # control steps outward, for a UR5e


def _task_of(embodiment: str) -> Environment:
    """The lightest task that an embodiment has the arms for."""
    ids = {declared.id for declared in environments()}
    wanted = (f"octo_bench/{task}-{embodiment}-v1" for task in ("Lift", "TwoArmLift"))
    return environment(next(each for each in wanted if each in ids))


def _wandering(step: int, size: int) -> np.ndarray:
    """Every entry moves, also those of a mobile base, in steps too large for the action's range."""
    return np.random.default_rng(step // 3).normal(0.0, 0.7, size)


def _outward(step: int, size: int) -> np.ndarray:
    action = np.zeros(size)
    action[0], action[2] = 1.0, 0.3
    return action


def _largest_difference(declared: Environment, actions: Actions, first: int, last: int) -> float:
    """How far controls are from robosuite's along its own trajectory, relative to each part's.

    All controls of all substeps count, from control step `first` to before `last`.
    """
    stock, fast = World(declared, "stock"), World(declared, "fast")
    stock.reset(1)
    fast.reset(1)
    compiled, worst = fast._controllers, 0.0
    for step in range(last):
        action = actions(step, declared.action_size)
        mujoco.mj_copyData(fast.data, fast.model, stock.data)
        origins = compiled.origins()
        command = stock._command(action)
        for substep in range(25):
            mujoco.mj_step1(stock.model, stock.data)
            mujoco.mj_copyData(fast.data, fast.model, stock.data)
            if substep == 0 and step == 0:
                compiled.begin(compiled.command(action))
            elif substep == 0:
                compiled.set_goals(compiled.command(action), origins)
            if substep > 0 or step > 0:
                compiled.apply()
            stock._suite._pre_action(command.copy(), policy_step=substep == 0)
            if step >= first:
                worst = max(worst, _difference(stock, fast))
            mujoco.mj_step2(stock.model, stock.data)
    stock.close()
    fast.close()
    return worst


def _difference(stock: World, fast: World) -> float:
    differences = []
    for robot in stock._suite.robots:
        for actuators in robot._ref_actuators_indexes_dict.values():
            theirs, ours = stock.data.ctrl[actuators], fast.data.ctrl[actuators]
            size = np.abs(theirs).max(initial=1e-12)
            differences.append(np.abs(ours - theirs).max(initial=0.0) / size)
    return max(differences)


@pytest.mark.parametrize("embodiment", EMBODIMENTS)
def test_all_controls_agree_along_a_stock_trajectory(embodiment: str) -> None:
    assert _largest_difference(_task_of(embodiment), _wandering, 0, 10) <= 1e-9


def test_they_agree_at_a_singular_posture() -> None:
    stretched = _largest_difference(
        environment("Lift-UR5e"), _outward, FULLY_STRETCHED, FULLY_STRETCHED + 5
    )
    # Rounding is magnified there, and differs: our inverses are not LAPACK's.
    assert stretched <= 1e-7


@pytest.mark.parametrize("env_id", ["Lift-IIWA", "Lift-PandaOmron", "TwoArmLift-Baxter"])
def test_both_controls_stay_together_over_an_episode(env_id: str) -> None:
    worlds = [World(environment(env_id), control) for control in ("fast", "stock")]
    for world in worlds:
        world.reset(2)
        for step in range(15):
            world.step(_wandering(step, world.declared.action_size))
    np.testing.assert_allclose(worlds[0].state(), worlds[1].state(), atol=1e-6)


@pytest.mark.parametrize("env_id", ["Lift-XArm7", "TwoArmLift-Baxter", "TwoArmLift-TwoPandas"])
@pytest.mark.parametrize("axis", range(3))
def test_an_action_moves_each_tool_along_the_world_axes(env_id: str, axis: int) -> None:
    world = World(environment(env_id))
    arms = range(world.declared.task.arms)
    for moving in arms:
        world.reset(0)
        starts = [world.tool(arm).position for arm in arms]
        action = np.zeros(world.declared.action_size)
        action[7 * moving + axis] = 0.5
        for _ in range(10):
            world.step(action)
        for arm in arms:
            moved = world.tool(arm).position - starts[arm]
            wanted = np.eye(3)[axis] * moved[axis] if arm == moving else np.zeros(3)
            np.testing.assert_allclose(moved, wanted, atol=0.012)
            assert (moved[axis] > 0.02) == (arm == moving)


def test_a_mobile_base_moves_when_told_and_else_stands_still() -> None:
    world = World(environment("Lift-PandaOmron"))
    size = world.declared.action_size
    base = world.model.body("mobilebase0_wheeled_base").id

    def travelled(action: np.ndarray) -> np.ndarray:
        world.reset(0)
        start = world.data.xpos[base].copy()
        for _ in range(20):
            world.step(action)
        return world.data.xpos[base] - start

    backwards = np.zeros(size)
    backwards[7] = -0.5
    np.testing.assert_allclose(travelled(np.zeros(size)), 0.0, atol=1e-3)
    assert travelled(backwards)[0] < -0.1
