"""Rolling out episodes in slots, side by side.

An episode's outcome depends on the environment, the episode's number, the policy's weights and
the study's seed, and on nothing else. So each episode has an environment seed and a noise
generator of its own, and the policy is always called with a batch of `SLOTS` rows, zeros where no
episode is: a row's actions then have the same bits whatever the other rows hold. A slot that
finishes takes the next episode.

An infrastructure error ends an episode, which then is neither a success nor a failure. A fault of
the policy's own ends it, too, and it has failed then: an action chunk of the wrong shape or type,
actions that are not finite, and actions that break the physics.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from zlib import crc32

import mujoco
import numpy as np
import torch

from octo_bench.agents.history import PAD_MASK, History
from octo_bench.agents.protocol import Agent, TaskInput
from octo_bench.definitions.environments import Environment
from octo_bench.records.record import EpisodeRecord
from octo_bench.rollouts.goals import goal_image
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.initial_states import environment_seed, has_initial_state
from octo_bench.simulation.stages import NO_STAGE
from octo_bench.simulation.world import UnstableSimulation

SLOTS = 8
INFRASTRUCTURE_ERRORS = (
    mujoco.FatalError,
    np.linalg.LinAlgError,
    FloatingPointError,
    MemoryError,
    torch.OutOfMemoryError,
    torch.AcceleratorError,
    ConnectionError,
    TimeoutError,
)
_FILE_ERRORS = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)
_ALLOCATION_FAILED = "DefaultCPUAllocator"
"""In the text of the RuntimeError that PyTorch raises when the memory of the CPU is used up."""


def use_one_thread() -> None:
    """Let this process compute with one thread; to be called before a policy is loaded.

    With more, the same sums are made in another order and an episode's actions differ in their
    last bits. Processes that work side by side then keep to a core each, too.
    """
    torch.set_num_threads(1)


def roll_out(
    agent: Agent,
    environments: Sequence[OctoBenchEnvironment],
    numbers: Sequence[int],
    study_seed: int,
) -> Iterator[EpisodeRecord]:
    """Roll out the episodes `numbers`, once each; yield their records as they finish.

    `environments`, at most `SLOTS` of one kind, are reused; their number does not matter. One
    that breaks is not used again; when none is left, the episodes that wait are not rolled out.
    """
    for finished in roll_out_by_queries(agent, environments, numbers, study_seed):
        yield from finished


def roll_out_by_queries(
    agent: Agent,
    environments: Sequence[OctoBenchEnvironment],
    numbers: Sequence[int],
    study_seed: int,
) -> Iterator[list[EpisodeRecord]]:
    """The same as `roll_out`; after each query of the policy, the episodes that it finished.

    All slots query the policy at the same time; one that becomes free waits for the next query.
    """
    waiting = deque(numbers)
    sound = list(range(len(environments)))
    slots: list[_Slot | None] = [None] * SLOTS
    while any(slots) or (waiting and sound):
        for row in sound:
            if slots[row] is None and waiting:
                slots[row] = _Slot(environments[row], waiting.popleft(), study_seed)
                slots[row].begin(agent, row)
        _ask_and_execute(
            agent, [(row, slot) for row, slot in enumerate(slots) if slot], environments[0]
        )
        finished = [(row, slot) for row, slot in enumerate(slots) if slot and slot.finished]
        for row, slot in finished:
            slots[row] = None
            if slot.error:
                sound.remove(row)
        yield [slot.record() for _, slot in finished]


class _Slot:
    """One running episode."""

    def __init__(self, env: OctoBenchEnvironment, episode: int, study_seed: int) -> None:
        self.env, self.episode = env, episode
        self.seed = environment_seed(study_seed, episode)
        declared = env.world.declared
        noise_key = [study_seed, episode, crc32(declared.id.encode())]
        self.noise = np.random.default_rng(noise_key)
        frozen = has_initial_state(declared, study_seed, episode)
        self._options = {"initial_state": episode} if frozen else {}
        self.info: dict[str, Any] = {
            "success_once": False,
            "success_held": False,
            "first_success_step": 0,
            "furthest_stage": NO_STAGE,
        }
        self.initial_state_sha256 = ""
        self._trajectory = hashlib.sha256()
        self.latencies: list[float] = []
        self.actions: list[np.ndarray] = []
        self.finished = False
        self.error = self.policy_fault = ""

    def begin(self, agent: Agent, row: int) -> None:
        """Reset the environment and make the agent ready for it."""
        with self.accounting():
            goal = goal_image(self.env, self.seed, self._options) if agent.wants_goal else None
            observation, self.info = self.env.reset(seed=self.seed, options=self._options)
            self.task = TaskInput(self.info["instruction"], goal)
            self.initial_state_sha256 = self.env.world.state_sha256()
            self._trajectory.update(bytes.fromhex(self.initial_state_sha256))
            self.window = agent.window
            self.history = History(agent.window, observation)
            agent.begin(row, self.env, self.seed)

    def execute(self, actions: np.ndarray) -> None:
        """Take the actions (n, A) one after the other until the episode ends.

        Only what the policy will see at its next query is observed.
        """
        with self.accounting():
            for left, action in zip(range(len(actions), 0, -1), actions, strict=True):
                if not np.isfinite(action).all():
                    self.fault(f"its action {len(self.actions)} is not finite")
                    return
                self.actions.append(action)
                seen = left <= self.window
                observation, _, terminated, truncated, info = self.env.step(action, observe=seen)
                try:
                    self.env.world.require_stable()
                except UnstableSimulation as error:
                    self.fault(f"its action {len(self.actions) - 1} broke the physics: {error}")
                    return
                self.info = info
                self._trajectory.update(bytes.fromhex(self.env.world.state_sha256()))
                if seen:
                    self.history.add(observation)
                if terminated or truncated:
                    self.finished = True
                    return

    @contextmanager
    def accounting(self) -> Iterator[None]:
        """An infrastructure error inside ends the episode and is noted."""
        try:
            yield
        except Exception as error:
            if not is_infrastructure(error):
                raise
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """End the episode, which then counts neither as success nor as failure."""
        self.error = f"{type(error).__name__}: {error}"
        self.finished = True

    def fault(self, reason: str) -> None:
        """End the episode, which has failed by the policy's own fault."""
        self.policy_fault = reason
        self.finished = True

    def record(self) -> EpisodeRecord:
        """The record; the caller adds the policy's name."""
        counts = not self.error
        return replace(
            blank_record(self.env.world.declared, self.episode, self.seed),
            initial_state_sha256=self.initial_state_sha256,
            success_once=counts and self.info["success_once"],
            success_held=counts and self.info["success_held"],
            first_success_step=self.info["first_success_step"] if counts else 0,
            steps=len(self.actions),
            furthest_stage=self.info["furthest_stage"],
            latency_ms_p50=float(np.median(self.latencies)) if self.latencies else 0.0,
            action_jerk=_jerk(np.array(self.actions)),
            error=self.error,
            suite=self.env.suite,
            level=self.env.level,
            trajectory_sha256=self._trajectory.hexdigest(),
            policy_fault=self.policy_fault,
        )


