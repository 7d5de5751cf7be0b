"""Tables and figures."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from octo_bench.errors import BadFile
from octo_bench.paths import results_root
from octo_bench.reports.figure import write_figure
from octo_bench.reports.table import (
    ReferencePoint,
    Row,
    Table,
    csv_text,
    markdown,
    read_reference,
    read_rows,
)

STACK, LIFT = "octo_bench/Stack-Panda-v0", "octo_bench/Lift-Panda-v0"


def row(demos: int, successes: int, policy: str = "octo-tiny", **more: object) -> Row:
    values = {"env_id": STACK, "episodes": 50, "errors": 0, "training_minutes": demos / 20}
    return Row(
        policy=policy, head="diffusion", demos=demos, successes=successes, **{**values, **more}
    )


@pytest.fixture
def table() -> Table:
    return Table(
        title="A study",
        rows=(row(0, 10), row(50, 36), row(200, 49), row(0, 40, env_id=LIFT)),
        references={STACK: read_reference(results_root() / "reference" / "octo.csv")},
        beside=(row(50, 20, "octo-tiny from scratch"),),
    )


def test_the_reference_table_is_the_published_one() -> None:
    reference = read_reference(results_root() / "reference" / "octo.csv")
    assert {n: (p.success_rate, p.training_minutes) for n, p in reference.items()} == {
        0: (0.35, 0),
        50: (0.68, 30),
        100: (0.79, 60),
        200: (0.87, 120),
    }


@pytest.mark.parametrize(
    ("successes", "verdict"), [(10, "below"), (25, "not told apart"), (40, "above")]
)
def test_the_verdict_follows_the_interval(successes: int, verdict: str) -> None:
    assert ReferencePoint(0.5, 0).against(row(0, successes)) == verdict


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
        "not told apart |",
    ]
    assert "Published" not in lift.splitlines()[2]
    assert "infrastructure" not in text


def test_episodes_that_are_not_counted_are_told_with_what_they_could_have_been() -> None:
    text = markdown(Table("A study", (row(0, 12, episodes=48, errors=2), row(50, 20)), {}))
    assert "2 episodes ended in an infrastructure error" in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith("|")]
    assert lines[0][3:5] == ["Errors", "Worst to best case"]
    assert lines[2][1:5] == ["12/48 = 25 %", "14 to 40 %", "2", "24 to 28 %"]
    assert lines[3][3:5] == ["0", "40 to 40 %"]
    assert "nfit" not in text
    written = next(csv.DictReader(io.StringIO(csv_text(Table("", (row(0, 12, errors=2),), {})))))
    assert (written["worst_case"], written["best_case"]) == ("0.2308", "0.2692")


def test_a_run_with_many_errors_is_called_unfit() -> None:
    unfit = row(0, 10, episodes=47, errors=3)
    assert unfit.unfit
    assert not row(0, 10, episodes=57, errors=3).unfit
    text = markdown(Table("A study", (unfit, row(50, 20)), references={}))
    assert text.splitlines()[2].startswith("**Unfit.**")
    assert "| 3, unfit |" in text


def test_a_row_without_episodes_has_no_rate() -> None:
    assert math.isnan(row(0, 0, episodes=0).rate)
    assert "no episodes" in markdown(Table("A study", (row(0, 0, episodes=0),), references={}))


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
        (b"\xff\xfe\x00", "cannot be read"),
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
