"""The one way in which files are read, and what of the surroundings is refused in one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from octo_bench.cli import run
from octo_bench.errors import BadFile
from octo_bench.reading import read_bytes, read_json, read_toml, require_regular
from octo_bench.shapes import NUMBER, TEXT, WHOLE, Each, List, Or, Table, problem_of

FIX = "write it again"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such file; check the path"),
        (lambda path: path.mkdir(), "is a folder, not a file"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**37), "has more than"),
    ],
    ids=["absent", "folder", "pipe", "loop", "device", "huge"],
)
def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path, make, said: str) -> None:
    path = tmp_path / "file"
    make(path)
    start = time.monotonic()
    for read in (read_bytes, read_json, read_toml):
        with pytest.raises(BadFile, match=said):
            read(path, BadFile, FIX)
    with pytest.raises(BadFile, match=said):
        require_regular(path, BadFile, FIX, limit=2**20)
    assert time.monotonic() - start < 5


def test_a_name_that_no_file_can_have_is_one_line() -> None:
    for name in ("x" * 5000, "\x00", "a/" * 3000):
        with pytest.raises(BadFile) as caught:
            read_bytes(name, BadFile, FIX)
        assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "9" * 5000, f"[1{'0' * 400}]", "[1e400]", "[NaN]", "[-Infinity]", "{"]
)
def test_what_json_should_not_hold_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"file\.json: is not valid JSON"):
        read_json(path, BadFile, FIX)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 20_000, "a = " + "9" * 5000, f"a = {2**70}", "a = inf", "a = [nan]", "="],
)
def test_what_toml_should_not_hold_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "file.toml"
    path.write_text(text)
    with pytest.raises(
        BadFile, match=r"file\.toml: (cannot be read as TOML|is nested|has a number)"
    ):
        read_toml(path, BadFile, FIX)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 1, "b": ["x"], "c": {"d": 0.5}}, ""),
        ({"a": None, "b": [], "c": {}, "e": "more"}, ""),
        ({"b": [], "c": {}}, "'a' is missing"),
        ({"a": True, "b": [], "c": {}}, "'a' is 'True', not NoneType"),
        ({"a": 1, "b": [1], "c": {}}, r"'b\[0\]' is '1', not str"),
        ({"a": 1, "b": {}, "c": {}}, "'b' is not a list"),
        ({"a": 1, "b": [], "c": {"d": "x"}}, "'c.d' is 'x', not int or float"),
        ([], "its content is not a table"),
    ],
)
def test_shapes_tell_what_is_wrong(value: object, said: str) -> None:
    shape = Table({"a": Or(WHOLE, (type(None),)), "b": List(TEXT), "c": Each(NUMBER)}, {})
    problem = problem_of(value, shape)
    assert bool(problem) == bool(said)
    if said:
        with pytest.raises(ValueError, match=said):
            raise ValueError(problem)


def test_a_way_to_draw_that_mujoco_does_not_know_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert run(["policies"]) == 2
    assert "MUJOCO_GL is 'nonsense'" in capsys.readouterr().err
