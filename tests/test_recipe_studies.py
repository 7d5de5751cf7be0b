"""Studies that pre-train their policies by recipes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from synthetic import SIZE, tiny_config, toy_demonstrations
from synthetic_study import episode

from octo_bench.cli import run
from octo_bench.demonstrations.dataset import read_demonstrations
from octo_bench.errors import BadFile, BadRecipe, BadStudy
from octo_bench.evaluation.records import read_records, write_records
from octo_bench.files import write_json
from octo_bench.studies import scheduler
from octo_bench.studies.artifacts import Run, write_artifacts
from octo_bench.studies.cells import Cell, declared_cells, recipe_of
from octo_bench.studies.pool import Task
from octo_bench.studies.pretraining import Collection, Pretraining
from octo_bench.studies.replaying import policy_of
from octo_bench.studies.scheduler import (
    demonstrations_file,
    plan,
    policy_folder,
    records_file,
    run_cells,
    training_file,
)
from octo_bench.studies.study import Study, read_study
from octo_bench.studies.tasks import pre_train
from octo_bench.training import pretrain
from octo_bench.training.recipes import Data, Recipe
from octo_bench.training.settings import Optimisation

DECLARATION = """
title = "Three arms or one"
seed = 0
episodes = 2

[[policies]]
recipe = "recipes/three_arms.toml"
head = "diffusion"
name = "three arms"

[[policies]]
recipe = "recipes/one_arm.toml"
head = "diffusion"

[[policies]]
policy = "octo-tiny"
head = "diffusion"

[[targets]]
env = "Lift-Panda"
demos = [0, 2]

[demonstrations]
count = 2
first_seed = 1000

[finetune]
steps = { 2 = 4 }
"""

# Strides as large as they go, for speed; 8 channels would meet a bug of oneDNN, see
# tests/test_reproduction.py.
THREE_ARMS = """
execute = 4

[[data]]
env = "octo_bench/Lift-IIWA-v0"
demos = 1
first_seed = 2_000_000

[[data]]
env = "octo_bench/Lift-UR5e-v0"
demos = 2
first_seed = 3_000_000
suite = "camera"
level = 2

[model]
width = 32
window = 1
image_size = 96
proprio = [0, 1, 9]
head = "diffusion"
vision = { blocks = [1, 1], widths = [16, 16], strides = [2, 2], stem_kernel = 3, \
stem_stride = 4, stem_maxpool = false, groups = 4, pooling = "flatten" }
language = { pretrained = "", layers = 1, width = 16, heads = 2, feed_forward = 32 }
transformer = { layers = 2, heads = 2, feed_forward = 64 }
diffusion = { down_dims = [16, 16], blocks = 1, step_embedding = 16, groups = 4, condition = 32 }

