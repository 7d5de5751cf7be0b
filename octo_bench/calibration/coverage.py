"""Coverage of intervals and errors of tests, by exact enumeration of all outcomes.

No simulation: each figure is a sum of binomial or trinomial probabilities over all tables there
can be, at every rate of a grid that is dense near 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from octo_bench.statistics.completion import Completion
from octo_bench.statistics.intervals import Interval, clopper_pearson
from octo_bench.statistics.paired import PairedCounts, tango_interval
from octo_bench.statistics.power import boschloo_power, mcnemar_power
from octo_bench.statistics.standing import MARGIN, Standing, standing
from octo_bench.statistics.unpaired import agresti_caffo_interval

RATES = np.unique(
    np.concatenate([np.linspace(0.001, 0.05, 50), np.linspace(0.05, 0.95, 181)]).round(6)
)
RATES = np.unique(np.concatenate([RATES, 1.0 - RATES]).round(6))
_ENDS = (0.01, 0.02, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.98, 0.99)
_DISCORDANT = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
_LEANINGS = (0.0, 0.25, 0.5, 0.75, 1.0)  # difference by share of discordant pairs
_TOLERANCE = 1e-9  # rounding of limits that hit a rate exactly


@dataclass(frozen=True)
class Coverage:
    """How often an interval of 95 % holds the true value.

    Attributes:
        method: which interval.
        number: episodes, or pairs, or episodes of each policy.
        lowest: at the rates for which it is lowest.
        at: those rates.
        near_ends: the lowest where all rates are within 0.05 of 0 or 1.
        mean: over the grid of rates.
        guaranteed: whether the method promises 95 % at every rate, not on average.
    """

    method: str
    number: int
    lowest: float
    at: tuple[float, ...]
    near_ends: float
    mean: float
    guaranteed: bool


@dataclass(frozen=True)
class ErrorRate:
    """How often a test of level 5 % rejects what is true, where it does so most often."""

    test: str
    number: int
    highest: float


def coverages(numbers: Iterable[int]) -> list[Coverage]:
    """Every interval of 95 %, at each number of episodes."""
    rows = []
    for number in numbers:
        rows += [
            _clopper_pearson(number),
            _completion(number),
            _tango(number),
            _agresti_caffo(number),
        ]
    return rows


def error_rates(numbers: Iterable[int]) -> list[ErrorRate]:
    """Every test of level 5 %, at each number of episodes."""
    rows = []
    for number in numbers:
        mcnemar = max(mcnemar_power(number, rate / 2, rate / 2) for rate in RATES)
        boschloo = max(boschloo_power(number, rate, rate) for rate in _ENDS)
        rows += [
            ErrorRate("exact McNemar", number, mcnemar),
            ErrorRate("Boschloo", number, boschloo),
            *_standings(number),
        ]
    return rows


def _clopper_pearson(trials: int) -> Coverage:
    limits = [clopper_pearson(successes, trials) for successes in range(trials + 1)]
    low, high = _arrays(limits)
    successes = np.arange(trials + 1)
    held = {
        (float(rate),): _sum(binom.pmf(successes, trials, rate), low, high, rate) for rate in RATES
    }
    return _summary("Clopper-Pearson", trials, held, guaranteed=True)


def _completion(episodes: int) -> Coverage:
    """Bounds where one episode in five that would fail ends in an error instead, and no other."""
    tables = _tables(episodes)  # successes, errors, the rest fail
    limits = [
        Completion(int(successes), int(episodes - errors), int(errors)).bounds()
        for successes, errors in tables.T
    ]
    low, high = _arrays(limits)
    held = {
        (rate,): _sum(_trinomial(tables, episodes, rate, 0.2 * (1 - rate)), low, high, rate)
        for rate in _ENDS
    }
    return _summary("bounds with errors", episodes, held, guaranteed=True)


def _tango(pairs: int) -> Coverage:
    tables = _tables(pairs)  # only A, only B, the rest agree
    low, high = _arrays(
        [tango_interval(PairedCounts(pairs - a - b, a, b, 0)) for a, b in tables.T.tolist()]
    )
    held = {}
    for discordant, leaning in product(_DISCORDANT, _LEANINGS):
        difference = -leaning * discordant
        only_a, only_b = (discordant - difference) / 2, (discordant + difference) / 2
        chances = _trinomial(tables, pairs, only_a, only_b)
        held[discordant, difference] = _sum(chances, low, high, difference)
    return _summary("Tango, paired difference", pairs, held, guaranteed=False)


def _agresti_caffo(trials: int) -> Coverage:
    successes = np.arange(trials + 1)
    low, high = _arrays(
        [
            agresti_caffo_interval(a, trials, b, trials)
            for a, b in product(range(trials + 1), repeat=2)
        ]
    )
    held = {}
    for rate_a, rate_b in product(_ENDS, repeat=2):
        chances = np.outer(
            binom.pmf(successes, trials, rate_a), binom.pmf(successes, trials, rate_b)
        )
        held[rate_a, rate_b] = _sum(chances.ravel(), low, high, rate_b - rate_a)
    return _summary("Agresti-Caffo, unpaired difference", trials, held, guaranteed=False)


def _standings(trials: int) -> list[ErrorRate]:
    """The wrong verdicts beside a reference, where they are most frequent; see `standing`."""
    intervals = [clopper_pearson(successes, trials, 0.95) for successes in range(trials + 1)]
    apart, within = 0.0, 0.0
    for reference in (0.05, 0.35, 0.68, 0.79, 0.87, 0.95):
        verdicts = [standing(interval, reference) for interval in intervals]
        said_within = np.array([verdict is Standing.WITHIN for verdict in verdicts])
        said_apart = np.array([v in (Standing.ABOVE, Standing.BELOW) for v in verdicts])
        apart = max(apart, float(_chances(trials, reference) @ said_apart))
        for true in (reference - MARGIN, reference + MARGIN):
            if 0.0 <= true <= 1.0:
                within = max(within, float(_chances(trials, true) @ said_within))
    return [
        ErrorRate(f'"{Standing.ABOVE}" or "{Standing.BELOW}", wrongly', trials, apart),
        ErrorRate(f'"{Standing.WITHIN}", wrongly', trials, within),
    ]


def _chances(trials: int, rate: float) -> NDArray[np.float64]:
    return binom.pmf(np.arange(trials + 1), trials, rate)


def _tables(number: int) -> NDArray[np.int_]:
    """(2, tables): all pairs of counts of two outcomes that exclude each other."""
    counts = np.indices((number + 1, number + 1)).reshape(2, -1)
    return counts[:, counts.sum(axis=0) <= number]


def _trinomial(
    tables: NDArray[np.int_], number: int, first: float, second: float
) -> NDArray[np.float64]:
    """Probability of each table, with the probabilities of the two outcomes."""
    total = first + second
    together = tables.sum(axis=0)
    return binom.pmf(together, number, total) * binom.pmf(tables[0], together, first / total)


def _arrays(limits: list[Interval]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([each.low for each in limits]), np.array([each.high for each in limits])


def _sum(
    chances: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64], true: float
) -> float:
    return float(chances @ ((low <= true + _TOLERANCE) & (true - _TOLERANCE <= high)))


def _summary(
    method: str, number: int, held: dict[tuple[float, ...], float], guaranteed: bool
) -> Coverage:
    at = min(held, key=held.__getitem__)
    near_ends = min(
        chance
        for rates, chance in held.items()
        if all(min(abs(rate), 1.0 - abs(rate)) <= 0.05 + _TOLERANCE for rate in rates)
    )
    mean = float(np.mean(list(held.values())))
    return Coverage(method, number, held[at], at, near_ends, mean, guaranteed)
