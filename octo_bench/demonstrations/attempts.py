"""One attempt at a demonstration: the scripted expert acts, disturbed, and is recorded.

Noise is added to what is executed, and the expert's clean action is recorded, so that the data
shows recoveries (Laskey et al., "DART: Noise Injection for Robust Imitation Learning", 2017).

Once the task is done, the expert holds still (see `after_success`), undisturbed, until the episode
ends: so policies see what comes after a success. An attempt is a success if the task is
still done then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from octo_bench.definitions.environments import ACTION_SIZE_PER_ARM, Disturbance
from octo_bench.experts.registry import after_success, demonstrate
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.world import Control


@dataclass(frozen=True)
class Attempt:
    """One episode of the scripted expert; the arrays are None where it failed.

    `success` is that the task is done at the end; `steps` are those of the whole episode, and
    `first_success_step` is 0 where the task was never done.
    """

    seed: int
    success: bool
    steps: int
    furthest_stage: str
    first_success_step: int = 0
    observations: dict[str, np.ndarray] | None = None
    actions: np.ndarray | None = None
    executed: np.ndarray | None = None
    states: np.ndarray | None = None
    rewards: np.ndarray | None = None
    model_file: str = ""


def attempt(
    env_id: str,
    seed: int,
    *,
    images: bool = True,
    control: Control = "fast",
    suite: str = "",
    level: int = 1,
    disturbance: Disturbance | None = None,
) -> Attempt:
    """Let the scripted expert try the episode of `seed`, disturbed as its task says or as given."""
    environment_ = _environment(env_id, images, control, suite, level)
    generator = np.random.default_rng([seed, 1])
    observation, _ = environment_.reset(seed=seed)
    motion = demonstrate(environment_.world)
    observations, actions, executed, states, rewards = [], [], [], [], []
    arms = len(environment_.world.declared.embodiment.arms)
    finished = False
    info: dict[str, Any] = {}
    disturbed_by = disturbance or environment_.world.declared.task.disturbance
    spread = np.repeat(np.float32([disturbed_by.translation, disturbed_by.rotation]), 3)
    while not finished:
        if environment_.holding:
            clean = after_success(environment_.world, motion, actions[-1])
            clean = disturbed = np.clip(clean, -1.0, 1.0).astype(np.float32)
        else:
            clean = np.clip(next(motion), -1.0, 1.0).astype(np.float32)
            disturbed = clean.copy()
            for first in range(0, ACTION_SIZE_PER_ARM * arms, ACTION_SIZE_PER_ARM):
                disturbed[first : first + 6] += spread * generator.standard_normal(6, np.float32)
            disturbed = np.clip(disturbed, -1.0, 1.0)
        observations.append(observation)
        states.append(environment_.world.state())
        actions.append(clean)
        executed.append(disturbed)
        observation, reward, terminated, truncated, info = environment_.step(disturbed)
        rewards.append(reward)
        finished = terminated or truncated
    ended = len(actions), info["furthest_stage"], info["first_success_step"]
    if not info["success_held"]:
        return Attempt(seed, False, *ended)
    return Attempt(
        seed,
        True,
        *ended,
        observations={
            key: np.stack([each[key] for each in observations]) for key in observations[0]
        },
        actions=np.stack(actions),
        executed=np.stack(executed),
        states=np.stack(states),
        rewards=np.float32(rewards),
        model_file=environment_.world.model_xml(),
    )


_kept: dict[tuple[object, ...], OctoBenchEnvironment] = {}


def _environment(
    env_id: str, images: bool, control: Control, suite: str, level: int
) -> OctoBenchEnvironment:
    """The process's one environment: building it takes a second, and each takes 250 MB."""
    kind = (env_id, images, control, suite, level)
    if kind not in _kept:
        while _kept:
            _kept.popitem()[1].close()
        _kept[kind] = OctoBenchEnvironment(
            env_id, images=images, control=control, suite=suite, level=level
        )
    return _kept[kind]
