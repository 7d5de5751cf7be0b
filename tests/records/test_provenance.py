"""What records depend on, kept with them; and files that are no records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from helpers.synthetic_records import LIFT, STACK, record
from octo_bench.cli import run
from octo_bench.errors import BadRecords
from octo_bench.records import code, provenance
from octo_bench.records.provenance import FORMAT, Provenance, provenance_of, versions
from octo_bench.records.record import (
    measure_of,
    read_provenance,
    read_records,
    succeeded,
    write_records,
)
from octo_bench.rendering.fast.rasterizer import source_sha256


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three records with provenance."""
    path = tmp_path / "episodes.parquet"
    records = [record(number) for number in range(3)]
    write_records(records, path, provenance_of(records, 7))
    return path


def test_evaluating_keeps_what_the_records_depend_on(tmp_path: Path) -> None:
    out = tmp_path / "episodes.parquet"
    options = ["--episodes", "1", "--seed", "3", "--suite", "lighting", "--level", "2"]
    assert run(["evaluate", "random", "Lift-Panda", *options, "--out", str(out)]) == 0
    kept = read_provenance(out)
    assert kept == provenance_of(read_records(out), 3)
    assert (kept.study_seed, kept.format) == (3, FORMAT)
    assert set(kept.definitions) == {LIFT, "lighting, level 2"}
    needed = {"octo-bench", "mujoco", "robosuite", "numpy", "torch", "numba", "renderer"}
    assert needed <= set(kept.versions)


def test_the_definitions_of_each_environment_and_level_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [record(0), record(1, env_id=STACK), record(2, suite="lighting", level=1)]
    before = provenance_of(records, 0)
    original = provenance.environment

    def with_another_camera(env_id: str):
        declared = original(env_id)
        camera = dataclasses.replace(declared.task.primary_camera, fovy=1.0)
        task = dataclasses.replace(declared.task, primary_camera=camera)
        return dataclasses.replace(declared, task=task) if env_id == STACK else declared

    monkeypatch.setattr(provenance, "environment", with_another_camera)
    after = provenance_of(records, 0)
    changed = {
        name for name in before.definitions if before.definitions[name] != after.definitions[name]
    }
    assert changed == {STACK}
    assert len(set(before.definitions.values())) == 3


def test_the_renderer_is_named() -> None:
    assert source_sha256().startswith(versions()["renderer"].split()[-1])


def test_files_of_before_have_none(path: Path) -> None:
    write_records(read_records(path), path, None)
    assert read_provenance(path) is None
    older = pyarrow.parquet.read_table(path).drop_columns(
        ["trajectory_sha256", "attempts", "policy_fault"]
    )
    pyarrow.parquet.write_table(older, path)
    again = read_records(path)[0]
    assert (again.trajectory_sha256, again.attempts, again.policy_fault) == ("", 1, "")


def test_records_of_before_success_had_to_hold_say_so(path: Path) -> None:
    """Such a file has `success_at_end`; its episodes ended at the first success."""
    records = [record(0), record(1, success_once=False, steps=100)]
    write_records(records, path, provenance_of(records, 0))
    table = pyarrow.parquet.read_table(path)
    kept = json.loads(table.schema.metadata[b"octo_bench"])
    del kept["code"]
    older = table.drop_columns(["success_held", "first_success_step", "policy_fingerprint"])
    older = older.append_column("success_at_end", table.column("success_once"))
    older = older.replace_schema_metadata({"octo_bench": json.dumps({**kept, "format": 1})})
    pyarrow.parquet.write_table(older, path)
    won, lost = again = read_records(path)
    assert (won.success_held, won.first_success_step) == (None, 40)
    assert (lost.success_held, lost.first_success_step) == (None, 0)
    assert (read_provenance(path).format, read_provenance(path).code) == (1, "")
    assert measure_of(again) == "once"
    assert [succeeded(each, "once") for each in again] == [True, False]
    with pytest.raises(ValueError, match="recorded before success had to hold"):
        succeeded(won, "held")
    newer = [record(0, success_held=True), record(1, success_held=False)]
    write_records(newer, path, None)
    assert read_records(path) == newer
    assert measure_of(newer) == "held" and measure_of([*newer, won]) == "once"
    assert [succeeded(each, "held") for each in newer] == [True, False]


