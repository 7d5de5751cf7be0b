"""Shares of an evaluation: episodes that one process rolls out together.

Episodes interrupted by an infrastructure error, a crash or a hang are retried, alone in a fresh
environment, up to `ATTEMPTS` times, and then recorded as errors. An error is never a failed
episode. A retry changes neither the other episodes nor the episode's own record.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import islice

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.protocol import Agent
from octo_bench.agents.sources import load_agent, policy_fingerprint, policy_head
from octo_bench.definitions.environments import environment
from octo_bench.processes.executor import Death
from octo_bench.processes.jobs import ATTEMPTS, stream
from octo_bench.processes.worker import note_progress
from octo_bench.records.record import EpisodeRecord, Labels
from octo_bench.rollouts.episodes import (
    INFRASTRUCTURE_ERRORS,
    SLOTS,
    blank_record,
    roll_out_by_queries,
    use_one_thread,
)
from octo_bench.simulation.environment import OctoBenchEnvironment
from octo_bench.simulation.initial_states import environment_seed

EPISODES_PER_SHARE = 16
"""At most: what a share leaves undone when its process dies is begun again."""

_AGENTS = 4


@dataclass(frozen=True)
class Share:
    """Episodes of one policy in one environment, rolled out by one process.

    Attributes:
        policy: as `load_agent` takes it.
        env_id: the full id.
        numbers: of the episodes.
        suite, level: the perturbation, "" and 0 for none.
        labels: what the records say about the policy besides its name.
        attempts: how often they were begun before.
    """

    policy: str
    env_id: str
    numbers: tuple[int, ...]
    study_seed: int = 0
    suite: str = ""
    level: int = 0
    inference: Inference = DEFAULT
    labels: Labels = field(default_factory=Labels)
    attempts: int = 0

    def split(self, workers: int) -> list[Share]:
        """Shares of `EPISODES_PER_SHARE` episodes or a few less, in order: as many for each of
        `workers` processes, and as large but for one episode, so that all are at work to the end.
        """
        rounds = math.ceil(len(self.numbers) / (workers * EPISODES_PER_SHARE))
        size, larger = divmod(len(self.numbers), workers * rounds)
        sizes = [size + 1] * larger + [size] * (workers * rounds - larger)
        numbers = iter(self.numbers)
        return [replace(self, numbers=tuple(islice(numbers, each))) for each in sizes if each]

    def named(self, record: EpisodeRecord, attempts: int) -> EpisodeRecord:
        """The record, saying whose it is and how often it was begun."""
        return replace(
            record,
            policy=self.policy,
            inference=self.inference.description,
            attempts=attempts,
            policy_fingerprint=_fingerprint(self.policy),
            **{**asdict(self.labels), "head": self.labels.head or _head(self.policy)},
        )

    def lost(self, episode: int, reason: str) -> EpisodeRecord:
        """The record of an episode whose process died again and again."""
        seed = environment_seed(self.study_seed, episode)
        blank = blank_record(environment(self.env_id), episode, seed)
        known = replace(blank, error=reason, suite=self.suite, level=self.level)
        return self.named(known, self.attempts)


def roll_shares(
    shares: deque[Share], workers: int, *, isolated: bool = False
) -> Iterator[list[EpisodeRecord]]:
    """The records of all shares as they finish, from here or from processes of their own.

    What a process leaves undone when it dies is tried again an episode at a time, so that one
    that kills its process takes no other one along. Closing the iterator ends the processes.

    Args:
        shares: taken from the left; the caller may add to them while it iterates.
        workers: processes at the same time; with one, it is this one.
        isolated: work in another process even if it is only one, so that this one outlives it.

    Raises:
        OctoBenchError, RuntimeError: what a share in another process raised.
    """
    if workers == 1 and not isolated:
        while shares:
            for finished in roll_share(shares.popleft()):
                note_progress()
                if finished:
                    yield finished
        return
    done: set[tuple[Share, int]] = set()
    with closing(stream(roll_share, shares, workers)) as everything:
        for share, news in everything:
            asked = replace(share, numbers=(), attempts=0)
            if not isinstance(news, Death):
                done.update((asked, record.episode) for record in news)
                if news:
                    yield news
                continue
            again = replace(share, attempts=share.attempts + 1)
            undone = [number for number in share.numbers if (asked, number) not in done]
            if again.attempts < ATTEMPTS:
                shares.extend(replace(again, numbers=(number,)) for number in undone)
            else:
                yield [again.lost(number, news.reason) for number in undone]


def roll_share(share: Share) -> Iterator[list[EpisodeRecord]]:
    """The records of a share, after each query of the policy those that it finished, or none.

    This process rolls them out.
    """
    use_one_thread()
    agent = _agent(share.policy, share.env_id, share.inference)
    attempts = dict.fromkeys(share.numbers, share.attempts)
    waiting = list(share.numbers)
    together = share.numbers
    while waiting:
        environments = _environments(share, agent.wants_images, min(SLOTS, len(together)))
        broken = False
        for records in roll_out_by_queries(agent, environments, together, share.study_seed):
            finished = []
            for record in records:
                attempts[record.episode] += 1
                broken = broken or bool(record.error)
                if not record.error or attempts[record.episode] >= ATTEMPTS:
                    waiting.remove(record.episode)
                    finished.append(share.named(record, attempts[record.episode]))
            yield finished
        if broken:
            discard_environments()
        together = tuple(waiting[:1])


def forget_agents() -> None:
    """Load policies again: a folder can hold other weights than it did."""
    for cached in (_agent, _fingerprint, _head):
        cached.cache_clear()


_ENVIRONMENTS: dict[tuple[str, bool, str, int], list[OctoBenchEnvironment]] = {}
_KINDS = 2
"""Kinds of environments that a process keeps: the slots of one take 2 GB."""


def _environments(share: Share, images: bool, count: int) -> list[OctoBenchEnvironment]:
    """`count` environments of this process, kept: building one takes a second."""
    kind = (share.env_id, images, share.suite, share.level)
    kept = _ENVIRONMENTS[kind] = _ENVIRONMENTS.pop(kind, [])  # the latest comes last
    for other in list(_ENVIRONMENTS)[:-_KINDS]:
        _close(_ENVIRONMENTS.pop(other))
    while len(kept) < count:
        kept.append(
            OctoBenchEnvironment(share.env_id, images=images, suite=share.suite, level=share.level)
        )
    return kept[:count]


def discard_environments() -> None:
    """Forget what is kept: what is needed next is built again."""
    for kept in _ENVIRONMENTS.values():
        _close(kept)
    _ENVIRONMENTS.clear()


def _close(environments: Iterable[OctoBenchEnvironment]) -> None:
    for env in environments:
        with suppress(*INFRASTRUCTURE_ERRORS):
            env.close()


@lru_cache(maxsize=_AGENTS)
def _agent(policy: str, env_id: str, inference: Inference) -> Agent:
    """The agent of a share, kept for the next ones; see `forget_agents`."""
    return load_agent(policy, environment(env_id), inference)


_fingerprint = lru_cache(maxsize=_AGENTS)(policy_fingerprint)
_head = lru_cache(maxsize=_AGENTS)(policy_head)
