"""The contact sheet: a picture of every environment asked for."""

from __future__ import annotations

from pathlib import Path

import imageio.v3
import numpy as np
import pytest

from octo_bench.cli import run

CHOSEN = ("--env", "Lift-Panda", "--env", "Door-Panda", "--env", "TwoArmLift-TwoPandas")


def test_every_environment_is_on_the_sheet(tmp_path: Path) -> None:
    one, three = tmp_path / "one.png", tmp_path / "three.png"
    assert run(["envs", "--render", str(one), *CHOSEN[:2]]) == 0
    assert run(["envs", "--render", str(three), *CHOSEN]) == 0
    first, all_three = imageio.v3.imread(one), imageio.v3.imread(three)
    assert all_three.shape[0] > 2 * first.shape[0]
    # The same environment is the same picture, whatever else is drawn.
    lift = first[-100:, 130:]
    found = (
        (all_three[row : row + len(lift), 130 : 130 + lift.shape[1]] == lift).all()
        for row in range(len(all_three) - len(lift) + 1)
    )
    assert any(found)


def test_fast_beside_stock(tmp_path: Path) -> None:
    out = tmp_path / "both.png"
    assert run(["envs", "--render", str(out), "--beside-stock", *CHOSEN[:2]]) == 0
    picture = imageio.v3.imread(out).astype(int)
    fast, stock = picture[-190:-10, 140:310], picture[-190:-10, 336:506]
    assert 0 < np.abs(fast - stock).mean() < 20


def test_another_kind_of_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["envs", "--render", str(tmp_path / "sheet.jpg"), *CHOSEN]) == 2
    assert "sheet.jpg: is not a kind of picture; name it .png" in capsys.readouterr().err
