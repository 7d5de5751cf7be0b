"""Rolling out a policy on seeded initial states.

An episode's outcome depends on the environment, the episode's number, the policy's weights and
the study's seed, and on nothing else. So each episode has an environment seed and a noise
generator of its own, and the policy is always asked with a batch of `SLOTS` rows, zeros where no
episode is: a row's answer then has the same bits whatever its company. A slot that finishes takes
the next episode; records are in the order of the episodes, however they were dealt out.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from functools import lru_cache
from zlib import crc32

import mujoco
import numpy as np
import torch
from tqdm import tqdm

from octo_bench.agents.history import PAD_MASK, History
from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.loading import load_agent
from octo_bench.agents.protocol import Agent, TaskInput
from octo_bench.definitions import Environment, environment
from octo_bench.evaluation.goals import goal_image
from octo_bench.evaluation.records import EpisodeRecord, Labels
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.initial_states import environment_seed, find_bank, has_initial_state
from octo_bench.suites import find_level
from octo_bench.support import require_supported

SLOTS = 8
_EPISODES_PER_SHARE = 16
_INFRASTRUCTURE_ERRORS = (mujoco.FatalError, np.linalg.LinAlgError, FloatingPointError)


def evaluate(
    policy: str,
    env_id: str,
    episodes: int,
    *,
    workers: int = 1,
    study_seed: int = 0,
    first_episode: int = 0,
    suite: str = "",
    level: int = 1,
    inference: Inference = DEFAULT,
    labels: Labels | None = None,
    progress: bool = True,
) -> list[EpisodeRecord]:
    """Roll out `policy` for `episodes` episodes and return their records, in order.

    Args:
        policy: "random", "expert", a name under `policies/`, a folder or a Hub id.
        env_id: the environment.
        episodes: how many; they are numbered from `first_episode`.
        workers: processes; the records do not depend on it, timing aside.
        study_seed: another seed gives other initial states and other noise.
        suite, level: the perturbation of what is seen or said, and how much of it; see `suites`.
        inference: how the policy is asked.
        labels: what the records say about the policy besides its name.
        progress: show a progress bar.

    Raises:
        UnknownName, UnknownLevel, BadCheckpoint: when the environment, the suite or the policy
            cannot be had.
        BadInference: for options that the policy does not have.
        UnsupportedEnvironment: for one whose demonstrator does not succeed often enough.
        BadInitialStates: when the environment's frozen initial states are not what was frozen.
    """
    declared = environment(env_id)
    require_supported(declared)
    _agent.cache_clear()  # a folder can hold other weights than it did
    # Mistakes show here, not in a worker.
    load_agent(policy, declared, inference)
    find_bank(declared)
    if suite:
        find_level(suite, level)
    shares = [
        range(start, min(start + _EPISODES_PER_SHARE, first_episode + episodes))
        for start in range(first_episode, first_episode + episodes, _EPISODES_PER_SHARE)
    ]
    arguments = [
        (policy, declared.id, share, study_seed, suite, level, inference, labels or Labels())
        for share in shares
    ]
    records: list[EpisodeRecord] = []
    with tqdm(total=episodes, desc=f"evaluate {declared.id}", disable=not progress) as bar:
        for share in _roll_shares(arguments, workers):
            records += share
            bar.update(len(share))
            bar.set_postfix(success=f"{sum(r.success_once for r in records)}/{len(records)}")
    return sorted(records, key=lambda record: record.episode)


def roll_out(
    agent: Agent,
    environments: Sequence[OctoBenchEnvironment],
    numbers: Sequence[int],
    study_seed: int,
) -> Iterator[EpisodeRecord]:
    """Roll out the episodes `numbers` in `SLOTS` slots; yield the record of each as it finishes.

    All slots ask the policy at the same time; one that becomes free waits for the next query.
    `environments`, at most `SLOTS` of one kind, are reused; their number does not matter.
    """
    waiting = deque(numbers)
    declared = environments[0].world.declared
    slots: list[_Slot | None] = [None] * SLOTS
    while waiting or any(slots):
        for row in range(len(environments)):
            if slots[row] is None and waiting:
                slots[row] = _Slot(environments[row], waiting.popleft(), study_seed, agent)
                agent.begin(row, environments[row], slots[row].seed)
        started = time.perf_counter()
        chunk = agent.act(*_batch(slots, agent, environments[0]))
        latency = 1e3 * (time.perf_counter() - started)
        for row, slot in enumerate(slots):
            if slot is not None:
                slot.latencies.append(latency)
                slot.execute(chunk[row, : agent.execute])
                if slot.finished:
                    yield slot.record(declared)
                    slots[row] = None


class _Slot:
    """One running episode."""

    def __init__(
        self, env: OctoBenchEnvironment, episode: int, study_seed: int, agent: Agent
    ) -> None:
        self.env, self.episode = env, episode
        self.seed = environment_seed(study_seed, episode)
        noise_key = [study_seed, episode, crc32(env.world.declared.id.encode())]
        self.noise = np.random.default_rng(noise_key)
        frozen = has_initial_state(env.world.declared, study_seed, episode)
        options = {"initial_state": episode} if frozen else {}
        goal = goal_image(env, self.seed, options) if agent.wants_goal else None
        observation, self.info = env.reset(seed=self.seed, options=options)
        self.task = TaskInput(self.info["instruction"], goal)
        self.initial_state_sha256 = env.world.state_sha256()
        self.history = History(agent.window, observation)
        self.latencies: list[float] = []
        self.actions: list[np.ndarray] = []
        self.finished = False
        self.error = ""

    def execute(self, actions: np.ndarray) -> None:
        """Take the actions (n, A) one after the other until the episode ends."""
        for action in actions:
            self.actions.append(action)
            try:
                observation, _, terminated, truncated, self.info = self.env.step(action)
            except _INFRASTRUCTURE_ERRORS as error:
                self.error = f"{type(error).__name__}: {error}"
                self.finished = True
                return
            self.history.add(observation)
            if terminated or truncated:
                self.finished = True
                return

    def record(self, declared: Environment) -> EpisodeRecord:
        """What happened; whose policy it was is for the caller to say."""
        success = bool(self.info["success"]) and not self.error
        return EpisodeRecord(
            env_id=declared.id,
            embodiment=declared.embodiment.name,
            task=declared.task.name,
            policy="",
            head="",
            demos=0,
            draw=0,
            train_seed=0,
            episode=self.episode,
            env_seed=self.seed,
            initial_state_sha256=self.initial_state_sha256,
            success_once=success,
            success_at_end=success,
            steps=len(self.actions),
            furthest_stage=self.info["furthest_stage"],
            latency_ms_p50=float(np.median(self.latencies)),
            action_jerk=_jerk(np.array(self.actions)),
            error=self.error,
            suite=self.env.suite,
            level=self.env.level,
        )


def _jerk(actions: np.ndarray) -> float:
    """Mean length of the second difference of the translation in `actions` (T, A)."""
    if len(actions) < 3:
        return 0.0
    return float(np.linalg.norm(np.diff(actions[:, :3], n=2, axis=0), axis=1).mean())


def _batch(
    slots: Sequence[_Slot | None], agent: Agent, env: OctoBenchEnvironment
) -> tuple[dict[str, np.ndarray], list[TaskInput], np.ndarray]:
    """The arguments of `Agent.act`: rows without an episode are zeros and no task."""
    observations = {
        key: np.zeros((SLOTS, agent.window, *space.shape), space.dtype)
        for key, space in env.observation_space.spaces.items()
    }
    observations[PAD_MASK] = np.zeros((SLOTS, agent.window), bool)
    noise = np.zeros((SLOTS, *agent.noise_shape), np.float32)
    tasks = [TaskInput()] * SLOTS
    for row, slot in enumerate(slots):
        if slot is None:
            continue
        tasks[row] = slot.task
        noise[row] = slot.noise.standard_normal(agent.noise_shape, dtype=np.float32)
        for key, values in slot.history.stacked().items():
            observations[key][row] = values
    return observations, tasks, noise


_ENVIRONMENTS: dict[tuple[str, bool, str, int], list[OctoBenchEnvironment]] = {}


def _environments(
    env_id: str, images: bool, suite: str, level: int, count: int
) -> list[OctoBenchEnvironment]:
    """At least `count` environments of this process, kept: building one takes a second."""
    kept = _ENVIRONMENTS.setdefault((env_id, images, suite, level), [])
    while len(kept) < count:
        kept.append(OctoBenchEnvironment(env_id, images=images, suite=suite, level=level))
    return kept[:count]


@lru_cache(maxsize=1)
def _agent(policy: str, env_id: str, inference: Inference) -> Agent:
    """The agent of one evaluation, for all of its shares in this process."""
    return load_agent(policy, environment(env_id), inference)


def _roll_share(
    policy: str,
    env_id: str,
    numbers: Sequence[int],
    study_seed: int,
    suite: str,
    level: int,
    inference: Inference,
    labels: Labels,
) -> list[EpisodeRecord]:
    torch.set_num_threads(1)  # a process keeps to its core
    agent = _agent(policy, env_id, inference)
    count = min(SLOTS, len(numbers))
    environments = _environments(env_id, agent.wants_images, suite, level, count)
    return [
        replace(record, policy=policy, inference=inference.description, **asdict(labels))
        for record in roll_out(agent, environments, numbers, study_seed)
    ]


def _roll_shares(arguments: Sequence[tuple], workers: int) -> Iterator[list[EpisodeRecord]]:
    """The records of each share as it is done, here or in processes of their own."""
    if workers == 1 or len(arguments) == 1:
        yield from (_roll_share(*share) for share in arguments)
        return
    context = multiprocessing.get_context("spawn")
    # Ctrl-C ends the workers at once and without a word: the caller says what there is to say.
    quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_DFL)}
    with ProcessPoolExecutor(min(workers, len(arguments)), context, **quiet) as pool:
        try:
            pending = [pool.submit(_roll_share, *share) for share in arguments]
            yield from (share.result() for share in as_completed(pending))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
