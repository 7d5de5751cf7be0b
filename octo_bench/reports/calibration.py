"""The page on the calibration of intervals, tests and the gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from octo_bench.calibration.calibrate import STATES, Calibration
from octo_bench.calibration.gate_operation import Operation
from octo_bench.files import write_json, write_text

PAGE = "README.md"
TITLE = "# Calibration of the intervals, the tests and the gate"
DATA = "calibration.json"

_GATE = """\
The gate reads pairs of outcomes, baseline and new policy on the same initial state, and looks after
each. "Worse" rejects "there is no loss", "no worse" rejects "the loss is the margin or more". The
share of discordant pairs (one succeeds, the other does not) decides how hard that is: "none" stands
for pairs that agree no more than by chance, "complete" for pairs that differ only where they must.
"""

_SAVING = """\
"The same guarantees" are: wrong with probability 5 % at most, whether there is no loss or one of
the margin, right with 95 %, and an answer in any case. Here the budget is so large that it does not
bind. The test of fixed size looks once: McNemar's exact test for "worse", Tango's score test for
"no worse". Its number is the smallest that meets the guarantees, found by someone who knows the
share of discordant pairs in advance. The gate does not know it.
"""

_BUDGET = """\
Within the budget the fixed test is the one that spends all of it and looks once. It gives the right
answer more often, as it must: looking early costs power, which is what the gate pays for stopping
early. The last column is the smallest test of fixed size that is as likely to be right as the gate
(95 % is enough), again planned by someone who knows the share of discordant pairs. Against that one
the gate saves little where the budget binds, and loses where the policies always agree (there the
score test answers after 25 pairs, with a true error of 7 %; an exact one would take 29). A loss
between nothing and the margin may be called either way.
"""

_TWO_LEVEL = """\
Simulated studies of several trainings on the same {states} initial states, with a known standard
deviation of the rate from training to training (spread), and states that are harder or easier for
all. The first interval claims the trainings at hand, the second the recipe; "pooled" is how often
the first would hold the recipe's rate. "Same" is how often both intervals are one: the trainings
differed no more than their episodes explain. That costs coverage where trainings do differ and by
chance do not show it: little with three trainings or more, too much with two.
"""


def write_calibration(calibration: Calibration, folder: Path) -> None:
    """Write the figures for programs and the page for people."""
    write_json(folder / DATA, asdict(calibration))
    write_text(folder / PAGE, page(calibration))


def page(calibration: Calibration) -> str:
    """The page, in Markdown."""
    design = calibration.design
    nulls = [each for each in calibration.operations if each.scenario.loss == 0.0]
    drops = [each for each in calibration.operations if each.scenario.loss == design.margin]
    saved = [each.saving for each in calibration.savings]
    of_budget = [1.0 - each.pairs / design.budget for each in (*nulls, *drops)]
    of_likely = [1.0 - each.pairs / each.as_likely for each in (*nulls, *drops) if each.as_likely]
    exact = [each.lowest for each in calibration.coverages if each.guaranteed]
    sections = [
        TITLE,
        "`octo-bench calibrate "
        f"--comparisons {calibration.comparisons} --seed {calibration.seed}` "
        f"writes this page and `{DATA}`; the same command writes the same figures.",
        _bullets(
            f"Exact intervals of 95 % cover at least {_percent(min(exact))}.",
            f'False alarms ("worse" without a loss) of the gate, at most over {len(nulls)} '
            f"scenarios of {calibration.comparisons} comparisons each, looking after every pair: "
            f"{_percent(max(map(_worse, nulls)))}; the other error: "
            f"{_percent(max(each.no_worse for each in drops))}. By theorem both are at most 5 %.",
            f"Power against a loss of {_percent(design.margin, 0)} within {design.budget} pairs: "
            f"from {_power(min(drops, key=_worse))} to {_power(max(drops, key=_worse))}.",
            "Episodes saved against a test of fixed size with the same guarantees: "
            f"{_percent(mean(saved), 0)} on average, {_percent(min(saved), 0)} at least.",
            f"Within the budget, {_percent(mean(of_budget), 0)} of the {design.budget} pairs are "
            "saved on average; against a smaller test of fixed size, just as likely to be right "
            f"and planned with knowledge that one does not have, {_percent(mean(of_likely), 0)}, "
            f"from {_percent(min(of_likely), 0)} to "
            f"{_percent(max(of_likely), 0)}.",
        ),
        "## Intervals of 95 %",
        "By enumeration of all outcomes, at rates from 0.001 to 0.999 (differences: pairs of rates "
        "from 0.01 to 0.99, or shares of discordant pairs from 0.01 to 0.8). Those marked exact "
        "promise 95 % at every rate, the others on average. The bounds are for runs in which one "
        "failure in five is hidden by an infrastructure error.",
        _table(
            ("Interval", "Number", "Promise", "Lowest", "at", "Lowest near 0 and 1", "Mean"),
            (
                (
                    each.method,
                    each.number,
                    "exact" if each.guaranteed else "on average",
                    _percent(each.lowest),
                    ", ".join(f"{rate:g}" for rate in each.at),
                    _percent(each.near_ends),
                    _percent(each.mean),
                )
                for each in calibration.coverages
            ),
        ),
        "## Tests of level 5 %",
        "The highest probability of rejecting what is true, by enumeration. The last two are "
        "the verdicts beside a reference: the true rate is the reference, or 10 points from it.",
        _table(
            ("Test", "Number", "Highest error"),
            ((each.test, each.number, _percent(each.highest)) for each in calibration.error_rates),
        ),
        "## The gate",
        f"Margin {_percent(design.margin, 0)}, errors {_percent(design.alpha, 0)} and "
        f"{_percent(design.beta, 0)}, budget {design.budget} pairs.\n\n" + _GATE,
        "### Saving, with the same guarantees",
        _SAVING,
        _table(
            ("Baseline", "Agreement", "Fixed size", "No loss", "Loss of margin", "Wrong", "Saved"),
            (
                (
                    _percent(each.baseline, 0),
                    each.agreement,
                    each.fixed,
                    f"{each.pairs_without_loss:.0f}",
                    f"{each.pairs_at_margin:.0f}",
                    _percent(each.wrong),
                    _percent(each.saving, 0),
                )
                for each in calibration.savings
            ),
        ),
        "### Within the budget",
        _BUDGET,
        _table(
            (
                "Baseline",
                "Loss",
                "Agreement",
                "Discordant",
                '"worse"',
                "95 % interval",
                '"no worse"',
                "Mean pairs",
                'Fixed: "worse"',
                '"no worse"',
                "As likely right",
            ),
            (
                (
                    _percent(each.scenario.baseline, 0),
                    _percent(each.scenario.loss, 0),
                    each.scenario.agreement,
                    _percent(each.scenario.discordant),
                    _percent(each.worse),
                    f"{_percent(each.worse_interval.low)} to {_percent(each.worse_interval.high)}",
                    _percent(each.no_worse),
                    f"{each.pairs:.0f}",
                    _percent(each.fixed_worse),
                    _percent(each.fixed_no_worse),
                    "" if each.as_likely is None else each.as_likely,
                )
                for each in calibration.operations
            ),
        ),
        "### Intervals after stopping",
        "How often intervals of 95 % hold the true difference where the gate stopped, baseline "
        "80 %. Tango's interval is not made for that; the anytime one is, and pays in width.",
        _table(
            ("Loss", "Agreement", "Anytime", "Tango"),
            (
                (
                    _percent(each.scenario.loss, 0),
                    each.scenario.agreement,
                    _percent(each.anytime),
                    _percent(each.tango),
                )
                for each in calibration.stopped
            ),
        ),
        "## Several trainings",
        _TWO_LEVEL.format(states=STATES),
        _table(
            (
                "Trainings",
                "Rate",
                "Spread",
                "First covers its claim",
                "Second covers its claim",
                "Pooled covers the second claim",
                "Width, second by first",
                "Same",
            ),
            (
                (
                    each.trainings,
                    _percent(each.rate, 0),
                    _percent(each.spread, 0),
                    _percent(each.as_trained),
                    _percent(each.trained_anew),
                    _percent(each.pooled),
                    f"{each.width:.2f}",
                    _percent(each.same, 0),
                )
                for each in calibration.two_levels
            ),
        ),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _worse(operation: Operation) -> float:
    return operation.worse


def _power(operation: Operation) -> str:
    """Its share of "worse", and the fixed test's, in its scenario."""
    scenario = operation.scenario
    return (
        f"{_percent(operation.worse, 0)} (a test that spends them all: "
        f"{_percent(operation.fixed_worse, 0)}) for a baseline of "
        f"{_percent(scenario.baseline, 0)} and agreement '{scenario.agreement}'"
    )


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %"


def _bullets(*lines: str) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
