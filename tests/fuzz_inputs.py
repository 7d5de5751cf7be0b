"""Mutated inputs to every command: no traceback, no hang, no more memory than there is.

    python tests/fuzz_inputs.py --cases 5000 --seed 1 --log cases.jsonl

A case is a sound file of some type with a random change in it (bytes, keys, numbers, arrays, or
something else in its place), given to a command that reads it, in a process that goes on to the
next case. It passes if the command ends with a documented exit code, within its time, and an exit
code of 2 comes with one line that starts with `error:`. A command that goes on to real work
(simulating, training) has accepted its input, and is stopped there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 60.0
"""That a case may take, on a machine that has other work."""
GIGABYTES = 6.0
"""Of address space that a case may take beyond what its process has."""
EXITS = (0, 1, 2, 3, 4)

Mutation = Callable[[Path, random.Random], None]


class Accepted(BaseException):
    """A command has accepted its input and begins real work."""


@dataclass(frozen=True)
class Case:
    """A command and the file that is changed before it reads it, both relative to the folder."""

    kind: str
    file: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()


CASES = (
    Case("demonstrations", "lift.hdf5", ("finetune", "{policy}", "--demonstrations", "{file}",
         "--demos", "2", "--out", "{out}/policy")),
    Case("demonstrations", "lift.hdf5", ("verify", "{file}")),
    Case("demonstrations", "lift.hdf5", ("collect", "Lift-Panda", "--demos", "5", "--seed", "5",
         "--out", "{file}")),
    Case("policy config", "policy/config.json", ("evaluate", "{policy}", "Lift-Panda",
         "--episodes", "1", "--out", "{out}/e.parquet")),
    Case("policy statistics", "policy/statistics.json", ("evaluate", "{policy}", "Lift-Panda",
         "--episodes", "1", "--out", "{out}/e.parquet")),
    Case("policy weights", "policy/model.safetensors", ("evaluate", "{policy}", "Lift-Panda",
         "--episodes", "1", "--out", "{out}/e.parquet")),
    Case("policy config", "policy/config.json", ("finetune", "{policy}", "--demonstrations",
         "{root}/lift.hdf5", "--demos", "2", "--out", "{out}/policy")),
    Case("policy config", "policy/config.json", ("speed", "{policy}", "--only", "half")),
    Case("policy weights", "policy/model.safetensors", ("watch", "{policy}", "Lift-Panda",
         "--out", "{out}/film.mp4")),
    Case("records", "a.parquet", ("compare", "{file}", "{root}/b.parquet")),
    Case("records", "b.parquet", ("compare", "{root}/a.parquet", "{file}", "--json")),
    Case("records", "a.parquet", ("regress", "random", "--baseline", "{file}", "--budget", "5")),
    Case("records", "a.parquet", ("bisect", "random", "random", "--baseline", "{file}")),
    Case("records", "a.parquet", ("replay", "{file}", "3", "--out", "{out}/film.mp4")),
    Case("golden answers", "g.golden.npz", ("regress", "{policy}", "--baseline",
         "{root}/g.parquet", "--golden-only")),
    Case("records", "study/episodes.parquet", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("study result", "study/study_result.json", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("reference table", "study/reference.csv", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("study", "study/study.toml", ("report", "{root}/study", "--no-films",
         "--out", "{out}/report.html")),
    Case("study", "study/study.toml", ("reproduce", "{file}", "--out", "{out}/run",
         "--workers", "1")),
    Case("study", "study/study.toml", ("finetune", "{policy}", "--settings", "{file}",
         "--demonstrations", "{root}/lift.hdf5", "--demos", "2", "--out", "{out}/policy")),
    Case("recipe", "recipe.toml", ("pretrain", "{file}", "--out", "{out}/policy")),
    Case("task", "envs/tasks/MyLift.toml", ("envs", "--json"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("task", "envs/tasks/MyLift.toml", ("collect", "MyLift-Panda", "--demos", "1",
         "--out", "{out}/x.hdf5"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("task", "envs/tasks/MyLift.toml", ("evaluate", "random", "Lift-Panda", "--episodes",
         "1", "--out", "{out}/e.parquet"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("embodiment", "envs/embodiments/MyPanda.toml", ("collect", "Lift-MyPanda", "--demos",
         "1", "--out", "{out}/x.hdf5"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("suite", "envs/suites/mine.toml", ("evaluate", "random", "Lift-Panda", "--suite", "mine",
         "--episodes", "1", "--out", "{out}/e.parquet"), (("OCTO_BENCH_ENVS", "envs"),)),
    Case("initial states", "envs/initial_states/SHA256SUMS", ("verify",),
         (("OCTO_BENCH_ENVS", "envs"),)),
    Case("initial states", "envs/initial_states/Lift-MyPanda.safetensors", ("verify", "--json"),
         (("OCTO_BENCH_ENVS", "envs"),)),
    Case("initial states", "envs/initial_states/Lift-MyPanda.safetensors", ("evaluate", "random",
         "Lift-MyPanda", "--episodes", "1", "--out", "{out}/e.parquet"),
         (("OCTO_BENCH_ENVS", "envs"),)),
    Case("table of experts", "experts.csv", ("demonstrators", "--env", "Lift-Panda", "--seeds",
         "1", "--out", "{file}")),
    Case("speeds", "speed.json", ("speed", "{policy}", "--only", "half", "--out", "{file}")),
    Case("released config", "released/config.json", ("convert", "{root}/released", "{out}/c")),
    Case("released statistics", "released/dataset_statistics.json",
         ("convert", "{root}/released", "{out}/c")),
    Case("released batch", "released/example_batch.msgpack",
         ("convert", "{root}/released", "{out}/c")),
    Case("released parameters", "released/300000/default/checkpoint",
         ("convert", "{root}/released", "{out}/c")),
    Case("command line", "", ()),
)  # fmt: skip


# Changes.

_NUMBERS = (
    "-1",
    "0",
    "1e400",
    "1" + "0" * 30,
    "9" * 5000,
    "-0.5",
    "nan",
    "1e30",
    "0x7f",
    "4294967296",
)
_TEXTS = (
    "",
    "../../x",
    "x" * 5000,
    "\x00",
    "naïve/é",
    "-",
    "[6]",
    "octo_bench/Lift-Panda-v0",
    "{}",
)


def _replace_value(value: Any, rng: random.Random) -> Any:
    """A value with something else somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value, key=str))
        changed = dict(value)
        action = rng.random()
        if action < 0.15:
            del changed[key]
        elif action < 0.2:
            changed[rng.choice(_TEXTS)] = changed.pop(key)
        else:
            changed[key] = _replace_value(value[key], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.8:
        index = rng.randrange(len(value))
        action = rng.random()
        if action < 0.15:
            return value[:index] + value[index + 1 :]
        if action < 0.25:
            return value + value[index : index + 1] * rng.choice((1, 3, 2000))
        return [*value[:index], _replace_value(value[index], rng), *value[index + 1 :]]
    return rng.choice(
        (
            None,
            True,
            -1,
            0,
            1,
            2,
            10**6,
            10**30,
            -(10**12),
            2**63,
            0.5,
            1e30,
            1e308,
            -1.5,
            "",
            "two",
            "x" * 5000,
            "../../x",
            [],
            {},
            [[1]],
            [0.0] * 7,
            {"a": {"b": 1}},
            ["a"],
        )
    )


def change_json(path: Path, rng: random.Random) -> None:
    """Another value somewhere."""
    value = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _replace_value(value, rng)
    path.write_text(json.dumps(value))


def change_lines(path: Path, rng: random.Random) -> None:
    """A line gone, twice, or with another number or text; for TOML, CSV and lists of sums."""
    lines = path.read_text().splitlines()
    for _ in range(rng.choice((1, 1, 2))):
        index = rng.randrange(len(lines))
        action = rng.random()
        if action < 0.15:
            del lines[index]
        elif action < 0.25:
            lines.insert(rng.randrange(len(lines)), lines[index])
        elif "=" in lines[index] and action < 0.9:
            values = (
                *_NUMBERS,
                "true",
                '"two"',
                "[]",
                "{}",
                "[1, 2]",
                "[-1]",
                "[[1]]",
                '"' + "y" * 5000 + '"',
                "[" * 20_000,
                "{a = " * 5_000,
                "1979-05-27",
                '["a"]',
                "[0.0, 0.0]",
                "''",
                "{x = 1}",
            )
            lines[index] = f"{lines[index].partition('=')[0]}= {rng.choice(values)}"
        elif "," in lines[index]:
            cells = lines[index].split(",")
            cells[rng.randrange(len(cells))] = rng.choice((*_NUMBERS, *_TEXTS))
            lines[index] = ",".join(cells)
        else:
            lines[index] = rng.choice((*_NUMBERS, *_TEXTS))
        if not lines:
            lines = [""]
    path.write_text("\n".join(lines))


def change_bytes(path: Path, rng: random.Random) -> None:
    """Some bytes are others, missing, or too many."""
    content = bytearray(path.read_bytes())
    action = rng.random()
    if action < 0.25:
        content = content[: rng.randrange(len(content) + 1)]
    elif action < 0.35:
        content += bytes(rng.randrange(256) for _ in range(rng.choice((1, 8, 4096))))
    elif action < 0.45:
        start = rng.randrange(len(content))
        content[start : start + rng.choice((1, 8, 512))] = b""
    else:
        # Headers decide more than content does.
        most = rng.choice((64, 512, 4096, len(content)))
        for _ in range(rng.choice((1, 1, 4, 32))):
            content[rng.randrange(min(most, len(content)))] = rng.choice(
                (0, 1, 127, 128, 255, rng.randrange(256))
            )
    path.write_bytes(content)


def something_else(path: Path, rng: random.Random) -> None:
    """Something else in its place, or nothing."""
    path.unlink()
    match rng.choice(
        (
            "nothing",
            "empty",
            "folder",
            "pipe",
            "loop",
            "device",
            "huge",
            "deep",
            "deep toml",
            "digits",
            "nul",
            "secret",
        )
    ):
        case "nothing":
            pass
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "huge":
            with path.open("wb") as file:
                file.truncate(2**41)
        case "deep":
            path.write_text("[" * 20_000)
        case "deep toml":
            path.write_text("a = " + "[" * 20_000)
        case "digits":
            path.write_text('{"format": ' + "9" * 5000 + "}")
        case "nul":
            path.write_bytes(b"\x00" * 1000)
        case "secret":
            path.symlink_to("/proc/self/mem")


def change_hdf5(path: Path, rng: random.Random) -> None:
    """An array, a group, an attribute or a link that is another."""
    import h5py

    with h5py.File(path, "r+") as file:
        demo = file[f"data/demo_{rng.randrange(3)}"]
        name = rng.choice(
            (
                "actions",
                "obs/proprio",
                "obs/image_primary",
                "obs/image_wrist",
                "states",
                "actions_executed",
                "obs",
            )
        )
        values = demo[name][()] if name != "obs" else np.zeros(3)
        action = rng.randrange(13)
        if action <= 9:
            del demo[name]
        if action == 0:
            demo[name] = np.concatenate([values, values[:1]])
        elif action == 1:
            values = np.asarray(values, np.float64)
            values.flat[rng.randrange(values.size)] = rng.choice(
                (np.nan, np.inf, 1e30, -1e30, 50.0)
            )
            demo[name] = values.astype(rng.choice((np.float32, np.float64)))
        elif action == 2:
            demo[name] = np.asarray(values).astype(
                rng.choice(("S4", np.int64, np.float16, np.complex64, bool))
            )
        elif action == 3:
            demo[name] = h5py.ExternalLink(
                rng.choice(("other.hdf5", "/etc/passwd", "/dev/zero")), "/data"
            )
        elif action == 4:
            demo[name] = h5py.SoftLink(rng.choice((f"{demo.name}/{name}", "/nowhere", "/data")))
        elif action == 5:
            shape = rng.choice(((10**9, 7), (0, 7), (7,), (), (2**40, 2**20), (5000, 96, 96, 3)))
            if shape and 0 not in shape:
                demo.create_dataset(
                    name, shape, np.float32, chunks=tuple(min(each, 16) for each in shape)
                )
            else:
                demo.create_dataset(name, shape, np.float32)
        elif action == 6:
            demo.create_group(name)
        elif action == 7:
            demo[name] = np.asarray(values)[..., :1]
        elif action == 8:
            layout = h5py.VirtualLayout((6, 7), np.float32)
            layout[:] = h5py.VirtualSource("other.hdf5", "x", (6, 7))
            demo.create_virtual_dataset(name, layout)
        elif action == 10:
            where = rng.choice((demo, file["data"]))
            attribute = rng.choice(sorted(where.attrs))
            del where.attrs[attribute]
            if rng.random() < 0.7:
                where.attrs[attribute] = rng.choice(
                    (
                        -1,
                        1e30,
                        "",
                        "x" * 60_000,
                        "[" * 20_000,
                        np.arange(5),
                        b"\xff\xfe",
                        "[7, 1.5]",
                        '{"a": NaN}',
                        2**62,
                    )
                )
        elif action == 11:
            file["data"].move(
                demo.name.rpartition("/")[2],
                rng.choice(("demo_x", "demo_-1", "demo_9999999999", "x", "demo_²")),
            )
        elif action == 12:
            del file["data"]
            if rng.random() < 0.5:
                file["data"] = rng.choice((np.zeros(3), "text"))


def change_parquet(path: Path, rng: random.Random) -> None:
    """A column or the metadata that is another."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    index = rng.randrange(table.num_columns)
    name = table.schema.names[index]
    action = rng.randrange(6)
    if action == 0:
        table = table.drop_columns([name])
    elif action == 1:
        column = rng.choice(
            (
                [None] * table.num_rows,
                ["../../x"] * table.num_rows,
                [-1] * table.num_rows,
                [2**62] * table.num_rows,
                [float("nan")] * table.num_rows,
                [float("inf")] * table.num_rows,
                [[1, 2]] * table.num_rows,
                ["x" * 5000] * table.num_rows,
                [{"a": 1}] * table.num_rows,
                [b"\xff"] * table.num_rows,
                ["<script>"] * table.num_rows,
            )
        )
        table = table.set_column(index, name, [column])
    elif action == 2:
        values = table.column(index).to_pylist()
        row = rng.randrange(len(values))
        kind = type(values[row])
        values[row] = {
            int: rng.choice((-1, 2**62, 10**6, 0)),
            str: rng.choice(_TEXTS),
            bool: not values[row],
            float: rng.choice((float("nan"), float("inf"), -1.0, 1e300)),
        }.get(kind, values[row])
        table = table.set_column(index, table.schema.field(index), [values])
    elif action == 3:
        text = rng.choice(
            (
                b"[]",
                b"{}",
                b"null",
                b"[" * 20_000,
                b'{"format": 1}',
                b'{"format": "1"}',
                b'{"format": ' + b"9" * 5000 + b"}",
                b"\xff",
                b'{"format": 1, "study_seed": "x", "definitions": [], "versions": 3}',
                b'{"format": 2, "study_seed": 1e400, "definitions": {}, "versions": {}, "code": 5}',
            )
        )
        table = table.replace_schema_metadata({b"octo_bench": text})
    elif action == 4:
        table = table.slice(0, rng.randrange(3))
    else:
        table = pyarrow.concat_tables([table, table.slice(0, 2)])
    pyarrow.parquet.write_table(table, path)


def change_npz(path: Path, rng: random.Random) -> None:
    """An array that is another."""
    with np.load(path) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    action = rng.randrange(4)
    if action == 0:
        del arrays[name]
    elif action == 1 and name == "description":
        arrays[name] = np.array(json.dumps(_replace_value(json.loads(str(arrays[name])), rng)))
    elif action == 2:
        arrays[name] = np.resize(arrays[name], rng.choice(((1,), (2, 2), (), (3, 1, 1, 1))))
    else:
        arrays[name] = np.zeros(
            arrays[name].shape, rng.choice(("S3", np.complex64, np.float64, np.int8))
        )
    with zipfile.ZipFile(path, "w") as packed:
        for each, values in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, values, allow_pickle=False)
            packed.writestr(f"{each}.npy", buffer.getvalue())


def change_safetensors(path: Path, rng: random.Random) -> None:
    """Another header, or tensors that are others."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    body = bytearray(content[8 + length :])
    if rng.random() < 0.7:
        header = _replace_value(header, rng)
    else:
        start = 4 * rng.randrange(max(1, len(body) // 4))
        body[start : start + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), 1e38)))
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))
    if (sums := path.with_name("SHA256SUMS")).exists() and rng.random() < 0.8:
        sums.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


