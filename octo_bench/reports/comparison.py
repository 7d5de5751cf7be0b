"""Output of `compare` and `bisect`: for people, for programs, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from octo_bench.comparison.bisection import Bisection
from octo_bench.comparison.two_policies import Comparison, Measure, PlaceComparison, outcome
from octo_bench.records.record import EpisodeRecord
from octo_bench.tables.wording import (
    SUCCESS,
    counted,
    percent,
    points,
    points_between,
    say_difference,
)

_EXPLANATION = (
    "A difference is B minus A on the same initial states. Success: Tango's interval, exact "
    "McNemar test, p-values after Holm over all rows. The other measures: the median of the paired "
    "differences with an exact interval from order statistics, each by itself. Latency depends on "
    "the machine and its load."
)


def text(comparison: Comparison) -> str:
    """All of it as Markdown, which reads well as it is."""
    lines = [
        f"# {comparison.policy_a} (A) and {comparison.policy_b} (B)",
        "",
        f"A is {comparison.name_a}, B is {comparison.name_b}; "
        f"{counted(comparison.pairs, 'pair')} of episodes.",
        *(f"{line}." for line in _left_out(comparison)),
        "",
        *_table([_success_row(row) for row in comparison.rows]),
        "",
        *(f"- {row.name}: {_sentence(comparison, row)}" for row in comparison.rows),
    ]
    for place in comparison.places:
        lines += ["", f"## {place.name}", "", *_table([_measure_row(m) for m in place.measures])]
        lines += ["", *_table(_funnel_rows(place))]
        lines += ["", _heading(place.flips)]
        lines += [f"- episode {a.episode}: A {outcome(a)}; B {outcome(b)}" for a, b in place.flips]
    return "\n".join([*lines, "", SUCCESS[comparison.success], "", _EXPLANATION]) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """All of it for programs; what is unbounded or not a number is null."""
    return {
        "a": {"records": comparison.name_a, "policy": comparison.policy_a},
        "b": {"records": comparison.name_b, "policy": comparison.policy_b},
        "success": comparison.success,
        "pairs": comparison.pairs,
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
        "errors": comparison.errors,
        "unchecked": list(comparison.unchecked),
        "environments": [_place_json(each) for each in comparison.places],
        "together": comparison.together and _place_json(comparison.together),
    }


def say_bisection(bisection: Bisection) -> str:
    """What was found."""
    if bisection.found is not None:
        before = bisection.checkpoints[bisection.good] if bisection.good >= 0 else "the baseline"
        return f"{bisection.found} is the first that is worse; {before} is not."
    if bisection.suspects:
        return (
            f"The first that is worse is one of {', '.join(bisection.suspects)}; between them the "
            "test could not tell. A larger --budget or --margin may."
        )
    last = bisection.checkpoints[-1]
    if bisection.good == len(bisection.checkpoints) - 1:
        return f"None is worse: {last}, the last, is not."
    return f"Cannot tell whether {last}, the last, is worse. A larger --budget or --margin may."


def bisection_rows(bisection: Bisection) -> list[dict[str, object]]:
    """A row for each checkpoint, in their order."""
    order = list(bisection.probes)
    rows = []
    for position, checkpoint in enumerate(bisection.checkpoints):
        probe = bisection.probes.get(position)
        places = () if probe is None else probe.places
        rows.append(
            {
                "checkpoint": checkpoint,
                "verdict": "not probed" if probe is None else str(probe.verdict),
                "probe": "" if probe is None else order.index(position) + 1,
                "pairs": 0 if probe is None else probe.pairs,
                "lost": sum(each.progress.counts.only_a for each in places),
                "won": sum(each.progress.counts.only_b for each in places),
                "seconds": 0.0 if probe is None else round(probe.seconds, 1),
            }
        )
    return rows


def _sentence(comparison: Comparison, row: PlaceComparison) -> str:
    # The policies may have the same name: what is compared can be how they were asked.
    return say_difference("A", "B", row.counts.difference, row.interval, row.p_adjusted)


def _left_out(comparison: Comparison) -> list[str]:
    found = {
        "only in A": comparison.only_a,
        "only in B": comparison.only_b,
        "ended by an infrastructure error": comparison.errors,
    }
    lines = [
        f"{counted(count, 'episode')} {which} left out" for which, count in found.items() if count
    ]
    return lines + [
        f"{name} does not record its definitions and versions, so they were not checked"
        for name in comparison.unchecked
    ]


def _success_row(row: PlaceComparison) -> dict[str, str]:
    counts = row.counts
    return {
        "environment": row.name,
        "pairs": str(counts.pairs),
        "A": percent(counts.rate_a),
        "B": percent(counts.rate_b),
        "difference": points(counts.difference),
        "95 % interval": points_between(row.interval),
        "only A / only B": f"{counts.only_a} / {counts.only_b}",
        "p": f"{row.p_value:.3g}",
        "p, Holm": f"{row.p_adjusted:.3g}",
    }


def _measure_row(found: Measure) -> dict[str, str]:
    low, high = found.interval.low, found.interval.high
    bounded = isfinite(low) and isfinite(high)
    return {
        "measure": found.name,
        "pairs": str(found.pairs),
        "A, median": _number(found.median_a),
        "B, median": _number(found.median_b),
        "difference": _signed(found.difference),
        "95 % interval": f"{_signed(low)} to {_signed(high)}" if bounded else "too few pairs",
        "": _told(found, bounded),
    }


def _told(found: Measure, bounded: bool) -> str:
    if not (bounded and found.told_apart):
        return "no difference shown"
    return "B is higher" if found.difference > 0 else "B is lower"


def _funnel_rows(place: PlaceComparison) -> list[dict[str, str]]:
    pairs = place.counts.pairs
    return [
        {"reached": stage, "A": f"{a} of {pairs}", "B": f"{b} of {pairs}"}
        for stage, a, b in place.funnel
    ]


def _heading(flips: Sequence[object]) -> str:
    return f"{counted(len(flips), 'episode')} changed outcome" + (":" if flips else ".")


def _table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Rows with the same keys as a Markdown table, padded so that it reads well as text."""
    cells = [list(rows[0]), *(list(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _number(value: float) -> str:
    return f"{value:.4g}" if isfinite(value) else "-"


def _signed(value: float) -> str:
    return f"{value:+.3g}" if isfinite(value) else "-"


def _place_json(place: PlaceComparison) -> dict[str, Any]:
    counts = place.counts
    return {
        "name": place.name,
        "pairs": counts.pairs,
        "both": counts.both,
        "only_a": counts.only_a,
        "only_b": counts.only_b,
        "neither": counts.neither,
        "rate_a": _finite(counts.rate_a),
        "rate_b": _finite(counts.rate_b),
        "difference": _finite(counts.difference),
        "low": place.interval.low,
        "high": place.interval.high,
        "p_value": place.p_value,
        "p_adjusted": place.p_adjusted,
        "measures": [
            {
                "name": each.name,
                "pairs": each.pairs,
                "median_a": _finite(each.median_a),
                "median_b": _finite(each.median_b),
                "difference": _finite(each.difference),
                "low": _finite(each.interval.low),
                "high": _finite(each.interval.high),
            }
            for each in place.measures
        ],
        "funnel": [{"stage": stage, "a": a, "b": b} for stage, a, b in place.funnel],
        "flips": [
            {
                "episode": a.episode,
                "a": _episode_json(a),
                "b": _episode_json(b),
            }
            for a, b in place.flips
        ],
    }


def _episode_json(record: EpisodeRecord) -> dict[str, Any]:
    return {
        "success_once": record.success_once,
        "success_held": record.success_held,
        "furthest_stage": record.furthest_stage,
    }


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
