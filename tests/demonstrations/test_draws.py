"""Draws of demonstrations: disjoint between draws, nested within one."""

from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.synthetic import toy_demonstrations, write_demonstrations
from octo_bench.cli import run
from octo_bench.demonstrations.dataset import drawn, read_demonstrations
from octo_bench.errors import BadDemonstrations, BadStudy
from octo_bench.studies.cells import declared_cells
from octo_bench.studies.scheduler import plan
from octo_bench.studies.study import read_study

COUNT = 12

counts = st.lists(st.integers(1, 200), min_size=1, max_size=4, unique=True).map(sorted)


@given(counts, st.integers(0, 8), st.integers(0, 8))
def test_draws_are_disjoint_and_nested(demos: list[int], one: int, other: int) -> None:
    per_draw = demos[-1]
    of_one, of_other = ([set(drawn(n, draw, per_draw)) for n in demos] for draw in (one, other))
    assert [len(subset) for subset in of_one] == demos
    assert all(small < large for small, large in pairwise(of_one))
    if one != other:
        assert not of_one[-1] & of_other[-1]
    assert max(of_one[-1]) < (one + 1) * per_draw


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("draws") / "toy.hdf5"
    write_demonstrations(toy_demonstrations(COUNT, 4), file)
    return file


def test_draws_of_a_file_share_no_demonstration(toy: Path) -> None:
    whole = [episode.seed for episode in read_demonstrations(toy).episodes]
    assert len(set(whole)) == COUNT
    draws = [
        [[e.seed for e in read_demonstrations(toy, n, draw, 4).episodes] for n in (1, 2, 4)]
        for draw in range(3)
    ]
    for small, middle, large in draws:
        assert large[:2] == middle and middle[:1] == small
    for (*_, one), (*_, other) in combinations(draws, 2):
        assert not set(one) & set(other)
    assert [seed for *_, large in draws for seed in large] == whole


def test_a_file_too_small_for_a_draw_is_refused(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadDemonstrations, match=r"has 12 demonstrations, 13 were asked for"):
        read_demonstrations(toy, 13)
    with pytest.raises(BadDemonstrations, match=r"has 12 dem.*, draw 3 of 4 each needs 14; .* 14`"):
        read_demonstrations(toy, 2, 3, 4)

    def finetune(*options: str) -> str:
        command = ["finetune", "octo-tiny", "--demonstrations", str(toy), "--demos", "5"]
        assert run([*command, "--out", str(tmp_path / "out"), *options]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        return err

    assert "draw 1 of 10 each needs 15" in finetune("--draw", "1", "--per-draw", "10")
    assert "draw 2 of 5 each needs 15" in finetune("--draw", "2")
    assert "--per-draw 4 is less than --demos 5" in finetune("--per-draw", "4")
    assert not (tmp_path / "out").exists()


DECLARATION = """
title = "draws"
seed = 0
episodes = 1
draws = {draws}
train_seeds = "draw"

[[policies]]
policy = "octo-tiny"
head = "diffusion"

[[policies]]
policy = "random"

[[targets]]
env = "Lift-Panda"
demos = [0, {demos}]

[demonstrations]
count = {count}
first_seed = 7

[finetune]
steps = {{ {steps} }}
"""


@given(
    st.lists(st.integers(0, 3), min_size=1, unique=True),
    st.lists(st.integers(1, 5), min_size=1, unique=True),
    st.integers(1, 20),
)
def test_a_study_has_demonstrations_for_all_of_its_draws(
    tmp_path_factory: pytest.TempPathFactory, draws: list[int], demos: list[int], count: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "draws.toml"
    steps = ", ".join(f"{n} = 1" for n in demos)
    listed = ", ".join(map(str, demos))
    file.write_text(DECLARATION.format(draws=draws, demos=listed, count=count, steps=steps))
    needed = (max(draws) + 1) * max(demos)
    if needed > count:
        with pytest.raises(BadStudy, match=rf"count' is {count}, but .* needs {needed}: draws 0"):
            read_study(file)
        return
    study = read_study(file)
    pool = study.pool(study.targets[0])
    assert (pool.count, pool.first_seed) == (needed, 7)
    assert study.per_draw(study.targets[0]) == max(demos)


def test_every_draw_is_trained_with_a_seed_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    text = DECLARATION.format(draws=[0, 2], demos="1, 2", count=9, steps="1 = 1, 2 = 1")
    file.write_text(text)
    study = read_study(file)
    cells = declared_cells(study)
    assert [(c.demos, c.draw, c.train_seed) for c in cells[:-1]] == [
        (0, 0, 0),
        (1, 0, 0),
        (1, 2, 2),
        (2, 0, 0),
        (2, 2, 2),
    ]
    assert len({cell.policy_key for cell in cells}) == len(cells)
    tasks = {task.name: task for task in plan(study, cells, tmp_path, workers=1)}
    # Of the nine that may be collected, three draws of two are.
    assert tasks["6 demonstrations in " + cells[0].env].arguments["count"] == 6
    trainings = [task.arguments for task in tasks.values() if task.phase == "fine-tuning"]
    assert [(t["per_draw"], t["settings"].seed) for t in trainings] == [(2, 0), (2, 2)] * 2
