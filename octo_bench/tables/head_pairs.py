"""Action heads compared on the same initial states, after the same trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from octo_bench.records.record import EpisodeRecord, Measure, measure_of, succeeded
from octo_bench.statistics.hierarchical import TwoLevelDifference, two_level_difference
from octo_bench.statistics.multiplicity import holm
from octo_bench.statistics.stratified_pairs import Stratum, stratified_difference
from octo_bench.tables.uncertainty import FEWEST_DRAWS
from octo_bench.tables.wording import ALPHA, environment_name, say_difference

Training = tuple[int, int]
"""Draw and training seed."""
State = tuple[str, int, str]
"""An initial state: the task, its number and its hash."""
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
        unsaturated: these are the targets that are not saturated, of more.
    """

    first: Contender
    second: Contender
    env_ids: tuple[str, ...]
    demos: int
    compared: TwoLevelDifference
    p_adjusted: float
    unsaturated: bool = False

    @property
    def is_of_several(self) -> bool:
        """Whether it is of several targets together."""
        return len(self.env_ids) > 1

    @property
    def place(self) -> str:
        """For people: "Stack on Panda", "6 targets together"."""
        if len(self.env_ids) == 1:
            return environment_name(self.env_ids[0])
        which = "unsaturated targets" if self.unsaturated else "targets"
        return f"{len(self.env_ids)} {which} together"

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
    records: Sequence[EpisodeRecord],
    recipes: Mapping[str, str] | None = None,
    measure: Measure | None = None,
) -> tuple[HeadPair, ...]:
    """Compare every two heads that were trained and measured alike: on all targets, and on each.

    Pairs are of the same target, training (draw and seed) and initial state, and every pair that
    is recorded counts. Over several targets each weighs alike, whatever its number of trainings;
    see `stratified_difference`. Targets on which neither head ever fails are saturated, and
    pull the mean towards no difference: the others are compared together, too.

    Args:
        records: of one suite, level and inference.
        recipes: how each policy was fine-tuned, but for its head: only policies of the same
            recipe are compared. Without, all are taken for alike.
        measure: which success counts; if not given, "held" where all records have it.

    Returns:
        The pairs, several targets together first, then in the order of the records; none for a
        study with one head.
    """
    contenders = _contenders(records)
    recipes = recipes or {}
    measure = measure_of(records) if measure is None else measure
    cells: dict[tuple[str, str, str, int], Outcomes] = {}
    for record in records:
        where = record.policy, record.head, record.env_id, record.demos
        outcomes = cells.setdefault(where, {})
        if not record.error:
            training = record.draw, record.train_seed
            state = record.task, record.episode, record.initial_state_sha256
            outcomes[training, state] = succeeded(record, measure)
    environments = list(dict.fromkeys(record.env_id for record in records))
    pairs: list[HeadPair] = []
    for first, second in combinations(contenders, 2):
        if first.head == second.head or not (first.head and second.head):
            continue
        if recipes.get(first.policy) != recipes.get(second.policy):
            continue
        for demos in dict.fromkeys(record.demos for record in records):
            targets = {
                env_id: stratum
                for env_id in environments
                if (stratum := _stratum(cells, first, second, env_id, demos)) is not None
            }
            for env_ids in [*((env_id,) for env_id in targets), *_together(targets)]:
                compared = _compare([targets[env_id] for env_id in env_ids])
                if compared is not None:
                    pair = HeadPair(
                        first,
                        second,
                        env_ids,
                        demos,
                        compared,
                        compared.p_value,
                        unsaturated=1 < len(env_ids) < len(targets),
                    )
                    pairs.append(pair)
    single = [pair for pair in pairs if len(pair.env_ids) == 1]
    several = [pair for pair in pairs if len(pair.env_ids) > 1]
    single.sort(key=lambda pair: environments.index(pair.env_ids[0]))
    several.sort(key=lambda pair: pair.unsaturated)
    return (*_adjusted(several), *_adjusted(single))


def _together(targets: Mapping[str, Stratum]) -> list[tuple[str, ...]]:
    """The targets to be compared as one: all, and those that are not saturated."""
    if len(targets) < 2:
        return []
    open_ones = tuple(env_id for env_id, each in targets.items() if not _is_saturated(each))
    return [tuple(targets), *([open_ones] if 1 < len(open_ones) < len(targets) else [])]


def _is_saturated(target: Stratum) -> bool:
    """Whether neither head ever fails."""
    return bool(np.nanmin([target.a, target.b]) == 1.0)


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


def _stratum(
    cells: Mapping[tuple[str, str, str, int], Outcomes],
    first: Contender,
    second: Contender,
    env_id: str,
    demos: int,
) -> Stratum | None:
    """The pairs of two heads on a target; None where there are none."""
    both = [cells.get((each.policy, each.head, env_id, demos), {}) for each in (first, second)]
    shared = both[0].keys() & both[1].keys()
    if not shared:
        return None
    trainings = sorted({training for training, _ in shared})
    states = sorted({state for _, state in shared})
    rows = {training: row for row, training in enumerate(trainings)}
    columns = {state: column for column, state in enumerate(states)}
    tables = np.full((2, len(trainings), len(states)), np.nan)
    for training, state in shared:
        for table, outcomes in zip(tables, both, strict=True):
            table[rows[training], columns[state]] = outcomes[training, state]
    # State k of a task has the objects in the same places on every arm.
    scenes = [(task, episode) for task, episode, _ in states]
    return Stratum(tables[0], tables[1], [draw for draw, _ in trainings], scenes)


def _compare(targets: Sequence[Stratum]) -> TwoLevelDifference | None:
    """The difference on what both have, None where that is too little to say anything."""
    try:
        if len(targets) == 1:
            (only,) = targets
            found = two_level_difference(only.a, only.b, 1 - ALPHA, only.draws)
        else:
            found = stratified_difference(targets, 1 - ALPHA)
    except ValueError:  # hardly a pair came to its end
        return None
    return found if found.units >= FEWEST_DRAWS else replace(found, trained_anew=None)
