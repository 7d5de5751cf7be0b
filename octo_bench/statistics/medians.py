"""The median, and an interval for it that assumes nothing about the distribution."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from scipy.stats import binom

from octo_bench.statistics.intervals import Interval


def median_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """The interval between two order statistics that holds the median.

    Of n values, as many as binomial (n, 1/2) lie below the median, so with the largest k for
    which P(X < k) <= (1 - confidence) / 2, it is between the k-th smallest and the k-th largest
    with probability at least `confidence`. It is unbounded where there are too few for that: 5
    or less for 95 %.

    Source: W. R. Thompson, "On confidence ranges for the median and other expectation
    distributions for populations of unknown distribution form", Annals of Mathematical
    Statistics 7 (1936), 122-128.

    Raises:
        ValueError: unless `0 < confidence < 1` and all values are numbers.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence} is not between 0 and 1")
    ordered = np.sort(np.asarray(values, dtype=float))
    if np.isnan(ordered).any():
        raise ValueError("a value is not a number")
    tail = (1.0 - confidence) / 2.0
    fits = binom.cdf(np.arange(len(ordered)), len(ordered), 0.5) <= tail
    rank = int(fits.sum())  # k, counted from 1; 0 where there is none
    if rank == 0:
        return Interval(-inf, inf)
    return Interval(float(ordered[rank - 1]), float(ordered[-rank]))
