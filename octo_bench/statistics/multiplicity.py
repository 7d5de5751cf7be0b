"""Several hypotheses at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: those at most alpha are rejected.

    With p_(1) <= ... <= p_(k) the i-th smallest becomes max over j <= i of (k - j + 1) p_(j), at
    most 1. The probability of any false rejection is at most alpha however the tests depend on
    each other.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
    Journal of Statistics 6 (1979), 65-70.

    Raises:
        ValueError: for something that is not a probability.
    """
    values = np.asarray(p_values, dtype=float)
    if not np.all((values >= 0.0) & (values <= 1.0)):
        raise ValueError(f"not all p-values are between 0 and 1: {list(p_values)}")
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * values[order]))
    return tuple(adjusted.tolist())
