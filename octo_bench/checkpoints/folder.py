"""The policy folder: config.json, model.safetensors, statistics.json, README.md.

Weights are read from safetensors only, every tensor checked for presence and shape. A folder with
nothing but config.json is a network to train. A folder `tokenizer` inside holds the files of the
instruction's tokenizer, where a policy brings them along.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from octo_bench.checkpoints.sizes import require_network, require_sizes
from octo_bench.checkpoints.text import TOKENIZER
from octo_bench.declarations import from_table
from octo_bench.demonstrations.normalisation import (
    Statistics,
    read_statistics,
    write_statistics,
)
from octo_bench.errors import BadCheckpoint, UnknownName
from octo_bench.files import atomic_path, write_json, write_text
from octo_bench.models.octo import Octo, OctoConfig
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.models.octo_1_5.network import Octo15
from octo_bench.paths import policies_root
from octo_bench.reading import is_file, is_folder, read_json, require_regular

FORMAT = 1
CONFIG, WEIGHTS, STATISTICS, CARD = (
    "config.json",
    "model.safetensors",
    "statistics.json",
    "README.md",
)
POLICY_FILES = (CONFIG, WEIGHTS, STATISTICS, CARD)
"""What a finished policy folder has."""
FIX = "copy the policy folder again from where it was trained"

Architecture = Literal["octo", "octo-1.5"]
Actions = Literal["environment", "metric"]
ModelConfig = OctoConfig | Octo15Config

CONFIGS: dict[str, type[OctoConfig] | type[Octo15Config]] = {
    "octo": OctoConfig,
    "octo-1.5": Octo15Config,
}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """`config.json`: the model, and how many steps of each chunk are executed.

    `actions` is what the model's actions are measured in once they are un-normalised:
    "environment" units, or "metric": metres, radians, and a gripper that is open at 1.
    """

    format: int = FORMAT
    architecture: Architecture = "octo"
    model: ModelConfig
    execute: int
    actions: Actions = "environment"


@dataclass(frozen=True)
class Policy:
    """A policy folder, read. The model is in evaluation mode."""

    folder: Path
    config: PolicyConfig
    statistics: Statistics
    model: Octo | Octo15


def find_policy(policy: str | Path) -> Path:
    """The folder of a policy: a name under `policies/`, a folder, or a Hugging Face Hub id.

    A bare name is that of a shipped policy, whatever the working directory has: a folder there is
    written with a path, as in `./octo-tiny`.

    Raises:
        UnknownName: if it is none of them.
        BadCheckpoint: for an empty name.
    """
    text = str(policy)
    if isinstance(policy, str) and not text.strip():
        raise BadCheckpoint("''", "no policy is named", "see `octo-bench policies` for names")
    if isinstance(policy, Path) or os.sep in text or text in (os.curdir, os.pardir):
        if is_folder(Path(policy)):
            return Path(policy)
    elif is_file(policies_root() / text / CONFIG):
        return policies_root() / text
    elif is_folder(Path(text)):
        fix = f"write ./{text} for the folder in the working directory"
        raise BadCheckpoint(text, "is the name of no shipped policy", fix)
    names = sorted(p.name for p in policies_root().glob("*") if (p / CONFIG).is_file())
    unknown = UnknownName("policy", text, [*names, "random", "expert"])
    if not re.fullmatch(r"[\w-][\w.-]{0,95}/[\w.-]{1,96}", text):
        raise unknown
    try:
        files = [CONFIG, WEIGHTS, STATISTICS, CARD, f"{TOKENIZER}/*"]
        return Path(snapshot_download(text, allow_patterns=files))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise unknown from error


def read_config(folder: Path) -> PolicyConfig:
    """Read and check `config.json`.

    Raises:
        BadCheckpoint: naming the key that is wrong.
    """
    path = folder / CONFIG
    table = read_json(path, BadCheckpoint, FIX, missing="name a policy folder")
    try:
        config = _parse_config(table, path)
        require_sizes(config)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise BadCheckpoint(path, f"is not valid ({error})", FIX) from error
    if not 1 <= config.execute <= config.model.chunk:
        problem = f"'execute' = {config.execute} is not between 1 and the chunk's length"
        raise BadCheckpoint(path, problem, f"use at most {config.model.chunk}")
    return config


def _parse_config(table: Any, path: Path) -> PolicyConfig:
    if not isinstance(table, dict):
        raise BadCheckpoint(path, "is not a table of keys and values", FIX)
    if table.get("format") != FORMAT:
        problem = f"has format {table.get('format')!r}, not {FORMAT}"
        raise BadCheckpoint(path, problem, "use the version of octo-bench that wrote it")
    architecture = str(table.get("architecture", "octo"))
    if architecture not in CONFIGS:
        problem = f"'architecture' is {architecture!r}"
        raise BadCheckpoint(path, problem, f"use one of {', '.join(CONFIGS)}")
    table = dict(table)
    model = table.pop("model", None)
    if not isinstance(model, dict):
        raise BadCheckpoint(path, "has no table 'model'", FIX)
    config = from_table(model, CONFIGS[architecture], BadCheckpoint, path, where="model.")
    return from_table(table, PolicyConfig, BadCheckpoint, path, given={"model": config})


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


def image_sizes(config: ModelConfig) -> list[int]:
    """Side of each camera's images in pixels."""
    if isinstance(config, Octo15Config):
        return [image.size for image in config.images]
    return [config.image_size]


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
