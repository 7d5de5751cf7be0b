"""Pooling by attention: the original's `MAPHead`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octo_bench.models.octo_1_5.initialisation import NORM_EPSILON
from octo_bench.models.transformer import Attention

HEADS = 8
FEED_FORWARD_FACTOR = 4
DROPOUT = 0.1


class AttentionPool(nn.Module):
    """Learned probes gather from the tokens (Lee et al. 2019, "Set Transformer")."""

    def __init__(self, width: int, probes: int = 1) -> None:
        super().__init__()
        self.probe = nn.Parameter(nn.init.xavier_uniform_(torch.empty(1, probes, width)))
        self.attention = Attention(width, HEADS)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        hidden = FEED_FORWARD_FACTOR * width
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(hidden, width),
        )
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (N, n, width) to (N, probes, width)."""
        gathered = self.attention(self.probe.expand(len(tokens), -1, -1), tokens, None)
        expand, activate, contract = self.feed_forward
        hidden = self.dropout(activate(expand(self.norm(gathered))))
        return gathered + self.dropout(contract(hidden))