def test_what_the_code_hash_covers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is imported counts, and only its code."""
    monkeypatch.setattr(code, "_PACKAGE", tmp_path)
    monkeypatch.setattr(code, "_NAME", "octo_bench")

    def hashed(**files: str) -> str:
        for cached in (code.code_sha256, code.closure, code._tree):
            cached.cache_clear()
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".py").write_text(text)
        return code.code_sha256(("room/entry.py",))

    first = hashed(
        room__entry="from octo_bench.room.part import f\n",
        room__part='def f():\n    """Says one."""\n    return 1\n',
        room__other="x = 1\n",
    )
    assert hashed(room__other="x = 2\n", room__new="") == first
    assert hashed(room__part="def f():  # says one\n    return 1\n") == first
    assert hashed(room__part="def f():\n    return 2\n") != first
    before = hashed()
    (tmp_path / "room" / "part.c").write_text("int f(void) { return 1; }")
    assert hashed() != before
    monkeypatch.undo()
    for cached in (code.code_sha256, code.closure, code._tree):
        cached.cache_clear()


def test_reading_gives_what_was_written(path: Path) -> None:
    assert read_provenance(path) == provenance_of(read_records(path), 7)
    assert Provenance.from_json(read_provenance(path).to_json()) == read_provenance(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda kept: {**kept, "format": FORMAT + 1}, "of format 3, and this octo-bench knows"),
        (lambda kept: {"format": 1}, "'definitions' is missing"),
        (lambda kept: [], "no format is named"),
    ],
)
def test_provenance_of_another_kind_is_refused(
    path: Path, change: Callable[[dict], object], problem: str
) -> None:
    table = pyarrow.parquet.read_table(path)
    kept = json.loads(table.schema.metadata[b"octo_bench"])
    changed = table.replace_schema_metadata({"octo_bench": json.dumps(change(kept))})
    pyarrow.parquet.write_table(changed, path)
    with pytest.raises(BadRecords, match=rf"episodes\.parquet: .*{problem}") as refused:
        read_provenance(path)
    assert "\n" not in str(refused.value)


def test_a_file_without_content_or_episodes_is_told_in_one_line(path: Path) -> None:
    write_records([], path, None)
    with pytest.raises(BadRecords, match=r"episodes\.parquet: has no episodes; make it again"):
        read_records(path)
    path.write_bytes(b"")
    for read in (read_records, read_provenance):
        with pytest.raises(BadRecords, match=r"episodes\.parquet: is empty; make it again"):
            read(path)
    path.unlink()
    for read in (read_records, read_provenance):
        with pytest.raises(BadRecords, match=r"episodes\.parquet: no such file; make it with"):
            read(path)
    path.mkdir()
    with pytest.raises(BadRecords, match="is a folder, not a file"):
        read_records(path)


def test_a_foreign_file_is_told_in_one_line(path: Path) -> None:
    table = pyarrow.parquet.read_table(path)
    steps = table.schema.get_field_index("steps")
    for column, problem in (
        (pyarrow.array(["many", "few", "none"]), "has a column of another type"),
        (pyarrow.array([1, None, 3]), "has empty places in column 'steps'"),
    ):
        pyarrow.parquet.write_table(table.set_column(steps, "steps", column), path)
        with pytest.raises(BadRecords, match=problem) as refused:
            read_records(path)
        assert len(str(refused.value).splitlines()) == 1
    pyarrow.parquet.write_table(pyarrow.table({"action": [1.0]}), path)
    with pytest.raises(BadRecords, match="has no column 'env_id'"):
        read_records(path)
    assert read_provenance(path) is None


def test_a_truncated_or_damaged_file_is_never_a_traceback(path: Path) -> None:
    records, whole = read_records(path), path.read_bytes()
    for length in range(1, len(whole), len(whole) // 60):
        path.write_bytes(whole[:length])
        for read in (read_records, read_provenance):
            with pytest.raises(BadRecords, match="is not a readable Parquet file"):
                read(path)
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
        path.write_bytes(damaged)
        try:
            assert read_records(path) == records  # some bits say nothing
        except BadRecords as refused:
            assert len(str(refused).splitlines()) == 1
        with suppress(BadRecords):
            read_provenance(path)
