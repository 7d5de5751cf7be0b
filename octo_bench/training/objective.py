"""Training objectives: the loss of a batch, one per architecture."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from octo_bench.checkpoints.text import TextTokenizer, find_tokenizer
from octo_bench.demonstrations.windows import Draw, Windows
from octo_bench.models.octo import Octo
from octo_bench.models.octo_1_5.network import Octo15
from octo_bench.training.octo_1_5_objective import Octo15Objective
from octo_bench.training.octo_objective import OctoObjective
from octo_bench.training.settings import Optimisation

Network = Octo | Octo15


class Objective(Protocol):
    """A network and its training data."""

    model: Network
    windows: Windows

    def prepare(self) -> None:
        """Put what is trained in training mode, and run once what is not and can be kept."""

    def loss(self, draw: Draw, generator: torch.Generator) -> Tensor:
        """The loss of a batch, over all its time steps, a scalar."""


def objective(model: Network, windows: Windows, settings: Optimisation, folder: Path) -> Objective:
    """The objective of the network's architecture.

    Args:
        folder: the policy's, where the tokenizer of its instructions may be.

    Raises:
        BadCheckpoint: when there are instructions and no tokenizer for them.
    """
    with_text = settings.task_modes.language or settings.task_modes.both
    if isinstance(model, Octo):
        language = model.config.language
        if language.pretrained and with_text:
            file = find_tokenizer(folder, language.pretrained)
            model.language.tokenise = TextTokenizer(file, language.max_length)
        return OctoObjective(model, windows, settings)
    tokenizer = None
    if with_text:
        sizes = model.config.language
        tokenizer = TextTokenizer(find_tokenizer(folder, sizes.tokenizer), sizes.tokens)
    return Octo15Objective(model, windows, settings, tokenizer)
