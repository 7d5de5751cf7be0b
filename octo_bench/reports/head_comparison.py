"""Action heads compared on the same initial states, after the same trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from octo_bench.evaluation.records import EpisodeRecord
from octo_bench.reports.wording import ALPHA, environment_name, say_difference
from octo_bench.statistics.hierarchical import TwoLevelDifference, two_level_difference
from octo_bench.statistics.multiplicity import holm

Training = tuple[int, int]
"""Draw and training seed."""
State = tuple[str, int, str]
"""An initial state: the environment, its number and its hash."""
Outcomes = dict[tuple[Training, State], bool]
"""Success by training and by initial state."""


@dataclass(frozen=True)
class Contender:
    """A policy as it stands in a comparison of heads; `name` is what tells it from the others."""

    policy: str
    head: str
    name: str


@dataclass(frozen=True)
class HeadPair:
    """Two heads after the same trainings, on the same initial states of one or several targets.

    Attributes:
        env_ids: the targets.
        compared: the second's success rate minus the first's, with both intervals; pairs with an
            infrastructure error are left out.
        p_adjusted: of the test that both are equal as they were trained, after Holm: over all
            comparisons of single targets, or over all of several.
    """

    first: Contender
    second: Contender
    env_ids: tuple[str, ...]
    demos: int
    compared: TwoLevelDifference
    p_adjusted: float

    @property
    def place(self) -> str:
        """For people: "Stack on Panda", "6 targets together"."""
        several = f"{len(self.env_ids)} targets together"
        return several if len(self.env_ids) > 1 else environment_name(self.env_ids[0])

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


def compare_heads(
    records: Sequence[EpisodeRecord], recipes: Mapping[str, str] | None = None
) -> tuple[HeadPair, ...]:
    """Compare every two heads that were trained and measured alike: on all targets, and on each.

    Over several targets, pairs are of the same target, training and initial state, and only
    trainings (draw and seed) that both heads have on every target count, so that targets weigh
    alike. A draw is then one unit: what was trained on it, on all targets together. How the
    targets differ counts as luck of the initial states, which makes intervals rather too wide.

    Args:
        records: of one suite, level and inference.
        recipes: how each policy was fine-tuned, but for its head: only policies of the same
            recipe are compared. Without, all are taken for alike.

    Returns:
        The pairs, all targets together first, then in the order of the records; none for a study
        with one head.
    """
    contenders = _contenders(records)
    recipes = recipes or {}
    cells: dict[tuple[str, str, str, int], Outcomes] = {}
    for record in records:
        where = record.policy, record.head, record.env_id, record.demos
        outcomes = cells.setdefault(where, {})
        if not record.error:
            training = record.draw, record.train_seed
            state = record.env_id, record.episode, record.initial_state_sha256
            outcomes[training, state] = record.success_once
    environments = list(dict.fromkeys(record.env_id for record in records))
    pairs: list[HeadPair] = []
    for first, second in combinations(contenders, 2):
        if first.head == second.head or not (first.head and second.head):
            continue
        if recipes.get(first.policy) != recipes.get(second.policy):
            continue
        for demos in dict.fromkeys(record.demos for record in records):
            both = {
                env_id: outcomes
                for env_id in environments
                if all(outcomes := _outcomes(cells, (first, second), env_id, demos))
            }
            together = [tuple(both)] if len(both) > 1 else []
            for env_ids in [*((env_id,) for env_id in both), *together]:
                compared = _compare([both[env_id] for env_id in env_ids])
                if compared is not None:
                    pair = HeadPair(first, second, env_ids, demos, compared, compared.p_value)
                    pairs.append(pair)
    single = [pair for pair in pairs if len(pair.env_ids) == 1]
    several = [pair for pair in pairs if len(pair.env_ids) > 1]
    single.sort(key=lambda pair: environments.index(pair.env_ids[0]))
    return (*_adjusted(several), *_adjusted(single))


def _adjusted(pairs: Sequence[HeadPair]) -> list[HeadPair]:
    adjusted = holm([pair.compared.p_value for pair in pairs]) if pairs else ()
    return [replace(pair, p_adjusted=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _contenders(records: Sequence[EpisodeRecord]) -> list[Contender]:
    """All policies, called by their heads unless two of them have the same."""
    policies = dict.fromkeys((record.policy, record.head) for record in records)
    heads = [head for _, head in policies]
    return [
        Contender(policy, head, head if heads.count(head) == 1 else f"{head} ({policy})")
        for policy, head in policies
    ]


def _outcomes(
    cells: Mapping[tuple[str, str, str, int], Outcomes],
    pair: Sequence[Contender],
    env_id: str,
    demos: int,
) -> list[Outcomes]:
    return [cells.get((each.policy, each.head, env_id, demos), {}) for each in pair]


def _compare(targets: Sequence[Sequence[Outcomes]]) -> TwoLevelDifference | None:
    """The difference on what both have, None where that is too little to say anything.

    Args:
        targets: of each one the outcomes of both.
    """
    shared = [a.keys() & b.keys() for a, b in targets]
    of_targets = [{training for training, _ in keys} for keys in shared]
    trainings = sorted(set.intersection(*of_targets))
    states = sorted({state for keys in shared for _, state in keys})
    rows = {training: row for row, training in enumerate(trainings)}
    columns = {state: column for column, state in enumerate(states)}
    tables = np.full((2, len(trainings), len(states)), np.nan)
    for both, keys in zip(targets, shared, strict=True):
        for training, state in keys:
            if training in rows:
                for table, outcomes in zip(tables, both, strict=True):
                    table[rows[training], columns[state]] = outcomes[training, state]
    try:
        return two_level_difference(*tables, 1 - ALPHA, [draw for draw, _ in trainings])
    except ValueError:  # hardly a pair came to its end
        return None
