"""`octo-bench finetune`: with a study's settings, and one line for each of the user's mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.synthetic import SIZE, tiny_config, toy_demonstrations, write_demonstrations
from octo_bench.checkpoints.folder import describe
from octo_bench.cli import run
from octo_bench.studies.study import find_study, finetune_settings, read_study, settings_for
from octo_bench.training.finetune import FinetuneSettings
from octo_bench.training.pretrain import pretrain_on
from octo_bench.training.recipes import Data, Recipe
from octo_bench.training.settings import Optimisation

DEMOS = 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`policy`, a tiny one, and as many demonstrations as the studies' tables begin with."""
    folder = tmp_path_factory.mktemp("finetune")
    toy = toy_demonstrations(DEMOS, 4)
    fast = Optimisation(steps=1, batch_size=2, warmup=1, noise_draws=1)
    data = (Data("octo_bench/Follow-Toy-v1", DEMOS, 0),)
    recipe = Recipe(data, tiny_config(image_size=SIZE), fast, execute=2)
    pretrain_on(recipe, [toy], folder / "policy", recipe=Path("r.toml"), progress=False)
    write_demonstrations(toy, folder / "toy.hdf5")
    return folder


def finetune(folder: Path, out: Path, *options: str, policy: str = "", demos: int = DEMOS) -> int:
    file = str(folder / "toy.hdf5")
    command = ["finetune", policy or str(folder / "policy"), "--demonstrations", file]
    return run([*command, "--demos", str(demos), "--out", str(out), *options])


def recorded(out: Path, settings: FinetuneSettings) -> bool:
    return describe(settings) in (out / "README.md").read_text(encoding="utf-8")


def own_study(folder: Path, policy: Path, finetune: str, more: str = "") -> Path:
    """A study of `policy` that is otherwise that of the shipped table."""
    entry = f'[[policies]]\npolicy = "{policy}"\nhead = "diffusion"\n'
    text = find_study("finetuning").read_text(encoding="utf-8")
    text = text.replace('"../reference', f'"{find_study("finetuning").parent.parent}/reference')
    text = text.replace("[[policies]]", f"{entry}{finetune}\n{more}\n[[policies]]", 1)
    file = folder / "study.toml"
    file.write_text(text.replace("50 = 1000", "50 = 2"), encoding="utf-8")
    return file


def test_the_settings_of_a_study_are_those_of_its_table(folder: Path, tmp_path: Path) -> None:
    study = find_study("finetuning")
    out = tmp_path / "out"
    assert finetune(folder, out, "--settings", str(study), "--steps", "2") == 0
    declared = read_study(study)
    expected = finetune_settings(declared, declared.policies[0], DEMOS, seed=0)
    optimisation = expected.optimisation
    assert (expected.mode, optimisation.steps, optimisation.noise_draws) == ("lora", 1000, 8)
    assert optimisation.vision_bfloat16
    assert recorded(out, replace(expected, optimisation=replace(optimisation, steps=2)))


def test_what_a_study_says_of_the_policy_counts_and_options_win(
    folder: Path, tmp_path: Path
) -> None:
    policy = folder / "policy"
    study = own_study(tmp_path, policy, 'finetune = { mode = "head" }')
    declared = read_study(study)
    expected = finetune_settings(declared, declared.policies[0], DEMOS, seed=3)
    assert (expected.mode, expected.optimisation.steps) == ("head", 2)
    options = ["--settings", str(study), "--seed", "3"]
    assert finetune(folder, tmp_path / "a", *options) == 0
    assert recorded(tmp_path / "a", expected)
    assert finetune(folder, tmp_path / "b", *options, "--mode", "full", "--batch-size", "8") == 0
    changed = replace(expected.optimisation, batch_size=8)
    assert recorded(tmp_path / "b", replace(expected, mode="full", optimisation=changed))


def test_without_a_study_the_settings_are_the_defaults(folder: Path, tmp_path: Path) -> None:
    assert finetune(folder, tmp_path / "out", "--steps", "1") == 0
    default = FinetuneSettings()
    changed = replace(default.optimisation, steps=1)
    assert recorded(tmp_path / "out", replace(default, optimisation=changed))


def test_few_demonstrations_take_few_steps(folder: Path, tmp_path: Path) -> None:
    assert finetune(folder, tmp_path / "out", "--batch-size", "2", demos=1) == 0
    default = FinetuneSettings()
    changed = replace(default.optimisation, steps=101, batch_size=2)
    assert recorded(tmp_path / "out", replace(default, optimisation=changed))


def test_a_draw_is_trained_on_its_own_demonstrations(folder: Path, tmp_path: Path) -> None:
    toy = toy_demonstrations(DEMOS, 4)
    write_demonstrations(replace(toy, episodes=toy.episodes[25:45]), tmp_path / "toy.hdf5")
    options = ["--steps", "2", "--batch-size", "4"]
    policy = str(folder / "policy")
    assert finetune(tmp_path, tmp_path / "alone", *options, policy=policy, demos=20) == 0
    drawn = [*options, "--draw", "1", "--per-draw", "25"]
    assert finetune(folder, tmp_path / "drawn", *drawn, demos=20) == 0
    assert finetune(folder, tmp_path / "first", *options, demos=20) == 0
    alone, second, first = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "drawn", "first")
    )
    assert second == alone != first


def test_a_study_gives_settings_for_other_numbers_of_demonstrations() -> None:
    study = read_study(find_study("finetuning"))
    by_demos = {demos: settings_for(study, "octo-tiny", demos) for demos in (3, 20, 50)}
    assert [each.optimisation.steps for each in by_demos.values()] == [193, 585, 1000]
    assert {each.mode for each in by_demos.values()} == {"lora"}


def mistake(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("policy", ["random", "expert"])
def test_a_baseline_cannot_be_fine_tuned(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    assert finetune(folder, tmp_path / "out", policy=policy) == 2
    assert f"'{policy}' has no network to fine-tune; choose a policy from" in mistake(capsys)
    assert list(tmp_path.iterdir()) == []


def test_settings_that_a_study_does_not_have_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert finetune(folder, out, "--settings", "finetunin") == 2
    assert "unknown study 'finetunin'; did you mean finetuning" in mistake(capsys)
    policy = folder / "policy"
    other = f'[[policies]]\npolicy = "{policy}"\nname = "wide"\nhead = "diffusion"\n'
    study = own_study(tmp_path, policy, 'finetune = { mode = "head" }', other)
    assert finetune(folder, out, "--settings", str(study)) == 2
    line = mistake(capsys)
    assert f"error: {study}: fine-tunes {policy} in several ways ('{policy}', 'wide'); " in line
    assert not out.exists()
