"""A policy's name, and the `config.json` of its folder.

Nothing here imports torch, so that a misspelt name is answered at once.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octo_bench.checkpoints.sizes import require_sizes
from octo_bench.definitions.declarations import from_table
from octo_bench.errors import BadCheckpoint, UnknownName
from octo_bench.models.config import OctoConfig
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.paths import policies_root
from octo_bench.reading import is_file, is_folder, read_json

FORMAT = 1
CONFIG, WEIGHTS, STATISTICS, CARD = (
    "config.json",
    "model.safetensors",
    "statistics.json",
    "README.md",
)
POLICY_FILES = (CONFIG, WEIGHTS, STATISTICS, CARD)
"""What a finished policy folder has."""
TOKENIZER = "tokenizer"
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
    # It takes a quarter of a second to import.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

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


def image_sizes(config: ModelConfig) -> list[int]:
    """Side of each camera's images in pixels."""
    if isinstance(config, Octo15Config):
        return [image.size for image in config.images]
    return [config.image_size]
