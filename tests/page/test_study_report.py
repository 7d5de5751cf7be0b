"""Tables and figures."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from helpers.synthetic_study import cell, episode
from octo_bench.charts.figure import draw, write_figure
from octo_bench.errors import BadFile
from octo_bench.paths import results_root
from octo_bench.records.conditions import Condition
from octo_bench.statistics.intervals import clopper_pearson
from octo_bench.statistics.stratified import mean_interval
from octo_bench.tables.csv_files import csv_text, read_reference, read_rows
from octo_bench.tables.markdown import markdown
from octo_bench.tables.references import ReferencePoint, against
from octo_bench.tables.table import (
    Row,
    Table,
    summarise,
)

STACK, LIFT = "octo_bench/Stack-Panda-v1", "octo_bench/Lift-Panda-v1"


def row(demos: int, successes: int, policy: str = "octo-tiny", **more: object) -> Row:
    values = {"env_id": STACK, "episodes": 50, "errors": 0, "training_minutes": demos / 20}
    values |= {"head": "diffusion", "policy": policy, "demos": demos, "successes": successes}
    return Row(**{**values, **more})


@pytest.fixture
def table() -> Table:
    return Table(
        title="A study",
        rows=(row(0, 10), row(50, 36), row(200, 49), row(0, 40, env_id=LIFT)),
        references={STACK: read_reference(results_root() / "reference" / "reference.csv")},
        beside=(row(50, 20, "octo-tiny from scratch"),),
    )


def test_the_reference_table_is_that_of_the_brief() -> None:
    reference = read_reference(results_root() / "reference" / "reference.csv")
    assert {n: (p.success_rate, p.training_minutes) for n, p in reference.items()} == {
        0: (0.35, 0),
        50: (0.68, 30),
        100: (0.79, 60),
        200: (0.87, 120),
    }


@pytest.mark.parametrize(
    ("successes", "verdict"), [(10, "below"), (25, "cannot tell yet"), (40, "above")]
)
def test_the_verdict_follows_the_interval(successes: int, verdict: str) -> None:
    measured = row(0, successes)
    found = against(measured.rate, measured.uncertainty, ReferencePoint(0.5, 0))
    assert found.standing == verdict


def test_markdown_has_a_section_for_each_environment_with_everything_beside(table: Table) -> None:
    text = markdown(table)
    stack, lift = text.split("## ")[1:]
    lines = [line for line in stack.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "octo-tiny from scratch" in lines[0]
    assert lines[3].split(" | ") == [
        "| 50",
        "36/50 = 72 %",
        "58 to 84 %",
        "2.5 min",
        "20/50 = 40 %, 26 to 55 %",
        "68 %",
        "30 min",
        "cannot tell yet |",
    ]
    assert "Reference" not in lift.splitlines()[2]
    assert "infrastructure" not in text


def test_episodes_that_are_not_counted_are_told_with_what_they_could_have_been() -> None:
    text = markdown(Table("A study", (row(0, 12, episodes=48, errors=2), row(50, 20)), {}))
    assert "2 episodes ended in an infrastructure error" in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0][3:5] == ["Errors", "Worst to best case"]
    assert lines[2][1:5] == ["12/48 = 25 %", "14 to 40 %", "2", "24 to 28 %"]
    assert lines[3][3:5] == ["0", "40 to 40 %"]
    assert "nvalid" not in text
    written = next(csv.DictReader(io.StringIO(csv_text(Table("", (row(0, 12, errors=2),), {})))))
    assert (written["worst_case"], written["best_case"]) == ("0.2308", "0.2692")


def test_a_run_with_many_errors_is_called_invalid() -> None:
    invalid = row(0, 10, episodes=47, errors=3)
    assert invalid.invalid
    assert not row(0, 10, episodes=57, errors=3).invalid
    text = markdown(Table("A study", (invalid, row(50, 20)), references={}))
    assert text.splitlines()[2].startswith("**Invalid.**")
    assert "| 3, invalid |" in text


def test_a_row_without_episodes_has_no_rate() -> None:
    assert math.isnan(row(0, 0, episodes=0).rate)
    assert "no episodes" in markdown(Table("A study", (row(0, 0, episodes=0),), references={}))


POLICIES = (("octo-tiny", "diffusion"), ("octo-tiny-categorical", "categorical"))


@pytest.fixture
def targets() -> Table:
    """Two policies and a baseline on two targets; one of the policies is not finished."""
    rows = [
        row(demos, 10 + n, policy, head=head, env_id=env_id, episodes=25 * (1 + n))
        for policy, head in POLICIES
        for n, env_id in enumerate((STACK, LIFT))
        for demos in (0, 50)
    ]
    rows += [row(0, 0, "random", head="", env_id=env_id) for env_id in (STACK, LIFT)]
    reference = {0: ReferencePoint(0.35, 0.0), 50: ReferencePoint(0.68, 30.0)}
    reference = {STACK: reference, LIFT: {0: ReferencePoint(0.45, 10.0)}}
    return Table("A study", tuple(rows[:7] + rows[8:]), reference, (), (STACK, LIFT), 9, 10)


def test_the_mean_weighs_targets_alike_and_needs_all_of_them(targets: Table) -> None:
    means = {(mean.policy, mean.demos): mean for mean in targets.means}
    assert list(means) == [
        ("octo-tiny", 0),
        ("octo-tiny", 50),
        ("octo-tiny-categorical", 0),
        ("random", 0),
    ]
    mean = means["octo-tiny", 50]
    assert mean.rate == pytest.approx((10 / 25 + 11 / 50) / 2)
    assert (mean.episodes, mean.training_minutes) == (75, 2.5)
    assert mean.interval.low < mean.rate < mean.interval.high
    point = targets.reference_of(means["octo-tiny", 0])
    assert point is not None
    assert (point.success_rate, point.training_minutes) == (pytest.approx(0.4), 5.0)
    # For 50, the reference has nothing of Lift; a baseline is compared with nothing.
    assert targets.reference_of(mean) is None
    assert targets.reference_of(means["random", 0]) is None
    assert replace(targets, targets=()).means == ()


def test_markdown_of_several_policies_names_them_and_begins_with_the_mean(targets: Table) -> None:
    text = markdown(targets)
    assert text.splitlines()[2].startswith("**Not finished.** 9 of 10 cells")
    sections = text.split("## ")[1:]
    titles = [section.splitlines()[0] for section in sections]
    assert titles == ["Mean over 2 targets", STACK, LIFT]
    lines = [line.split(" | ") for line in sections[0].splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {8}
    assert lines[2][:4] == ["| octo-tiny (diffusion head)", "0", "31 %", "20 to 44 %"]
    assert lines[2][5:] == ["40 %", "5.0 min", "cannot tell yet |"]
    assert lines[5][:3] == ["| random", "0", "0 %"]
    assert lines[5][5:] == ["", "", " |"]
    assert len(sections[2].splitlines()[2:]) >= 6


def test_csv_has_the_means_and_reads_back_without_them(targets: Table, tmp_path: Path) -> None:
    perturbed = row(50, 5, condition=Condition("camera", 2, "execute=2"))
    table = replace(targets, rows=(*targets.rows, perturbed))
    (tmp_path / "table.csv").write_text(csv_text(table))
    assert read_rows(tmp_path / "table.csv") == table.rows
    lines = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert len(lines) == len(table.rows) + 4
    assert lines[-4]["env_id"] == "mean over 2 targets"
    assert lines[-4]["success_rate"] == "0.3100"
    assert lines[-5]["suite"] == "camera"
    assert lines[-5]["reference_success_rate"] == ""  # the reference is not perturbed


def test_tables_of_before_conditions_can_be_read() -> None:
    rows = read_rows(results_root() / "quick" / "table.csv")
    assert {each.condition for each in rows} == {Condition()}


def test_conditions_are_rows_of_their_own() -> None:
    conditions = (Condition(), Condition("camera", 2), Condition("", 0, "task=none,execute=2"))
    rows = tuple(row(0, n, condition=each) for n, each in enumerate(conditions))
    records = [episode(n, False, suite=c.suite, level=c.level) for n, c in enumerate(conditions)]
    assert len(summarise(records, {})) == 2
    table = Table("A study", rows, {STACK: {0: ReferencePoint(0.35, 0.0)}})
    lines = [line.split(" | ") for line in markdown(table).splitlines() if line.startswith("|")]
    assert [line[0] for line in lines[2:]] == [
        "| plain",
        "| camera, level 2",
        "| task=none, execute=2",
    ]
    assert [line[-1] for line in lines[2:]] == ["below |", " |", " |"]
    other = replace(table, beside=(row(0, 30, "another"),))
    assert other.counterpart(rows[0], "another") is not None
    assert other.counterpart(rows[1], "another") is None


@pytest.fixture
def trained_often() -> Table:
    """Two targets, three draws each on the same 30 initial states; not all states are as hard."""
    rng, records = np.random.default_rng(0), []
    for env_id in (STACK, LIFT):
        for number, luck in enumerate((-0.2, 0.0, 0.2)):
            rates = np.where(np.arange(30) < 15, 0.1, 0.8) + luck
            outcomes = rng.random(30) < rates
            records += cell(outcomes, env_id=env_id, demos=50, draw=number)
        records += cell([True] * 10 + [False] * 20, env_id=env_id)
    reference = {env_id: {50: ReferencePoint(0.35, 30.0)} for env_id in (STACK, LIFT)}
    return Table("A study", summarise(records, {}), reference, (), (STACK, LIFT))


def test_trainings_that_share_their_states_are_not_taken_for_independent(
    trained_often: Table,
) -> None:
    several, once = trained_often.rows[0], trained_often.rows[1]
    assert (several.demos, several.episodes, once.episodes) == (50, 90, 30)
    pooled = clopper_pearson(several.successes, 90)
    assert several.interval.width > 1.1 * pooled.width
    anew = several.uncertainty.trained_anew
    assert anew is not None and anew.width > several.interval.width
    assert (several.uncertainty.units, several.uncertainty.trainings) == (3, 3)
    assert once.interval == clopper_pearson(10, 30) and once.uncertainty.trained_anew is None
    zero, after = sorted(trained_often.means, key=lambda mean: mean.demos)
    naive = mean_interval(
        [row.rate for row in after.rows],
        [clopper_pearson(row.successes, row.episodes) for row in after.rows],
    )
    assert after.interval.width > 1.1 * naive.width
    assert after.uncertainty.trained_anew is not None
    assert after.uncertainty.trained_anew.width > after.interval.width
    assert zero.uncertainty.trained_anew is None
    # Against the reference stands what is said of the recipe, if anything is.
    point = ReferencePoint((several.interval.high + anew.high) / 2, 0.0)
    assert against(several.rate, several.uncertainty, point).standing == "cannot tell yet"


def test_seeds_alone_say_nothing_of_other_draws() -> None:
    records = [r for seed in (0, 1) for r in cell([True, False] * 5, demos=50, train_seed=seed)]
    (found,) = summarise(records, {})
    assert (found.uncertainty.units, found.uncertainty.trainings) == (1, 2)
    assert found.uncertainty.trained_anew is None
    # The same outcomes twice know no more than once.
    assert found.interval.width >= clopper_pearson(5, 10).width
    text = markdown(Table("A study", (found,), {}))
    assert "Korn and Graubard" in text and "f retrained" not in text


def test_both_intervals_are_in_the_table_and_one_line_says_which(
    trained_often: Table, tmp_path: Path
) -> None:
    text = markdown(trained_often)
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0][1:5] == ["Success held", "95 % interval", "Reached once", "If retrained"]
    said = {line[0]: line[4] for line in lines[2:4]}
    assert said["| 0"] == "" and " to " in said["| 50"]
    (line,) = [line for line in text.splitlines() if "several trainings" in line]
    assert "as they were trained" in line and '"If retrained" is for fine-tuning' in line
    (tmp_path / "table.csv").write_text(csv_text(trained_often))
    written = list(csv.DictReader(io.StringIO(csv_text(trained_often))))
    assert [each["trainings"] for each in written] == ["3", "1", "3", "1", "3", "1"]
    assert float(written[0]["trained_anew_high"]) > float(written[0]["high"])
    assert written[1]["trained_anew_low"] == ""
    for read, row in zip(read_rows(tmp_path / "table.csv"), trained_often.rows, strict=True):
        assert read.interval.low == pytest.approx(row.interval.low, abs=1e-4)
        assert (read.uncertainty.trained_anew is None) == (row.demos == 0)
        assert read.uncertainty.trainings == row.uncertainty.trainings
    assert draw(trained_often).axes[0].get_ylabel().endswith("95 % intervals (as trained)")


def test_trainings_of_which_hardly_an_episode_came_to_its_end_leave_everything_open() -> None:
    broken = [replace(r, error="FatalError: QACC") for r in cell([False] * 5, demos=50, draw=1)]
    (found,) = summarise([*cell([True] * 5, demos=50), *broken], {})
    assert (found.interval.low, found.interval.high, found.uncertainty.trainings) == (0.0, 1.0, 2)


def test_the_figure_of_targets_has_a_panel_for_each_and_one_for_the_mean(targets: Table) -> None:
    figure = draw(targets)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "Mean over 2 targets",
        "Stack, Panda",
        "Lift, Panda",
    ]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "octo-tiny-categorical (categorical head)" in names and "random" in names


def test_the_figure_of_conditions_is_a_list(tmp_path: Path) -> None:
    conditions = [Condition(), *(Condition("camera", level) for level in (1, 2, 3))]
    rows = tuple(row(50, 10 * n, condition=each) for n, each in enumerate(conditions))
    table = Table("A study", rows, {STACK: {50: ReferencePoint(0.68, 30.0)}})
    (axes,) = draw(table).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["plain", "camera, level 1", "camera, level 2", "camera, level 3"]
    assert axes.get_xlabel().endswith("; dotted is the reference, unperturbed")
    (perturbed,) = draw(replace(table, rows=rows[1:])).axes
    assert perturbed.get_xlabel() == axes.get_xlabel()
    write_figure(table, tmp_path)
    assert Image.open(tmp_path / "figure.png").size[0] == 1050


def test_the_figure_of_policies_with_as_many_demonstrations_is_a_list(targets: Table) -> None:
    rows = tuple(each for each in targets.rows if each.demos == 0)
    (axes,) = draw(replace(targets, rows=rows)).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    policies = [f"{policy} ({head} head)" for policy, head in POLICIES]
    assert names == [*policies, "random"] * 3
    headings = [text.get_text().removesuffix(", 0 demonstrations") for text in axes.texts]
    assert headings == ["Mean over 2 targets", "Stack, Panda", "Lift, Panda"]


def test_a_list_of_policies_with_one_head_does_not_repeat_it() -> None:
    table = Table("A study", (row(0, 10, "first"), row(0, 20, "second")), {})
    (axes,) = draw(table).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]


def test_csv_can_be_read_back_and_holds_what_stands_beside(table: Table, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(csv_text(table))
    assert read_rows(tmp_path / "table.csv") == table.rows
    lines = list(csv.DictReader(io.StringIO(csv_text(table))))
    assert lines[1]["reference_success_rate"] == "0.68"
    assert lines[1]["octo-tiny from scratch: successes"] == "20"
    assert lines[0]["octo-tiny from scratch: successes"] == ""
    assert lines[3]["against_reference"] == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"demos,rate\n0,1\n", "lacks the column 'success_rate'"),
        (b"demos,success_rate,training_minutes\n0,x,1\n", "not a number"),
        (b"demos,success_rate,training_minutes\n0\n", "not a number"),
        (b"", "lacks the column 'demos'"),
        (b"\xff\xfe\x00", "is not a UTF-8 text"),
    ],
)
def test_a_broken_reference_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "reference.csv"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=f"reference.csv: {message}"):
        read_reference(path)


def test_the_figure_is_a_picture_and_always_the_same(table: Table, tmp_path: Path) -> None:
    write_figure(table, tmp_path)
    assert Image.open(tmp_path / "figure.png").size == (1050, 675)
    first = (tmp_path / "figure.svg").read_bytes()
    assert ElementTree.fromstring(first).tag.endswith("svg")
    write_figure(table, tmp_path)
    assert (tmp_path / "figure.svg").read_bytes() == first
