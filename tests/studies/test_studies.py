"""Study declarations and their cells."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from helpers.synthetic import write_octo_1_5
from octo_bench.checkpoints.config import find_policy
from octo_bench.definitions.environments import environment
from octo_bench.errors import BadStudy, UnknownName
from octo_bench.paths import results_root
from octo_bench.records.code import closure
from octo_bench.records.conditions import PLAIN, Condition
from octo_bench.studies.cells import declared_cells, recipe_of
from octo_bench.studies.scheduler import plan
from octo_bench.studies.study import Study, find_study, finetune_settings, read_study
from octo_bench.studies.versions import COLLECTING, MEASURING, TRAINING, versions
from octo_bench.training.recipes import read_recipe

DECLARATION = """
title = "a test"
seed = 3
episodes = 30
draws = [0, 1]

[[policies]]
policy = "octo-tiny"
head = "diffusion"

[[policies]]
policy = "octo-tiny"
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

TWICE = """[[targets]]
env = "Lift-Panda"
demos = [0]

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
    assert study.targets[0].env == "octo_bench/Lift-Panda-v1"
    settings = finetune_settings(study, study.policies[0], 2, seed=5)
    assert (settings.mode, settings.seed) == ("head", 5)
    assert (settings.optimisation.steps, settings.optimisation.batch_size) == (7, 8)
    default = type(settings)().optimisation
    assert settings.optimisation.learning_rate == default.learning_rate


@pytest.mark.parametrize(
    "name", sorted(each.parent.name for each in results_root().glob("*/study.toml"))
)
def test_the_shipped_studies_are_valid(name: str) -> None:
    study = read_study(find_study(name))
    assert study.targets
    if study.is_outdated:
        refused = r"study\.toml: 'targets\[0\]\.env': octo_bench/.*-v0 is an earlier version"
        with pytest.raises(BadStudy, match=refused) as error:
            declared_cells(study)
        assert "\n" not in str(error.value)
        return
    assert {cell.policy for cell in declared_cells(study)} == set(study.policies)


def test_the_study_from_scratch_differs_in_the_start_and_has_no_fewer_steps() -> None:
    quick, scratch = (read_study(find_study(name)) for name in ("quick", "quick-scratch"))
    assert quick.beside == ("quick-scratch",)
    assert [entry.from_scratch for entry in scratch.policies] == [True]
    for key in ("seed", "episodes", "draws", "train_seeds", "demonstrations"):
        assert getattr(quick, key) == getattr(scratch, key)
    (curve,) = (target for target in quick.targets if max(target.demos))
    (beside,) = scratch.targets
    assert (curve.env, curve.demos[1:]) == (beside.env, beside.demos)
    for demos in beside.demos:
        tuned, fresh = (finetune_settings(s, s.policies[0], demos, 0) for s in (quick, scratch))
        assert fresh.optimisation.steps >= tuned.optimisation.steps
        same = replace(tuned.optimisation, steps=fresh.optimisation.steps)
        assert replace(tuned, optimisation=same, mode=fresh.mode) == fresh


def test_the_quick_study_shows_a_known_skill_and_the_curve_of_a_new_one() -> None:
    quick = read_study(find_study("quick"))
    recipe = read_recipe(find_policy("octo-tiny") / "recipe.toml")
    known = {environment(data.env).task for data in recipe.data}
    arms = {environment(data.env).embodiment for data in recipe.data}
    old, new = (environment(target.env) for target in quick.targets)
    assert old.task in known and new.task not in known
    assert not {old.embodiment, new.embodiment} & arms
    assert [target.demos for target in quick.targets] == [(0,), (0, 50, 100, 200)]
    assert quick.train_seeds == "draw"


def test_the_quick_study_was_chosen_on_episodes_and_demonstrations_of_its_own() -> None:
    quick = read_study(find_study("quick"))
    choice = read_study(find_study("quick").parent / "choice.toml")
    assert declared_cells(choice)
    assert choice.seed != quick.seed
    one, other = choice.demonstrations, quick.demonstrations
    assert one.first_seed > other.first_seed + 10 * other.count


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
        (
            "from_scratch = true",
            "",
            r"two entries named 'octo-tiny': give 'policies.1.' a 'name'",
        ),
        (
            "demos = [0, 2]",
            "demos = [0, 5]",
            r"'demonstrations.count' is 4, but 'targets\[0\]' needs 10: draws 0 to 1 of 5 each",
        ),
        ("steps = { 2 = 7 }", "steps = { 3 = 7 }", "the key 'finetune.steps.2' is missing"),
        ("steps = { 2 = 7 }", "", "the key 'finetune.steps.2' is missing"),
        ("steps = { 2 = 7 }", "steps = { 2 = 0 }", "'finetune.steps' must be at least 1"),
        ('mode = "head"', 'mod = "head"', "unknown key 'finetune.mod'; did you mean 'mode'"),
        ('mode = "head"', 'mode = "feet"', "'finetune.mode' is 'feet'; use one of full"),
        ("batch_size", "batchsize", "unknown key 'finetune.optimisation.batchsize'; .*batch_size"),
        ("batch_size", "steps", "unknown key 'finetune.optimisation.steps'"),
        ("[[targets]]", f"{TWICE}[[targets]]", "'targets' has an environment twice"),
        ("draws = [0, 1]", "draws = [0, -1]", "'draws' must not be negative"),
        (
            "from_scratch = true",
            "finetune = { mod = 1 }\nname = 'x'",
            "key .*finetune.mod'",
        ),
        (
            "from_scratch = true",
            "finetune = { optimisation = { warmup = 'no' } }\nname = 'x'",
            r"'policies\[1\]\.finetune\.optimisation\.warmup' must be int",
        ),
        (
            "from_scratch = true",
            "demos = [7]\nname = 'x'",
            r"'targets\[0\]' needs 14: draws 0 to 1 of 7 each",
        ),
        ("from_scratch = true", "demos = [1]\nname = 'x'", "the key 'finetune.steps.1' is missing"),
        ("from_scratch = true", "draws = []\nname = 'x'", r"'policies\[1\]\.draws' must not be em"),
        (
            "from_scratch = true",
            "train_seeds = [1, 1]\nname = 'x'",
            "train_seeds' has an entry tw",
        ),
        ("draws = [0, 1]", "train_seeds = 'darw'", "'train_seeds' is 'darw'; use one of draw"),
        (
            "demos = [0, 2]",
            "demos = [0, 2]\ndraws = [7]",
            r"'targets.0..draws' leaves no draw of",
        ),
        ('head = "diffusion"\nfrom', "from", r"the key 'policies\[1\]\.head' is missing"),
        (
            'policy = "octo-tiny"\nhead = "diffusion"\nfrom_scratch',
            'policy = "random"\nfrom_scratch',
            r"'policies\[1\]\.from_scratch' has no effect: 'random' is measured as it is",
        ),
        ("[demonstrations]", "[[conditions]]\nsuit = 1\n[demonstrations]", "did you mean 'suite'"),
        (
            "[demonstrations]",
            "[[conditions]]\nsuite = 'camra'\n[demonstrations]",
            r"'conditions\[0\]\.suite': unknown suite 'camra'; did you mean camera",
        ),
        (
            "[demonstrations]",
            "[[conditions]]\nsuite = 'camera'\nlevel = 9\n[demonstrations]",
            r"'conditions\[0\]\.level': suite 'camera' has no level 9; use 1 to 3",
        ),
        (
            "[demonstrations]",
            "[[conditions]]\nlevel = 2\n[demonstrations]",
            r"'conditions\[0\]\.level' has no effect without 'conditions\[0\]\.suite'",
        ),
        (
            "[demonstrations]",
            "[[conditions]]\ntask = 'gaol'\n[demonstrations]",
            r"'conditions\[0\]\.task' is 'gaol'; use one of language, goal",
        ),
        (
            "[demonstrations]",
            "[[conditions]]\nexecute = 0\n[demonstrations]",
            r"'conditions\[0\]\.execute': execute = 0 is not a number of steps",
        ),
        (
            "[demonstrations]",
            "[[conditions]]\nexecute = 2\nensemble = true\n[demonstrations]",
            r"'conditions\[0\]\.ensemble': an ensemble executes one step",
        ),
        (
            "[demonstrations]",
            "[[conditions]]\n[[conditions]]\nexecute = 1\n[[conditions]]\n[demonstrations]",
            r"'conditions' has the same one twice, the second is 'conditions\[2\]'",
        ),
        ("seed = 3", "seed = 3\nconditions = []", "'conditions' must not be empty"),
        ("episodes = 30", "episodes =", "cannot be read as TOML"),
    ],
)
def test_a_wrong_declaration_names_the_file_the_key_and_the_fix(
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
    with pytest.raises(UnknownName, match=r"did you mean .*octo_bench/Lift-Panda-v1"):
        declare(tmp_path, DECLARATION.replace("Lift-Panda", "octo_bench/Lft-Panda-v1"))


def test_cells_are_all_combinations_once(study: Study) -> None:
    cells = [(c.policy.name, c.demos, c.draw) for c in declared_cells(study)]
    assert cells == [
        ("octo-tiny", 0, 0),  # without demonstrations there is nothing to draw
        ("octo-tiny", 2, 0),
        ("octo-tiny", 2, 1),
        ("octo-tiny from scratch", 2, 0),
        ("octo-tiny from scratch", 2, 1),
    ]


def test_entries_and_targets_narrow_and_widen_what_is_run(tmp_path: Path) -> None:
    text = DECLARATION.replace("from_scratch = true", "from_scratch = true\ndraws = [0]")
    text = text.replace(
        "[[targets]]",
        """[[policies]]
