"""A released Octo 1.5 checkpoint as a policy folder of ours."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from torch import Tensor

from octo_bench.checkpoints import released
from octo_bench.checkpoints.config import TOKENIZER, PolicyConfig
from octo_bench.checkpoints.folder import describe, stored_tensors, write_folder
from octo_bench.checkpoints.mapping import parameters
from octo_bench.checkpoints.released import Released, read_released
from octo_bench.checkpoints.text import FILE, find_tokenizer
from octo_bench.demonstrations.normalisation import POOLED, Affine, Statistics
from octo_bench.errors import BadCheckpoint, UnknownName
from octo_bench.files import sha256_file
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.models.octo_1_5.network import Octo15

USUAL_DATASET = "bridge_dataset"
"""The default dataset, where it is among them: one arm over a table top."""

_ORIGINAL = "https://github.com/octo-models/octo"
_T5 = "language.t5."
_FIX = f"take {released.CONFIG} and the parameters from one checkpoint"


@dataclass(frozen=True)
class Conversion:
    """What was converted: sizes in parameters, and action entries of each data set.

    `skipped` are later steps that have no parameters. `assumed`: nothing says how the data set
    was normalised, so that the original's default is taken.
    """

    step: int
    skipped: tuple[int, ...]
    assumed: bool
    config: Octo15Config
    parameters: int
    parameters_without_t5: int
    datasets: dict[str, int]
    default_dataset: str
    has_tokenizer: bool

    def tokenizer_wanted(self, policy: Path) -> str:
        """What is missing before the policy can read text."""
        name = self.config.language.tokenizer
        return f"Instructions need {policy / TOKENIZER / FILE}: put that of '{name}' there"


def convert(
    source: str, destination: Path, *, step: int | None = None, dataset: str | None = None
) -> Conversion:
    """Write the policy folder of a released checkpoint, whole or not at all.

    Args:
        source: a folder, or a Hugging Face Hub id.
        destination: the policy folder; what is there already is not touched.
        step: which of the checkpoint's, the last if None.
        dataset: the data set whose statistics unlisted embodiments get.

    Raises:
        BadCheckpoint: naming the file, and the key or the array, that does not fit.
        UnknownName: if there is no such dataset.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BadCheckpoint(destination, "is there already", "name a new folder")
    folder = find_released(source, step)
    read = read_released(folder, step)
    default, statistics = _statistics(read, dataset)
    tensors = convert_parameters(read)
    everything = sum(tensor.numel() for tensor in tensors.values())
    of_t5 = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith(_T5))
    try:
        tokenizer = find_tokenizer(folder, read.config.language.tokenizer)
    except BadCheckpoint:
        tokenizer = None
    summary = Conversion(
        step=read.step,
        skipped=read.skipped,
        assumed=read.assumed,
        config=read.config,
        parameters=everything,
        parameters_without_t5=everything - of_t5,
        datasets={name: len(each.actions.offset) for name, each in read.datasets.items()},
        default_dataset=default,
        has_tokenizer=tokenizer is not None,
    )
    config = PolicyConfig(
        architecture="octo-1.5", model=read.config, execute=read.config.chunk, actions="metric"
    )
    with _new_folder(destination) as unfinished:
        if tokenizer is not None:
            (unfinished / TOKENIZER).mkdir()
            shutil.copyfile(tokenizer, unfinished / TOKENIZER / FILE)
        card = _card(destination.name, source, read, summary)
        write_folder(unfinished, config, tensors, statistics, card)
    return summary


