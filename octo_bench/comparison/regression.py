"""The gate: is a checkpoint worse than the baseline whose episodes are on record?

It is rolled out on the initial states of the baseline's episodes, and each pair of outcomes goes
to a sequential test (`statistics.sequential`), which may be evaluated after every pair. In several
environments the next episodes go to those that are still undecided; "worse" in any of them ends
it. Episodes count in an order that is drawn before the first one, not as they finish: what
finishes early is a success more often. The order is drawn anew for each run, since the error rates
hold on average over orders and baselines: with one recorded baseline in one fixed order they can
be higher.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, repeat

import numpy as np

from octo_bench.agents.inference import Inference, described
from octo_bench.comparison.matching import EpisodeSet, Pair, match
from octo_bench.errors import Mismatch
from octo_bench.progress import ProgressBar
from octo_bench.records.provenance import Provenance, provenance_of
from octo_bench.records.record import OLD_RECORDS, EpisodeRecord, Measure, succeeded
from octo_bench.rollouts.batches import EPISODES_PER_SHARE, Share, forget_agents, roll_shares
from octo_bench.rollouts.evaluate import require_possible
from octo_bench.simulation import initial_states
from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.sequential import (
    GateDesign,
    Progress,
    Verdict,
    anytime_interval,
    begin,
    follow,
)

_ENOUGH = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where episodes are compared: an environment, and the perturbation if there is one."""

    env_id: str
    suite: str
    level: int

    @classmethod
    def of(cls, record: EpisodeRecord) -> Place:
        """Where an episode took place."""
        return cls(record.env_id, record.suite, record.level)

    def __str__(self) -> str:
        """ "octo_bench/Lift-Panda-v1", or "octo_bench/Lift-Panda-v1, lighting 2"."""
        return self.env_id + (f", {self.suite} {self.level}" if self.suite else "")


@dataclass(frozen=True)
class PlaceVerdict:
    """The result of one environment.

    Attributes:
        progress: of the sequential test, after `pairs`.
        pairs: the baseline's episode and the new one, in the order in which they were counted.
        errors: new episodes that an infrastructure error broke off; they are in no pair.
        measure: which success counts.
    """

    place: Place
    progress: Progress
    pairs: tuple[Pair, ...]
    errors: int
    measure: Measure = "held"

    @property
    def interval(self) -> Interval:
        """Of the difference, new minus baseline, 95 %, whatever made one stop."""
        return anytime_interval(self.progress.counts)

    @property
    def flips(self) -> tuple[Pair, ...]:
        """The pairs of which one succeeded and the other did not."""
        return tuple(
            (old, new)
            for old, new in self.pairs
            if succeeded(old, self.measure) != succeeded(new, self.measure)
        )

    @property
    def same_courses(self) -> int:
        """Pairs in which robot and scene went through exactly the same states."""
        hashes = [(old.trajectory_sha256, new.trajectory_sha256) for old, new in self.pairs]
        return sum(old == new != "" for old, new in hashes)


@dataclass(frozen=True)
class Regression:
    """What the gate says.

    Attributes:
        policy: the new one.
        baseline: what its records are called.
        baseline_policy: whose they are.
        design: margin, error rates for all environments together, episodes in all.
        inference: the new one's inference options.
        places: in the order of the baseline's records.
        records: of all new episodes that finished, also of those that the verdict did not need.
        provenance: what they depend on.
        unchecked: whether the baseline does not tell its definitions and versions.
        seconds: it took.
        measure: which success counts.
        order_seed: of the order in which the pairs count.
        baseline_episodes: how many the baseline has.
        fingerprints: of the baseline and of the new policy; "" where the records do not tell.
    """

    policy: str
    baseline: str
    baseline_policy: str
    design: GateDesign
    inference: Inference
    places: tuple[PlaceVerdict, ...]
    records: tuple[EpisodeRecord, ...]
    provenance: Provenance
    unchecked: bool
    seconds: float
    measure: Measure
    order_seed: int
    baseline_episodes: int
    fingerprints: tuple[str, str]

    @property
    def verdict(self) -> Verdict:
        """ "worse" if any environment says so, "no worse" if all do, else "cannot tell"."""
        verdicts = {place.progress.verdict for place in self.places}
        if Verdict.WORSE in verdicts:
            return Verdict.WORSE
        return Verdict.NO_WORSE if verdicts == {Verdict.NO_WORSE} else Verdict.CANNOT_TELL

    @property
    def pairs(self) -> int:
        """How many the verdict rests on."""
        return sum(place.progress.pairs for place in self.places)

    @property
    def errors(self) -> int:
        """New episodes that an infrastructure error broke off."""
        return sum(place.errors for place in self.places)

    @property
    def flips(self) -> tuple[Pair, ...]:
        """All pairs of which one succeeded and the other did not."""
        return tuple(pair for place in self.places for pair in place.flips)