OWN: dict[str, tuple[Mutation, ...]] = {
    ".hdf5": (change_hdf5, change_hdf5, change_hdf5),
    ".json": (change_json, change_json, change_json),
    ".toml": (change_lines, change_lines, change_lines),
    ".csv": (change_lines,),
    ".parquet": (change_parquet, change_parquet, change_parquet),
    ".npz": (change_npz, change_npz),
    ".safetensors": (change_safetensors, change_safetensors),
    "": (change_lines,),
}


def command_line(rng: random.Random, root: Path) -> list[str]:
    """A command with arguments that make no sense."""
    from octo_bench.cli import app

    names = [
        each.name or each.callback.__name__.replace("_", "-") for each in app.registered_commands
    ]
    words = (
        "",
        "x" * 5000,
        "octo-tinny",
        "Lift-Panda",
        "Lift-Pand",
        "octo_bench/Lift-Panda-v0",
        "octo_bench/Lift-Panda-v99999",
        "-1",
        "0",
        "1e400",
        "nan",
        "9" * 5000,
        str(root),
        str(root / "nope"),
        "/dev/zero",
        "/proc/self/mem",
        "é",
        "--",
        "./policy",
        "--demos",
        "--out",
        "--env",
        "--episodes",
        "--suite",
        "--level",
        "--workers",
        "--json",
        "--seed",
        "--help",
        "a/b",
        "a/b/c",
        str(root / "a.parquet"),
        str(root / "lift.hdf5"),
        str(root / "policy"),
        "demos=5",
        "--where",
        "--baseline",
        "--head",
    )
    return [rng.choice(names), *rng.choices(words, k=rng.randrange(6))]


