"""Checking that an episode depends only on itself.

The same episodes are really rolled out in several ways: one at a time, in another order with
several slots that refill, from seeds instead of frozen states, in a fresh process, dealt out to
two. After each step the state and the frames are hashed; all ways must agree with the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from octo_bench.agents.protocol import Agent
from octo_bench.agents.sources import load_agent
from octo_bench.definitions.environments import environment
from octo_bench.definitions.suites import find_level
from octo_bench.processes.jobs import results
from octo_bench.processes.worker import note_progress
from octo_bench.progress import ProgressBar
from octo_bench.records.record import VARYING_COLUMNS
from octo_bench.rollouts.episodes import roll_out, use_one_thread
from octo_bench.simulation.environment import OctoBenchEnvironment

DEFAULT_ENVIRONMENTS = ("Lift-Panda", "PickPlaceCan-UR5e", "TwoArmLift-TwoPandas")
_STUDY_SEED = 0

Key = tuple[str, int]


@dataclass
class EpisodeTrace:
    """Hashes of an episode, the start and then each step; and its record, less the timing."""

    states: list[bytes] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Way:
    """A way to roll out the same episodes.

    With 0 `processes` it is this one. `slots` environments run side by side, `backwards` from the
    last episode to the first; `seeded` starts come from the seeds even where they are frozen.
    """

    name: str
    processes: int = 0
    slots: int = 1
    backwards: bool = False
    seeded: bool = False


@dataclass(frozen=True)
class Comparison:
    """What came of one way: whether all hashes and records agree with the first way's."""

    way: str
    episodes: int
    steps: int
    states_agree: bool
    frames_agree: bool
    records_agree: bool
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether everything does."""
        return not self.differences


WAYS = (
    Way("one at a time"),
    Way("3 slots, backwards", slots=3, backwards=True),
    Way("from seeds, 2 slots", slots=2, seeded=True),
    Way("a fresh process", processes=1, slots=2),
    Way("2 workers, 4 slots", processes=2, slots=4),
)


def check_determinism(
    env_ids: Sequence[str] = DEFAULT_ENVIRONMENTS,
    *,
    policy: str = "expert",
    episodes: int = 4,
    suite: str = "",
    level: int = 1,
    ways: Sequence[Way] = WAYS,
    progress: bool = True,
) -> list[Comparison]:
    """Roll out the same episodes in all ways and compare each with the first.

    Args:
        env_ids: the environments.
        policy: who acts, as for `evaluate`.
        episodes: how many in each environment.
        suite, level: the perturbation, as for `evaluate`.
        ways: in which ways.
        progress: show a progress bar.

    Raises:
        UnknownName, UnknownLevel, BadCheckpoint: when an environment, the suite or the policy
            is not available.
        BadInitialStates: when an environment's frozen initial states are not what was frozen.
    """
    jobs = [(environment(env_id).id, number) for env_id in env_ids for number in range(episodes)]
    # Mistakes show here, not in a worker.
    for env_id in env_ids:
        load_agent(policy, environment(env_id))
    if suite:
        find_level(suite, level)
    perturbation = {"suite": suite, "level": level}
    reference: dict[Key, EpisodeTrace] = {}
    comparisons = []
    with ProgressBar(total=len(ways) * len(jobs), desc="determinism", disable=not progress) as bar:
        for way in ways:
            bar.set_postfix_str(way.name)
            traces = _traces(way, policy, jobs, perturbation)
            reference = reference or traces
            comparisons.append(compare(way.name, reference, traces))
            bar.update(len(jobs))
    return comparisons


def as_table(comparisons: Sequence[Comparison]) -> list[dict[str, object]]:
    """For people: what each way came to."""
    said = {True: "same", False: "differ"}
    return [
        {
            "way": each.way,
            "episodes": each.episodes,
            "steps": each.steps,
            "states": said[each.states_agree],
            "frames": said[each.frames_agree],
            "records": said[each.records_agree],
        }
        for each in comparisons
    ]


def trace_episodes(
    agent: Agent,
    env_id: str,
    numbers: Sequence[int],
    slots: int = 1,
    *,
    seeded: bool = False,
    perturbation: Mapping[str, Any] = MappingProxyType({}),
) -> dict[Key, EpisodeTrace]:
    """Roll out episodes in `slots` environments, hashing as they go."""
    with ExitStack() as stack:
        environments = [
            stack.enter_context(closing(_Traced(env_id, seeded, perturbation)))
            for _ in range(slots)
        ]
        records = []
        for record in roll_out(agent, environments, numbers, _STUDY_SEED):
            note_progress()
            records.append(record)
        traces = {seed: trace for env in environments for seed, trace in env.traces.items()}
    for record in records:
        row = asdict(record)
        traces[record.env_seed].record = {k: row[k] for k in row.keys() - set(VARYING_COLUMNS)}
    return {(env_id, record.episode): traces[record.env_seed] for record in records}


def compare(
    way: str, reference: Mapping[Key, EpisodeTrace], traces: Mapping[Key, EpisodeTrace]
) -> Comparison:
    """Compare the traces of one way with the reference's."""
    differences: list[str] = []

    def agree(what: str, hashes: Callable[[EpisodeTrace], list[bytes]]) -> bool:
        found = []
        for (env_id, number), expected in reference.items():
            step = _first_difference(hashes(expected), hashes(traces[env_id, number]))
            if step is not None:
                found.append(f"{env_id} episode {number}: {what} differ from step {step} ({way})")
        differences.extend(found)
        return not found

    states = agree("states", lambda trace: trace.states)
    frames = agree("frames", lambda trace: trace.frames)
    of_records = [
        f"{env_id} episode {number}: records differ ({way})"
        for (env_id, number), expected in reference.items()
        if expected.record != traces[env_id, number].record
    ]
    return Comparison(
        way=way,
        episodes=len(traces),
        steps=sum(len(trace.states) - 1 for trace in traces.values()),
        states_agree=states,
        frames_agree=frames,
        records_agree=not of_records,
        differences=(*differences, *of_records),
    )


