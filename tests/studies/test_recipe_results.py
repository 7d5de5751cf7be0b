"""Studies that pre-train by recipes: the pre-training, and what is left of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from helpers.recipe_study import DECLARATION, ONE_ARM, RUN, declare
from helpers.synthetic import SIZE, tiny_config, toy_demonstrations
from helpers.synthetic_study import episode
from octo_bench.cli import run
from octo_bench.demonstrations.dataset import read_demonstrations
from octo_bench.errors import BadFile
from octo_bench.files import write_json
from octo_bench.records.record import read_records, write_records
from octo_bench.studies.artifacts import write_artifacts
from octo_bench.studies.cells import Cell, declared_cells
from octo_bench.studies.pretraining import Collection, Pretraining
from octo_bench.studies.replaying import policy_of
from octo_bench.studies.scheduler import (
    demonstrations_file,
    policy_folder,
    records_file,
    training_file,
)
from octo_bench.studies.study import Study, read_study
from octo_bench.studies.tasks import pre_train
from octo_bench.training import pretrain
from octo_bench.training.recipes import Data, Recipe
from octo_bench.training.settings import Optimisation

# Pre-training as a task.


def write_demonstrations(path: Path, count: int) -> None:
    """The first of some toy demonstrations, in a file."""
    toy = toy_demonstrations(4)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        names = ("env_id", "embodiment", "task", "instruction")
        data.attrs.update({name: getattr(toy, name) for name in names})
        data.attrs["paraphrases"] = json.dumps(toy.paraphrases)
        data.attrs["grippers"] = json.dumps(toy.grippers)
        for number, each in enumerate(toy.episodes[:count]):
            demo = data.create_group(f"demo_{number}")
            for name in ("image_primary", "image_wrist", "proprio"):
                demo[f"obs/{name}"] = getattr(each, name)
            demo["actions"] = each.actions
            demo.attrs["seed"] = each.seed


def toy_pretraining(folder: Path) -> Pretraining:
    recipe = Recipe(
        data=(Data("octo_bench/Follow-Toy-v1", 2, 0),),
        model=tiny_config(image_size=SIZE),
        optimisation=Optimisation(
            steps=6, batch_size=4, warmup=2, noise_draws=2, checkpoint_every=3
        ),
        execute=2,
    )
    collection = Collection("octo_bench/Follow-Toy-v1", 0, "", 0, None, "1" * 64)
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
    with pytest.raises(BadFile, match="belongs to a run that differs in: demonstrations"):
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
    place = "demonstrations in octo_bench/Lift-IIWA-v1 from seed 2000000"
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
    with pytest.raises(
        BadFile, match="the policy that was pre-trained is not available here; make it with"
    ):
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