def regress(
    policy: str,
    baseline: EpisodeSet,
    design: GateDesign,
    *,
    inference: Inference | None = None,
    allow: Collection[str] = (),
    measure: Measure = "held",
    order_seed: int | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Regression:
    """Roll a policy out beside the baseline's records until it is known whether it is worse.

    Args:
        policy: a name under `policies/`, a folder, a Hub id, "random" or "expert".
        baseline: episodes of one policy.
        design: margin and error rates for all environments together, and how many episodes may
            be rolled out in all.
        inference: the inference options; the baseline's if not given.
        allow: versions that may differ from the baseline's, and "code"; see `match`.
        measure: which success counts.
        order_seed: of the order in which the pairs count; drawn anew if not given.
        workers: processes. The verdict does not depend on them in one environment; in several,
            which one gets the next episodes depends on which one answered first.
        progress: show a progress bar.

    Raises:
        Mismatch: names what differs between here and where the baseline was measured.
        OctoBenchError: when the policy or an environment is not available.
    """
    start = time.monotonic()
    _require_one_policy(baseline)
    if measure == "held" and any(record.success_held is None for record in baseline.records):
        raise Mismatch(
            f"{baseline.name} was {OLD_RECORDS}; measure it again, or use --success once"
        )
    order_seed = secrets.randbits(32) if order_seed is None else order_seed
    seed = study_seed_of(baseline)
    here = provenance_of(baseline.records, seed)
    agreed = match(baseline, EpisodeSet("this installation", baseline.records, here), allow)
    inference = inference_of(baseline) if inference is None else inference
    trials = _trials(agreed.pairs, design, measure, order_seed)
    forget_agents()
    for place in trials:
        require_possible(
            policy, place.env_id, suite=place.suite, level=place.level, inference=inference
        )
    budget = min(design.budget, sum(len(trial.expected) for trial in trials.values()))
    dealt = _deal(trials, Share(policy, "", (), seed, inference=inference), budget)
    waiting = deque(islice(dealt, workers))
    records: list[EpisodeRecord] = []
    with (
        ProgressBar(total=budget, desc="regress", unit="episode", disable=not progress) as bar,
        closing(roll_shares(waiting, workers)) as rolled,
    ):
        for finished in rolled:
            for record in finished:
                trials[Place.of(record)].hear(record)
            records += finished
            bar.set_postfix_str(_summary(trials), refresh=False)
            bar.update(len(finished))
            if any(trial.progress.verdict is Verdict.WORSE for trial in trials.values()):
                break
            if not any(trial.progress.running for trial in trials.values()):
                break
            if not waiting:  # the next share is chosen as late as that
                waiting.extend(islice(dealt, 1))
    order = list(trials)
    records.sort(key=lambda record: (order.index(Place.of(record)), record.episode))
    return Regression(
        policy=policy,
        baseline=baseline.name,
        baseline_policy=baseline.records[0].policy,
        design=design,
        inference=inference,
        places=tuple(
            PlaceVerdict(place, trial.progress, tuple(trial.pairs), trial.errors, measure)
            for place, trial in trials.items()
        ),
        records=tuple(records),
        provenance=here,
        unchecked=bool(agreed.unchecked),
        seconds=time.monotonic() - start,
        measure=measure,
        order_seed=order_seed,
        baseline_episodes=len(baseline.records),
        fingerprints=(
            baseline.records[0].policy_fingerprint,
            records[0].policy_fingerprint if records else "",
        ),
    )


def _require_one_policy(baseline: EpisodeSet) -> None:
    found = sorted({record.policy_fingerprint for record in baseline.records})
    if len(found) > 1:
        raise Mismatch(
            f"{baseline.name} has episodes of {len(found)} policies (fingerprints "
            f"{', '.join(each[:12] or 'unknown' for each in found)}); choose those of one"
        )


def study_seed_of(episodes: EpisodeSet) -> int:
    """The study seed that episodes were measured with."""
    if episodes.provenance is not None:
        return episodes.provenance.study_seed
    first = episodes.records[0]
    return initial_states.study_seed_of(first.env_seed, first.episode)


def inference_of(episodes: EpisodeSet) -> Inference:
    """The inference options of the episodes.

    Raises:
        Mismatch: when they are not the same throughout.
    """
    ways = sorted({record.inference for record in episodes.records})
    if len(ways) > 1:
        raise Mismatch(
            f"{episodes.name} has episodes with '{ways[0]}' and with '{ways[1]}' in the column "
            "inference; choose those of one"
        )
    return described(ways[0])


def pairs_if_same(design: GateDesign) -> int:
    """How many pairs "no worse" takes if the outcomes of both policies are always equal."""
    return follow(replace(design, budget=_ENOUGH), repeat((True, True))).pairs


class _Trial:
    """One environment while episodes come in.

    Attributes:
        expected: the baseline's episodes by number, in the order in which they count.
    """

    def __init__(
        self, expected: Mapping[int, EpisodeRecord], design: GateDesign, measure: Measure
    ) -> None:
        self.expected = expected
        self.measure = measure
        self.progress = begin(replace(design, budget=min(design.budget, len(expected))))
        self.pairs: list[Pair] = []
        self.errors = 0
        self._not_begun = deque(expected)
        self._not_counted = deque(expected)
        self._heard: dict[int, Sequence[Pair]] = {}

    def take(self, episodes: int) -> tuple[int, ...]:
        """The numbers of the next episodes to roll out, at most so many."""
        return tuple(self._not_begun.popleft() for _ in range(min(episodes, len(self._not_begun))))

    def hear(self, record: EpisodeRecord) -> None:
        """A new episode has finished; count it, and those that waited for it."""
        old = EpisodeSet("the baseline", [self.expected[record.episode]], None)
        self._heard[record.episode] = match(old, EpisodeSet("the new", [record], None)).pairs
        self.errors += bool(record.error)
        while self.progress.running and self._not_counted:
            if self._not_counted[0] not in self._heard:
                return
            for pair in self._heard.pop(self._not_counted.popleft()):
                self.pairs.append(pair)
                old, new = (succeeded(record, self.measure) for record in pair)
                self.progress = self.progress.after(old, new)


def _trials(
    pairs: Sequence[Pair], design: GateDesign, measure: Measure, order_seed: int
) -> dict[Place, _Trial]:
    """A trial for each environment that the baseline was measured in, its episodes shuffled.

    Episodes of the same number come in the same order in every environment.
    """
    if not pairs:
        raise Mismatch("all episodes of the baseline ended in an error; measure it again")
    expected: dict[Place, dict[int, EpisodeRecord]] = {}
    numbers = sorted({record.episode for record, _ in pairs})
    shuffled = np.random.default_rng(order_seed).permutation(numbers).tolist()
    rank = {number: position for position, number in enumerate(shuffled)}
    for record, _ in sorted(pairs, key=lambda pair: rank[pair[0].episode]):
        expected.setdefault(Place.of(record), {})[record.episode] = record
    order = dict.fromkeys(Place.of(record) for record, _ in pairs)
    shared = design.shared_by(len(expected))
    return {place: _Trial(expected[place], shared, measure) for place in order}


def _deal(trials: Mapping[Place, _Trial], share: Share, budget: int) -> Iterator[Share]:
    """Shares for the environments that are undecided when the share is asked for, in turns."""
    dealt = True
    while dealt:
        dealt = False
        for place, trial in trials.items():
            wanted = min(EPISODES_PER_SHARE, budget) if trial.progress.running else 0
            if numbers := trial.take(wanted):
                dealt = True
                budget -= len(numbers)
                yield replace(
                    share,
                    env_id=place.env_id,
                    suite=place.suite,
                    level=place.level,
                    numbers=numbers,
                )


def _summary(trials: Mapping[Place, _Trial]) -> str:
    """Where the test is: of the first undecided environment, and how many there are."""
    running = [trial.progress for trial in trials.values() if trial.progress.running]
    if not running:
        return ""
    first = running[0]
    others = f", {len(running) - 1} more undecided" if len(running) > 1 else ""
    return (
        f"{first.pairs} pairs, worse {first.evidence_worse:.2g} of {1 / first.design.alpha:.0f}, "
        f"no worse {first.evidence_no_worse:.2g} of {1 / first.design.beta:.0f}{others}"
    )
