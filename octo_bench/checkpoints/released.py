"""A checkpoint folder as the original Octo 1.5 code writes it.

It holds config.json (the whole training configuration), example_batch.msgpack (one example of the
inputs), dataset_statistics.json and <step>/default/checkpoint (the parameters). Nothing of it is
executed, and neither JAX nor Flax nor Orbax is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from octo_bench.checkpoints.arrays import read_arrays
from octo_bench.checkpoints.released_config import network_config
from octo_bench.demonstrations.normalisation import Affine, Kind
from octo_bench.errors import BadCheckpoint
from octo_bench.models.octo_1_5.config import Octo15Config

CONFIG, BATCH, STATISTICS = "config.json", "example_batch.msgpack", "dataset_statistics.json"
PARAMETERS = "default/checkpoint"
UNNAMED = "finetuned"
"""The dataset of a fine-tuned checkpoint, if its configuration does not name it."""

_MEND = "copy or download it again"
_ONLY = "only checkpoints of Octo 1.5 can be read"
_LARGEST = 1e30
_SMALLEST_SCALE = 1e-8
"""What the original adds to a standard deviation when it divides by it."""


@dataclass(frozen=True)
class Dataset:
    """How one dataset's actions, and its proprioception if that was read, were normalised."""

    kind: Kind
    actions: Affine
    proprio: Affine | None


@dataclass(frozen=True)
class Released:
    """A released checkpoint, read; `parameters`, those of `file`, by their path in its tree."""

    folder: Path
    file: Path
    step: int
    config: Octo15Config
    parameters: dict[str, np.ndarray]
    datasets: dict[str, Dataset]


def read_released(folder: Path, step: int | None = None) -> Released:
    """Read a released checkpoint, the last of its steps unless one is named.

    Raises:
        BadCheckpoint: naming the file, and the key or the array.
    """
    table = _read_table(folder / CONFIG)
    statistics = _read_table(folder / STATISTICS)
    batch = read_arrays(folder / BATCH)
    step, file = _find_step(folder, step)
    parameters = read_arrays(file)
    try:
        config = network_config(table, _shapes(batch), _shapes(parameters))
    except ValueError as error:
        raise BadCheckpoint(folder / CONFIG, str(error), _ONLY) from error
    try:
        datasets = _datasets(statistics, table, config.action_size)
    except ValueError as error:
        raise BadCheckpoint(folder / STATISTICS, str(error), _MEND) from error
    return Released(folder, file, step, config, parameters, datasets)


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadCheckpoint(path, "no such file", _MEND) from error
    except OSError as error:
        raise BadCheckpoint(path, f"cannot be read ({error.strerror})", _MEND) from error
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(path, f"is not valid JSON ({error})", _MEND) from error
    if not isinstance(table, dict):
        raise BadCheckpoint(path, "is not a table of keys and values", _MEND)
    return table


def _find_step(folder: Path, step: int | None) -> tuple[int, Path]:
    steps = {int(p.name): p for p in folder.iterdir() if re.fullmatch(r"[0-9]{1,18}", p.name)}
    if not steps:
        raise BadCheckpoint(folder, "has no folder named by a step, like 300000", _MEND)
    chosen = max(steps) if step is None else step
    if chosen not in steps:
        there = ", ".join(map(str, sorted(steps)))
        raise BadCheckpoint(folder, f"has no step {chosen}", f"steps there: {there}")
    return chosen, steps[chosen] / PARAMETERS


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _datasets(
    statistics: Mapping[str, Any], table: Mapping[str, Any], action_size: int
) -> dict[str, Dataset]:
    """The datasets by name; fine-tuning writes the statistics of its only one without a name."""
    trained_on = _trained_on(table)
    if _is_dataset(statistics):
        statistics = {next(iter(trained_on), UNNAMED): statistics}
    if not statistics:
        raise ValueError("has no dataset")
    datasets = {}
    for name, entry in statistics.items():
        if not _is_dataset(entry):
            raise ValueError(f"'{name}' has no table 'action'")
        kind: Kind = "bounds" if trained_on.get(name) == "bounds" else "mean_std"
        actions = _scaling(entry["action"], kind, f"{name}.action")
        if len(actions.offset) > action_size:
            problem = f"has {len(actions.offset)} entries, more than the network's {action_size}"
            raise ValueError(f"'{name}.action' {problem}")
        proprio = entry.get("proprio")
        scaling = None if proprio is None else _scaling(proprio, kind, f"{name}.proprio")
        datasets[name] = Dataset(kind, actions, scaling)
    return datasets


def _is_dataset(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("action"), dict)


def _trained_on(table: Mapping[str, Any]) -> dict[str, Any]:
    """Name and type of normalisation of each dataset that the configuration trains on."""
    declared = table.get("dataset_kwargs")
    declared = declared if isinstance(declared, dict) else {}
    listed = declared.get("dataset_kwargs_list", [declared])
    return {
        each["name"]: each.get("action_proprio_normalization_type")
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and isinstance(each.get("name"), str)
    }


def _scaling(entry: Any, kind: Kind, where: str) -> Affine:
    """What a statistics table does to values; entries that its mask leaves out stay as they are.

    "mean_std" makes them mean 0 and deviation 1, "bounds" maps the percentiles 1 and 99 to -1
    and 1.
    """
    centre, spread = ("mean", "std") if kind == "mean_std" else ("p01", "p99")
    try:
        first, second = (np.asarray(entry[key], np.float64) for key in (centre, spread))
        mask = np.asarray(entry.get("mask", np.ones(first.shape, bool)))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"'{where}' has no numbers '{centre}' and '{spread}'") from error
    fits = first.ndim == 1 and len(first) and first.shape == second.shape == mask.shape
    if not (fits and mask.dtype == bool and (np.abs([first, second]) < _LARGEST).all()):
        raise ValueError(f"'{where}' must have as many '{centre}' as '{spread}' and 'mask'")
    if kind == "bounds":
        first, second = (first + second) / 2, (second - first) / 2
    return Affine(
        np.where(mask, first, 0).astype(np.float32),
        np.where(mask, np.maximum(second, _SMALLEST_SCALE), 1).astype(np.float32),
    )
