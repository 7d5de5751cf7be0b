"""The environment contract: Gymnasium's own checks, seeding, and what an episode is."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import octo_bench  # noqa: F401  (registers the environments)
from octo_bench.cli import run
from octo_bench.definitions import (
    environment,
    environments,
    recorded_environment,
    recorded_id,
)
from octo_bench.errors import OutdatedEnvironment, UnknownName
from octo_bench.simulation.environment import CLOSING_STEPS, OctoBenchEnvironment

STACK = "octo_bench/Stack-Panda-v1"
ARMS = ("Panda", "IIWA", "Kinova3", "XArm7")


@pytest.fixture(scope="module")
def stack() -> OctoBenchEnvironment:
    env = OctoBenchEnvironment(STACK)
    yield env
    env.close()


def test_every_arm_and_task_is_registered() -> None:
    wanted = {f"octo_bench/{task}-{arm}-v1" for task in ("Lift", "Stack") for arm in ARMS}
    assert wanted <= set(gymnasium.registry)
    assert wanted <= {declared.id for declared in environments()}


def test_gymnasium_accepts_the_environment_without_a_warning() -> None:
    env = gymnasium.make(STACK, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=False)
    env.close()


def test_make_vec_steps_several_environments() -> None:
    envs = gymnasium.make_vec("octo_bench/Lift-Panda-v1", num_envs=2, images=False)
    observations, _ = envs.reset(seed=3)
    assert observations["proprio"].shape == (2, 11)
    envs.step(envs.action_space.sample())
    envs.close()


def test_observations_have_the_declared_layout(stack: OctoBenchEnvironment) -> None:
    observation, info = stack.reset(seed=0)
    assert stack.observation_space.contains(observation)
    assert observation["image_primary"].shape == (96, 96, 3)
    assert info["instruction"] == environment(STACK).task.instruction
    assert info["success"] is False
    rotation = observation["proprio"][3:9].reshape(2, 3)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(2), atol=1e-5)
    assert 0 <= observation["proprio"][9] <= 1


def test_the_commanded_closing_follows_the_commands_and_not_the_gripper() -> None:
    """The same commands give the same entry on arms whose grippers differ."""
    commands = [0.0, *[1.0] * 14, *[-0.3] * 3]
    expected = np.clip([0, 0, *range(1, 15), 11, 10, 9], 0, CLOSING_STEPS) / CLOSING_STEPS
    for arm in ("Panda", "Jaco"):
        env = OctoBenchEnvironment(f"Lift-{arm}", images=False)
        seen = [env.reset(seed=0)[0]["proprio"]]
        seen += [env.step(np.array([0] * 6 + [command]))[0]["proprio"] for command in commands]
        np.testing.assert_allclose(np.array(seen)[:, 10], expected, atol=1e-6)
        assert env.reset(seed=1)[0]["proprio"][10] == 0
        env.close()


def test_a_seed_determines_the_episode_in_a_fresh_process(stack: OctoBenchEnvironment) -> None:
    program = (
        "import numpy as np, hashlib\n"
        "from octo_bench.simulation.environment import OctoBenchEnvironment\n"
        f"env = OctoBenchEnvironment('{STACK}')\n"
        "observation, _ = env.reset(seed=11)\n"
        "for step in range(5):\n"
        "    observation, *_ = env.step(np.linspace(-1, 1, 7) * (step - 2))\n"
        "images = observation['image_primary'].tobytes() + observation['image_wrist'].tobytes()\n"
        "print(env.world.state_sha256(), hashlib.sha256(images).hexdigest())\n"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    for episode in (5, 11):  # another episode comes before, in an environment that is used
        stack.reset(seed=episode)
        for step in range(5):
            observation, *_ = stack.step(np.linspace(-1, 1, 7) * (step - 2))
    images = observation["image_primary"].tobytes() + observation["image_wrist"].tobytes()
    here = f"{stack.world.state_sha256()} {hashlib.sha256(images).hexdigest()}"
    assert fresh.stdout.split("\n")[-2] == here


def test_another_seed_is_another_episode(stack: OctoBenchEnvironment) -> None:
    hashes = set()
    for seed in range(4):
        stack.reset(seed=seed)
        hashes.add(stack.world.state_sha256())
    assert len(hashes) == 4


def test_steps_that_are_not_observed_are_the_same_steps(stack: OctoBenchEnvironment) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (4, 7))
    ends = []
    for observe in (True, False):
        stack.reset(seed=3)
        for action in actions[:-1]:
            observation, *_ = stack.step(action, observe=observe)
            assert bool(observation) == observe
        observation, *_ = stack.step(actions[-1])
        ends.append((stack.world.state_sha256(), observation["image_wrist"]))
    assert ends[0][0] == ends[1][0]
    np.testing.assert_array_equal(ends[0][1], ends[1][1])


def test_an_episode_is_truncated_at_the_horizon() -> None:
    env = OctoBenchEnvironment("Lift-Panda", images=False)
    env.reset(seed=0)
    up = np.array([0, 0, 1, 0, 0, 0, -1], np.float32)
    for step in range(1, env.world.declared.task.horizon + 1):
        _, reward, terminated, truncated, info = env.step(up)
        assert not terminated
        assert reward == 0.0
        assert truncated == (step == env.world.declared.task.horizon)
    assert info["furthest_stage"] == "none"
    env.close()


def test_an_earlier_version_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("Stack-Panda-v0", "octo_bench/Stack-Panda-v0"):
        with pytest.raises(OutdatedEnvironment, match="use octo_bench/Stack-Panda-v1"):
            environment(name)
        assert recorded_id(name) == "octo_bench/Stack-Panda-v0"
        assert recorded_environment(name) == environment("Stack-Panda")
    assert recorded_id("Stack-Panda") == environment("Stack-Panda-v1").id == STACK
    with pytest.raises(UnknownName, match="Stack-Panda-v7"):
        environment("Stack-Panda-v7")
    assert (
        run(["evaluate", "random", "Stack-Panda-v0", "--episodes", "1", "--out", "x.parquet"]) == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "octo_bench/Stack-Panda-v0 is an earlier version" in line


def test_an_unknown_environment_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Stack-Panda"):
        environment("octo_bench/Stak-Panda-v1")
