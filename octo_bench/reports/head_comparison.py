"""Action heads compared on the same initial states, after the same trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from octo_bench.evaluation.records import EpisodeRecord
from octo_bench.reports.wording import ALPHA, say_difference
from octo_bench.statistics.hierarchical import TwoLevelDifference, two_level_difference
from octo_bench.statistics.multiplicity import holm

_FROM_SCRATCH = " from scratch"

Training = tuple[int, int]
"""Draw and training seed."""
Outcomes = Mapping[tuple[Training, tuple[int, str]], bool]
"""Success by training and by initial state: its number and its hash."""


@dataclass(frozen=True)
class Contender:
    """A policy as it stands in a comparison of heads; `name` is what tells it from the others."""

    policy: str
    head: str
    name: str


@dataclass(frozen=True)
class HeadPair:
    """Two heads after the same trainings, in one environment, on the same initial states.

    Attributes:
        compared: the second's success rate minus the first's, with both intervals; pairs with an
            infrastructure error are left out.
        p_adjusted: of the test that both are equal as they were trained, after Holm over all
            pairs of the condition.
    """

    first: Contender
    second: Contender
    env_id: str
    demos: int
    compared: TwoLevelDifference
    p_adjusted: float

    @property
    def rejected(self) -> bool:
        """Whether the test has rejected that the two are equal."""
        return self.p_adjusted < ALPHA

    @property
    def sentence(self) -> str:
        """What the test allows to say."""
        return say_difference(
            self.first.name,
            self.second.name,
            self.compared.difference,
            self.compared.as_trained,
            self.p_adjusted,
        )


def compare_heads(records: Sequence[EpisodeRecord]) -> tuple[HeadPair, ...]:
    """Compare every two heads that were trained and measured alike.

    Args:
        records: of one suite, level and inference.

    Returns:
        The pairs, in the order of the records; none for a study with one head.
    """
    contenders = _contenders(records)
    cells: dict[tuple[str, int, str, str], dict] = {}
    for record in records:
        cell = cells.setdefault((*_place(record), record.policy, record.head), {})
        if not record.error:
            training = record.draw, record.train_seed
            state = record.episode, record.initial_state_sha256
            cell[training, state] = record.success_once
    pairs = []
    for place in dict.fromkeys(_place(record) for record in records):
        for first, second in combinations(contenders, 2):
            if not _comparable(first, second):
                continue
            a, b = (cells.get((*place, c.policy, c.head), {}) for c in (first, second))
            if (compared := _compare(a, b)) is not None:
                pairs.append(HeadPair(first, second, *place, compared, compared.p_value))
    adjusted = holm([pair.p_adjusted for pair in pairs]) if pairs else ()
    return tuple(replace(pair, p_adjusted=p) for pair, p in zip(pairs, adjusted, strict=True))


def _contenders(records: Sequence[EpisodeRecord]) -> list[Contender]:
    """All policies, called by their heads unless two of them have the same."""
    policies = dict.fromkeys((record.policy, record.head) for record in records)
    heads = [head for _, head in policies]
    return [
        Contender(policy, head, head if heads.count(head) == 1 else f"{head} ({policy})")
        for policy, head in policies
    ]


def _place(record: EpisodeRecord) -> tuple[str, int]:
    return record.env_id, record.demos


def _comparable(first: Contender, second: Contender) -> bool:
    """Another head, and both with pre-training or both without."""
    scratch = [each.policy.endswith(_FROM_SCRATCH) for each in (first, second)]
    return first.head != second.head and scratch[0] == scratch[1]


def _compare(a: Outcomes, b: Outcomes) -> TwoLevelDifference | None:
    """The difference on what both have, None where that is too little to say anything."""
    shared = [key for key in a if key in b]
    trainings = sorted({training for training, _ in shared})
    states = sorted({state for _, state in shared})
    tables = np.full((2, len(trainings), len(states)), np.nan)
    for table, outcomes in zip(tables, (a, b), strict=True):
        for training, state in shared:
            where = trainings.index(training), states.index(state)
            table[where] = outcomes[training, state]
    try:
        return two_level_difference(*tables, 1 - ALPHA, [draw for draw, _ in trainings])
    except ValueError:  # hardly a pair came to its end
        return None
