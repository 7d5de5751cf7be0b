"""A checkpoint folder as the original Octo 1.5 code writes it.

It holds config.json (the whole training configuration), example_batch.msgpack (one example of the
inputs), dataset_statistics.json and <step>/default/checkpoint (the parameters). The original's
fine-tuning adds finetune_config.json: config.json is then the pre-training's, and the statistics
are those of the fine-tuning's one data set, without its name. Nothing of it is executed, and
neither JAX nor Flax nor Orbax is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from octo_bench.checkpoints.arrays import read_arrays
from octo_bench.checkpoints.foreign import (
    explain_no_parameters,
    explain_no_steps,
    is_step,
    newer_layout,
    require_checkpoint_folder,
    require_octo,
    require_octo_1_5,
)
from octo_bench.checkpoints.released_config import network_config
from octo_bench.demonstrations.normalisation import Affine, Kind
from octo_bench.errors import BadCheckpoint
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.reading import read_text

CONFIG, BATCH, STATISTICS = "config.json", "example_batch.msgpack", "dataset_statistics.json"
FINETUNE = "finetune_config.json"
PARAMETERS = "default/checkpoint"
UNNAMED = "finetuned"
"""The data set of a fine-tuned checkpoint, if no configuration names it."""

Normalisation = Literal["normal", "bounds"]
"""The original's words: to mean 0 and deviation 1, or percentiles 1 and 99 to -1 and 1."""
DEFAULT_NORMALISATION: Normalisation = "normal"
"""The original's, where nothing else is said."""

_FIX = "copy or download it again"
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
    """A released checkpoint, read.

    Attributes:
        parameters: those of `file`, by their path in its tree.
        skipped: later steps without parameters.
        assumed: whether nothing says how the data set was normalised, so that it is taken for
            the original's default.
    """

    folder: Path
    file: Path
    step: int
    config: Octo15Config
    parameters: dict[str, np.ndarray]
    datasets: dict[str, Dataset]
    skipped: tuple[int, ...]
    assumed: bool


@dataclass(frozen=True)
class _Trained:
    """What the configuration says of a data set that was trained on."""

    normalisation: Normalisation = DEFAULT_NORMALISATION
    scaled: bool = True


def read_released(folder: Path, step: int | None = None) -> Released:
    """Read a released checkpoint, the last of its steps unless one is named.

    Raises:
        BadCheckpoint: naming the file, and the key or the array.
    """
    require_checkpoint_folder(folder, CONFIG)
    table = _read_table(folder / CONFIG)
    require_octo(folder / CONFIG, table)
    finetune = _read_table(folder / FINETUNE) if (folder / FINETUNE).exists() else None
    batch = read_arrays(folder / BATCH)
    require_octo_1_5(folder, table, batch)
    statistics = _read_table(folder / STATISTICS)
    step, file, skipped = _find_step(folder, step)
    try:
        parameters = read_arrays(file)
    except BadCheckpoint as error:
        # In a newer layout the file may be there and only say where the arrays are.
        if newer_layout(file.parent.parent):
            raise explain_no_parameters(file.parent.parent, PARAMETERS) from error
        raise
    try:
        config = network_config(table, _shapes(batch), _shapes(parameters))
    except ValueError as error:
        raise BadCheckpoint(folder / CONFIG, str(error), _ONLY) from error
    source, declared = (CONFIG, table) if finetune is None else (FINETUNE, finetune)
    try:
        trained_on = _trained_on(declared)
    except ValueError as error:
        raise BadCheckpoint(folder / source, str(error), _FIX) from error
    unnamed = _is_dataset(statistics)
    # Without the file of a fine-tuning, the configuration may list the pre-training's data sets.
    own = trained_on if finetune is not None or len(trained_on) == 1 else {}
    try:
        datasets = _datasets(statistics, own if unnamed else trained_on, config.action_size)
    except ValueError as error:
        raise BadCheckpoint(folder / STATISTICS, str(error), _FIX) from error
    assumed = unnamed and not own
    return Released(folder, file, step, config, parameters, datasets, skipped, assumed)