def blank_record(declared: Environment, episode: int, seed: int) -> EpisodeRecord:
    """An episode of which nothing is known but its number."""
    return EpisodeRecord(
        env_id=declared.id,
        embodiment=declared.embodiment.name,
        task=declared.task.name,
        policy="",
        head="",
        demos=0,
        draw=0,
        train_seed=0,
        episode=episode,
        env_seed=seed,
        initial_state_sha256="",
        success_once=False,
        steps=0,
        furthest_stage=NO_STAGE,
        latency_ms_p50=0.0,
        action_jerk=0.0,
        error="",
        success_held=False,
    )


def is_infrastructure(error: Exception) -> bool:
    """Whether an error is the machine's or the connection's, so that another try may go well."""
    if isinstance(error, INFRASTRUCTURE_ERRORS):
        return True
    if isinstance(error, OSError):  # libraries derive theirs of broken connections from it, too
        return not isinstance(error, _FILE_ERRORS)
    return isinstance(error, RuntimeError) and _ALLOCATION_FAILED in str(error)


def chunk_fault(chunk: object, execute: int, action_size: int) -> str:
    """What is wrong with an answer of `Agent.act` as a whole; "" if nothing is.

    Args:
        chunk: the answer; (SLOTS, T, A) numbers, T at least `execute`.
        execute: how many of its actions are executed.
        action_size: entries of an action, A.
    """
    if execute < 1:
        return f"it executes {execute} actions of each chunk"
    try:
        found = np.asarray(chunk)
    except ValueError:
        return "its action chunk is not an array of numbers"
    if found.dtype.kind not in "fiu":
        return f"its action chunk has entries of type {found.dtype}"
    wanted = f"({SLOTS}, at least {execute}, {action_size})"
    rows_and_entries = found.ndim == 3 and (found.shape[0], found.shape[2]) == (SLOTS, action_size)
    if not rows_and_entries or found.shape[1] < execute:
        return f"its action chunk has shape {found.shape}, not {wanted}"
    return ""


def _ask_and_execute(
    agent: Agent, slots: Sequence[tuple[int, _Slot]], env: OctoBenchEnvironment
) -> None:
    """One query for all episodes that run, and the steps that its answers are good for."""
    running = [(row, slot) for row, slot in slots if not slot.finished]
    if not running:
        return
    started = time.perf_counter()
    try:
        chunk = agent.act(*_batch(running, agent, env))
    except Exception as error:
        if not is_infrastructure(error):
            raise
        # Whose it was is not known; each is tried again alone.
        for _, slot in running:
            slot.fail(error)
        return
    latency = 1e3 * (time.perf_counter() - started)
    wrong = chunk_fault(chunk, agent.execute, env.world.declared.action_size)
    for row, slot in running:
        slot.latencies.append(latency)
        if wrong:
            slot.fault(wrong)
        else:
            slot.execute(np.asarray(chunk[row])[: agent.execute])


def _jerk(actions: np.ndarray) -> float:
    """Mean length of the second difference of the translation in `actions` (T, A)."""
    if len(actions) < 3:
        return 0.0
    return float(np.linalg.norm(np.diff(actions[:, :3], n=2, axis=0), axis=1).mean())


def _batch(
    running: Sequence[tuple[int, _Slot]], agent: Agent, env: OctoBenchEnvironment
) -> tuple[dict[str, np.ndarray], list[TaskInput], np.ndarray]:
    """The arguments of `Agent.act`: rows without an episode are zeros and no task."""
    observations = {
        key: np.zeros((SLOTS, agent.window, *space.shape), space.dtype)
        for key, space in env.observation_space.spaces.items()
    }
    observations[PAD_MASK] = np.zeros((SLOTS, agent.window), bool)
    noise = np.zeros((SLOTS, *agent.noise_shape), np.float32)
    tasks = [TaskInput()] * SLOTS
    for row, slot in running:
        tasks[row] = slot.task
        noise[row] = slot.noise.standard_normal(agent.noise_shape, dtype=np.float32)
        for key, values in slot.history.stacked().items():
            observations[key][row] = values
    return observations, tasks, noise
