"""How numbers and comparisons are put into words, the same everywhere on a study's page."""

from __future__ import annotations

import math
from collections.abc import Mapping

from octo_bench.definitions.environments import HOLD_STEPS, recorded_environment
from octo_bench.errors import UnknownName
from octo_bench.records.record import OLD_RECORDS, Measure
from octo_bench.statistics.intervals import Interval

SUCCESS: Mapping[Measure, str] = {
    "held": "Success held: robosuite's own check is true at the end of the "
    f"{HOLD_STEPS} control steps that follow the first success, with the policy in charge. "
    "Reached once: the check was true at some step.",
    "once": "Success: robosuite's own check was true at some step. These episodes were "
    f"{OLD_RECORDS}.",
}
"""What counts as a success, by measure."""

ALPHA = 0.05
"""The rate of false alarms that a comparison may have."""


def percent(rate: float) -> str:
    """ "94 %"; "no episodes" for what is not a number."""
    return "no episodes" if math.isnan(rate) else f"{100 * rate:.0f} %"


def between(interval: Interval) -> str:
    """ "83 to 99 %"."""
    return f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"


def points(difference: float) -> str:
    """ "+6 points" of a difference of rates."""
    rounded = round(100 * difference)
    return f"{rounded:+d} point{'s' * (abs(rounded) != 1)}" if rounded else "0 points"


def points_between(interval: Interval) -> str:
    """ "-2 to +14 points" of an interval of differences."""
    return f"{100 * interval.low:+.0f} to {100 * interval.high:+.0f} points"


def duration(minutes: float) -> str:
    """ "3.4 min"; "2 h" from two hours on."""
    if minutes >= 120:
        return f"{minutes / 60:.1f}".removesuffix(".0") + " h"
    return f"{minutes:.1f} min" if 0 < minutes < 10 else f"{minutes:.0f} min"


def counted(number: int, noun: str) -> str:
    """ "1 episode", "50 episodes"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def p_value(value: float) -> str:
    """ "p = 0.034"; "p < 0.001" below that."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"


def demonstrations(count: int) -> str:
    """ "without demonstrations", "with 50 demonstrations"."""
    return f"with {counted(count, 'demonstration')}" if count else "without demonstrations"


def environment_name(env_id: str) -> str:
    """ "Stack on Panda" of "octo_bench/Stack-Panda-v1"; the id itself if it is not declared."""
    try:
        declared = recorded_environment(env_id)
    except UnknownName:
        return env_id
    return f"{declared.task.name} on {declared.embodiment.name}"


def say_difference(
    first: str, second: str, difference: float, interval: Interval, p_value: float
) -> str:
    """What a paired test of two policies allows to say.

    This is the one place where one of two is called better, and only if the test rejected that
    they are equal.

    Args:
        first, second: what they are called.
        difference: the second's success rate minus the first's.
        interval: of the difference.
        p_value: of the test, corrected for how many there are.
    """
    measured = f"{points(difference)}, 95 % interval {points_between(interval)}"
    if p_value < ALPHA and difference:
        winner, loser = (second, first) if difference > 0 else (first, second)
        return f"{winner} is better than {loser} ({measured})."
    return f"No difference between {first} and {second} is shown ({measured})."