def _read_table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(read_text(path, BadCheckpoint, _FIX, missing=_FIX))
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(path, f"is not valid JSON ({error})", _FIX) from error
    if not isinstance(table, dict):
        raise BadCheckpoint(path, "is not a table of keys and values", _FIX)
    return table


def _find_step(folder: Path, step: int | None) -> tuple[int, Path, tuple[int, ...]]:
    """The step, the file of its parameters, and later steps, which have none."""
    steps = {int(path.name): path for path in folder.iterdir() if is_step(path.name)}
    if not steps:
        raise explain_no_steps(folder)
    # A step without any parameters was not saved to the end; one in another layout was.
    saved = [
        number
        for number, path in steps.items()
        if (path / PARAMETERS).exists() or newer_layout(path)
    ]
    chosen = max(saved or steps) if step is None else step
    if chosen not in steps:
        there = ", ".join(map(str, sorted(steps)))
        raise BadCheckpoint(folder, f"has no step {chosen}", f"steps there: {there}")
    file = steps[chosen] / PARAMETERS
    if not file.exists():
        raise explain_no_parameters(steps[chosen], PARAMETERS)
    skipped = sorted(number for number in steps if step is None and number > chosen)
    return chosen, file, tuple(skipped)


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def _datasets(
    statistics: Mapping[str, Any], trained_on: Mapping[str, _Trained], action_size: int
) -> dict[str, Dataset]:
    """The data sets by name; fine-tuning writes the statistics of its only one without a name."""
    if _is_dataset(statistics):
        statistics = {next(iter(trained_on), UNNAMED): statistics}
    if not statistics:
        raise ValueError("has no dataset")
    datasets = {}
    for name, entry in statistics.items():
        if not _is_dataset(entry):
            raise ValueError(f"'{name}' has no table 'action'")
        trained = trained_on.get(name, _Trained())
        kind: Kind = "bounds" if trained.normalisation == "bounds" else "mean_std"
        actions = _scaling(entry["action"], kind, f"{name}.action", trained.scaled)
        if len(actions.offset) > action_size:
            problem = f"has {len(actions.offset)} entries, more than the network's {action_size}"
            raise ValueError(f"'{name}.action' {problem}")
        proprio = entry.get("proprio")
        scaling = None
        if proprio is not None:
            scaling = _scaling(proprio, kind, f"{name}.proprio", trained.scaled)
            if kind == "bounds" and trained.scaled:
                # What the original's data loader does to the proprioception that it scales so.
                scaling = replace(scaling, limit=1.0)
        datasets[name] = Dataset(kind, actions, scaling)
    return datasets


def _is_dataset(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("action"), dict)


def _trained_on(table: Mapping[str, Any]) -> dict[str, _Trained]:
    """Each data set that a configuration trains on, by name.

    Raises:
        ValueError: for a normalisation that the original does not have.
    """
    declared = table.get("dataset_kwargs")
    declared = declared if isinstance(declared, dict) else {}
    listed = declared.get("dataset_kwargs_list", [declared])
    found = {}
    for each in listed if isinstance(listed, list) else []:
        if not (isinstance(each, dict) and isinstance(each.get("name"), str)):
            continue
        named = each.get("action_proprio_normalization_type", DEFAULT_NORMALISATION)
        if named not in get_args(Normalisation):
            key = "action_proprio_normalization_type"
            raise ValueError(f"'{key}' of '{each['name']}' is {named!r}, not 'normal' or 'bounds'")
        found[each["name"]] = _Trained(named, scaled=each.get("skip_norm") is not True)
    return found


def _scaling(entry: Any, kind: Kind, where: str, scaled: bool) -> Affine:
    """What a statistics table does to values; entries that its mask leaves out stay as they are.

    All of them do where training did not scale.

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
    if not scaled:
        mask = np.zeros_like(mask)
    if kind == "bounds":
        first, second = (first + second) / 2, (second - first) / 2
    return Affine(
        np.where(mask, first, 0).astype(np.float32),
        np.where(mask, np.maximum(second, _SMALLEST_SCALE), 1).astype(np.float32),
    )