# What is changed: one sound file of each type.


def make_files(root: Path) -> None:
    """Sound files, without simulating or training anything."""
    from synthetic import tiny_config, toy_demonstrations
    from synthetic_files import write_demonstrations
    from synthetic_records import made_up

    from octo_bench.checkpoints.config import find_policy
    from octo_bench.checkpoints.folder import write_policy
    from octo_bench.cli.arguments import CORES
    from octo_bench.definitions import environment
    from octo_bench.demonstrations.normalisation import Statistics
    from octo_bench.demonstrations.windows import statistics_of
    from octo_bench.evaluation.policy_speed import machine
    from octo_bench.evaluation.provenance import provenance_of
    from octo_bench.evaluation.records import write_records
    from octo_bench.models.octo import Octo
    from octo_bench.paths import definitions_root, policies_root

    write_demonstrations(root / "lift.hdf5", 3)
    statistics: Statistics = statistics_of([toy_demonstrations()], "bounds").shared()
    write_policy(root / "policy", Octo(tiny_config()), 4, statistics, "# policy\n")
    for name, wins in (("a", 15), ("b", 12), ("g", 9)):
        records = [made_up(number, number < wins) for number in range(20)]
        write_records(records, root / f"{name}.parquet", provenance_of(records, 0))
    _write_golden(root / "g.golden.npz")
    _write_study(root / "study")
    shutil.copy(find_policy("octo-tiny") / "recipe.toml", root / "recipe.toml")
    for kind, name, own in (
        ("tasks", "Lift", "MyLift"),
        ("embodiments", "Panda", "MyPanda"),
        ("suites", "lighting", "mine"),
    ):
        (root / "envs" / kind).mkdir(parents=True)
        shutil.copy(
            definitions_root() / kind / f"{name}.toml", root / "envs" / kind / f"{own}.toml"
        )
    banks = root / "envs" / "initial_states"
    banks.mkdir()
    shipped = definitions_root() / "initial_states"
    shutil.copy(shipped / "Lift-Panda.safetensors", banks / "Lift-MyPanda.safetensors")
    sums = (shipped / "SHA256SUMS").read_text().splitlines()
    (line,) = [each for each in sums if each.endswith("  Lift-Panda.safetensors")]
    (banks / "SHA256SUMS").write_text(line.replace("Lift-Panda", "Lift-MyPanda") + "\n")
    row = f'{environment("Lift-Panda").id},100,97,43.1,"reach 2, grasp 1",-1\n'
    (root / "experts.csv").write_text(
        "env_id,seeds,successes,mean_steps,failures,stock_successes\n" + row
    )
    measured = json.loads((policies_root().parent / "results/speed/policies.json").read_text())
    (root / "speed.json").write_text(json.dumps({**measured, "machine": machine(CORES)}))
    _write_released(root / "released")