[optimisation]
steps = 6
batch_size = 4
warmup = 2
noise_draws = 2
"""

ONE_ARM = """
base = "three_arms.toml"
data = [{ env = "octo_bench/Lift-IIWA-v0", demos = 2, first_seed = 2_000_000, weight = 2.0 }]
"""

RUN = Run(workers=2, wall_seconds=10.0)


def declare(
    folder: Path, study: str = DECLARATION, three_arms: str = THREE_ARMS, one_arm: str = ONE_ARM
) -> Study:
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / "three_arms.toml").write_text(three_arms)
    (folder / "recipes" / "one_arm.toml").write_text(one_arm)
    (folder / "study.toml").write_text(study)
    return read_study(folder / "study.toml")


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
    shared = tasks["2 demonstrations in octo_bench/Lift-IIWA-v0 from seed 2000000"]
    own = tasks["2 demonstrations in octo_bench/Lift-UR5e-v0 from seed 3000000, camera, level 2"]
    files = [task.arguments["out"].name.rpartition("-")[0] for task in (shared, own)]
    assert files == ["Lift-IIWA-v0-seed2000000", "Lift-UR5e-v0-camera2-seed3000000"]
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
    assert tuned.needs == ("2 demonstrations in octo_bench/Lift-Panda-v0", three.name)
    assert tuned.arguments["policy"] == str(three.arguments["out"])
    assert tuned.done.name == "training.json" and three.done.name == "pretraining.json"
    shipped = tasks[f"fine-tuning of {cells['octo-tiny', 2].trained}"]
    assert shipped.arguments["policy"] == "octo-tiny"


def test_a_selection_asks_for_no_more_than_it_needs(tmp_path: Path) -> None:
    study = declare(tmp_path)
    three = [cell for cell in declared_cells(study) if cell.policy.name == "three arms"]
    names = [task.name for task in plan(study, three[:1], Path("out"), 2)]
    assert "1 demonstrations in octo_bench/Lift-IIWA-v0 from seed 2000000" in names
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


# Pre-training as a task.


def write_demonstrations(path: Path, count: int) -> None:
    """The first of some toy demonstrations, in a file."""
    toy = toy_demonstrations(4)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        names = ("env_id", "embodiment", "task", "instruction")
        data.attrs.update({name: getattr(toy, name) for name in names})
        data.attrs["paraphrases"] = json.dumps(toy.paraphrases)
        for number, each in enumerate(toy.episodes[:count]):
            demo = data.create_group(f"demo_{number}")
            for name in ("image_primary", "image_wrist", "proprio"):
                demo[f"obs/{name}"] = getattr(each, name)
            demo["actions"] = each.actions
            demo.attrs["seed"] = each.seed


def toy_pretraining(folder: Path) -> Pretraining:
    recipe = Recipe(
        data=(Data("octo_bench/Follow-Toy-v0", 2, 0),),
        model=tiny_config(image_size=SIZE),
        optimisation=Optimisation(
            steps=6, batch_size=4, warmup=2, noise_draws=2, checkpoint_every=3
        ),
        execute=2,
    )
    collection = Collection("octo_bench/Follow-Toy-v0", 0, "", 0, None, "1" * 64)
    return Pretraining(folder / "toy.toml", recipe, (collection,), "2" * 64)


def test_a_stopped_pre_training_goes_on_though_its_file_has_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretraining, file = toy_pretraining(tmp_path), tmp_path / "toy.hdf5"
    write_demonstrations(file, 2)
    alone = pre_train(pretraining, [file], tmp_path / "alone")
    assert (alone["steps"], sorted(alone["policy"])) == (
        6,
        ["config.json", "model.safetensors", "statistics.json"],
    )

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(pretrain, "write_policy", stop)
        pre_train(pretraining, [file], tmp_path / "stopped")
    assert (tmp_path / "stopped" / "training_state.pt").is_file()
    write_demonstrations(file, 4)
    assert len(read_demonstrations(file).episodes) == 4
    with monkeypatch.context() as no_more:
        no_more.setattr("octo_bench.training.loop._Run._train_step", stop)
        again = pre_train(pretraining, [file], tmp_path / "stopped")
    assert again["policy"]["model.safetensors"] == alone["policy"]["model.safetensors"]
    write_demonstrations(file, 2)
    state = tmp_path / "other" / "training_state.pt"
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):
        stopped.setattr(pretrain, "write_policy", stop)
        pre_train(pretraining, [file], state.parent)
    with h5py.File(file, "r+") as changed:
        changed["data/demo_0/actions"][0, 0] = np.float32(0.5)
    with pytest.raises(BadFile, match="belongs to a run with other data"):
        pre_train(pretraining, [file], state.parent)


# What is left.


def finish(study: Study, cells: Sequence[Cell], out: Path, pretrained: bool = True) -> None:
    """Leave what a run leaves of cells."""
    for cell in cells:
        columns = {**cell.columns, "head": cell.policy.head}
        file = records_file(cell, 0, study.episodes, out)
        write_records([episode(n, n == 0, **columns) for n in range(2)], file, None)
        write_json(file.with_suffix(".json"), {"seconds": 5.0, "errors": 0})
        if cell.pretraining is not None and pretrained:
            counts = zip(cell.pretraining.collections, cell.pretraining.recipe.data, strict=True)
            for collection, entry in counts:
                summary = {"seconds": 20.0, "kept": entry.demos, "sha256": "3" * 64}
                write_json(collection.done(entry.demos, out), summary)
            weights = {"model.safetensors": "4" * 64}
            summary = {"seconds": 120.0, "steps": 6, "final_loss": 0.25, "policy": weights}
            write_json(cell.pretraining.done(out), summary)
            folder = cell.pretraining.folder(out) / "policy"
            folder.mkdir(exist_ok=True)
            (folder / "config.json").touch()
        if cell.demos:
            write_json(training_file(cell, out), {"seconds": 60.0, "steps": 4})
            pool = demonstrations_file(study, cell.env, out).with_suffix(".json")
            write_json(pool, {"seconds": 10.0, "kept": 2, "sha256": "0" * 64})


def test_the_result_tells_what_was_pre_trained(tmp_path: Path) -> None:
    study = declare(tmp_path)
    cells = declared_cells(study)
    finish(study, cells, tmp_path)
    assert write_artifacts(study, cells, tmp_path, RUN).written
    result = json.loads((tmp_path / "study_result.json").read_text())
    assert result["process_seconds"] == {
        "demonstrations": 70.0,  # the file with one demonstration has grown to two
        "pre-training": 240.0,
        "fine-tuning": 180.0,
        "evaluation": 30.0,
    }
    said = result["pretraining"]
    assert list(said) == ["three arms", "one_arm"]
    wanted = {"seconds": 120.0, "steps": 6, "final_loss": 0.25, "key": cells[0].policy_key}
    assert wanted.items() <= said["three arms"].items()
    assert list(result["policies"]) == ["octo-tiny"]
    place = "demonstrations in octo_bench/Lift-IIWA-v0 from seed 2000000"
    assert (result["demonstrations"][place]["kept"], len(result["demonstrations"])) == (2, 3)
    assert [cell["training"] and cell["training"]["seconds"] for cell in result["cells"]] == [
        None,
        60.0,
    ] * 3


def test_what_is_committed_of_recipes_is_kept_by_key(tmp_path: Path) -> None:
    study = declare(tmp_path)
    cells = declared_cells(study)
    finish(study, cells[:4], tmp_path)
    write_artifacts(study, cells, tmp_path, RUN)
    before = json.loads((tmp_path / "study_result.json").read_text())
    (tmp_path / "cells").rename(tmp_path / "elsewhere")
    (tmp_path / "demonstrations").rename(tmp_path / "elsewhere" / "demonstrations")
    finish(study, cells[4:], tmp_path)
    assert write_artifacts(study, cells, tmp_path, RUN).written
    after = json.loads((tmp_path / "study_result.json").read_text())
    assert after["pretraining"] == before["pretraining"] and len(after["pretraining"]) == 2
    assert after["demonstrations"] == before["demonstrations"]
    assert after["cells"][:4] == before["cells"] and len(after["cells"]) == 6

    study = declare(tmp_path, one_arm=ONE_ARM.replace("demos = 2", "demos = 3"))
    cells = declared_cells(study)
    found = write_artifacts(study, cells, tmp_path, RUN)
    assert [str(cell) for cell in found.outdated] == [str(cell) for cell in cells[2:4]]
    finish(study, cells[2:4], tmp_path)
    assert write_artifacts(study, cells, tmp_path, RUN).written
    after = json.loads((tmp_path / "study_result.json").read_text())
    assert after["pretraining"]["one_arm"]["key"] == cells[2].policy_key


def test_a_cell_whose_pre_training_is_not_there_is_not_finished(tmp_path: Path) -> None:
    study = declare(tmp_path)
    cells = declared_cells(study)
    finish(study, cells[:2], tmp_path, pretrained=False)
    assert not write_artifacts(study, cells, tmp_path, RUN).written


def test_an_episode_is_replayed_with_the_policy_that_was_pre_trained(tmp_path: Path) -> None:
    study = declare(tmp_path)
    cells = declared_cells(study)
    finish(study, cells, tmp_path)
    write_artifacts(study, cells, tmp_path, RUN)
    file = tmp_path / "episodes.parquet"
    records = {(record.policy, record.demos): record for record in read_records(file)}
    zero, shipped = records["three arms", 0], records["octo-tiny", 0]
    folder = policy_folder(cells[0], tmp_path) / "policy"
    assert policy_of(zero, file) == str(folder)
    assert policy_of(zero, records_file(cells[0], 0, 2, tmp_path)) == str(folder)
    assert policy_of(shipped, file) == "octo-tiny"
    assert policy_of(shipped, records_file(cells[4], 0, 2, tmp_path)) == "octo-tiny"
    # Only of a study's cell the folder above is its policy.
    (tmp_path / "policy").mkdir()
    other = replace(shipped, policy="octo-tiny-categorical")
    assert policy_of(other, tmp_path / "mine" / "e.parquet") == "octo-tiny-categorical"
    (folder / "config.json").unlink()
    with pytest.raises(BadFile, match="the policy that was pre-trained is not here; make it with"):
        policy_of(zero, file)
    alone = tmp_path / "mine" / "e.parquet"
    assert policy_of(zero, alone) == "three arms"  # nothing tells that it is a study's


def test_the_page_tells_the_pre_trainings_and_their_recipes(tmp_path: Path) -> None:
    study = declare(tmp_path)
    finish(study, declared_cells(study), tmp_path)
    assert run(["report", str(tmp_path), "--no-films"]) == 0
    text = (tmp_path / "report.html").read_text()
    assert "Pre-training of three arms" in text and "6 steps, final loss 0.2500" in text
    assert "Time at pre-training" in text
    assert "three arms/model.safetensors" in text
    one = text.partition("Recipe of one_arm")[2]
    assert one.index("weight = 2.0") < one.index("# three_arms.toml") < one.index("3_000_000")
    assert "| three arms (diffusion head) | 2 | 1/2 = 50 %" in (tmp_path / "table.md").read_text()


def test_a_recipe_runs_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Small but real: collected, pre-trained, and measured as it is."""
    _, first, one, shipped, *rest = DECLARATION.replace("[[targets]]", "[[policies]]").split(
        "[[policies]]"
    )
    assert "three_arms" in first and "octo-tiny" in shipped
    text = f'title = "small"\nseed = 0\nepisodes = 1\n[[policies]]{one}[[targets]]{rest[0]}'
    one_arm = ONE_ARM.replace("demos = 2", "demos = 1")
    declare(tmp_path, text.replace("demos = [0, 2]", "demos = [0]"), one_arm=one_arm)
    assert run(["reproduce", str(tmp_path), "--workers", "1"]) == 0
    (record,) = read_records(tmp_path / "episodes.parquet")
    assert (record.policy, record.head, record.error) == ("one_arm", "diffusion", "")
    said = json.loads((tmp_path / "study_result.json").read_text())["pretraining"]["one_arm"]
    weights = policy_folder(declared_cells(read_study(tmp_path / "study.toml"))[0], tmp_path)
    assert said["steps"] == 6 and (weights / "policy" / "model.safetensors").is_file()
    capsys.readouterr()
    assert run(["reproduce", str(tmp_path), "--workers", "1"]) == 0
    assert "3 of 3 tasks are already done" in capsys.readouterr().err
