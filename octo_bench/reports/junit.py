"""The gate's verdict as JUnit XML, which continuous integration shows.

The format has no specification; this is the common part of what Jenkins, GitLab and GitHub's
actions read: `testsuites`, `testsuite`, `testcase` with `failure`, `error`, `skipped`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from octo_bench.comparison.golden import GoldenCheck
from octo_bench.comparison.regression import PlaceVerdict, Regression
from octo_bench.files import atomic_path
from octo_bench.reports.gate import flip_lines, say_golden
from octo_bench.statistics.sequential import Verdict
from octo_bench.tables.wording import percent, points, points_between

_CLASS = "octo-bench.regress"
# What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(
    regression: Regression, golden: GoldenCheck | None, path: Path, *, invalid: bool
) -> None:
    """Write a test case for each environment.

    "Worse" is a failure; "cannot tell" is skipped, since it is neither, and the command's exit
    code tells it from a success; with too many infrastructure errors all are errors.

    Raises:
        BadFile: when the disk is full.
    """
    verdicts = [each.progress.verdict for each in regression.places]
    counts = {
        "tests": len(verdicts),
        "failures": 0 if invalid else verdicts.count(Verdict.WORSE),
        "errors": len(verdicts) if invalid else 0,
        "skipped": 0 if invalid else verdicts.count(Verdict.CANNOT_TELL),
    }
    totals = {name: str(count) for name, count in counts.items()}
    time = f"{regression.seconds:.3f}"
    root = ElementTree.Element("testsuites", {"name": "octo-bench", **totals, "time": time})
    name = _clean(f"{regression.policy} against {regression.baseline}")
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **totals, "time": time})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(regression, golden).items():
        ElementTree.SubElement(properties, "property", {"name": key, "value": _clean(value)})
    for place in regression.places:
        _add_case(suite, place, regression, invalid)
    ElementTree.indent(root)
    with atomic_path(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _properties(regression: Regression, golden: GoldenCheck | None) -> dict[str, str]:
    design = regression.design
    named = {
        "verdict": str(regression.verdict),
        "margin": f"{design.margin:g}",
        "alpha": f"{design.alpha:g}",
        "beta": f"{design.beta:g}",
        "budget": str(design.budget),
        "success": regression.measure,
        "order_seed": str(regression.order_seed),
        "baseline_policy": regression.baseline_policy,
        "baseline_fingerprint": regression.fingerprints[0],
        "fingerprint": regression.fingerprints[1],
    }
    return named if golden is None else {**named, "golden": say_golden(golden)}


def _add_case(
    suite: ElementTree.Element, verdict: PlaceVerdict, regression: Regression, invalid: bool
) -> None:
    """The environment's test case; its time is its share of the pairs."""
    share = verdict.progress.pairs / max(1, regression.pairs)
    case = ElementTree.SubElement(
        suite,
        "testcase",
        {
            "classname": _CLASS,
            "name": _clean(str(verdict.place)),
            "time": f"{share * regression.seconds:.3f}",
        },
    )
    counts = verdict.progress.counts
    measured = (
        f"{counts.pairs} pairs, baseline {percent(counts.rate_a)}, new {percent(counts.rate_b)}"
    )
    if counts.pairs:
        interval = points_between(verdict.interval)
        measured += f", {points(counts.difference)}, 95 % interval {interval}"
    lines = flip_lines(verdict.flips)
    details = _clean("\n".join([measured, *lines]))
    if invalid:
        message = f"{verdict.errors} episodes ended in an infrastructure error"
        _add_result(case, "error", message, details)
    elif verdict.progress.verdict is Verdict.WORSE:
        _add_result(case, "failure", f"worse: {measured}", details)
    elif verdict.progress.verdict is Verdict.CANNOT_TELL:
        _add_result(case, "skipped", f"cannot tell: {measured}", details)
    else:
        ElementTree.SubElement(case, "system-out").text = details


def _add_result(case: ElementTree.Element, kind: str, message: str, details: str) -> None:
    attributes = {"message": _clean(message)}
    if kind != "skipped":
        attributes["type"] = "infrastructure" if kind == "error" else "regression"
    ElementTree.SubElement(case, kind, attributes).text = details


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("?", text)
