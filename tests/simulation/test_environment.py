"""The environment contract: Gymnasium's own checks, seeding, and what an episode is."""

from __future__ import annotations

import copy
import hashlib
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator

import cloudpickle
import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import TimeAwareObservation

import octo_bench  # noqa: F401  (registers the environments)
from octo_bench.cli import run
from octo_bench.definitions.environments import (
    HOLD_STEPS,
    environment,
    environments,
    recorded_environment,
    recorded_id,
)
from octo_bench.errors import BadAction, OctoBenchError, OutdatedEnvironment, UnknownName
from octo_bench.experts.registry import demonstrate
from octo_bench.simulation.environment import CLOSING_STEPS, OctoBenchEnvironment

STACK = "octo_bench/Stack-Panda-v1"
ARMS = ("Panda", "IIWA", "Kinova3", "XArm7")


@pytest.fixture(scope="module")
def stack() -> OctoBenchEnvironment:
    env = OctoBenchEnvironment(STACK)
    yield env
    env.close()


@pytest.fixture(scope="module")
def lift() -> Iterator[OctoBenchEnvironment]:
    env = OctoBenchEnvironment("Lift-Panda", images=False)
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


def test_after_the_first_success_an_episode_goes_on_while_it_has_to_hold() -> None:
    env = OctoBenchEnvironment("Lift-Panda", images=False, horizon=40)
    _, info = env.reset(seed=60_000_000)
    assert (info["success_once"], info["success_held"], info["first_success_step"]) == (0, 0, 0)
    motion, ends = demonstrate(env.world), []
    while not env.holding:
        _, reward, terminated, truncated, info = env.step(next(motion))
        assert reward == float(info["success"])
        assert not (terminated or truncated)
    first = info["first_success_step"]
    start = env.world.state()
    still, drop = np.zeros(7), np.zeros(7)
    still[6], drop[6] = 1, -1
    for action, held in ((still, True), (drop, False)):
        rewards = []
        for _ in range(HOLD_STEPS):
            _, reward, terminated, truncated, info = env.step(action)
            rewards.append(reward)
            ends.append(terminated)
            assert not truncated
            assert info["success_once"] and info["first_success_step"] == first
            assert info["success_held"] == (terminated and held)
        assert (ends, rewards[-1]) == ([False] * (HOLD_STEPS - 1) + [True], float(held))
        assert info["furthest_stage"] == ("hold" if held else "success")
        ends.clear()
        env.reset(seed=60_000_000)
        motion = demonstrate(env.world)
        for _ in range(first):
            env.step(next(motion))
        assert np.array_equal(env.world.state(), start)
    assert first + HOLD_STEPS > env.horizon  # a success before the horizon goes on beyond it
    env.close()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros(6), r"has shape \(6,\); this environment takes \(7,\)"),
        (np.zeros((1, 7)), r"has shape \(1, 7\)"),
        ([0.0, np.nan, 0, 0, 0, 0, 1], "entries that are not finite"),
        ([0.0, np.inf, 0, 0, 0, 0, 1], "entries that are not finite"),
        (np.zeros(7, complex), "entries of type complex128"),
        ([[0.0], [1.0, 2.0]], "not an array of numbers"),
        (None, "entries of type object"),
    ],
)
def test_an_action_that_is_none_is_refused_and_changes_nothing(
    lift: OctoBenchEnvironment, wrong: object, said: str
) -> None:
    lift.reset(seed=0)
    before = lift.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))[0]["proprio"]
    with pytest.raises(BadAction, match=said):
        lift.step(wrong)
    after = lift.step(np.array([0, 0, 0, 0, 0, 0, 1.0]))[0]["proprio"]
    assert after[10] == pytest.approx(before[10] + 1 / CLOSING_STEPS)


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("render", "Stock", "unknown render 'Stock'; did you mean stock"),
        ("render", None, "unknown render 'None'"),
        ("control", "slow", "unknown control 'slow'"),
        ("render_mode", "human", "unknown render_mode 'human'"),
        ("image_size", 0, "image_size is 0; use a whole number from 8 to 2048"),
        ("image_size", 96.5, "image_size is 96.5"),
        ("horizon", 0, "horizon is 0; use a whole number from 1"),
        ("horizon", True, "horizon is True"),
    ],
)
def test_an_argument_with_another_value_is_refused(argument: str, value: object, said: str) -> None:
    with pytest.raises(OctoBenchError, match=said):
        OctoBenchEnvironment("Lift-Panda", **{argument: value})


def test_a_step_before_the_first_reset_says_so() -> None:
    env = OctoBenchEnvironment("Lift-Panda", images=False)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step(np.zeros(7))
    env.close()


def test_copies_and_pickles_are_environments_with_the_same_arguments() -> None:
    env = gymnasium.make("octo_bench/Lift-Panda-v1", images=False, max_episode_steps=300)
    env.reset(seed=4)
    for again in (
        copy.deepcopy(env),
        pickle.loads(pickle.dumps(env)),
        cloudpickle.loads(cloudpickle.dumps(env)),
    ):
        assert (again.spec.max_episode_steps, again.unwrapped.horizon) == (300, 280)
        proprio = [each.reset(seed=5)[0]["proprio"] for each in (env, again)]
        np.testing.assert_array_equal(*proprio)
        again.close()
    env.close()


def test_the_limit_is_in_the_spec_and_can_be_lengthened() -> None:
    env = gymnasium.make("octo_bench/Lift-Panda-v1", images=False)
    assert env.spec.max_episode_steps == 100 + HOLD_STEPS
    timed = TimeAwareObservation(env, flatten=False)
    assert timed.observation_space["time"].high == 100 + HOLD_STEPS
    assert timed.reset(seed=0)[0]["time"] == 0
    env.close()
    up = np.array([0, 0, 1, 0, 0, 0, -1], np.float32)
    for limit, steps in ((150, 130), (30, 30), (None, 100)):
        env = gymnasium.make("octo_bench/Lift-Panda-v1", images=False, max_episode_steps=limit)
        env.reset(seed=0)
        taken, truncated = 0, False
        while not truncated:
            _, _, _, truncated, _ = env.step(up)
            taken += 1
        assert taken == steps
        again = gymnasium.make(env.spec)
        assert again.unwrapped.horizon == env.unwrapped.horizon
        again.close()
        env.close()


def test_logging_of_the_host_program_stays_as_it_is() -> None:
    program = (
        "import logging\n"
        "logging.disable(logging.INFO)\n"
        "from octo_bench.simulation.environment import OctoBenchEnvironment\n"
        "OctoBenchEnvironment('Lift-Panda', images=False).reset(seed=0)\n"
        "print(logging.root.manager.disable == logging.INFO)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


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