def _write_golden(path: Path) -> None:
    from octo_bench.agents.inference import Inference
    from octo_bench.agents.protocol import TaskInput
    from octo_bench.evaluation.golden import Golden, GoldenPlace, write_golden
    from octo_bench.evaluation.visited import Visited

    rng = np.random.default_rng(0)
    observations = {
        "image_primary": rng.integers(0, 255, (3, 1, 24, 24, 3), dtype=np.uint8),
        "image_wrist": rng.integers(0, 255, (3, 1, 24, 24, 3), dtype=np.uint8),
        "proprio": np.zeros((3, 1, 11), np.float32),
        "timestep_pad_mask": np.ones((3, 1), bool),
    }
    tasks = tuple(TaskInput("lift the red cube", None) for _ in range(3))
    place = GoldenPlace(
        "octo_bench/Lift-Panda-v1",
        Visited(observations, tasks, np.arange(3)),
        np.zeros((3, 4, 7), np.float32),
        np.zeros((3, 4, 7), np.float32),
    )
    write_golden(Golden("octo-tiny", "0" * 64, Inference(), (place,)), path)


def _write_study(folder: Path) -> None:
    from synthetic_study import episode, write_study

    records = [episode(number, number < 4) for number in range(6)]
    write_study(folder, records)
    text = (folder / "study.toml").read_text()
    (folder / "study.toml").write_text(text.replace("count = 200", "count = 2000"))


