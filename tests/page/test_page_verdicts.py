"""What a page says of heads and of reference rates: no more than the tests allow."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.synthetic_study import (
    CATEGORICAL,
    LIFT_IIWA,
    STACK,
    cell,
    write_study,
)
from octo_bench.charts.curves import curves
from octo_bench.page.page import write_page
from octo_bench.page.study_report import study_table
from octo_bench.paths import results_root
from octo_bench.records.record import EpisodeRecord, read_records
from octo_bench.statistics.intervals import Interval
from octo_bench.statistics.standing import Standing
from octo_bench.studies.cells import recipe_of
from octo_bench.studies.study import read_study
from octo_bench.tables.csv_files import csv_text
from octo_bench.tables.head_pairs import compare_heads
from octo_bench.tables.references import ReferencePoint, against
from octo_bench.tables.sections import headline, sections_of
from octo_bench.tables.table import Table
from octo_bench.tables.uncertainty import of_counts
from octo_bench.tables.wording import ALPHA, say_difference


def paired(first: list[bool], second: list[bool], **more: object) -> list[EpisodeRecord]:
    policy, head = CATEGORICAL
    return cell(first, **more) + cell(second, policy=policy, head=head, **more)


@given(
    difference=st.floats(-1, 1),
    low=st.floats(-1, 1),
    high=st.floats(-1, 1),
    p_value=st.floats(ALPHA, 1),
)
def test_nothing_is_called_better_where_the_test_does_not_reject(
    difference: float, low: float, high: float, p_value: float
) -> None:
    said = say_difference("one", "two", difference, Interval(low, high), p_value)
    assert "better" not in said
    assert said.startswith("No difference between one and two is shown")


@pytest.mark.parametrize(("difference", "winner"), [(0.2, "two"), (-0.2, "one")])
def test_where_it_rejects_the_right_one_is_called_better(difference: float, winner: str) -> None:
    said = say_difference("one", "two", difference, Interval(-0.3, 0.3), 0.01)
    assert said.startswith(f"{winner} is better than")


def test_a_page_without_a_rejected_test_says_better_nowhere(tmp_path: Path) -> None:
    alike = [number % 3 > 0 for number in range(30)]
    folder = write_study(tmp_path, paired(alike, alike[::-1], demos=50))
    write_page(read_study(folder / "study.toml"), folder, folder / "report.html", films=False)
    text = (folder / "report.html").read_text()
    assert "No difference between diffusion and categorical is shown" in text
    assert "better" not in text


def test_heads_are_compared_on_what_both_did() -> None:
    records = paired([True] * 20 + [False] * 5, [False] * 20 + [False] * 5, demos=50)
    records += cell([True] * 25, env_id=LIFT_IIWA)  # one head only
    records[20] = replace(records[20], error="FatalError: QACC")
    (pair,) = compare_heads(records)
    assert (pair.env_ids, pair.demos, pair.compared.pairs) == ((STACK,), 50, 24)
    assert pair.compared.difference == pytest.approx(-20 / 24)
    assert pair.rejected
    assert pair.sentence.startswith("diffusion is better than categorical (-83 points")


def test_over_several_targets_every_recorded_pair_counts_and_targets_weigh_alike() -> None:
    wins, losses = [True] * 18 + [False] * 2, [True] * 8 + [False] * 12
    records = paired(losses, wins, demos=50) + paired(losses, losses, demos=50, env_id=LIFT_IIWA)
    records += paired(losses, wins, demos=50, draw=1)  # on one of the targets only
    together, stack, lift = compare_heads(records)
    assert together.env_ids == (STACK, LIFT_IIWA)
    assert together.place == "2 targets together"
    assert (together.compared.pairs, together.compared.units) == (60, 1)
    assert together.compared.difference == pytest.approx(0.25)
    assert (stack.compared.pairs, stack.compared.units) == (40, 2)
    assert (stack.env_ids, lift.env_ids) == ((STACK,), (LIFT_IIWA,))
    # It is one test by itself; those of single targets are corrected for being two.
    assert together.p_adjusted == together.compared.p_value
    assert stack.p_adjusted == pytest.approx(2 * stack.compared.p_value)


def test_targets_on_which_neither_head_fails_are_left_out_of_a_second_comparison() -> None:
    easy = {"demos": 50, "env_id": "octo_bench/Lift-Panda-v1"}
    wins, losses = [True] * 18 + [False] * 2, [True] * 8 + [False] * 12
    records = paired(losses, wins, demos=50) + paired(losses, losses, demos=50, env_id=LIFT_IIWA)
    records += paired([True] * 20, [True] * 20, **easy)
    everything, harder = compare_heads(records)[:2]
    assert (everything.place, harder.place) == (
        "3 targets together",
        "2 unsaturated targets together",
    )
    assert everything.compared.difference == pytest.approx(0.5 / 3)
    assert harder.compared.difference == pytest.approx(0.25)


def test_the_committed_study_uses_all_its_pairs() -> None:
    """With two draws on four targets and one on two, no pair is thrown away."""
    study = read_study(results_root() / "finetuning" / "study.toml")
    records = read_records(results_root() / "finetuning" / "episodes.parquet")
    recipes = {entry.name: recipe_of(study, entry) for entry in study.policies}
    found = {
        pair.demos: pair.compared
        for pair in compare_heads(records, recipes)
        if pair.place == "4 unsaturated targets together"
    }
    assert {demos: each.pairs for demos, each in found.items()} == dict.fromkeys(
        (50, 100, 200), 800
    )
    ahead = [round(-1000 * found[demos].difference, 3) for demos in (50, 100, 200)]
    assert ahead == [37.5, 35.0, 27.5]
    assert found[50].as_trained.high < 0.0 and found[50].as_trained.low > -0.07


def test_only_what_was_fine_tuned_alike_is_compared() -> None:
    records = paired([True] * 10, [False] * 10, demos=50)
    records += cell([True] * 10, demos=50, policy="octo-tiny, LoRA")
    records += cell([True] * 10, policy="random", head="")
    recipes = {"octo-tiny": "full", "octo-tiny-categorical": "full", "octo-tiny, LoRA": "lora"}
    (pair,) = compare_heads(records, recipes)
    assert (pair.first.policy, pair.second.policy) == ("octo-tiny", "octo-tiny-categorical")


def test_the_mean_over_targets_stands_first(tmp_path: Path) -> None:
    records = [
        record
        for env_id in (STACK, LIFT_IIWA)
        for demos, successes in ((0, 5), (50, 15))
        for record in cell([n < successes for n in range(20)], demos=demos, env_id=env_id)
    ]
    points = {0: ReferencePoint(0.3, 0.0), 50: ReferencePoint(0.2, 30.0)}
    references = {STACK: points, LIFT_IIWA: points}
    table = Table("A study", (), references, targets=(STACK, LIFT_IIWA))
    (section,) = sections_of(records, table)
    (mean,) = section.means
    assert [each.row.rate for each in mean.rows] == [0.25, 0.75]
    assert [each.against.standing for each in mean.rows if each.against] == [
        Standing.CANNOT_TELL,
        Standing.ABOVE,
    ]
    assert headline((section,)).startswith(
        "octo-tiny succeeds in 25 % of the episodes without demonstrations and in 75 % with 50 "
        "demonstrations, mean over 2 targets. Beside the reference: cannot tell yet with 0 "
        "demonstrations; above with 50."
    )
    titles = [chart.title for chart in curves(section)]
    assert titles == ["mean over 2 targets", "Stack on Panda", "Lift on IIWA"]


def test_many_comparisons_are_corrected() -> None:
    small = ([True] * 6 + [False] * 4, [False] * 10)  # p = 0.03 alone
    (alone,) = compare_heads(paired(*small, demos=50))
    assert alone.rejected
    several = [r for demos in (50, 100, 200) for r in paired(*small, demos=demos)]
    assert not any(pair.rejected for pair in compare_heads(several))


def test_another_initial_state_is_no_pair() -> None:
    records = paired([True] * 10, [False] * 10)
    moved = [replace(record, initial_state_sha256="0" * 64) for record in records[10:]]
    assert compare_heads(records[:10] + moved) == ()


@pytest.mark.parametrize(
    ("successes", "reference", "verdict", "said"),
    [
        (44, 0.68, Standing.ABOVE, r"^\+8 to \+27 points$"),
        (
            35,
            0.68,
            Standing.CANNOT_TELL,
            r"^-13 to \+14 points; about \d+ episodes would",
        ),
        (49, 0.30, Standing.ABOVE, r"^\+59 to \+70 points$"),
        (2, 0.90, Standing.BELOW, r"^-90 to -76 points$"),
        (50, 0.99, Standing.WITHIN, r"^-6 to \+1 points$"),
    ],
)
def test_the_verdict_says_how_far_and_what_would_decide(
    successes: int, reference: float, verdict: Standing, said: str
) -> None:
    found = against(successes / 50, of_counts(successes, 50), ReferencePoint(reference, 0.0))
    assert found.standing is verdict
    assert re.search(said, found.remark)


def test_the_table_and_the_page_give_the_same_verdicts_and_a_win_is_no_warning(
    tmp_path: Path,
) -> None:
    records = [
        record
        for demos, successes in ((0, 19), (50, 4), (200, 9))
        for record in cell([n < successes for n in range(20)], demos=demos)
    ]
    folder = write_study(tmp_path, records)
    study = read_study(folder / "study.toml")
    table = study_table(study, folder)
    write_page(study, folder, folder / "report.html", films=False)
    text = (folder / "report.html").read_text()
    written = [line["against_reference"] for line in csv.DictReader(io.StringIO(csv_text(table)))]
    assert written == ["above", "below", "cannot tell yet"]
    assert [str(table.against(row).standing) for row in table.rows] == written
    shown = re.findall(r'class="verdict ([a-z-]+)" title="[^"]*">. ([a-z ]+)<', text)
    first = shown[: len(written)]
    assert first == [("above", "above"), ("below", "below"), ("cannot-tell", "cannot tell yet")]
    styles = dict(re.findall(r"\.verdict\.([a-z-]+) \{ color: var\((--\w+)\)", text))
    assert styles["above"] == "--s2" != styles["below"]  # green, as success is
    assert "published" not in text.lower() and "public source" in text
