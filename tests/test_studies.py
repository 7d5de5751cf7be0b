"""Study declarations and their cells."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from octo_bench.errors import BadStudy, UnknownName
from octo_bench.studies.cells import declared_cells
from octo_bench.studies.scheduler import plan
from octo_bench.studies.study import Study, find_study, finetune_settings, read_study

DECLARATION = """
title = "a test"
seed = 3
episodes = 30
draws = [0, 1]

[[policies]]
policy = "random"
head = "diffusion"

[[policies]]
policy = "random"
head = "diffusion"
from_scratch = true

[[targets]]
env = "Lift-Panda"
demos = [0, 2]

[demonstrations]
count = 4
first_seed = 1000

[finetune]
mode = "head"
steps = { 2 = 7 }
optimisation = { batch_size = 8 }
"""


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return declare(tmp_path, DECLARATION)


def declare(folder: Path, text: str) -> Study:
    path = folder / "study.toml"
    path.write_text(text)
    return read_study(path)


def test_what_is_declared_is_what_is_read(study: Study) -> None:
    assert (study.title, study.seed, study.episodes) == ("a test", 3, 30)
    assert study.targets[0].env == "octo_bench/Lift-Panda-v0"
    settings = finetune_settings(study, 2, seed=5)
    assert (settings.mode, settings.seed) == ("head", 5)
    assert (settings.optimisation.steps, settings.optimisation.batch_size) == (7, 8)
    default = type(settings)().optimisation
    assert settings.optimisation.learning_rate == default.learning_rate


@pytest.mark.parametrize("name", ["quick", "quick-scratch"])
def test_the_shipped_studies_are_valid(name: str) -> None:
    study = read_study(find_study(name))
    assert study.episodes == 50
    assert all(finetune_settings(study, demos, 0) for demos in (50, 100, 200))


def test_the_study_from_scratch_differs_in_the_start_only() -> None:
    quick, scratch = (read_study(find_study(name)) for name in ("quick", "quick-scratch"))
    assert quick.beside == ("quick-scratch",)
    assert [entry.from_scratch for entry in scratch.policies] == [True]
    for key in ("seed", "episodes", "draws", "train_seeds", "demonstrations", "finetune"):
        assert getattr(quick, key) == getattr(scratch, key)


def test_an_unknown_study_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown study 'quik'; did you mean quick"):
        find_study("quik")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("episodes = 30", "episods = 30", r"study\.toml: unknown key 'episods'; .*'episodes'"),
        ("from_scratch = true", "scratch = 1", r"unknown key 'policies\[1\]\.scratch'"),
        ("seed = 3\n", "", "the key 'seed' is missing"),
        ("episodes = 30", "episodes = '30'", "'episodes' must be int, not '30'"),
        ("episodes = 30", "episodes = 0", "'episodes' must be at least 1"),
        ("draws = [0, 1]", "draws = []", "'draws' must not be empty"),
        ("from_scratch = true", "", "'policies' has an entry twice"),
        ("demos = [0, 2]", "demos = [0, 5]", "'demonstrations.count' is less than"),
        ("steps = { 2 = 7 }", "steps = { 3 = 7 }", "the key 'finetune.steps.2' is missing"),
        ("steps = { 2 = 7 }", "", "the key 'finetune.steps.2' is missing"),
        ("steps = { 2 = 7 }", "steps = { 2 = 0 }", "'steps' must be at least 1"),
        ('mode = "head"', 'mod = "head"', "unknown key 'finetune.mod'; did you mean 'mode'"),
        ('mode = "head"', 'mode = "feet"', "'finetune.mode' is 'feet'; use one of full"),
        ("batch_size", "batchsize", "unknown key 'finetune.optimisation.batchsize'; .*batch_size"),
        ("batch_size", "steps", "unknown key 'finetune.optimisation.steps'"),
        ("episodes = 30", "episodes =", "cannot be read as TOML"),
    ],
)
def test_a_wrong_declaration_names_the_file_the_key_and_the_mend(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in DECLARATION
    with pytest.raises(BadStudy, match=message) as error:
        declare(tmp_path, DECLARATION.replace(old, new))
    assert str(error.value).startswith(str(tmp_path / "study.toml"))


def test_a_missing_reference_is_named(tmp_path: Path) -> None:
    text = DECLARATION.replace("demos = [0, 2]", 'demos = [0, 2]\nreference = "gone.csv"')
    with pytest.raises(BadStudy, match=r"there is no .*gone\.csv"):
        declare(tmp_path, text)


def test_an_unknown_environment_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"did you mean .*octo_bench/Lift-Panda-v0"):
        declare(tmp_path, DECLARATION.replace("Lift-Panda", "octo_bench/Lft-Panda-v0"))


def test_cells_are_all_combinations_once(study: Study) -> None:
    cells = [(c.policy.name, c.demos, c.draw) for c in declared_cells(study)]
    assert cells == [
        ("random", 0, 0),  # without demonstrations there is nothing to draw
        ("random", 2, 0),
        ("random", 2, 1),
        ("random from scratch", 2, 0),
        ("random from scratch", 2, 1),
    ]


def keys(study: Study) -> dict[tuple[str, int, int], str]:
    return {(c.policy.name, c.demos, c.draw): c.key for c in declared_cells(study)}


def test_keys_tell_cells_apart_and_are_stable(study: Study) -> None:
    assert len(set(keys(study).values())) == 5
    assert keys(study) == keys(study)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("seed = 3", "seed = 4", {0, 2}),
        ("Lift-Panda", "Lift-IIWA", {0, 2}),
        ("first_seed = 1000", "first_seed = 2000", {2}),
        ("count = 4", "count = 5", {2}),
        ("2 = 7", "2 = 8", {2}),
        ("batch_size = 8", "batch_size = 9", {2}),
        ('title = "a test"', 'title = "another"', set()),
        ("episodes = 30", "episodes = 31", set()),  # the first 30 stay what they are
    ],
)
def test_keys_change_with_what_the_result_depends_on_only(
    tmp_path: Path, study: Study, old: str, new: str, changed: set[int]
) -> None:
    before, after = keys(study), keys(declare(tmp_path, DECLARATION.replace(old, new)))
    assert {
        demos
        for name, demos, draw in before
        if before[name, demos, draw] != after[name, demos, draw]
    } == changed


def test_the_plan_collects_once_and_cuts_episodes_into_pieces(study: Study) -> None:
    tasks = plan(study, declared_cells(study), Path("out"), workers=2)
    phases = [task.phase for task in tasks]
    assert phases.count("demonstrations") == 1
    assert phases.count("fine-tuning") == 4
    assert phases.count("evaluation") == 2 * 5
    names = {task.name for task in tasks}
    assert len(names) == len(tasks)
    assert all(names.issuperset(task.needs) for task in tasks)
    first = [task.arguments["first_episode"] for task in tasks if task.phase == "evaluation"]
    count = [task.arguments["episodes"] for task in tasks if task.phase == "evaluation"]
    assert list(zip(first, count, strict=True))[:2] == [(0, 25), (25, 5)]


def test_no_task_depends_on_the_number_of_workers(study: Study) -> None:
    cells = declared_cells(study)
    alone, many = (plan(study, cells, Path("out"), workers) for workers in (1, 8))
    for one, other in zip(alone, many, strict=True):
        changed = {k for k in one.arguments if one.arguments[k] != other.arguments[k]}
        assert changed <= {"workers"}
        assert dataclasses.replace(one, arguments={}, slots=1).name == other.name
