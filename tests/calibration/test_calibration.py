"""The calibration: exact coverages, and the command that writes the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octo_bench.calibration import calibrate
from octo_bench.calibration.coverage import coverages, error_rates
from octo_bench.cli import run


def test_exact_intervals_cover_and_exact_tests_keep_their_level() -> None:
    for row in coverages((12,)):
        assert row.lowest <= row.near_ends and row.lowest <= row.mean
        assert row.lowest >= (0.95 if row.guaranteed else 0.92)
    assert all(row.highest <= 0.05 for row in error_rates((12,)))


def test_calibrate_writes_the_same_page_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "NUMBERS", (5,))
    monkeypatch.setattr(calibrate, "BASELINE_RATES", (0.95,))
    for name in ("one", "two"):
        arguments = ["--comparisons", "25", "--seed", "7", "--out", str(tmp_path / name)]
        assert run(["calibrate", *arguments]) == 0
    for file in ("README.md", "calibration.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    page = (tmp_path / "one" / "README.md").read_text(encoding="utf-8")
    assert "`octo-bench calibrate --comparisons 25 --seed 7`" in page
    data = json.loads((tmp_path / "one" / "calibration.json").read_text(encoding="utf-8"))
    assert len(data["savings"]) == 3
    assert data["operations"][0]["scenario"]["baseline"] == 0.95


def test_someone_elses_page_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "README.md"
    page.write_text("# Mine\n")
    assert run(["calibrate", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {page}: exists and is another page; write to a folder of its own\n"
    )
    assert page.read_text() == "# Mine\n"
    assert list(tmp_path.iterdir()) == [page]


def test_the_committed_calibration_keeps_the_promises() -> None:
    path = Path(__file__).parents[2] / "results" / "calibration" / "calibration.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["comparisons"] >= 2000
    assert all(row["lowest"] >= 0.95 for row in data["coverages"] if row["guaranteed"])
    assert all(row["highest"] <= 0.05 for row in data["error_rates"])
    nulls = [row for row in data["operations"] if row["scenario"]["loss"] == 0.0]
    assert max(row["worse"] for row in nulls) <= 0.05
    savings = [row["saving"] for row in data["savings"]]
    assert sum(savings) / len(savings) >= 1 / 3