def find_released(source: str, step: int | None = None) -> Path:
    """The folder of a released checkpoint: a folder, or a Hub id, which is fetched.

    Raises:
        BadCheckpoint: if it is neither, or the Hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    name = source.removeprefix("hf://")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        fix = "name a folder or a Hugging Face Hub id, like rail-berkeley/octo-small-1.5"
        raise BadCheckpoint(source, "no such folder", fix)
    files = [released.CONFIG, released.BATCH, released.STATISTICS, released.FINETUNE]
    step_folder = "*" if step is None else step
    files += [f"{step_folder}/{released.PARAMETERS}", f"{step_folder}/default/manifest.ocdbt"]
    try:
        return Path(snapshot_download(name, allow_patterns=files))
    except RepositoryNotFoundError as error:
        problem = "is neither a folder nor a repository on the Hugging Face Hub"
        raise BadCheckpoint(source, problem, "check the name") from error
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        problem = "no such folder, and it cannot be fetched from the Hugging Face Hub"
        raise BadCheckpoint(source, problem, "check the name and the connection") from error


def convert_parameters(read: Released) -> dict[str, Tensor]:
    """The checkpoint's parameters under the names of our network, float32.

    They are taken out of `read`, one by one, so that a large network is not held twice.

    Raises:
        BadCheckpoint: naming a parameter that is missing, unknown or misshapen.
    """
    mapped, left = [], set(read.parameters)
    for each in parameters(read.config):
        if each.original not in left:
            raise BadCheckpoint(read.file, f"'{each.original}' is missing", _FIX)
        left.remove(each.original)
        mapped.append(each)
    if left:
        problem = f"'{min(left)}' is not part of the network in {released.CONFIG}"
        raise BadCheckpoint(read.file, problem, _FIX)
    shapes = _shapes(read)
    if shapes.keys() != {each.name for each in mapped}:
        raise RuntimeError(f"unmapped: {sorted(shapes.keys() ^ {each.name for each in mapped})}")
    tensors = {}
    for each in mapped:
        array = read.parameters.pop(each.original)
        expected = each.layout.original_shape(shapes[each.name])
        if array.shape != expected:
            problem = f"'{each.original}' has the shape {array.shape}, not {expected}"
            raise BadCheckpoint(read.file, problem, _FIX)
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            problem = f"'{each.original}' has values that are not finite"
            raise BadCheckpoint(read.file, problem, "copy or download it again")
        converted = np.array(each.layout.convert(array), np.float32, order="C")
        tensors[each.name] = torch.from_numpy(converted)
    return tensors


def _shapes(read: Released) -> dict[str, tuple[int, ...]]:
    """Shapes of our network's parameters, none of which is made for it."""
    try:
        with torch.device("meta"):
            network = Octo15(read.config)
    except (ValueError, LookupError, RuntimeError) as error:
        path = read.folder / released.CONFIG
        raise BadCheckpoint(path, f"describes no network ({error})", _FIX) from error
    return {name: tuple(tensor.shape) for name, tensor in stored_tensors(network).items()}


def _statistics(read: Released, dataset: str | None) -> tuple[str, Statistics]:
    """The default dataset's name, and the normalisation of all of them."""
    names = read.datasets.keys()
    if dataset is not None and dataset not in names:
        raise UnknownName("dataset", dataset, names)
    default = dataset or _usual(read)
    chosen = read.datasets[default]
    entries = len(read.config.proprio_entries)
    proprio = chosen.proprio or Affine(np.zeros(0, np.float32), np.ones(0, np.float32))
    if entries and len(proprio.offset) != entries:
        path = read.folder / released.STATISTICS
        problem = f"'{default}' has {len(proprio.offset)} entries of proprio, not {entries}"
        raise BadCheckpoint(path, problem, "name another dataset with --dataset")
    actions = {name: each.actions for name, each in read.datasets.items()}
    return default, Statistics(chosen.kind, proprio, {**actions, POOLED: chosen.actions})


def _usual(read: Released) -> str:
    """The usual dataset; without it, the first by name of those with the most action entries."""
    if USUAL_DATASET in read.datasets:
        return USUAL_DATASET
    return min(read.datasets, key=lambda name: (-len(read.datasets[name].actions.offset), name))


@contextmanager
def _new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill, which becomes `path` on success and else is removed."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.mkdir(parents=True)
    except OSError as error:
        problem = f"cannot be made ({error.strerror})"
        raise BadCheckpoint(path, problem, "name another folder") from error
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _card(name: str, source: str, read: Released, summary: Conversion) -> str:
    """The model card."""
    rows = "\n".join(
        f"| `{dataset}` | {size} | {'default' if dataset == summary.default_dataset else ''} |"
        for dataset, size in summary.datasets.items()
    )
    text = (
        f"`{TOKENIZER}/{FILE}` is that of `{read.config.language.tokenizer}`."
        if summary.has_tokenizer
        else f"Instructions need `{TOKENIZER}/{FILE}`, that of `{read.config.language.tokenizer}`."
    )
    return f"""# {name}

An Octo 1.5 policy with a {read.config.head} head, {summary.parameters:,} parameters
({summary.parameters_without_t5:,} without T5), converted by `octo-bench convert` from
`{source}`, step {summary.step}.

- Architecture and original code: [Octo]({_ORIGINAL}) (Octo Model Team 2024, arXiv 2405.12213)
- SHA-256 of the original's parameters: `{sha256_file(read.file)}`
- The weights' licence is that of where they come from.

## Actions

{read.config.chunk} steps of up to {read.config.action_size} entries, un-normalised by the \
statistics of a dataset: metres, radians
(rotation about x, y and z), and a gripper that is open at 1 and closed at 0. An embodiment
in none of the datasets gets the default's statistics.

| dataset | action entries | |
|---|---|---|
{rows}

## Text

{text}

## Model

{describe(read.config)}
"""
