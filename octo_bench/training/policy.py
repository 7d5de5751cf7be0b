"""The policy folder: config.json, model.safetensors, statistics.json, README.md.

Weights are read from safetensors only, every tensor checked for presence and shape.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from octo_bench.declarations import from_table
from octo_bench.demonstrations.normalisation import (
    Statistics,
    read_statistics,
    write_statistics,
)
from octo_bench.errors import BadCheckpoint, UnknownName
from octo_bench.files import atomic_path, write_json, write_text
from octo_bench.models.octo import Octo, OctoConfig
from octo_bench.paths import policies_root

FORMAT = 1
CONFIG, WEIGHTS, STATISTICS, CARD = (
    "config.json",
    "model.safetensors",
    "statistics.json",
    "README.md",
)
MEND = "copy the policy folder again from where it was trained"


@dataclass(frozen=True)
class PolicyConfig:
    """`config.json`: the model, and how many steps of each chunk are executed."""

    format: int
    model: OctoConfig
    execute: int


@dataclass(frozen=True)
class Policy:
    """A policy folder, read. The model is in evaluation mode."""

    folder: Path
    config: PolicyConfig
    statistics: Statistics
    model: Octo


def find_policy(policy: str | Path) -> Path:
    """The folder of a policy: a name under `policies/`, a folder, or a Hugging Face Hub id.

    Raises:
        UnknownName: if it is none of them.
    """
    shipped = policies_root() / policy
    for folder in (Path(policy), shipped):
        if folder.is_dir():
            return folder
    names = sorted(p.name for p in policies_root().glob("*") if (p / CONFIG).is_file())
    unknown = UnknownName("policy", str(policy), [*names, "random", "expert"])
    if str(policy).count("/") != 1:
        raise unknown
    try:
        files = [CONFIG, WEIGHTS, STATISTICS, CARD]
        return Path(snapshot_download(str(policy), allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise unknown from error


def read_config(folder: Path) -> PolicyConfig:
    """Read and check `config.json`.

    Raises:
        BadCheckpoint: naming the key that is wrong.
    """
    path = folder / CONFIG
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(table, dict):
            raise BadCheckpoint(path, "is not a table of keys and values", MEND)
        if table.get("format") != FORMAT:
            problem = f"has format {table.get('format')!r}, not {FORMAT}"
            raise BadCheckpoint(path, problem, "use the version of octo-bench that wrote it")
        config = from_table(table, PolicyConfig, BadCheckpoint, path)
    except FileNotFoundError as error:
        raise BadCheckpoint(path, "no such file", "name a policy folder") from error
    except ValueError as error:
        raise BadCheckpoint(path, f"is not valid ({error})", MEND) from error
    if not 1 <= config.execute <= config.model.chunk:
        problem = f"'execute' = {config.execute} is not between 1 and the chunk's length"
        raise BadCheckpoint(path, problem, f"use at most {config.model.chunk}")
    return config


def read_policy(folder: Path) -> Policy:
    """Read a policy folder.

    Raises:
        BadCheckpoint: naming the file, and the key or the tensor.
    """
    config = read_config(folder)
    statistics = read_statistics(folder / STATISTICS, config.model.action_size)
    entries = len(statistics.proprio.offset)
    if config.model.proprio and max(config.model.proprio) >= entries:
        problem = f"'proprio' has {entries} entries, the model reads more"
        raise BadCheckpoint(folder / STATISTICS, problem, MEND)
    model = Octo(config.model)
    load_weights(model, folder / WEIGHTS)
    return Policy(folder, config, statistics, model.eval())


def write_policy(
    folder: Path, model: Octo, execute: int, statistics: Statistics, card: str
) -> PolicyConfig:
    """Write a policy folder, each file atomically, `config.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    config = PolicyConfig(FORMAT, model.config, execute)
    save_weights(model, folder / WEIGHTS)
    write_statistics(folder / STATISTICS, statistics)
    write_text(folder / CARD, card)
    write_json(folder / CONFIG, dataclasses.asdict(config))
    return config


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; tensors that are shared appear once."""
    stored = dict(model.named_parameters())
    names = model.state_dict().keys()
    stored.update({name: b for name, b in model.named_buffers() if name in names})
    return stored


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the model's tensors as safetensors, atomically."""
    tensors = {n: t.detach().cpu().contiguous() for n, t in stored_tensors(model).items()}
    content = save(tensors, metadata={"format": "pt"})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into the model, in place.

    Raises:
        BadCheckpoint: naming the tensor that is missing, misshapen or unknown.
    """
    expected = stored_tensors(model)
    try:
        with safe_open(path, framework="pt") as handle:
            present = set(handle.keys())
            for name, tensor in expected.items():
                if name not in present:
                    raise BadCheckpoint(path, f"tensor '{name}' is missing", MEND)
                shape = tuple(handle.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    problem = f"tensor '{name}' has shape {shape}, not {tuple(tensor.shape)}"
                    raise BadCheckpoint(path, problem, MEND)
            unknown = sorted(present - expected.keys())
            if unknown:
                problem = f"tensor '{unknown[0]}' is not part of the model in {CONFIG}"
                raise BadCheckpoint(path, problem, MEND)
            with torch.no_grad():
                for name, tensor in expected.items():
                    tensor.copy_(handle.get_tensor(name))
    except FileNotFoundError as error:
        raise BadCheckpoint(path, "no such file", MEND) from error
    except SafetensorError as error:
        problem = f"is not a safetensors file ({error})"
        raise BadCheckpoint(path, problem, "convert the weights to safetensors") from error


def describe(values: Any) -> str:
    """A dataclass as the rows of a Markdown table, nested keys dotted."""

    def rows(table: dict[str, Any], prefix: str = "") -> list[str]:
        lines = []
        for key, value in table.items():
            if isinstance(value, dict):
                lines += rows(value, f"{prefix}{key}.")
            else:
                lines.append(f"| `{prefix}{key}` | {value} |")
        return lines

    return "\n".join(["| setting | value |", "|---|---|", *rows(dataclasses.asdict(values))])
