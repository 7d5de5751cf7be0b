"""Studies that pre-train by recipes: what is declared, its keys, and the plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.recipe_study import DECLARATION, ONE_ARM, THREE_ARMS, declare
from octo_bench.errors import BadRecipe, BadStudy
from octo_bench.files import write_json
from octo_bench.studies import scheduler
from octo_bench.studies.cells import declared_cells, recipe_of
from octo_bench.studies.pool import Task
from octo_bench.studies.scheduler import (
    plan,
    policy_folder,
    run_cells,
)
from octo_bench.studies.study import Study

# What is declared, and what is wrong.


def test_a_recipe_is_relative_to_the_study_and_names_its_policy(tmp_path: Path) -> None:
    study = declare(tmp_path)
    assert [entry.name for entry in study.policies] == ["three arms", "one_arm", "octo-tiny"]
    assert study.policies[1].recipe == tmp_path / "recipes" / "one_arm.toml"
    cells = [(cell.policy.name, cell.demos) for cell in declared_cells(study)]
    assert cells == [(entry.name, demos) for entry in study.policies for demos in (0, 2)]


ONE = 'recipe = "recipes/one_arm.toml"'
EITHER = r"'policies\[1\]' must have either a 'policy' or a 'recipe'; correct it"


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ('name = "neither"', EITHER),
        (f'{ONE}\npolicy = "octo-tiny"', EITHER),
        (f'{ONE}\npolicy = "random"', EITHER),
        (f"{ONE}\nfrom_scratch = true", r"'policies\[1\]\.from_scratch' contradicts the recipe"),
        ('recipe = "gone.toml"', r"there is no .*/gone\.toml; correct 'policies\[1\]\.recipe'"),
        ("recipe = 3", r"'policies\[1\]\.recipe' must be Path, not 3"),
    ],
)
def test_a_wrong_policy_is_told_in_one_line(tmp_path: Path, new: str, message: str) -> None:
    with pytest.raises(BadStudy, match=message) as error:
        declare(tmp_path, DECLARATION.replace(ONE, new))
    assert str(error.value).startswith(str(tmp_path / "study.toml: "))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight", "wait", r"unknown key 'data\[0\]\.wait'; did you mean 'weight'"),
        ("three_arms", "four_arms", "no such file"),
        ("Lift-IIWA", "Lift-IWA", r"'data\[0\]': unknown environment .*did you mean .*Lift-IIWA"),
        ("weight = 2.0", "suite = 'camra'", r"'data\[0\]': unknown suite 'camra'"),
        ("weight = 2.0", "suite = 'camera', level = 9", r"'data\[0\]': suite 'camera' has no lev"),
        ("Lift-IIWA", "TwoArmLift-Aloha", r"'data\[0\]': .*demonstrat"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in ONE_ARM
    study = declare(tmp_path, one_arm=ONE_ARM.replace(old, new))
    with pytest.raises(BadRecipe, match=message) as error:
        declared_cells(study)
    assert "_arm" in str(error.value) and "\n" not in str(error.value)


def test_the_head_is_the_recipes_unless_fine_tuning_gives_another(tmp_path: Path) -> None:
    categorical = ONE_ARM + '[model]\nhead = "categorical"\n'
    study = declare(tmp_path, one_arm=categorical)
    with pytest.raises(BadStudy, match=r"'one_arm.toml' has a categorical head, not diffusion"):
        declared_cells(study)
    swapped = DECLARATION.replace(ONE, f"{ONE}\nfinetune = {{ head = 'diffusion' }}")
    cells = declared_cells(declare(tmp_path, swapped, one_arm=categorical))
    assert [cell.demos for cell in cells if cell.policy.name == "one_arm"] == [2]


def test_a_condition_that_the_network_does_not_fit_names_the_recipe(tmp_path: Path) -> None:
    text = DECLARATION.replace("[demonstrations]", "[[conditions]]\nexecute = 9\n[demonstrations]")
    with pytest.raises(BadStudy, match=r"'conditions\[0\]': three_arms.toml predicts chunks of 4"):
        declared_cells(declare(tmp_path, text))


def test_policies_of_one_recipe_but_for_the_head_are_compared(tmp_path: Path) -> None:
    other = DECLARATION.replace("octo-tiny", "octo-tiny")
    study = declare(
        tmp_path, other, one_arm='base = "three_arms.toml"\nmodel = { head = "categorical" }'
    )
    three, one, shipped = (recipe_of(study, entry) for entry in study.policies)
    assert three == one != shipped
    study = declare(tmp_path)
    assert recipe_of(study, study.policies[0]) != recipe_of(study, study.policies[1])


# Keys.


def keys(study: Study) -> dict[tuple[str, int], tuple[str, str]]:
    return {(c.policy.name, c.demos): (c.policy_key, c.key) for c in declared_cells(study)}


@pytest.mark.parametrize(
    ("changed", "recipe", "old", "new"),
    [
        ({"one_arm"}, "one_arm", "demos = 2", "demos = 3"),
        ({"one_arm"}, "one_arm", "weight = 2.0", "weight = 1.0"),
        ({"one_arm"}, "one_arm", "2_000_000", "2_000_001"),
        ({"one_arm"}, "one_arm", "weight = 2.0", "disturbance = { rotation = 0.0 }"),
        ({"one_arm", "three arms"}, "three_arms", "steps = 6", "steps = 7"),
        ({"three arms"}, "three_arms", "level = 2", "level = 1"),
        (set(), "three_arms", "execute = 4", "execute = 4  # all of a chunk"),
    ],
)
def test_a_recipe_changes_the_keys_of_its_own_cells_only(
    tmp_path: Path, changed: set[str], recipe: str, old: str, new: str
) -> None:
    before = keys(declare(tmp_path))
    texts = {"three_arms": THREE_ARMS, "one_arm": ONE_ARM}
    assert old in texts[recipe]
    after = keys(declare(tmp_path, **{**texts, recipe: texts[recipe].replace(old, new)}))
    found = {
        name
        for name, demos in before
        if any(a != b for a, b in zip(before[name, demos], after[name, demos], strict=True))
    }
    assert found == changed


def test_a_recipe_and_its_base_written_out_are_the_same(tmp_path: Path) -> None:
    study = declare(tmp_path, one_arm='base = "three_arms.toml"')
    cells = declared_cells(study)
    assert len({cell.policy_key for cell in cells}) == 4  # of six
    tasks = plan(study, cells, Path("out"), 2)
    assert [task.name for task in tasks if task.phase == "pre-training"] == [
        "pre-training of three arms"
    ]


# The plan.


def test_the_plan_shares_demonstrations_and_pre_trains_before_the_rest(tmp_path: Path) -> None:
    study = declare(tmp_path)
    tasks = {task.name: task for task in plan(study, declared_cells(study), Path("out"), 2)}
    # Two are asked for by one recipe, and the first of them by the other.
    shared = tasks["2 demonstrations in octo_bench/Lift-IIWA-v1 from seed 2000000"]
    own = tasks["2 demonstrations in octo_bench/Lift-UR5e-v1 from seed 3000000, camera, level 2"]
    files = [task.arguments["out"].name.rpartition("-")[0] for task in (shared, own)]
    assert files == ["Lift-IIWA-v1-seed2000000", "Lift-UR5e-v1-camera2-seed3000000"]
    phases = [task.phase for task in tasks.values()]
    assert [phases.count(phase) for phase in scheduler.PHASES] == [3, 2, 3, 6]
    three, one = (tasks[f"pre-training of {name}"] for name in ("three arms", "one_arm"))
    assert three.needs == (shared.name, own.name) and one.needs == (shared.name,)
    assert three.arguments["demonstrations"] == [shared.arguments["out"], own.arguments["out"]]
    cells = {(cell.policy.name, cell.demos): cell for cell in declared_cells(study)}
    zero = tasks[f"episodes 0 to 1 of {cells['three arms', 0]}"]
    assert zero.needs == [three.name]
    assert zero.arguments["policy"] == str(three.arguments["out"])
    assert three.arguments["out"].parent == policy_folder(cells["three arms", 0], Path("out"))
    tuned = tasks[f"fine-tuning of {cells['three arms', 2].trained}"]
    assert tuned.needs == ("2 demonstrations in octo_bench/Lift-Panda-v1", three.name)
    assert tuned.arguments["policy"] == str(three.arguments["out"])
    assert tuned.done.name == "training.json" and three.done.name == "pretraining.json"
    shipped = tasks[f"fine-tuning of {cells['octo-tiny', 2].trained}"]
    assert shipped.arguments["policy"] == "octo-tiny"


def test_a_selection_asks_for_no_more_than_it_needs(tmp_path: Path) -> None:
    study = declare(tmp_path)
    three = [cell for cell in declared_cells(study) if cell.policy.name == "three arms"]
    names = [task.name for task in plan(study, three[:1], Path("out"), 2)]
    assert "1 demonstrations in octo_bench/Lift-IIWA-v1 from seed 2000000" in names
    assert len(names) == 4


def test_demonstrations_that_are_gone_are_collected_again_if_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = declare(tmp_path)
    cells = [cell for cell in declared_cells(study) if cell.policy.name == "one_arm"][:1]
    collecting, pretraining, measuring = plan(study, cells, tmp_path, 2)
    missing: list[Task] = []
    monkeypatch.setattr(scheduler, "run_tasks", lambda tasks, *_: missing.extend(tasks))
    write_json(collecting.done, {"seconds": 1.0, "kept": 2})
    run_cells(study, cells, tmp_path, 2)
    assert {task.name for task in missing} == {collecting.name, pretraining.name, measuring.name}
    missing.clear()
    collecting.arguments["out"].touch()
    run_cells(study, cells, tmp_path, 2)
    assert {task.name for task in missing} == {pretraining.name, measuring.name}
    missing.clear()
    collecting.arguments["out"].unlink()
    write_json(pretraining.done, {"seconds": 1.0})
    run_cells(study, cells, tmp_path, 2)
    assert [task.name for task in missing] == [measuring.name]
