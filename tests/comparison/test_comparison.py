"""Comparing two policies by their episodes: what is counted, and what is said of it."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from helpers.synthetic_records import LIFT, STACK, episodes_of, made_up
from octo_bench.cli import run
from octo_bench.comparison.matching import EpisodeSet
from octo_bench.comparison.two_policies import compare, measure, outcome
from octo_bench.errors import Mismatch
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import write_records
from octo_bench.reports.comparison import as_json, text
from octo_bench.statistics.medians import median_interval
from octo_bench.statistics.multiplicity import holm


def test_success_is_compared_by_mcnemar_and_corrected_by_holm() -> None:
    pattern = {LIFT: ([True] * 30, [True] * 18 + [False] * 12), STACK: ([True] * 30, [True] * 30)}
    a, b = (
        EpisodeSet(
            name,
            [
                made_up(number, success, env_id=env)
                for env, sides in pattern.items()
                for number, success in enumerate(sides[side])
            ],
            None,
        )
        for side, name in enumerate("ab")
    )
    found = compare(a, b)
    lift, stack = found.places
    p_values = [binomtest(0, 12).pvalue, 1.0, binomtest(0, 12).pvalue]
    assert [row.p_value for row in found.rows] == pytest.approx(p_values)
    assert [row.p_adjusted for row in found.rows] == pytest.approx(holm(p_values))
    assert lift.counts.difference == pytest.approx(-0.4)
    assert found.together.counts.pairs == 60
    assert len(lift.flips) == 12
    assert stack.flips == ()
    said = text(found)
    assert f"- {LIFT}: A is better than B (-40 points" in said
    assert f"- {STACK}: No difference between A and B is shown" in said


def test_nothing_is_called_better_where_the_test_does_not_reject() -> None:
    a = episodes_of([True] * 20, "a")
    b = episodes_of([True] * 16 + [False] * 4, "b")
    said = text(compare(a, b))
    assert compare(a, b).places[0].p_adjusted > 0.05
    assert "better" not in said
    assert "worse" not in said


def test_beyond_success_steps_count_where_both_succeed() -> None:
    a = episodes_of([True] * 12, "a", first_success_step=40)
    b = EpisodeSet(
        "b",
        [
            made_up(k, k > 1, first_success_step=60, action_jerk=0.3, latency_ms_p50=20)
            for k in range(12)
        ],
        None,
    )
    steps, latency, jerk = compare(a, b).places[0].measures
    assert (steps.pairs, steps.difference, steps.told_apart) == (10, 20.0, True)
    assert (latency.pairs, latency.difference, latency.told_apart) == (12, 0.0, False)
    assert jerk.difference == pytest.approx(0.2)
    assert "B is higher" in text(compare(a, b))


def test_the_funnel_counts_who_came_at_least_so_far() -> None:
    stages = ["none", "reach", "reach", "grasp", "lift", "hold"]
    records = [made_up(k, s == "hold", furthest_stage=s) for k, s in enumerate(stages)]
    found = compare(EpisodeSet("a", records, None), episodes_of([True] * 6, "b"))
    reached = {"reach": 5, "grasp": 3, "lift": 2, "success": 1, "hold": 1}
    funnel = tuple((stage, count, 6) for stage, count in reached.items())
    assert found.places[0].funnel == funnel


def test_outcomes_in_words() -> None:
    assert outcome(made_up(2, True)) == "success after 52 steps"
    assert outcome(made_up(0, False)) == "failed, furthest stage 'reach'"
    assert outcome(made_up(0, False, furthest_stage="none")) == "failed before the first stage"
    assert outcome(made_up(0, False, error="lost")) == "error (lost)"


def test_json_is_strict_and_says_the_same() -> None:
    a, b = episodes_of([True, False], "a"), episodes_of([True, True], "b")
    said = json.loads(json.dumps(as_json(compare(a, b)), allow_nan=False))
    (place,) = said["environments"]
    assert (place["only_a"], place["only_b"], place["both"]) == (0, 1, 1)
    assert place["flips"][0]["episode"] == 1
    assert place["measures"][0]["low"] is None  # too few pairs


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), st.sampled_from([0.5, 0.9, 0.95]))
def test_median_intervals_are_of_order_statistics_and_hold_the_median(
    values: list[float], confidence: float
) -> None:
    interval = median_interval(values, confidence)
    assert float(np.median(values)) in interval
    assert interval.low in (*values, -inf)
    assert interval.high in (*values, inf)


@pytest.mark.parametrize("count", [5, 6, 9, 12])
def test_median_intervals_cover_as_enumerated(count: int) -> None:
    """Every way in which values can lie below (-1) or above (1) the median, all equally likely."""
    covered = 0
    for signs in product((-1.0, 1.0), repeat=count):
        interval = median_interval(signs)
        covered += interval.low < 0.0 < interval.high
    assert covered / 2**count >= 0.95
    bounded = np.isfinite(median_interval(np.arange(count)).low)
    assert bounded == (count > 5)


def test_too_few_pairs_are_never_told_apart() -> None:
    assert not measure("steps", [1, 2, 3], [9, 9, 9]).told_apart
    assert measure("steps", [], []).pairs == 0


def write(path: Path, successes: list[bool], **changes: object) -> Path:
    records = episodes_of(successes, **changes).records
    write_records(records, path, provenance_of(records, 0))
    return path


def test_the_command_prints_markdown_or_json_and_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.parquet", [True] * 10)
    b = write(tmp_path / "b.parquet", [True] * 9 + [False], policy="octo-tiny-categorical")
    out = tmp_path / "out.md"
    assert run(["compare", str(a), str(b), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == out.read_text().strip()
    assert "octo-tiny-categorical" in out.read_text()
    assert run(["compare", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 10


def test_policies_of_one_file_are_chosen_by_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [made_up(k, k < demos, demos=demos) for demos in (5, 8) for k in range(10)]
    study = tmp_path / "study.parquet"
    write_records(records, study, provenance_of(records, 0))
    assert run(["compare", str(study), str(study)]) == 2
    assert "choose the episodes of one policy" in capsys.readouterr().err
    chosen = ["--where-a", "demos=5", "--where-b", "demos=8"]
    assert run(["compare", str(study), str(study), "--json", *chosen]) == 0
    (place,) = json.loads(capsys.readouterr().out)["environments"]
    assert (place["only_a"], place["only_b"]) == (0, 3)


def test_other_versions_are_refused_unless_allowed() -> None:
    records = episodes_of([True] * 3).records
    here = provenance_of(records, 0)
    there = provenance_of(records, 0)
    object.__setattr__(there, "versions", {**there.versions, "torch": "1.0"})
    a, b = EpisodeSet("a", records, here), EpisodeSet("b", records, there)
    with pytest.raises(Mismatch, match="the version of torch"):
        compare(a, b)
    assert compare(a, b, allow=["torch"]).pairs == 3


def test_dispersion_of_a_policy_that_is_not_named_is_left_out_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.parquet", [True] * 2, demos=50)
    assert run(["compare", str(a), str(a), "--dispersion", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("dispersion is left out: octo-tiny after 50 demonstrations")
    assert err.count("\n") == 1
    assert len(json.loads(out)["environments"][0]["measures"]) == 3


def test_dispersion_is_what_the_noise_makes_of_an_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tmp_path / "a.parquet", [True] * 8)
    b = write(tmp_path / "b.parquet", [True] * 8, policy="random")
    assert run(["compare", str(a), str(b), "--dispersion", "--json"]) == 0
    *_, spread = json.loads(capsys.readouterr().out)["environments"][0]["measures"]
    assert spread["pairs"] == 8
    assert 0.0 < spread["median_a"] < 0.5
    # Three entries that are uniform in [-1, 1], each of variance 1/3.
    assert spread["median_b"] == pytest.approx(1.0, abs=0.1)


def test_success_counts_where_it_held_if_both_files_tell() -> None:
    a = episodes_of([True] * 20, "a")
    b = EpisodeSet("b", [replace(each, success_held=False) for each in a.records], None)
    held, once = compare(a, b), compare(a, b, success="once")
    assert (held.success, held.places[0].counts.difference) == ("held", -1.0)
    assert (once.success, once.places[0].counts.difference) == ("once", 0.0)
    assert "reached success after 50 steps and lost it" in text(held)
    assert as_json(held)["success"] == "held"


def test_old_records_are_compared_by_what_they_have_and_said_to_be_old() -> None:
    a = episodes_of([True] * 20, "a")
    b = EpisodeSet("b", [replace(each, success_held=None) for each in a.records], None)
    assert compare(a, b).success == "once"
    assert "recorded before success had to hold" in text(compare(a, b))
    with pytest.raises(Mismatch, match=r"b was recorded before .* --success once"):
        compare(a, b, success="held")


def test_episodes_that_all_ended_in_errors_leave_nothing_to_compare() -> None:
    a = episodes_of([True] * 3, "a")
    b = EpisodeSet("b", [replace(each, error="MemoryError: ") for each in a.records], None)
    with pytest.raises(Mismatch, match=r"no episode in common .* \(3 ended in errors\)"):
        compare(a, b)
