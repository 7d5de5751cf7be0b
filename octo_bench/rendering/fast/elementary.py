"""Elementary functions made of IEEE +, -, *, / alone, so that every processor gives the same bits.

Those of the C library and of NumPy choose their code by processor, and differ in the last digit.
"""

from __future__ import annotations

import math

import numpy as np

_TERMS = 16
_LN2 = 0.6931471805599453


def sine_cosine(angle: float) -> tuple[float, float]:
    """Sine and cosine of an angle (rad) from -pi to pi, by Taylor series of its quarter."""
    quarter = angle / 4
    sine, cosine, term = 0.0, 0.0, 1.0
    for power in range(2 * _TERMS):
        if power % 2:
            sine += term if power % 4 == 1 else -term
        else:
            cosine += term if power % 4 == 0 else -term
        term = term * quarter / (power + 1)
    for _ in range(2):
        sine, cosine = 2 * sine * cosine, cosine * cosine - sine * sine
    return sine, cosine


def tangent(angle: float) -> float:
    """Tangent of an angle (rad) within a right angle."""
    sine, cosine = sine_cosine(angle)
    return sine / cosine


def powers(bases: np.ndarray, exponent: float) -> np.ndarray:
    """`bases` (n,), each from 0 to 1, to a power of at least 0, float64; 0 to the power 0 is 1."""
    if exponent == 0:
        return np.ones(len(bases))
    positive = bases > 0
    fraction, whole = np.frexp(np.where(positive, bases, 1.0))
    # ln x by the series of the inverse hyperbolic tangent.
    ratio = (fraction - 1) / (fraction + 1)
    square = ratio * ratio
    logarithm = np.zeros(len(bases))
    for power in range(2 * _TERMS + 1, 0, -1):
        logarithm = logarithm * square + 1 / (2 * power - 1)
    logarithm = 2 * ratio * logarithm + whole * _LN2
    # e to the x by a Taylor series within half of ln 2.
    wanted = np.maximum(exponent * logarithm, -700.0)
    twos = np.rint(wanted / _LN2)
    rest = wanted - twos * _LN2
    result = np.ones(len(bases))
    for power in range(_TERMS, 0, -1):
        result = 1 + result * rest / power
    return np.where(positive, np.ldexp(result, twos.astype(np.int64)), 0.0)


def unit(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (..., 3) at unit length, float64; those without a length stay 0."""
    x, y, z = np.moveaxis(np.asarray(vectors, np.float64), -1, 0)
    length = np.sqrt(x * x + y * y + z * z)
    return np.stack([x, y, z], -1) / np.where(length > 0, length, 1.0)[..., None]


def radians(degrees: float) -> float:
    """An angle in radians."""
    return degrees * (math.pi / 180)
