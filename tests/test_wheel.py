"""The wheel: what it declares, and that it works outside a clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

CLONE = Path(__file__).resolve().parents[1]

# Seen to break: on import, on installing, or the Robotiq gripper that no longer closes.
BROKEN = {"pyarrow": "26.0.1", "numpy": "2.0.0", "mujoco": "3.9.0"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the files that git does not ignore."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=CLONE, check=True, capture_output=True, text=True).stdout
    for name in filter(None, files.split("\0")):
        if (CLONE / name).is_file() and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(CLONE / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*build, str(out), str(source)], check=True, capture_output=True, timeout=300)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (each for each in file.namelist() if each.endswith(".dist-info/METADATA"))
        return message_from_bytes(file.read(name))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel, unpacked by pip; the dependencies are those of this environment."""
    target = tmp_path_factory.mktemp("installed")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*install, str(target), str(wheel)], check=True, capture_output=True)
    return target


def octo_bench(installed: Path, folder: Path, *arguments: str) -> str:
    program = "import octo_bench.cli as cli; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_bounds_exclude_what_breaks_and_allow_what_is_pinned(metadata: Message) -> None:
    declared = [Requirement(each) for each in metadata.get_all("Requires-Dist", [])]
    bounds = {each.name.lower(): each.specifier for each in declared}
    for package, version in BROKEN.items():
        assert version not in bounds[package]
    pinned = dict(
        line.lower().split("==")
        for line in (CLONE / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    for package, bound in bounds.items():
        version = pinned.get(package) or pinned[package.replace("-", "_")]
        assert version in bound, package
    python = SpecifierSet(metadata["Requires-Python"])
    assert "3.11.0" in python
    assert "3.12.9" in python
    assert "3.13.0" not in python


def test_the_licence_is_declared_and_inside(metadata: Message, wheel: Path) -> None:
    assert metadata["License-Expression"] == "MIT"
    with zipfile.ZipFile(wheel) as file:
        (licence,) = (name for name in file.namelist() if name.endswith("licenses/LICENSE"))
        assert b"octo-bench contributors" in file.read(licence)


def test_nothing_of_a_run_is_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if name.startswith("octo_bench/results/")]
    assert "octo_bench/results/quick/study.toml" in names
    for name in names:
        assert not {"cells", "runs", "demonstrations"} & {*Path(name).parts}
        assert not name.endswith(".hdf5")


def test_it_lists_evaluates_and_reports_outside_a_clone(installed: Path, tmp_path: Path) -> None:
    assert "octo-tiny" in octo_bench(installed, tmp_path, "policies")
    what = ["evaluate", "random", "Lift-Panda", "--episodes", "1", "--out", "random.parquet"]
    assert "0 of 1 episodes succeeded" in octo_bench(installed, tmp_path, *what)
    octo_bench(installed, tmp_path, "report", "quick", "--no-films")
    page = tmp_path / "results" / "quick" / "report.html"
    assert "octo-tiny" in page.read_text()
    written = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert written <= {tmp_path / "random.parquet", *page.parent.rglob("*")}


def test_a_shipped_study_runs_into_the_working_directory(installed: Path, tmp_path: Path) -> None:
    program = (
        "from octo_bench.paths import output_folder\n"
        "from octo_bench.studies.study import find_study, read_study\n"
        "path = find_study('quick')\n"
        "read_study(path)\n"
        "print(output_folder(path.parent))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path / "results" / "quick")
