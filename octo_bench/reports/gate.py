"""Output of the gate: for people, for programs, and as log lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octo_bench.comparison.golden import GoldenCheck
from octo_bench.comparison.matching import Pair
from octo_bench.comparison.regression import PlaceVerdict, Regression, pairs_if_same
from octo_bench.comparison.two_policies import outcome
from octo_bench.records.record import EpisodeRecord
from octo_bench.statistics.sequential import Verdict
from octo_bench.tables.wording import counted, percent, points, points_between


def say_golden(check: GoldenCheck) -> str:
    """The result of the golden answers, and its limits."""
    if check.obstacle:
        return f"Golden answers: cannot be compared, {check.obstacle}."
    files = ", from the same files bit for bit" if check.same_files else ""
    found = (
        f"Golden answers: {check.agreeing} of {check.observations} agree within "
        f"{check.tolerance:g}{files}; the largest difference is {check.largest:.2g}"
    )
    return (
        f"{found}."
        if check.agrees
        else f"{found}. Its actions differ; only episodes tell whether it is worse."
    )


def say_verdict(regression: Regression) -> str:
    """The verdict, what it means, and what it cost."""
    margin = f"{100 * regression.design.margin:g} points"
    worse = [str(p.place) for p in regression.places if p.progress.verdict is Verdict.WORSE]
    match regression.verdict:
        case Verdict.WORSE:
            meaning = f"the success rate fell in {', '.join(worse)}"
        case Verdict.NO_WORSE:
            meaning = f"a loss of {margin} is ruled out"
        case _:
            meaning = f"neither a loss nor that it is below {margin} is shown; {_fix(regression)}"
    cost = f"{counted(regression.pairs, 'pair')} of episodes, {regression.seconds:.0f} s"
    return f"{regression.verdict.upper()}: {meaning} ({cost})."


def _fix(regression: Regression) -> str:
    """What would help to tell."""
    short = [
        (place, least)
        for place in regression.places
        if (least := pairs_if_same(place.progress.design)) > place.progress.pairs
    ]
    if short:
        place, least = short[0]
        return (
            f"even an identical policy needs {least} pairs in {place.place}, and there were "
            f"{place.progress.pairs}: use more baseline episodes and a larger --budget"
        )
    return "more baseline episodes, a larger --budget or a larger --margin may decide"


def say_baseline(regression: Regression) -> str:
    """Whose baseline it is, and whether the new policy is another one."""
    old, new = (each[:12] or "unknown" for each in regression.fingerprints)
    same = regression.fingerprints[0] == regression.fingerprints[1] != ""
    return (
        f"Baseline: {regression.baseline_policy} (fingerprint {old}), "
        f"{counted(regression.baseline_episodes, 'episode')} of {regression.baseline}. "
        f"New: {regression.policy} (fingerprint {new}{', the same' if same else ''}). "
        f"Success counts if it {'held' if regression.measure == 'held' else 'was reached once'}."
    )


def say_guarantee(regression: Regression) -> str:
    """What the error rates average over, and how to repeat the run."""
    return (
        f"The error rates ({100 * regression.design.alpha:g} % and "
        f"{100 * regression.design.beta:g} %) are averages over baselines and over the order of "
        "pairs; with one kept baseline, false alarms can be more frequent. This run's order was "
        f"drawn with seed {regression.order_seed}: --order-seed {regression.order_seed} repeats it."
    )


INTERVALS = (
    "The intervals hold for all differences at once, whenever the test stops. The "
    "verdict, which is about no loss and the margin alone, can come before they show it."
)


def gate_rows(regression: Regression) -> list[dict[str, object]]:
    """A row for each environment."""
    return [
        {
            "environment": str(each.place),
            "verdict": str(each.progress.verdict),
            "pairs": each.progress.pairs,
            "baseline": percent(each.progress.counts.rate_a),
            "new": percent(each.progress.counts.rate_b),
            "difference": points(each.progress.counts.difference) if each.pairs else "-",
            "95 % interval": points_between(each.interval),
            "lost": each.progress.counts.only_a,
            "won": each.progress.counts.only_b,
            "same course": each.same_courses,
            "errors": each.errors,
        }
        for each in regression.places
    ]


def flip_lines(flips: Sequence[Pair]) -> list[str]:
    """The episodes that changed outcome, a line each."""
    return [
        f"{old.env_id}{_suite(old)} episode {old.episode}: {outcome(old)} -> {outcome(new)}"
        for old, new in flips
    ]


def gate_json(
    regression: Regression, golden: GoldenCheck | None, films: Sequence[Path] = ()
) -> dict[str, Any]:
    """All of it, for programs; rates and differences in [-1, 1]."""
    design = regression.design
    return {
        "verdict": str(regression.verdict),
        "policy": regression.policy,
        "baseline": regression.baseline,
        "baseline_policy": regression.baseline_policy,
        "baseline_fingerprint": regression.fingerprints[0],
        "fingerprint": regression.fingerprints[1],
        "baseline_episodes": regression.baseline_episodes,
        "success": regression.measure,
        "order_seed": regression.order_seed,
        "margin": design.margin,
        "alpha": design.alpha,
        "beta": design.beta,
        "budget": design.budget,
        "pairs": regression.pairs,
        "episodes": len(regression.records),
        "errors": regression.errors,
        "seconds": round(regression.seconds, 1),
        "golden": None if golden is None else golden_json(golden),
        "environments": [_place_json(each) for each in regression.places],
        "flips": [
            {
                "env_id": old.env_id,
                "suite": old.suite,
                "level": old.level,
                "episode": old.episode,
                "baseline": _episode_json(old),
                "new": _episode_json(new),
            }
            for old, new in regression.flips
        ],
        "films": [str(film) for film in films],
    }


def golden_json(check: GoldenCheck) -> dict[str, Any]:
    """The check of golden answers, for programs."""
    return {
        "agrees": check.agrees,
        "observations": check.observations,
        "agreeing": check.agreeing,
        "largest_difference": None if check.obstacle else check.largest,
        "tolerance": check.tolerance,
        "same_files": check.same_files,
        "obstacle": check.obstacle,
    }


def _place_json(verdict: PlaceVerdict) -> dict[str, Any]:
    counts, interval = verdict.progress.counts, verdict.interval
    return {
        "env_id": verdict.place.env_id,
        "suite": verdict.place.suite,
        "level": verdict.place.level,
        "verdict": str(verdict.progress.verdict),
        "pairs": counts.pairs,
        "both": counts.both,
        "only_baseline": counts.only_a,
        "only_new": counts.only_b,
        "neither": counts.neither,
        "difference": counts.difference if counts.pairs else None,
        "low": interval.low,
        "high": interval.high,
        "evidence_worse": verdict.progress.evidence_worse,
        "evidence_no_worse": verdict.progress.evidence_no_worse,
        "same_courses": verdict.same_courses,
        "errors": verdict.errors,
    }


def _episode_json(record: EpisodeRecord) -> dict[str, Any]:
    return {
        "success_once": record.success_once,
        "success_held": record.success_held,
        "steps": record.steps,
        "furthest_stage": record.furthest_stage,
    }


def _suite(record: EpisodeRecord) -> str:
    return f" ({record.suite} {record.level})" if record.suite else ""
