"""A released checkpoint's files for the tests of conversion: their names, and changing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from helpers.flax_files import write_arrays
from octo_bench.checkpoints.arrays import read_arrays

CONFIG, BATCH, STATISTICS = "config.json", "example_batch.msgpack", "dataset_statistics.json"
PARAMETERS = "300000/default/checkpoint"
HEAD = "model.heads.action"
WIDTH, OUTPUTS = 64, 28


def edit_json(file: Path, place: str, value: Any = ...) -> None:
    """Set the value at a dotted place, or remove it."""
    table = json.loads(file.read_text())
    *parents, last = place.split(".")
    branch = table
    for parent in parents:
        branch = branch[parent]
    if value is ...:
        del branch[last]
    else:
        branch[last] = value
    file.write_text(json.dumps(table))


def edit_arrays(file: Path, **changes: Any) -> None:
    """Set arrays, or remove those that are set to `...`."""
    arrays = {**read_arrays(file), **changes}
    write_arrays(file, {name: each for name, each in arrays.items() if each is not ...})
