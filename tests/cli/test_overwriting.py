"""What is there is not overwritten in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from octo_bench.checkpoints.config import POLICY_FILES, find_policy
from octo_bench.cli import run
from octo_bench.errors import BadCheckpoint, BadFile, UnknownName
from octo_bench.files import require_unfinished

Capture = pytest.CaptureFixture[str]


def mistake(capsys: Capture, *arguments: object) -> str:
    assert run([str(argument) for argument in arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_film_that_is_there_is_not_overwritten(tmp_path: Path, capsys: Capture) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(b"mine")
    line = mistake(capsys, "watch", "random", "Lift-Panda", "--out", film)
    assert f"{film}: exists already; delete it, or choose another --out" in line
    line = mistake(capsys, "speed", "--simulation", "--out", film)
    assert f"{film}: exists already" in line
    assert film.read_bytes() == b"mine"


@pytest.mark.parametrize(
    "command",
    [
        ("regress", "random", "--baseline", "absent.parquet", "--out"),
        ("compare", "absent.parquet", "absent.parquet", "--out"),
        ("replay", "quick", "3", "--out"),
        ("envs", "--render"),
    ],
    ids=" ".join,
)
def test_what_a_command_would_write_is_not_overwritten(
    tmp_path: Path, capsys: Capture, command: tuple[str, ...]
) -> None:
    file = tmp_path / "mine.parquet"
    file.write_bytes(b"mine")
    assert f"{file}: exists already" in mistake(capsys, *command, file)
    assert file.read_bytes() == b"mine"


@pytest.mark.parametrize("name", POLICY_FILES)
def test_a_policy_that_is_there_is_not_overwritten(
    tmp_path: Path, capsys: Capture, name: str
) -> None:
    (tmp_path / name).write_text("mine")
    training = ("--demonstrations", "absent.hdf5", "--demos", "1", "--out", tmp_path)
    line = mistake(capsys, "finetune", "octo-tiny", *training)
    assert f"{tmp_path}: has a {name} already; delete it, or choose another --out" in line
    line = mistake(capsys, "pretrain", "absent.toml", "--out", tmp_path)
    assert f"{tmp_path}: has a {name} already" in line
    assert (tmp_path / name).read_text() == "mine"


def test_a_training_that_was_stopped_may_go_on(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    with pytest.raises(BadFile, match=r"has a README\.md already"):
        require_unfinished(tmp_path, "README.md", state="state.pt")
    (tmp_path / "state.pt").touch()
    require_unfinished(tmp_path, "README.md", state="state.pt")


def test_a_bare_name_is_a_shipped_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = find_policy("octo-tiny")
    for name in ("octo-tiny", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_policy("octo-tiny") == shipped
    assert find_policy("./octo-tiny") == Path("./octo-tiny")
    assert find_policy(Path("octo-tiny")) == Path("octo-tiny")
    with pytest.raises(BadCheckpoint, match=r"mine: .*; write \./mine for the folder"):
        find_policy("mine")
    for empty in ("", " "):
        with pytest.raises(BadCheckpoint, match="no policy is named"):
            find_policy(empty)
    for absent in ("x" * 5000, "./absent", "a/b/c", "\x00"):
        with pytest.raises(UnknownName):
            find_policy(absent)
