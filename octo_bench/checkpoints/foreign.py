"""Folders that are no checkpoint of Octo 1.5: what each is, and what to do with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from octo_bench.errors import BadCheckpoint

RELEASED = "rail-berkeley/octo-small-1.5"
STATE = "state"
"""Folder beside the steps where the original's training keeps its optimiser's state."""

_STEP = re.compile(r"[0-9]{1,18}")
_UNFINISHED = ".orbax-checkpoint-tmp"
_MARKS = {"manifest.ocdbt": "OCDBT", ".zarray": "zarr", "zarr.json": "zarr"}
"""Files that Orbax's newer layouts have, by name, and what the layout is called."""
_DEEPEST = 3
"""Folders below a step in which such a file is looked for."""


def is_step(name: str) -> bool:
    """Whether a folder's name is a number of training steps."""
    return bool(_STEP.fullmatch(name))


def require_checkpoint_folder(folder: Path, config: str) -> None:
    """Refuse a folder inside a checkpoint, or beside it, in which one may land by mistake.

    Args:
        config: the name of the file that a checkpoint's own folder has.

    Raises:
        BadCheckpoint: saying what the folder is and which one to name.
    """
    if (folder / config).exists():
        return
    folder = folder.absolute()
    if folder.name == "default" and is_step(folder.parent.name):
        folder = folder.parent
    above = folder.parent
    if STATE in (folder.name, above.name):
        root = above if folder.name == STATE else above.parent
        problem = "is the optimiser's state of a training, not a checkpoint"
        raise BadCheckpoint(folder, problem, f"name the folder above it, {root}")
    if is_step(folder.name):
        problem = "is one step of a checkpoint, without its configuration"
        raise BadCheckpoint(folder, problem, f"name {above} and --step {int(folder.name)}")


def require_octo(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse a configuration of something else.

    Args:
        path: of the configuration, `table`.

    Raises:
        BadCheckpoint: saying what it is of.
    """
    if "architecture" in table and "format" in table:
        problem = "is already a policy folder of octo-bench"
        raise BadCheckpoint(path.parent, problem, "use it as it is, without converting it")
    if "model" not in table and ("model_type" in table or "architectures" in table):
        problem = "is a model of Hugging Face Transformers, not of Octo"
        raise BadCheckpoint(path.parent, problem, f"name an Octo 1.5, such as {RELEASED}")


def require_octo_1_5(folder: Path, table: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Refuse Octo 1.0 and models without instructions.

    Args:
        table: the configuration.
        inputs: of the example batch, by path.

    Raises:
        BadCheckpoint: saying which it is.
    """
    try:
        head = table["model"]["heads"]["action"]["kwargs"]
    except (KeyError, TypeError):
        head = {}
    old_task = any(name.startswith("tasks/") for name in inputs)
    old_mask = "observation/pad_mask" in inputs and ("observation/timestep_pad_mask" not in inputs)
    if old_task or old_mask or (isinstance(head, Mapping) and "pred_horizon" in head):
        problem = "is a checkpoint of Octo 1.0, which has another network"
        raise BadCheckpoint(folder, problem, f"use Octo 1.5, such as {RELEASED}")
    if not any(name.startswith("task/language_instruction") for name in inputs):
        problem = "was trained on goal images alone and takes no instruction"
        fix = "convert one that was trained on instructions, with goal images or without"
        raise BadCheckpoint(folder, problem, fix)


def explain_no_steps(folder: Path) -> BadCheckpoint:
    """Why a checkpoint has no step to read."""
    if any(_UNFINISHED in path.name for path in folder.iterdir()):
        problem = "has no finished step: saving was interrupted"
        return BadCheckpoint(folder, problem, "copy it again, or train on to the next save")
    problem = "has no folder named by a step, like 300000"
    return BadCheckpoint(folder, problem, "copy or download it again")


def explain_no_parameters(step: Path, wanted: str) -> BadCheckpoint:
    """Why a step has no parameters that can be read, at `wanted` in it."""
    layout = newer_layout(step)
    if layout:
        problem = f"holds its parameters in Orbax's {layout} layout, which cannot be read"
        fix = (
            "in JAX, restore them with Orbax and write "
            f"`flax.serialization.msgpack_serialize(params)` to {step / wanted}"
        )
        return BadCheckpoint(step, problem, fix)
    return BadCheckpoint(step / wanted, "no such file", "copy or download it again")


def newer_layout(step: Path) -> str:
    """The newer layout of Orbax that a step has, or ""."""
    for depth in range(_DEEPEST + 1):
        for mark, layout in _MARKS.items():
            if any(step.glob("/".join(["*"] * depth + [mark]))):
                return layout
    return ""
