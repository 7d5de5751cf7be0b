"""What may be said of a measured rate: an interval for each claim that its trainings support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from octo_bench.records.record import EpisodeRecord, Measure, succeeded
from octo_bench.statistics.hierarchical import two_level
from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.stratified import mean_interval

CONFIDENCE = 0.95
FEWEST_DRAWS = 3
"""Of an interval for training anew. Two draws give one that is either far too wide or, where the
draws happen to agree, too narrow (results/calibration)."""


@dataclass(frozen=True)
class Uncertainty:
    """Intervals of a success rate in [0, 1].

    Attributes:
        as_trained: for these policies on new initial states.
        trained_anew: for the recipe on new initial states; None with fewer than `FEWEST_DRAWS`
            draws, which do not tell how its trainings differ.
        units: draws of demonstrations that it was trained on, each with all its seeds. Of a mean,
            the fewest of a target.
        trainings: all of them. Of a mean, the fewest of a target.
    """

    as_trained: Interval
    trained_anew: Interval | None = None
    units: int = 1
    trainings: int = 1


def of_counts(successes: int, episodes: int, confidence: float = CONFIDENCE) -> Uncertainty:
    """Clopper and Pearson's interval: of one training, or where no more is known."""
    return Uncertainty(clopper_pearson(successes, episodes, confidence))


def of_records(
    records: Sequence[EpisodeRecord], measure: Measure, confidence: float = CONFIDENCE
) -> Uncertainty:
    """Of the rate that the episodes of one row of a table give; see `two_level`.

    Several trainings are measured on the same initial states, and so their episodes are not
    independent. Everything is open where too few of them were completed.

    Args:
        records: of one policy in one environment, after one number of demonstrations, under one
            condition; those that ended in an infrastructure error say nothing.
        measure: which success counts.
        confidence: in (0, 1).
    """
    trainings = sorted({(record.draw, record.train_seed) for record in records})
    completed = [record for record in records if not record.error]
    if len(trainings) == 1:
        successes = sum(succeeded(record, measure) for record in completed)
        return of_counts(successes, len(completed), confidence)
    states = sorted({(record.episode, record.initial_state_sha256) for record in records})
    outcomes = np.full((len(trainings), len(states)), np.nan)
    rows = {training: row for row, training in enumerate(trainings)}
    columns = {state: column for column, state in enumerate(states)}
    for record in completed:
        row = rows[record.draw, record.train_seed]
        column = columns[record.episode, record.initial_state_sha256]
        outcomes[row, column] = succeeded(record, measure)
    try:
        found = two_level(outcomes, confidence, [draw for draw, _ in trainings])
    except ValueError:  # hardly an episode came to its end
        return Uncertainty(Interval(0.0, 1.0), trainings=len(trainings))
    anew = found.trained_anew if found.units >= FEWEST_DRAWS else None
    return Uncertainty(found.as_trained, anew, found.units, len(trainings))


def of_mean(rates: Sequence[float], parts: Sequence[Uncertainty]) -> Uncertainty:
    """Of the unweighted mean over targets, from each target's rate; see `mean_interval`.

    Another training of the recipe is one for each target: there is an interval for it where every
    target has one. Everything is open where a target has no rate.

    Args:
        rates: of each target, not a number where no episode was completed.
        parts: of each of them, all at one confidence.
    """
    units, trainings = min(p.units for p in parts), min(p.trainings for p in parts)
    if any(isnan(rate) for rate in rates):
        return Uncertainty(Interval(0.0, 1.0), None, units, trainings)
    anew = [part.trained_anew for part in parts if part.trained_anew is not None]
    return Uncertainty(
        mean_interval(rates, [part.as_trained for part in parts]),
        mean_interval(rates, anew) if len(anew) == len(parts) else None,
        units,
        trainings,
    )
