"""Evaluating a policy: its episodes, dealt out to processes.

The records are in the order of the episodes, however they were dealt out; see `episodes` for what
an episode depends on, and `batches` for what becomes of one that is interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import closing

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.sources import load_agent
from octo_bench.definitions.environments import Environment, environment
from octo_bench.definitions.suites import find_level
from octo_bench.definitions.support import require_supported
from octo_bench.progress import ProgressBar
from octo_bench.records.record import EpisodeRecord, Labels
from octo_bench.rollouts.batches import Share, forget_agents, roll_shares
from octo_bench.simulation.initial_states import find_bank


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
    isolated: bool = False,
    skip: Collection[int] = (),
    on_finished: Callable[[Sequence[EpisodeRecord]], None] | None = None,
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
        inference: the inference options.
        labels: what the records say about the policy besides its name.
        isolated: work in another process even if it is only one, so that this one outlives it.
        skip: numbers of episodes to leave out.
        on_finished: called with records as they finish.
        progress: show a progress bar.

    Raises:
        OctoBenchError: see `require_possible`.
    """
    forget_agents()
    declared = require_possible(policy, env_id, suite=suite, level=level, inference=inference)
    everything = Share(
        policy=policy,
        env_id=declared.id,
        numbers=tuple(n for n in range(first_episode, first_episode + episodes) if n not in skip),
        study_seed=study_seed,
        suite=suite,
        level=level if suite else 0,
        inference=inference,
        labels=labels or Labels(),
    )
    shares = deque(everything.split(workers))
    finishing = roll_shares(shares, min(workers, len(shares)), isolated=isolated)
    records: list[EpisodeRecord] = []
    done = episodes - len(everything.numbers)
    bar = ProgressBar(
        total=episodes, initial=done, desc=f"evaluate {declared.id}", disable=not progress
    )
    with bar, closing(finishing):
        for finished in finishing:
            records += finished
            if on_finished is not None:
                on_finished(finished)
            bar.update(len(finished))
            bar.set_postfix(success=f"{sum(r.success_once for r in records)}/{len(records)}")
    return sorted(records, key=lambda record: record.episode)


def require_possible(
    policy: str, env_id: str, *, suite: str = "", level: int = 1, inference: Inference = DEFAULT
) -> Environment:
    """Find mistakes before anything is rolled out, and here instead of in a worker.

    Args:
        policy, suite, level, inference: as for `evaluate`.
        env_id: the environment, which is returned.

    Raises:
        UnknownName, UnknownLevel, BadCheckpoint: when the environment, the suite or the policy
            is not available.
        BadInference: for options that the policy does not have.
        UnsupportedEnvironment: for one whose scripted expert does not succeed often enough.
        BadInitialStates: when the environment's frozen initial states are not what was frozen.
    """
    declared = environment(env_id)
    require_supported(declared)
    load_agent(policy, declared, inference)
    find_bank(declared)
    if suite:
        find_level(suite, level)
    return declared