class _Traced(OctoBenchEnvironment):
    """An environment that hashes states and frames; `traces` are by the episode's seed."""

    def __init__(self, env_id: str, seeded: bool, perturbation: Mapping[str, Any]) -> None:
        super().__init__(env_id, **perturbation)
        self.traces: dict[int, EpisodeTrace] = {}
        self._seeded = seeded
        self._trace = EpisodeTrace()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=None if self._seeded else options)
        self._trace = self.traces[seed] = EpisodeTrace()
        self._add(observation)
        return observation, info

    def step(
        self, action: np.ndarray, *, observe: bool = True
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        result = super().step(action)  # observed or not: every frame is compared
        self._add(result[0])
        return result

    def _add(self, observation: Mapping[str, np.ndarray]) -> None:
        frames = hashlib.sha256()
        for key in sorted(observation):
            frames.update(observation[key].tobytes())
        self._trace.states.append(hashlib.sha256(self.world.scene().tobytes()).digest())
        self._trace.frames.append(frames.digest())


def _traces(
    way: Way, policy: str, jobs: Sequence[Key], perturbation: dict[str, Any]
) -> dict[Key, EpisodeTrace]:
    ordered = list(reversed(jobs)) if way.backwards else list(jobs)
    if way.processes == 0:
        return _trace_jobs(way, policy, ordered, perturbation)
    shares = [ordered[start :: way.processes] for start in range(way.processes)]
    asked = [(way, policy, share, perturbation) for share in shares if share]
    with closing(results(_trace_jobs, asked, way.processes)) as traced:
        return {key: trace for _, traces in traced for key, trace in traces.items()}


def _trace_jobs(
    way: Way, policy: str, jobs: Sequence[Key], perturbation: dict[str, Any]
) -> dict[Key, EpisodeTrace]:
    use_one_thread()
    traces: dict[Key, EpisodeTrace] = {}
    for env_id in dict.fromkeys(env_id for env_id, _ in jobs):
        numbers = [number for other, number in jobs if other == env_id]
        agent = load_agent(policy, environment(env_id))
        traces |= trace_episodes(
            agent, env_id, numbers, way.slots, seeded=way.seeded, perturbation=perturbation
        )
    return traces


def _first_difference(expected: Sequence[bytes], found: Sequence[bytes]) -> int | None:
    """The first place at which two sequences differ, also in length; None if they do not."""
    for place, (one, other) in enumerate(zip(expected, found, strict=False)):
        if one != other:
            return place
    return None if len(expected) == len(found) else min(len(expected), len(found))
