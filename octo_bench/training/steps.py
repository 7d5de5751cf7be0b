"""How many optimiser steps a fine-tuning takes where nobody has said so."""

from __future__ import annotations

import math
from collections.abc import Mapping

USUAL = {50: 1000, 100: 1500, 200: 2500}
"""Steps by number of demonstrations that served on the first fine-tuning table's targets."""

FEWEST = 100
"""Steps that even a single demonstration is given."""


def steps_for(demos: int, declared: Mapping[int, int] = USUAL) -> int:
    """Steps for a number of demonstrations, interpolated between those declared for others.

    The logarithm of the steps is linear in that of the demonstrations between two declared
    numbers, and goes on along the nearest two beyond them. With one declared number the steps
    are the same for all. At least `FEWEST`, or the fewest declared if that is less.

    Args:
        demos: at least 1.
        declared: steps by number of demonstrations, at least one; all positive.
    """
    if demos in declared:
        return declared[demos]
    known = sorted(declared)
    fewest = min(FEWEST, *declared.values())
    if len(known) == 1:
        return declared[known[0]]
    above = next((i for i, number in enumerate(known) if number > demos), len(known) - 1)
    low, high = known[max(above, 1) - 1], known[max(above, 1)]
    slope = math.log(declared[high] / declared[low]) / math.log(high / low)
    return max(fewest, round(declared[low] * (demos / low) ** slope))
