"""Low-rank adapters (Hu et al. 2022, "LoRA"), kept in peft's own format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from safetensors import SafetensorError

from octo_bench.errors import BadCheckpoint
from octo_bench.training.objective import Network

ADAPTER = "adapter"
TARGETS = r"transformer\..*\.(q_proj|v_proj)"
"""The query and value projections of the transformer's attention, not those of an action head."""


@dataclass(frozen=True)
class Lora:
    """Sizes of the adapters."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05


def add_adapters(model: Network, lora: Lora, seed: int, trained: Sequence[str]) -> peft.PeftModel:
    """Freeze the network, insert adapters into it, and train the modules `trained` whole."""
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=TARGETS,
        modules_to_save=list(trained),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return peft.get_peft_model(model, config)


def load_adapters(model: Network, folder: Path) -> peft.PeftModel:
    """Insert the adapters of a folder, as `finetune` or peft wrote it, into a network.

    `merge_and_unload()` of what is returned gives a network with the adapters' effect in its
    weights.

    Raises:
        BadCheckpoint: when the folder holds no adapters, or they do not fit the network.
    """
    if not (folder / peft.utils.CONFIG_NAME).is_file():
        problem = f"has no {peft.utils.CONFIG_NAME}"
        raise BadCheckpoint(folder, problem, f"name the folder '{ADAPTER}' of a fine-tuned policy")
    if not (folder / peft.utils.SAFETENSORS_WEIGHTS_NAME).is_file():
        # Without this, peft would fall back to a pickle.
        problem = f"has no {peft.utils.SAFETENSORS_WEIGHTS_NAME}"
        raise BadCheckpoint(folder, problem, "save the adapters as safetensors")
    try:
        return peft.PeftModel.from_pretrained(model, str(folder)).eval()
    except (RuntimeError, ValueError, TypeError, SafetensorError) as error:
        problem = f"does not fit the network ({error})"
        raise BadCheckpoint(folder, problem, "use the policy that it was trained on") from error