def _write_released(folder: Path) -> None:
    from octo_1_5_reference import FOLDER

    shutil.copytree(FOLDER / "checkpoint", folder)


# Running.


def _forbid_work() -> None:
    """Let every command stop where it begins to simulate, train, or start processes."""
    from octo_bench.demonstrations import collecting, replaying, survey
    from octo_bench.evaluation import policy_speed
    from octo_bench.processes import executor
    from octo_bench.simulation import world
    from octo_bench.statistics import calibration
    from octo_bench.studies import scheduler
    from octo_bench.training import finetune, loop, pretrain

    def accepted(*_: object, **__: object) -> None:
        raise Accepted

    executor.Executor.start = accepted
    world.World.__init__ = accepted
    loop.train = finetune.train = pretrain.train = accepted
    pretrain.initial_model = accepted
    scheduler.run_cells = accepted
    calibration.calibrate = accepted
    collecting.attempt = survey.survey_one = replaying.World = accepted
    policy_speed.measure_policies = accepted


def _run(arguments: list[str]) -> tuple[str, int, str]:
    """What becomes of a command: `accepted` or `exit`, its exit code, what it says on stderr."""
    from octo_bench import definitions, suites
    from octo_bench.cli import run
    from octo_bench.simulation import initial_states

    definitions.environments.cache_clear()
    definitions._readable.cache_clear()
    initial_states.find_bank.cache_clear()
    suites.suites.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            return "exit", run(arguments), err.getvalue()
    except Accepted:
        return "accepted", 0, err.getvalue()
    except SystemExit as ended:
        return "exit", int(ended.code or 0), err.getvalue()