policy = "octo-tiny"
head = "diffusion"
name = "LoRA"
finetune = { mode = "lora", optimisation = { warmup = 3 } }
demos = [4]
draws = [0, 1, 2]
train_seeds = [5, 6]

[[policies]]
policy = "random"

[[targets]]
env = "Stack-Panda"
demos = [2]
draws = [1, 2]

[[targets]]""",
    ).replace("2 = 7", "2 = 7, 4 = 9")
    text = text.replace("count = 4", "count = 12")
    with pytest.raises(BadStudy, match="leaves no draw of 'octo-tiny from scratch'"):
        declare(tmp_path, text)
    study = declare(tmp_path, text.replace("draws = [1, 2]", "draws = [0, 2]"))
    cells = [
        (c.policy.name, c.env[11:15], c.demos, c.draw, c.train_seed) for c in declared_cells(study)
    ]
    assert cells == [
        ("octo-tiny", "Stac", 2, 0, 0),
        ("octo-tiny", "Lift", 0, 0, 0),
        ("octo-tiny", "Lift", 2, 0, 0),
        ("octo-tiny", "Lift", 2, 1, 0),
        ("octo-tiny from scratch", "Stac", 2, 0, 0),
        ("octo-tiny from scratch", "Lift", 2, 0, 0),
        *(("LoRA", "Stac", 4, draw, seed) for draw in (0, 2) for seed in (5, 6)),
        *(("LoRA", "Lift", 4, draw, seed) for draw in (0, 1, 2) for seed in (5, 6)),
        ("random", "Stac", 0, 0, 0),
        ("random", "Lift", 0, 0, 0),
    ]
    settings = finetune_settings(study, study.policies[2], 4, seed=0)
    assert (settings.mode, settings.optimisation.steps) == ("lora", 9)
    # What the override does not name is the study's.
    assert (settings.optimisation.warmup, settings.optimisation.batch_size) == (3, 8)
    assert recipe_of(study, study.policies[0]) != recipe_of(study, study.policies[2])


CONDITIONS = """[[conditions]]

