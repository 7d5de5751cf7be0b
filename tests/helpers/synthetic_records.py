"""Episode records made up for tests, and rollouts that are read off a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from octo_bench.comparison.matching import EpisodeSet
from octo_bench.records.record import EpisodeRecord
from octo_bench.rollouts.batches import Share
from octo_bench.simulation.initial_states import environment_seed

LIFT = "octo_bench/Lift-Panda-v1"
STACK = "octo_bench/Stack-Panda-v1"


def made_up(episode: int, success: bool, **changes: object) -> EpisodeRecord:
    """An episode of Lift on the Panda."""
    record = EpisodeRecord(
        env_id=LIFT,
        embodiment="Panda",
        task="Lift",
        policy="octo-tiny",
        head="diffusion",
        demos=0,
        draw=0,
        train_seed=0,
        episode=episode,
        env_seed=environment_seed(0, episode),
        initial_state_sha256=f"{episode:064x}",
        success_once=success,
        steps=70 + episode if success else 100,
        furthest_stage="hold" if success else "reach",
        latency_ms_p50=20.0,
        action_jerk=0.1,
        error="",
        success_held=success,
        first_success_step=50 + episode if success else 0,
    )
    return replace(record, **changes)


def record(episode: int = 0, **more: object) -> EpisodeRecord:
    """An episode of Lift on the Panda, to be kept in a file."""
    values = {
        "env_id": LIFT,
        "embodiment": "Panda",
        "task": "Lift",
        "policy": "octo-tiny",
        "head": "diffusion",
        "demos": 0,
        "draw": 0,
        "train_seed": 0,
        "env_seed": 100_000_000 + episode,
        "initial_state_sha256": f"{episode:064x}",
        "success_once": True,
        "steps": 40,
        "furthest_stage": "success",
        "latency_ms_p50": 3.0,
        "action_jerk": 0.2,
        "error": "",
    }
    return EpisodeRecord(episode=episode, **{**values, **more})


def episodes_of(successes: Sequence[bool], name: str = "baseline", **changes: object) -> EpisodeSet:
    """Episodes 0, 1, ... that came out so."""
    records = [made_up(number, success, **changes) for number, success in enumerate(successes)]
    return EpisodeSet(name, records, None)


def table_of(
    outcome: Callable[[EpisodeRecord], EpisodeRecord], asked: list[tuple[str, int]]
) -> Callable[..., Iterator[list[EpisodeRecord]]]:
    """A stand-in for `roll_shares`: episodes come to `outcome`, successes of a share first.

    `asked` gets the environment and number of each episode that was rolled out.
    """

    def roll(shares: deque[Share], workers: int) -> Iterator[list[EpisodeRecord]]:
        while shares:
            share = shares.popleft()
            records = []
            for number in share.numbers:
                asked.append((share.env_id, number))
                blank = made_up(number, True, env_id=share.env_id, policy=share.policy)
                records.append(outcome(blank))
            for record in sorted(records, key=lambda each: not each.success_once):
                yield [record]

    return roll
