"""Studies that are measured piece by piece: what is gathered, kept, and left alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.synthetic_study import episode
from octo_bench.cli import run
from octo_bench.files import write_json
from octo_bench.records.conditions import Condition
from octo_bench.records.record import EpisodeRecord, read_records, write_records
from octo_bench.studies.artifacts import Run, write_artifacts
from octo_bench.studies.cell_choice import Rerun
from octo_bench.studies.cells import Cell, declared_cells, place_of
from octo_bench.studies.replaying import policy_of
from octo_bench.studies.scheduler import demonstrations_file, records_file, training_file
from octo_bench.studies.study import Study, read_study
from octo_bench.studies.tasks import measure

DECLARATION = """
title = "Piece by piece"
seed = 0
episodes = {episodes}

[[policies]]
policy = "octo-tiny"
head = "diffusion"

[[policies]]
policy = "octo-tiny"
head = "diffusion"
name = "octo-tiny, LoRA"
finetune = {{ mode = "lora" }}

[[policies]]
policy = "random"

[[targets]]
env = "Lift-Panda"
demos = [0, 2]

[[targets]]
env = "Stack-Panda"
demos = [0, 2]

[[conditions]]

[[conditions]]
suite = "camera"

[demonstrations]
count = 2
first_seed = 1000

[finetune]
steps = {{ 2 = {steps} }}
"""
RUN = Run(workers=2, wall_seconds=10.0)


def declare(folder: Path, episodes: int = 4, steps: int = 7) -> tuple[Study, tuple[Cell, ...]]:
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(DECLARATION.format(episodes=episodes, steps=steps))
    study = read_study(folder / "study.toml")
    return study, declared_cells(study)


def finish(study: Study, cells: Sequence[Cell], out: Path, successes: int = 1) -> None:
    """Leave what a run leaves of cells."""
    for cell in cells:
        columns = {**cell.columns, "head": cell.policy.head or ""}
        records = [episode(n, n < successes, **columns) for n in range(study.episodes)]
        file = records_file(cell, 0, study.episodes, out)
        write_records(records, file, None)
        write_json(file.with_suffix(".json"), {"seconds": 5.0, "errors": 0})
        if cell.demos:
            write_json(training_file(cell, out), {"seconds": 60.0, "steps": 7})
            pool = demonstrations_file(study, cell.env, out).with_suffix(".json")
            write_json(pool, {"seconds": 20.0, "kept": 2, "sha256": "0" * 64})


def gathered(out: Path) -> dict[tuple, list[EpisodeRecord]]:
    found: dict[tuple, list[EpisodeRecord]] = {}
    for record in read_records(out / "episodes.parquet"):
        found.setdefault(place_of(record), []).append(record)
    return found


def result(out: Path) -> dict:
    return json.loads((out / "study_result.json").read_text())


def trained(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.demos and cell.policy.name == "octo-tiny"]


def test_what_is_finished_is_written_and_the_rest_is_left_out(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    some = trained(cells)
    assert len(some) == 4  # two targets, two conditions
    finish(study, some, tmp_path)
    # Of this one, an evaluation has ended and its fine-tuning, as it were, has not.
    half = next(cell for cell in cells if cell.demos and cell.policy.name == "octo-tiny, LoRA")
    finish(study, [half], tmp_path)
    training_file(half, tmp_path).unlink()
    assert write_artifacts(study, cells, tmp_path, RUN).written
    assert list(gathered(tmp_path)) == [cell.place for cell in some]
    said = result(tmp_path)
    assert [place_of(cell) for cell in said["cells"]] == [cell.place for cell in some]
    assert said["declared_cells"] == len(cells) == 18
    # Two fine-tunings and two collections, shared by the conditions; four evaluations.
    assert said["process_seconds"] == {
        "demonstrations": 40.0,
        "fine-tuning": 120.0,
        "evaluation": 20.0,
    }


def test_nothing_is_written_where_nothing_is_finished(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    assert not write_artifacts(study, cells, tmp_path, RUN).written
    assert [file.name for file in tmp_path.iterdir()] == ["study.toml"]


def test_a_cell_that_is_only_committed_is_kept_as_long_as_its_key_is(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    some = trained(cells)
    first, second = some[:2], some[1:3]
    finish(study, first, tmp_path, successes=1)
    write_artifacts(study, cells, tmp_path, RUN)
    (tmp_path / "cells").rename(tmp_path / "elsewhere")  # a fresh clone has no work directories
    before = (tmp_path / "study_result.json").read_bytes()
    assert not write_artifacts(study, cells, tmp_path, RUN).written
    assert (tmp_path / "study_result.json").read_bytes() == before
    finish(study, second, tmp_path, successes=3)
    assert write_artifacts(study, cells, tmp_path, RUN).written
    rates = [sum(r.success_once for r in records) for records in gathered(tmp_path).values()]
    assert rates == [1, 3, 3]  # what was measured again is of now
    assert [cell["key"] for cell in result(tmp_path)["cells"]] == [cell.key for cell in some[:3]]
    assert result(tmp_path)["process_seconds"]["evaluation"] == 15.0


def test_no_committed_cell_gets_lost_to_other_settings(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    finish(study, trained(cells), tmp_path)
    write_artifacts(study, cells, tmp_path, RUN)
    before = (tmp_path / "episodes.parquet").read_bytes()
    study, cells = declare(tmp_path, steps=8)
    some = trained(cells)
    finish(study, some[:2], tmp_path)
    found = write_artifacts(study, cells, tmp_path, RUN)
    assert not found.written and found.outdated == tuple(some[2:])
    assert (tmp_path / "episodes.parquet").read_bytes() == before
    finish(study, some[2:], tmp_path)
    assert write_artifacts(study, cells, tmp_path, RUN).written
    assert {cell["key"] for cell in result(tmp_path)["cells"]} == {cell.key for cell in some}


def test_more_episodes_than_are_committed_are_measured_first(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    finish(study, trained(cells)[:2], tmp_path)
    write_artifacts(study, cells, tmp_path, RUN)
    study, cells = declare(tmp_path, episodes=5)
    first, second = trained(cells)[:2]
    finish(study, [first], tmp_path)
    assert write_artifacts(study, cells, tmp_path, RUN).outdated == (second,)


def test_a_policy_under_two_names_stands_under_both(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    shipped = [cell for cell in cells if not cell.demos and cell.policy.policy == "octo-tiny"]
    assert len(shipped) == 8 and len({cell.key for cell in shipped}) == 4
    finish(study, shipped[:4], tmp_path)
    write_artifacts(study, cells, tmp_path, RUN)
    assert list(gathered(tmp_path)) == [cell.place for cell in shipped]
    assert result(tmp_path)["process_seconds"]["evaluation"] == 20.0
    lora = gathered(tmp_path)[shipped[-1].place][0]
    assert lora.policy == "octo-tiny, LoRA"
    assert policy_of(lora, tmp_path / "episodes.parquet") == "octo-tiny"  # to replay it


def test_all_conditions_of_a_policy_are_replayed_with_the_same_weights(tmp_path: Path) -> None:
    study, cells = declare(tmp_path)
    some = trained(cells)[:2]
    finish(study, some, tmp_path)
    write_artifacts(study, cells, tmp_path, RUN)
    folder = tmp_path / "cells" / some[0].policy_key[:16] / "policy"
    folder.mkdir()
    (folder / "config.json").touch()
    for cell in some:
        record = gathered(tmp_path)[cell.place][0]
        assert policy_of(record, tmp_path / "episodes.parquet") == str(folder)


def test_the_report_gathers_and_says_how_much_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, cells = declare(tmp_path)
    finish(study, trained(cells), tmp_path)
    assert run(["report", str(tmp_path), "--no-films"]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "<strong>Not finished.</strong> 4 of 18 cells are measured so far." in text
    assert "Success by demonstrations: camera, level 1" in text
    table = (tmp_path / "table.md").read_text()
    assert "**Not finished.** 4 of 18 cells are measured so far; the same command" in table
    assert "| camera, level 1 | 2 | 1/4 = 25 %" in table
    assert "## Mean over 2 targets, octo-tiny (diffusion head)" in table
    assert "Wall time" not in text  # nobody knows of a run that was killed
    study, cells = declare(tmp_path, steps=8)
    capsys.readouterr()
    assert run(["report", str(tmp_path), "--no-films"]) == 0
    said = capsys.readouterr().err
    assert "has 4 cells of other code, versions or settings" in said and said.count("\n") == 1


SELECTIONS = [
    (
        ["--env", "Lift-IIWA"],
        r"--env octo_bench/Lift-IIWA-v1; choose from octo_bench/Lift-Panda-v1",
    ),
    (
        ["--policy", "octo"],
        'no cell with --policy octo; choose from octo-tiny, "octo-tiny, LoRA", ',
    ),
    (["--policy", "random", "--demos", "2"], "--demos 2 among those chosen; choose from 0"),
    (["--demos", "2", "--draw", "1"], "--draw 1 among those chosen; choose from 0"),
    (["--suite", "lighting"], '--suite lighting; choose from "", camera'),
    (["--sample", "19"], "--sample 19 is more than the 18 cells there are to choose from"),
]


@pytest.mark.parametrize(("options", "said"), SELECTIONS)
def test_a_choice_that_matches_nothing_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    declare(tmp_path)
    assert run(["reproduce", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert (
        said in error and error.count("\n") == 1 and "study.toml: has no" in error
    ) or "--sa" in said


def test_a_selection_measures_only_that_and_compares_it_with_what_is_committed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, cells = declare(tmp_path)
    finish(study, trained(cells), tmp_path, successes=4)
    write_artifacts(study, cells, tmp_path, RUN)
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    asked: list[Cell] = []

    def measure(study: Study, some: Sequence[Cell], out: Path, workers: int) -> None:
        asked[:] = some
        finish(study, some, out, successes)

    monkeypatch.setattr("octo_bench.studies.scheduler.run_cells", measure)
    successes = 4
    lift = ["reproduce", str(tmp_path), "--env", "Lift-Panda"]
    assert run([*lift, "--policy", "octo-tiny", "--demos", "2"]) == 0
    assert asked == trained(cells)[:2]
    said = capsys.readouterr().out
    assert said.count("measured 4/4 = 100 %, committed 4/4 = 100 %: within its 95 % interval") == 2
    assert said.count("all 4 episode records identical") == 2

    successes = 3  # of four successes, three are within
    assert run([*lift, "--policy", "octo-tiny", "--demos", "2", "--suite", ""]) == 0
    said = capsys.readouterr().out
    assert "records differ, of 4 episodes: success_once in 1, steps in 1, furthest" in said
    successes = 0
    assert run([*lift, "--policy", "octo-tiny", "--demos", "2", "--suite", "camera"]) == 1
    printed = capsys.readouterr()
    assert "measured 0/4 = 0 %, committed 4/4 = 100 %: OUTSIDE its 95 % interval, 40 to 100 %" in (
        printed.out
    )
    assert printed.err == "1 of 1 rates lie outside their interval\n"
    assert run([*lift, "--policy", "random"]) == 0
    assert "the study has no committed episodes of this cell" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    assert not (tmp_path / "runs").exists()

    out = tmp_path / "elsewhere"
    assert run(["reproduce", str(tmp_path), "--sample", "5", "--out", str(out)]) == 0
    sampled = list(asked)
    assert len(sampled) == 5 and sampled == [cell for cell in cells if cell in sampled]
    assert (out / "cells").is_dir()
    run(["reproduce", str(tmp_path), "--sample", "5"])
    assert asked == sampled
    run(["reproduce", str(tmp_path), "--sample", "5", "--sample-seed", "1"])
    assert asked != sampled


def test_ctrl_c_writes_what_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, cells = declare(tmp_path)

    def interrupted(study: Study, some: Sequence[Cell], out: Path, workers: int) -> None:
        assert some == cells
        finish(study, trained(some), out)
        raise KeyboardInterrupt

    monkeypatch.setattr("octo_bench.studies.scheduler.run_cells", interrupted)
    with pytest.raises(SystemExit) as ended:
        run(["reproduce", str(tmp_path)])
    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "interrupted; finished work is kept, and the same command continues\n"
    )
    assert "4 of 18 cells" in (tmp_path / "table.md").read_text()
    assert len(read_records(tmp_path / "episodes.parquet")) == 16
    assert (tmp_path / "figure.svg").is_file()
    assert result(tmp_path)["workers"] >= 1


def test_a_cell_is_measured_under_its_condition(tmp_path: Path) -> None:
    _, cells = declare(tmp_path)
    cell = replace(cells[0], condition=Condition("camera", 2, "execute=2,task=none"))
    out = tmp_path / "episodes.parquet"
    measure(cell, "octo-tiny", seed=0, first_episode=1, episodes=1, out=out)
    (record,) = read_records(out)
    assert (place_of(record), record.head, record.episode) == (cell.place, "diffusion", 1)


def test_what_differs_from_run_to_run_is_no_difference(tmp_path: Path) -> None:
    _, cells = declare(tmp_path)
    measured = tuple(episode(n, True) for n in range(3))
    slower = tuple(replace(record, latency_ms_p50=99.0, attempts=2) for record in measured)
    assert Rerun(cells[0], measured, slower).differing == {}
    fewer = Rerun(cells[0], measured, slower[:2])
    assert fewer.differing["episode"] == fewer.differing["steps"] == 1
    broken = tuple(replace(record, error="FatalError: QACC") for record in measured)
    assert Rerun(cells[0], measured, broken).interval is None
    assert not Rerun(cells[0], broken, measured).is_outside