[[conditions]]
suite = "camera"
level = 2

[[conditions]]
execute = 2
diffusion_steps = 5

[demonstrations]"""


def test_every_policy_is_measured_under_every_condition_and_trained_once(tmp_path: Path) -> None:
    plain = declared_cells(declare(tmp_path, DECLARATION))
    text = DECLARATION.replace("[demonstrations]", CONDITIONS)
    study = declare(tmp_path, text.replace("[[targets]]", BASELINE, 1))
    cells = declared_cells(study)
    assert len(cells) == 3 * len(plain) + 1
    assert [cell for cell in cells if cell.condition.is_plain][: len(plain)] == list(plain)
    assert {cell.policy_key for cell in cells[:-1]} == {cell.policy_key for cell in plain}
    assert len({cell.key for cell in cells}) == len(cells)
    assert cells[1].condition == Condition("camera", 2)
    assert cells[2].condition == Condition(inference="execute=2,diffusion_steps=5")
    assert str(cells[1]).endswith(", 0 demonstrations, camera, level 2")
    # Nothing that a baseline does depends on what is seen or said.
    assert (cells[-1].policy.name, cells[-1].condition) == ("random", PLAIN)
    trainings = [t for t in plan(study, cells, Path("out"), 2) if t.phase == "fine-tuning"]
    assert len(trainings) == 4
    task = plan(study, cells[1:2], Path("out"), 2)[0]
    assert task.name == f"episodes 0 to 24 of {cells[1]}"


@pytest.mark.parametrize("head", ["l1", "mse", "discrete"])
def test_a_study_can_train_every_head_that_finetune_offers(tmp_path: Path, head: str) -> None:
    start = write_octo_1_5(tmp_path / "octo")
    text = DECLARATION.replace("octo-tiny", str(start)).replace("diffusion", head)
    text = text.replace('mode = "head"', f'mode = "head"\nhead = "{head}"')
    study = declare(tmp_path, text)
    cells = declared_cells(study)
    assert {(cell.policy.head, cell.demos) for cell in cells} == {(head, 2)}
    assert finetune_settings(study, cells[0].policy, 2, seed=0).head == head


def test_a_head_of_another_architecture_is_refused(tmp_path: Path) -> None:
    text = DECLARATION.replace("diffusion", "l1")
    text = text.replace('mode = "head"', 'mode = "head"\nhead = "l1"')
    with pytest.raises(BadStudy, match="'octo-tiny' has no l1 head; use one of diffusion, categ"):
        declared_cells(declare(tmp_path, text))


BASELINE = """[[policies]]
policy = "random"

