"""The policy folder: config.json, model.safetensors, statistics.json, README.md.

Weights are read from safetensors only, every tensor checked for presence and shape. A folder with
nothing but config.json is a network to train. A folder `tokenizer` inside holds the files of the
instruction's tokenizer, where a policy brings them along.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from octo_bench.checkpoints.config import (
    CARD,
    CONFIG,
    FIX,
    STATISTICS,
    WEIGHTS,
    Actions,
    ModelConfig,
    PolicyConfig,
    read_config,
)
from octo_bench.checkpoints.sizes import require_network
from octo_bench.demonstrations.normalisation import (
    Statistics,
    read_statistics,
    write_statistics,
)
from octo_bench.errors import BadCheckpoint
from octo_bench.files import atomic_path, write_json, write_text
from octo_bench.models.octo import Octo
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.models.octo_1_5.network import Octo15
from octo_bench.reading import require_regular


@dataclass(frozen=True)
class Policy:
    """A policy folder, read. The model is in evaluation mode."""

    folder: Path
    config: PolicyConfig
    statistics: Statistics
    model: Octo | Octo15


def read_policy(folder: Path) -> Policy:
    """Read a policy folder.

    Raises:
        BadCheckpoint: naming the file, and the key or the tensor.
    """
    config = read_config(folder)
    if not (folder / WEIGHTS).exists() and not (folder / STATISTICS).exists():
        problem = "has no weights"
        fix = {
            "octo": "it is a network to train, with `octo-bench pretrain`",
            "octo-1.5": "convert a released checkpoint with `octo-bench convert`",
        }
        raise BadCheckpoint(folder, problem, fix[config.architecture])
    # Released Octo 1.5 was trained on arms of several sizes at once.
    shorter = config.architecture == "octo-1.5"
    statistics = read_statistics(
        folder / STATISTICS, config.model.action_size, allow_shorter=shorter
    )
    entries = len(statistics.proprio.offset)
    if max(config.model.proprio_entries, default=-1) >= entries:
        problem = f"'proprio' has {entries} entries, the model reads more"
        raise BadCheckpoint(folder / STATISTICS, problem, FIX)
    try:
        require_network(config.model, lambda: build_model(config.model))
    except ValueError as error:
        raise BadCheckpoint(folder / CONFIG, str(error), FIX) from error
    model = build_model(config.model)
    load_weights(model, folder / WEIGHTS)
    return Policy(folder, config, statistics, model.eval())


def require_proprio(policy: Policy, entries: int) -> None:
    """Check that the policy reads the proprioception there is.

    Args:
        entries: of `proprio`, as observations or demonstrations have it.

    Raises:
        BadCheckpoint: for a policy that reads another number of entries.
    """
    own = len(policy.statistics.proprio.offset)
    if policy.config.model.proprio_entries and own != entries:
        raise BadCheckpoint(
            policy.folder / STATISTICS,
            f"'proprio' has {own} entries, observations have {entries}",
            "train it on demonstrations of this version: `octo-bench pretrain`",
        )


def build_model(config: ModelConfig) -> Octo | Octo15:
    """The network that a configuration describes, randomly initialised."""
    return Octo15(config) if isinstance(config, Octo15Config) else Octo(config)


def write_policy(
    folder: Path,
    model: Octo | Octo15,
    execute: int,
    statistics: Statistics,
    card: str,
    *,
    actions: Actions = "environment",
) -> PolicyConfig:
    """Write the policy folder of a trained model; see `write_folder`."""
    config = PolicyConfig(
        architecture="octo-1.5" if isinstance(model.config, Octo15Config) else "octo",
        model=model.config,
        execute=execute,
        actions=actions,
    )
    write_folder(folder, config, stored_tensors(model), statistics, card)
    return config


def write_folder(
    folder: Path,
    config: PolicyConfig,
    tensors: Mapping[str, Tensor],
    statistics: Statistics,
    card: str,
) -> None:
    """Write a policy folder, each file atomically, `config.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(tensors, folder / WEIGHTS)
    write_statistics(folder / STATISTICS, statistics)
    write_text(folder / CARD, card)
    write_json(folder / CONFIG, dataclasses.asdict(config))


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name; tensors that are shared appear once."""
    stored = dict(model.named_parameters())
    names = model.state_dict().keys()
    stored.update({name: b for name, b in model.named_buffers() if name in names})
    return stored


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = save(plain, metadata={"format": "pt"})
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into the model, in place.

    Raises:
        BadCheckpoint: naming the tensor that is missing, misshapen or unknown.
    """
    expected = stored_tensors(model)
    require_regular(path, BadCheckpoint, FIX, missing=FIX)
    try:
        with safe_open(path, framework="pt") as handle:
            present = set(handle.keys())
            for name, tensor in expected.items():
                if name not in present:
                    raise BadCheckpoint(path, f"tensor '{name}' is missing", FIX)
                shape = tuple(handle.get_slice(name).get_shape())
                if shape != tuple(tensor.shape):
                    problem = f"tensor '{name}' has shape {shape}, not {tuple(tensor.shape)}"
                    raise BadCheckpoint(path, problem, FIX)
            unknown = sorted(present - expected.keys())
            if unknown:
                problem = f"tensor '{unknown[0]}' is not part of the model in {CONFIG}"
                raise BadCheckpoint(path, problem, FIX)
            with torch.no_grad():
                for name, tensor in expected.items():
                    stored = handle.get_tensor(name)
                    if stored.is_floating_point() != tensor.is_floating_point():
                        problem = f"tensor '{name}' holds {stored.dtype}, not {tensor.dtype}"
                        raise BadCheckpoint(path, problem, FIX)
                    if not torch.isfinite(stored).all():
                        problem = f"tensor '{name}' has a value that is not finite"
                        raise BadCheckpoint(path, problem, FIX)
                    tensor.copy_(stored)
    except (SafetensorError, OSError) as error:
        problem = f"is not a safetensors file ({error})"
        raise BadCheckpoint(path, problem, "convert the weights to safetensors") from error


def describe(values: Any) -> str:
    """A dataclass as the rows of a Markdown table, nested keys dotted."""

    def rows(table: Mapping[Any, Any], prefix: str = "") -> list[str]:
        lines = []
        for key, value in table.items():
            if isinstance(value, tuple) and value and isinstance(value[0], dict):
                value = dict(enumerate(value))
            if isinstance(value, dict):
                lines += rows(value, f"{prefix}{key}.")
            else:
                lines.append(f"| `{prefix}{key}` | {value} |")
        return lines

    return "\n".join(["| setting | value |", "|---|---|", *rows(dataclasses.asdict(values))])
