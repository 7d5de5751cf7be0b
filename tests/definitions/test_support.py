"""Which pairs are supported: the survey of scripted experts, its table, and who is turned away."""

from __future__ import annotations

from pathlib import Path

import pytest

from octo_bench.cli import run
from octo_bench.definitions.environments import environment, environments, recorded_environment
from octo_bench.definitions.support import (
    REQUIRED_SUCCESS,
    Demonstrated,
    read_demonstrated,
    support,
    support_in,
    write_demonstrated,
)
from octo_bench.demonstrations.survey import survey
from octo_bench.errors import BadFile, BadRecords
from octo_bench.files import require_own_page
from octo_bench.paths import definitions_root, demonstrators_table
from octo_bench.reports.experts import PAGE, TITLE, write_demonstrators

LIFT = "octo_bench/Lift-Panda-v1"


def test_initial_states_are_frozen_for_the_supported_pairs_and_no_others() -> None:
    frozen = {file.stem for file in (definitions_root() / "initial_states").glob("*.safetensors")}
    pairs = (each for each in environments() if support(each).supported)
    assert frozen == {f"{each.task.name}-{each.embodiment.name}" for each in pairs}


def test_a_survey_measures_and_goes_on_with_the_table(tmp_path: Path) -> None:
    table = tmp_path / "demonstrators.csv"
    write_demonstrated(
        table, {"octo_bench/Door-Panda-v1": Demonstrated("octo_bench/Door-Panda-v1", 3, 1, 9.0)}
    )
    rows = survey(["Lift-Panda"], table, seeds=2, stock=True, progress=False)
    assert rows == read_demonstrated(table)
    assert set(rows) == {LIFT, "octo_bench/Door-Panda-v1"}
    lift = rows[LIFT]
    assert (lift.seeds, lift.successes, lift.stock_successes) == (2, 2, 2)
    assert 10 < lift.mean_steps < environment(LIFT).task.horizon


def test_a_page_beside_a_table_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    table, page = tmp_path / "my.csv", tmp_path / "README.md"
    page.write_text("# Mine\n")
    options = ["--env", "Lift-Panda", "--seeds", "1", "--workers", "1", "--out", str(table)]
    assert run(["demonstrators", *options]) == 0
    assert list(read_demonstrated(table)) == [LIFT]
    assert page.read_text() == "# Mine\n"


def test_the_committed_page_is_known_as_our_own(tmp_path: Path) -> None:
    committed = demonstrators_table().with_name(PAGE)
    require_own_page(committed, TITLE)
    foreign = tmp_path / PAGE
    foreign.write_text("# Mine\n")
    with pytest.raises(BadFile, match="exists and is another page"):
        require_own_page(foreign, TITLE)


def test_a_pair_is_supported_from_nine_in_ten(tmp_path: Path) -> None:
    declared = environment(LIFT)
    enough = Demonstrated(LIFT, 100, 90, 30.0, "grasp 10")
    assert support_in({LIFT: enough}, declared).supported is True
    short = support_in({LIFT: Demonstrated(LIFT, 100, 89, 30.0, "grasp 11")}, declared)
    assert short.supported is False
    assert "89 of 100" in short.reason
    assert "grasp 11" in short.reason
    assert support_in({}, declared).supported is None


def test_every_declared_pair_is_in_the_committed_table() -> None:
    rows = read_demonstrated(demonstrators_table())
    assert {each.id for each in environments()} == set(rows)
    assert {row.seeds for row in rows.values()} == {100}
    assert sum(row.rate >= REQUIRED_SUCCESS for row in rows.values()) >= 60


def test_with_robosuites_controller_the_demonstrators_succeed_as_often() -> None:
    compared = [
        row for row in read_demonstrated(demonstrators_table()).values() if row.stock_successes >= 0
    ]
    declared = {recorded_environment(row.env_id).embodiment.name for row in compared}
    assert declared == {each.embodiment.name for each in environments()}
    assert all(abs(row.successes - row.stock_successes) <= 2 for row in compared)


def test_the_page_has_every_pair(tmp_path: Path) -> None:
    rows = {LIFT: Demonstrated(LIFT, 10, 10, 30.0, "", 10)}
    rows["octo_bench/Stack-Panda-v1"] = Demonstrated(
        "octo_bench/Stack-Panda-v1", 10, 4, 60.0, "grasp 6"
    )
    write_demonstrators(tmp_path / "README.md", rows, environments())
    page = (tmp_path / "README.md").read_text()
    assert "**10/10**" in page
    assert "Stack on Panda: 4 of 10" in page
    assert "| Lift on Panda | 10 | 10 |" in page


def test_a_pair_that_is_not_supported_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = next(each for each in environments() if support(each).supported is False)
    for command in (
        ["collect", refused.id, "--demos", "1", "--out", str(tmp_path / "demos.hdf5")],
        ["evaluate", "random", refused.id, "--episodes", "1", "--out", str(tmp_path / "e.parquet")],
    ):
        assert run(command) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "demonstrators.csv" in line
        assert f"{refused.id} is not supported" in line


def test_a_broken_table_is_named(tmp_path: Path) -> None:
    table = tmp_path / "demonstrators.csv"
    table.write_text("env_id,seeds\nLift,many\n")
    with pytest.raises(BadRecords, match=r"demonstrators\.csv.*octo-bench demonstrators"):
        read_demonstrated(table)
