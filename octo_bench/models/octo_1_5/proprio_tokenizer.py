"""Proprioception as tokens, one an entry: the original's `LowdimObsTokenizer`."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from octo_bench.models.octo_1_5.bins import Bins
from octo_bench.models.octo_1_5.config import ProprioTokenizerConfig
from octo_bench.models.octo_1_5.initialisation import positions


class ProprioTokenizer(nn.Module):
    """Normalised proprioception to tokens of the transformer's width."""

    def __init__(self, config: ProprioTokenizerConfig, width: int, max_window: int) -> None:
        super().__init__()
        self.bins = Bins(config.bins, config.spacing, config.low, config.high)
        self.projection = nn.Linear(max(1, config.bins), width)
        self.positions = positions(max_window, len(config.entries), width)

    def forward(self, proprio: Tensor) -> Tensor:
        """(B, W, P), the configured entries only, to (B, W, P, width), positions included."""
        window = proprio.shape[1]
        if self.bins.count:
            # A one-hot vector through a linear layer is a look-up.
            looked_up = F.embedding(self.bins.encode(proprio), self.projection.weight.T)
            tokens = looked_up + self.projection.bias
        else:
            tokens = self.projection(proprio.unsqueeze(-1).to(self.projection.weight.dtype))
        return tokens + self.positions[:, :window]
