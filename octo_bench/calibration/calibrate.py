"""Everything that `octo-bench calibrate` measures, from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from octo_bench.calibration.coverage import Coverage, ErrorRate, coverages, error_rates
from octo_bench.calibration.gate_operation import (
    AGREEMENTS,
    Operation,
    Saving,
    Scenario,
    StoppedCoverage,
    operation,
    saving,
    scenarios,
    stopped_coverage,
)
from octo_bench.statistics.hierarchical import two_level
from octo_bench.statistics.sequential import GateDesign

NUMBERS = (20, 50, 100)
BASELINE_RATES = (0.5, 0.8, 0.95)
PARTS = 6
STATES = 50  # of each simulated training
_STATE_CORRELATION = 0.3  # of the normal variables behind two trainings' outcomes on one state
_PER_SLOW_ONE = 5  # what is simulated one by one gets a fifth of the comparisons


@dataclass(frozen=True)
class TwoLevelCoverage:
    """Simulated studies of several trainings on the same initial states, intervals of 95 %.

    Attributes:
        trainings: of each study, on `STATES` states each.
        rate: mean success rate of the recipe.
        spread: standard deviation of the rate from training to training.
        as_trained: how often the first interval holds the mean rate of the trainings at hand.
        trained_anew: how often the second one holds the rate of the recipe.
        pooled: how often the first one holds the rate of the recipe, which it does not promise.
        width: mean width of the second by mean width of the first.
        same: share of the studies in which both are the same.
    """

    trainings: int
    rate: float
    spread: float
    as_trained: float
    trained_anew: float
    pooled: float
    width: float
    same: float


@dataclass(frozen=True)
class Calibration:
    """The result; every part has its own generator, so none depends on another one's size."""

    seed: int
    comparisons: int
    design: GateDesign
    coverages: list[Coverage]
    error_rates: list[ErrorRate]
    operations: list[Operation]
    savings: list[Saving]
    stopped: list[StoppedCoverage]
    two_levels: list[TwoLevelCoverage]


def calibrate(
    comparisons: int, seed: int, done: Callable[[], object] = lambda: None
) -> Calibration:
    """Enumerate what can be enumerated and simulate the rest, that many times each.

    Args:
        comparisons: simulated runs of the gate in each scenario.
        seed: of all that is simulated.
        done: called after each of the `PARTS` parts.
    """
    design = GateDesign()
    generators = (np.random.default_rng([seed, part]) for part in range(4))
    of_operation, of_saving, of_stopped, of_two_level = generators
    covered = coverages(NUMBERS)
    done()
    erring = error_rates(NUMBERS)
    done()
    operations = [
        operation(design, scenario, comparisons, of_operation)
        for scenario in scenarios(BASELINE_RATES)
    ]
    done()
    savings = [
        saving(design, baseline, agreement, comparisons, of_saving)
        for baseline, agreement in product(BASELINE_RATES, AGREEMENTS)
    ]
    done()
    studies = max(1, comparisons // _PER_SLOW_ONE)
    stopped = [
        stopped_coverage(design, Scenario(0.8, loss, agreement), studies, of_stopped)
        for loss, agreement in product((0.0, design.margin), AGREEMENTS)
    ]
    done()
    two_levels = [
        two_level_coverage(trainings, rate, spread, studies, of_two_level)
        for trainings, rate, spread in product((2, 3, 5), (0.5, 0.8), (0.0, 0.03, 0.1, 0.2))
    ]
    done()
    return Calibration(
        seed, comparisons, design, covered, erring, operations, savings, stopped, two_levels
    )


def two_level_coverage(
    trainings: int, rate: float, spread: float, studies: int, generator: np.random.Generator
) -> TwoLevelCoverage:
    """Simulate studies with known variance components and see what both intervals hold."""
    held = np.zeros(3)
    widths = np.zeros(2)
    same = 0
    for rates, outcomes in _studies(trainings, rate, spread, studies, generator):
        found = two_level(outcomes)
        pooled, anew = found.as_trained, found.trained_anew
        held += (rates.mean() in pooled, rate in anew, rate in pooled)
        widths += pooled.width, anew.width
        same += pooled == anew
    as_trained, trained_anew, pooled_anew = (held / studies).tolist()
    return TwoLevelCoverage(
        trainings,
        rate,
        spread,
        as_trained,
        trained_anew,
        pooled_anew,
        width=float(widths[1] / widths[0]),
        same=same / studies,
    )


def _studies(
    trainings: int, rate: float, spread: float, studies: int, generator: np.random.Generator
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.bool_]]]:
    """The rates of the trainings, beta distributed, and their outcomes (trainings, states).

    An outcome is a success where a normal variable is below the rate's quantile; the variables
    of all trainings on one state are correlated, since some states are harder than others.
    """
    for _ in range(studies):
        rates = np.full(trainings, rate)
        if spread > 0.0:
            weight = rate * (1.0 - rate) / spread**2 - 1.0
            rates = generator.beta(rate * weight, (1.0 - rate) * weight, trainings)
        hardness = generator.standard_normal(STATES)
        luck = generator.standard_normal((trainings, STATES))
        total = sqrt(_STATE_CORRELATION) * hardness + sqrt(1.0 - _STATE_CORRELATION) * luck
        yield rates, total < ndtri(rates)[:, None]
