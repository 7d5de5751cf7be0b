"""Success threshold: does a policy succeed at least at rate p? The test stops early."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.progress import ProgressBar
from octo_bench.records.record import succeeded
from octo_bench.rollouts.batches import Share, forget_agents, roll_shares
from octo_bench.rollouts.evaluate import require_possible
from octo_bench.statistics.intervals import clopper_pearson


@dataclass(frozen=True)
class Attainment:
    """The result.

    Attributes:
        at_least, confidence: the rate to show, and the confidence.
        episodes: how many there would have been.
        needed: successes in that many that show it.
        successes, failures, errors: of the episodes until it was settled.
    """

    policy: str
    env_id: str
    at_least: float
    confidence: float
    episodes: int
    needed: int
    successes: int
    failures: int
    errors: int

    @property
    def shown(self) -> bool:
        """Whether the rate is shown to be `at_least`; an error counts as a failure here."""
        return self.successes >= self.needed

    def __str__(self) -> str:
        claim = f"{self.policy} succeeds in {self.at_least:.0%} of {self.env_id}"
        errors = f", {self.errors} errors" if self.errors else ""
        found = f"{self.successes} successes, {self.failures} failures{errors}"
        rule = f"{self.needed} of {self.episodes} are needed at {self.confidence:.0%} confidence"
        return f"{'shown' if self.shown else 'not shown'}: {claim} ({found}; {rule})"


def successes_needed(episodes: int, at_least: float, confidence: float) -> int:
    """The smallest number of successes whose one-sided Clopper-Pearson bound is `at_least`.

    Raises:
        ValueError: for something that is not a rate, or where not even all successes would do.
    """
    if not (0.0 < at_least < 1.0 and 0.5 < confidence < 1.0):
        raise ValueError(f"at_least {at_least} or confidence {confidence} is out of range")
    both_sides = 2.0 * confidence - 1.0
    for successes in range(episodes + 1):
        if clopper_pearson(successes, episodes, both_sides).low >= at_least:
            return successes
    raise ValueError(
        f"{episodes} episodes cannot show a rate of {at_least:.0%} at {confidence:.0%} "
        "confidence, not even if all succeed; use more"
    )


def attain(
    policy: str,
    env_id: str,
    at_least: float,
    *,
    confidence: float = 0.95,
    episodes: int = 50,
    study_seed: int = 0,
    suite: str = "",
    level: int = 1,
    inference: Inference = DEFAULT,
    workers: int = 1,
    progress: bool = True,
) -> Attainment:
    """Roll a policy out until it is decided whether it succeeds at least at this rate.

    Success counts if it held. The test is that of `episodes` episodes: it ends as soon as enough
    have succeeded, or enough have not, which changes nothing about its outcome.

    Args:
        policy, env_id, study_seed, suite, level, inference, workers, progress: as for `evaluate`.
        at_least: the success rate to show, in (0, 1).
        confidence: one minus the probability of showing it where it is not so.
        episodes: of the test.

    Raises:
        ValueError: when this number of episodes cannot show it.
        OctoBenchError: when the policy or the environment is not available.
    """
    needed = successes_needed(episodes, at_least, confidence)
    forget_agents()
    declared = require_possible(policy, env_id, suite=suite, level=level, inference=inference)
    everything = Share(
        policy,
        declared.id,
        tuple(range(episodes)),
        study_seed,
        suite,
        level if suite else 0,
        inference,
    )
    shares = deque(everything.split(workers))
    successes = failures = errors = 0
    with (
        ProgressBar(total=episodes, desc=f"attain {declared.id}", disable=not progress) as bar,
        closing(roll_shares(shares, workers)) as rolled,
    ):
        for finished in rolled:
            errors += sum(bool(record.error) for record in finished)
            fine = [succeeded(each, "held") for each in finished if not each.error]
            successes += sum(fine)
            failures += len(fine) - sum(fine)
            bar.update(len(finished))
            if successes >= needed or failures + errors > episodes - needed:
                break
    return Attainment(
        policy, declared.id, at_least, confidence, episodes, needed, successes, failures, errors
    )
