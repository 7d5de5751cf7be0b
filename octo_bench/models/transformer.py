"""Pre-norm transformer, batch first, with the projections as modules of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octo_bench.models.config import TransformerConfig


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"'transformer.heads' = {heads} must divide the width {width}")
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """What each of the queries gathers from the tokens.

        Args:
            queries: (B, Q, width).
            tokens: (B, L, width).
            mask: (B, 1, Q, L), bool, True where a query sees a key, or float, added to the logits.

        Returns:
            (B, Q, width).
        """
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection, x in (
                (self.q_proj, queries),
                (self.k_proj, tokens),
                (self.v_proj, tokens),
            )
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward network, each after its own layer norm."""

    def __init__(self, width: int, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, config.feed_forward),
            nn.GELU(),
            nn.Linear(config.feed_forward, width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, L, width) to the same shape."""
        normed = self.norm_attention(x)
        x = x + self.dropout(self.attention(normed, normed, mask))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))


class Transformer(nn.Module):
    """Learned positions, the blocks, and a last layer norm."""

    def __init__(self, width: int, config: TransformerConfig) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(config.context, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, structure: Tensor, keys: Tensor) -> Tensor:
        """Mix the tokens.

        Args:
            tokens: (B, L, width).
            structure: (L, L) bool, which query (row) may see which key (column) at all.
            keys: (B, L) bool, False for padding. A token always sees itself.

        Returns:
            (B, L, width).
        """
        length = tokens.shape[1]
        itself = torch.eye(length, dtype=torch.bool, device=tokens.device)
        mask = ((structure & keys.unsqueeze(1)) | itself).unsqueeze(1)
        x = tokens + self.positions[:length]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
