"""Simulation beside stock robosuite: what is measured and written, and that ours is faster."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octo_bench.cli import run

PARTS = ("physics", "control", "rendering", "rest")


def test_simulation_is_measured_beside_stock(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "simulation.json"
    options = ["--env", "Lift-Panda", "--steps", "4", "--repeats", "2", "--out", str(out)]
    assert run(["speed", "--simulation", "--json", *options]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["env_id"] == "octo_bench/Lift-Panda-v1"
    assert row["ratio"] == pytest.approx(row["stock_ms"] / row["fast_ms"])
    # Far below what a quiet machine shows, so that a busy one does not fail.
    assert row["ratio"] > 5
    assert row["rollout_ratio"] > 5
    assert row["stock_rendering_ms"] > 5 * row["fast_rendering_ms"]
    for side in ("stock", "fast"):
        parts = [row[f"{side}_{part}_ms"] for part in PARTS]
        assert all(part >= 0 for part in parts)
        assert sum(parts) == pytest.approx(row[f"{side}_ms"], rel=0.3)
    assert row["floor_physics_ms"] + row["floor_rendering_ms"] > 0
    # The same actions from the same start do the task in both.
    assert row["stock_success"]
    assert row["fast_success"]
    written = json.loads(out.read_text())
    assert written["rows"] == [row]
    assert written["machine"]["robosuite"] == "1.5.2"


def test_what_cannot_be_measured_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["speed"]) == 2
    assert "--simulation" in capsys.readouterr().err
    assert run(["speed", "--simulation", "--env", "Lift-Pada"]) == 2
    assert "octo_bench/Lift-Panda-v1" in capsys.readouterr().err