def _serve(connection: Connection, root: Path) -> None:
    """Do cases until the parent closes the connection."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    _forbid_work()
    os.chdir(root)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + int(GIGABYTES * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            seed, number = connection.recv()
        except EOFError:
            return
        connection.send(_one(seed, number, root))


def _one(seed: int, number: int, root: Path) -> dict[str, Any]:
    """Make and run case `number`."""
    rng = random.Random(f"{seed} {number}")
    case = CASES[number % len(CASES)]
    work = root / "case"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(root / "sound", work)
    (work / "out").mkdir()
    change = "arguments"
    if case.file:
        path = work / case.file
        mutation = rng.choice((*OWN.get(path.suffix, ()), change_bytes, something_else))
        change = mutation.__name__
        try:
            mutation(path, rng)
        except (ValueError, LookupError, TypeError, KeyError, RuntimeError, OSError):
            change_bytes(path, rng)  # what that change cannot be made to
    arguments = (
        [
            each.format(file=work / case.file, root=work, out=work / "out", policy=work / "policy")
            for each in case.command
        ]
        if case.file
        else command_line(rng, work)
    )
    os.environ.pop("OCTO_BENCH_ENVS", None)
    for name, value in case.env:
        os.environ[name] = str(work / value)
    start = time.monotonic()
    ended, code, said = _run(arguments)
    return {
        "number": number,
        "kind": case.kind,
        "command": arguments[0] if arguments else "",
        "change": change,
        "ended": ended,
        "code": code,
        "said": said[-3000:],
        "seconds": round(time.monotonic() - start, 2),
        "arguments": [each[:200] for each in arguments],
    }


def problem_of(result: dict[str, Any]) -> str:
    """What is wrong with what became of a case, "" if nothing is."""
    if result["ended"] == "accepted":
        return ""
    if result["ended"] != "exit":
        return result["ended"]
    lines = [line for line in result["said"].splitlines() if line.strip()]
    if "Traceback" in result["said"]:
        return f"traceback: {lines[-1][:300]}"
    if result["code"] not in EXITS:
        return f"exit code {result['code']}"
    if result["code"] == 2 and sum(line.startswith("error: ") for line in lines) != 1:
        return f"{len(lines)} lines on stderr"
    return ""


class _Worker:
    """A process that does one case after the other, and is replaced if it dies or hangs."""

    def __init__(self, root: Path) -> None:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, root), daemon=True)
        self._process.start()
        theirs.close()

    def do(self, seed: int, number: int) -> dict[str, Any]:
        """What became of a case."""
        case = CASES[number % len(CASES)]
        failed = {
            "number": number,
            "kind": case.kind,
            "command": (case.command or ("?",))[0],
            "code": -1,
            "said": "",
            "change": "?",
        }
        self._connection.send((seed, number))
        if not self._connection.poll(SECONDS):
            self.close()
            return {**failed, "ended": f"hung for {SECONDS:g} s", "seconds": SECONDS}
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            self.close()
            return {**failed, "ended": f"died with {self._process.exitcode}", "seconds": 0}

    def close(self) -> None:
        """End the process."""
        if self._process.is_alive():
            os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()
        self._connection.close()

    @property
    def is_alive(self) -> bool:
        """Whether it can do another case."""
        return self._process.is_alive() and not self._connection.closed


def fuzz(numbers: range, seed: int) -> Iterator[dict[str, Any]]:
    """Do some cases, one after the other; what became of each."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        make_files(folder / "sound")
        worker: _Worker | None = None
        for number in numbers:
            if worker is None or not worker.is_alive:
                worker = _Worker(folder)
            yield worker.do(seed, number)
        if worker is not None and worker.is_alive:
            worker.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The program; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", type=Path, help="write every case there, a JSON line each")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.cases} cases", flush=True)
    done: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(options.log.open("w")) if options.log else None
        for result in fuzz(range(options.first, options.first + options.cases), options.seed):
            cell = result["command"], result["kind"]
            done[cell] += 1
            problem = problem_of(result)
            if log is not None:
                log.write(json.dumps({**result, "problem": problem}) + "\n")
                log.flush()
            if problem:
                failed[cell] += 1
                what = f"{' '.join(cell)}, {result['change']}"
                print(f"case {result['number']}: {what}: {problem}", flush=True)
    for (command, kind), count in sorted(done.items()):
        print(f"{command:14} {kind:20} {count:5} cases, {failed[command, kind]} failed")
    print(f"{sum(done.values())} cases, {sum(failed.values())} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
