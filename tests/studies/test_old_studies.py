"""Studies of an earlier version of the environments: reported from their records, not run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from octo_bench.cli import run
from octo_bench.paths import results_root
from octo_bench.studies.study import find_study, read_study


def old_studies() -> list[str]:
    names = sorted(file.parent.name for file in results_root().glob("*/study.toml"))
    return [name for name in names if read_study(find_study(name)).is_outdated]


def test_the_quick_studies_are_of_now() -> None:
    assert not {"quick", "quick-scratch"} & set(old_studies())


@pytest.mark.parametrize("name", old_studies())
def test_an_old_study_is_not_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for options in ([], ["--sample", "1"]):
        assert run(["reproduce", name, "--out", str(tmp_path / "out"), *options]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1
        assert f"{name}/study.toml: " in err
        assert "-v0 is an earlier version, in which an episode ended at the first success" in err
        assert "run a copy of it" in err
    assert not list(tmp_path.glob("out/*"))


def test_an_old_study_is_reported(tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(results_root() / "plateau", study)
    committed = {file.name: file.read_bytes() for file in study.iterdir() if file.is_file()}
    page = tmp_path / "page.html"
    assert run(["report", str(study), "--out", str(page), "--no-films"]) == 0
    assert "octo_bench/Stack-Kinova3-v0" in page.read_text(encoding="utf-8")
    assert {file.name: file.read_bytes() for file in study.iterdir() if file.is_file()} == committed
