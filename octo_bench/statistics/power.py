"""How many episodes a question takes: power by exact enumeration, and the number for a power.

Nothing here is an approximation by the normal distribution: the tests are exact, discrete and
therefore somewhat conservative, and at the numbers of episodes that one can afford it shows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, hypergeom

from octo_bench.statistics.paired import Alternative

_NUISANCE_RATES = np.linspace(0.0025, 0.9975, 200)


def smallest_number(power_at: Callable[[int], float], power: float, limit: int) -> int | None:
    """The smallest number at which a power is reached; None if it is more than `limit`.

    The power of a discrete test grows with the number but for small steps back: the answer is
    exact for tests without them, else a number at which the power is reached and one less at
    which it is not.
    """
    high = 1
    while power_at(high) < power:
        if high == limit:
            return None
        high = min(2 * high, limit)
    low = high // 2  # not enough, or 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high


def mcnemar_power(
    pairs: int,
    only_a: float,
    only_b: float,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
) -> float:
    """Probability that `paired.mcnemar_exact` is at most `alpha`.

    A sum over the number of discordant pairs, binomial (pairs, only_a + only_b), of the
    probability that those which only B won, binomial (discordant, only_b / (only_a + only_b)),
    are so few or so many that the test rejects.

    Args:
        pairs: episodes of each policy.
        only_a: probability that A alone succeeds on an initial state.
        only_b: probability that B alone does.
        alpha: level of the test.
        alternative: as of `mcnemar_exact`.

    Source: S. W. Duffy, "Asymptotic and exact power for the McNemar test and its analogue with R
    controls per case", Biometrics 40 (1984), 1005-1015.
    """
    share = only_a + only_b
    if min(only_a, only_b) < 0.0 or share > 1.0:
        raise ValueError(f"{only_a} and {only_b} are not probabilities of two things that exclude")
    if share == 0.0:
        return 0.0
    discordant = np.arange(pairs + 1)
    rejects = _rejection(discordant, only_b / share, alpha, alternative)
    return float(np.sum(binom.pmf(discordant, pairs, share) * rejects))


def boschloo_power(
    trials: int,
    rate_a: float,
    rate_b: float,
    alpha: float = 0.05,
    alternative: Alternative = "two-sided",
) -> float:
    """Probability that Boschloo's test rejects at `alpha`, with `trials` episodes of each."""
    a, b = (binom.pmf(np.arange(trials + 1), trials, rate) for rate in (rate_a, rate_b))
    return float(a @ (boschloo_table(trials, alternative) <= alpha) @ b)


def boschloo_table(trials: int, alternative: Alternative = "two-sided") -> NDArray[np.float64]:
    """Boschloo's p-values for all outcomes of two policies with `trials` episodes each.

    Fisher's p-value taken as a statistic: the probability, at the common rate for which it is
    largest, of tables whose Fisher p-value is no larger. Two-sided it is twice the smaller
    one-sided value; "less" means that B succeeds less often.

    Source: R. D. Boschloo, "Raised conditional level of significance for the 2 x 2-table when
    testing the equality of two probabilities", Statistica Neerlandica 24 (1970), 1-9.

    Returns:
        (trials + 1, trials + 1) by successes of A, then of B. The common rate that maximises
        them is looked for among 200, so a p-value can be too small by about 1e-3 of itself.
    """
    greater = _boschloo_greater(trials)
    if alternative == "greater":
        return greater
    if alternative == "less":
        return greater.T
    return np.minimum(1.0, 2.0 * np.minimum(greater, greater.T))


def _boschloo_greater(trials: int) -> NDArray[np.float64]:
    successes = np.arange(trials + 1)
    a, b = successes[:, None], successes[None, :]
    fisher = hypergeom.sf(b - 1, 2 * trials, a + b, trials).ravel()
    # Tables that differ only by rounding are equally extreme.
    order = np.argsort(fisher, kind="stable")
    ranked = fisher[order]
    last_of_ties = np.searchsorted(ranked, ranked * (1.0 + 1e-9), side="right") - 1
    largest = np.zeros(len(ranked))
    for rate in _NUISANCE_RATES:
        of_one = binom.pmf(successes, trials, rate)
        np.maximum(largest, np.cumsum(np.outer(of_one, of_one).ravel()[order]), out=largest)
    p_values = np.empty(len(ranked))
    p_values[order] = largest[last_of_ties]
    return np.minimum(1.0, p_values).reshape(trials + 1, trials + 1)


def _rejection(
    trials: NDArray[np.int_], true: float, alpha: float, alternative: Alternative
) -> NDArray[np.float64]:
    """Probability that the exact binomial test of one half rejects if the rate is `true`."""
    tail = alpha / 2.0 if alternative == "two-sided" else alpha
    power = np.zeros(len(trials))
    if alternative != "greater":
        most = binom.ppf(tail, trials, 0.5)
        most = np.where(binom.cdf(most, trials, 0.5) <= tail, most, most - 1)
        power += binom.cdf(most, trials, true)
    if alternative != "less":
        fewest = binom.isf(tail, trials, 0.5) + 1
        power += binom.sf(fewest - 1, trials, true)
    return power