[[targets]]"""


def test_a_policy_that_cannot_be_asked_as_a_condition_says_is_named(tmp_path: Path) -> None:
    text = DECLARATION.replace("[demonstrations]", CONDITIONS).replace("execute = 2", "execute = 9")
    with pytest.raises(BadStudy, match=r"'conditions\[2\]': octo-tiny predicts chunks of 4"):
        declared_cells(declare(tmp_path, text))
    text = DECLARATION.replace("octo-tiny", "octo-tiny-categorical").replace(
        "diffusion", "categorical"
    )
    text = text.replace("[demonstrations]", CONDITIONS)
    with pytest.raises(BadStudy, match=r"'conditions\[2\]': octo-tiny-categ.* no diffusion head"):
        declared_cells(declare(tmp_path, text))


def test_a_policy_with_another_head_than_declared_is_named(tmp_path: Path) -> None:
    text = DECLARATION.replace("diffusion", "categorical")
    with pytest.raises(BadStudy, match="'octo-tiny' has a diffusion head, not categorical"):
        declared_cells(declare(tmp_path, text))
    # Fine-tuning may put in another head; without it, nothing is to be measured.
    swapped = text.replace('mode = "head"', 'mode = "head"\nhead = "categorical"')
    assert {cell.demos for cell in declared_cells(declare(tmp_path, swapped))} == {2}
    nothing = swapped.replace("from_scratch = true", "name = 'x'\ndemos = [0]")
    with pytest.raises(BadStudy, match=r"'policies\[1\]', 'x', has nothing to measure"):
        declared_cells(declare(tmp_path, nothing))


def test_one_policy_under_two_names_is_measured_once(tmp_path: Path) -> None:
    text = DECLARATION.replace("from_scratch = true", 'name = "the same"')
    study = declare(tmp_path, text)
    cells = declared_cells(study)
    assert len(cells) == 6 and len({cell.key for cell in cells}) == 3
    phases = [task.phase for task in plan(study, cells, Path("out"), 1)]
    assert (phases.count("fine-tuning"), phases.count("evaluation")) == (2, 2 * 3)


def keys(study: Study) -> dict[tuple[str, int, int], str]:
    return {(c.policy.name, c.demos, c.draw): c.key for c in declared_cells(study)}


def test_keys_tell_cells_apart_and_are_stable(study: Study) -> None:
    assert len(set(keys(study).values())) == 5
    assert keys(study) == keys(study)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("seed = 3", "seed = 4", {0, 2}),
        ("[finetune]", "[[conditions]]\n[finetune]", set()),
        ("Lift-Panda", "Lift-IIWA", {0, 2}),
        ("first_seed = 1000", "first_seed = 2000", {2}),
        ("count = 4", "count = 5", set()),  # no more are collected than are drawn
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
        assert replace(one, arguments={}, slots=1).name == other.name


def test_another_study_seed_trains_nothing_anew(tmp_path: Path, study: Study) -> None:
    before = [(cell.policy_key, cell.key) for cell in declared_cells(study)]
    other = declare(tmp_path, DECLARATION.replace("seed = 3", "seed = 4"))
    after = [(cell.policy_key, cell.key) for cell in declared_cells(other)]
    for (policy, key), (policy_after, key_after) in zip(before, after, strict=True):
        assert policy == policy_after and key != key_after


def test_reading_a_policy_is_part_of_training_and_measuring_but_not_of_collecting() -> None:
    read, convert = "checkpoints/folder.py", "checkpoints/conversion.py"
    assert read in closure(TRAINING) and read in closure(MEASURING)
    assert read not in closure(COLLECTING)
    assert convert not in closure(MEASURING)
    hashes = {versions(each)["octo_bench_sources"] for each in (COLLECTING, TRAINING, MEASURING)}
    assert len(hashes) == 3 and versions() == versions(MEASURING)


def test_threads_of_a_fine_tuning_count_as_processes(tmp_path: Path) -> None:
    text = DECLARATION.replace("batch_size = 8", "batch_size = 8, threads = 2")
    study = declare(tmp_path, text)
    tasks = plan(study, declared_cells(study), tmp_path, workers=4)
    assert {t.slots for t in tasks if t.phase == "fine-tuning"} == {2}
