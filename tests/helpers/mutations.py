"""Random changes to files of each type, and command lines that make no sense."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Mutation = Callable[[Path, random.Random], None]

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


OF_A_TYPE: dict[str, tuple[Mutation, ...]] = {
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
