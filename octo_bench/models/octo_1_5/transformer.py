"""The transformer's blocks, and which token may see which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octo_bench.models.octo_1_5.initialisation import NORM_EPSILON
from octo_bench.models.transformer import Attention


@dataclass(frozen=True)
class Layout:
    """Where the tokens of each kind are in the sequence.

    The sequence is `prefix` task tokens, then for each of `window` time steps `observations`
    tokens and `readouts` readout tokens.
    """

    prefix: int
    window: int
    observations: int
    readouts: int

    @property
    def step(self) -> int:
        """Tokens of a time step."""
        return self.observations + self.readouts

    def readout_rows(self, *, last_only: bool) -> Tensor:
        """Positions of the readouts in the sequence, time step by time step."""
        first = self.window - 1 if last_only else 0
        starts = torch.arange(first, self.window) * self.step + self.prefix + self.observations
        return (starts.unsqueeze(1) + torch.arange(self.readouts)).flatten()

    def structure(self) -> Tensor:
        """(L, L) bool: which token (row) may see which (column), whatever is padded.

        Task tokens see the task; observations the task and observations up to their own time
        step; readouts that and readouts up to their own time step.
        """
        within = torch.arange(self.window * self.step)
        time = torch.cat([torch.full((self.prefix,), -1), within // self.step])
        readout = torch.cat(
            [
                torch.zeros(self.prefix, dtype=torch.bool),
                within % self.step >= self.observations,
            ]
        )
        earlier = time.unsqueeze(1) >= time.unsqueeze(0)
        return earlier & (readout.unsqueeze(1) | ~readout.unsqueeze(0))


def attention_bias(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the logits: nothing where visible (B, Q, L), else the lowest number.

    A query that sees nothing then averages evenly over everything, as in the original.

    Returns:
        (B, 1, Q, L).
    """
    bias = torch.zeros(visible.shape, dtype=dtype, device=visible.device)
    return bias.masked_fill(~visible, torch.finfo(dtype).min).unsqueeze(1)


class Block(nn.Module):
    """Attention and a feed-forward network, each after its own layer norm."""

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attention = Attention(width, heads)
        self.norm_feed_forward = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, feed_forward),
            nn.GELU(approximate="tanh"),
            nn.Linear(feed_forward, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, rows: Tensor | None = None) -> Tensor:
        """Tokens (B, L, width) to the same, or to those at `rows` (R,) alone: (B, R, width).

        `bias` (B, 1, L or R, L) is added to the attention's logits.
        """
        tokens = self.norm_attention(x)
        queries = tokens if rows is None else tokens[:, rows]
        x = x if rows is None else x[:, rows]
        x = x + self.dropout(self.attention(queries, tokens, bias))
        expand, activate, contract = self.feed_forward
        hidden = self.dropout(activate(expand(self.norm_feed_forward(x))))
        return x + self.dropout(contract(hidden))


class BlockTransformer(nn.Module):
    """The blocks, and a last layer norm."""

    def __init__(
        self, width: int, layers: int, heads: int, feed_forward: int, dropout: float
    ) -> None:
        super().__init__()
        self.blocks: Sequence[Block] = nn.ModuleList(
            Block(width, heads, feed_forward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, x: Tensor, visible: Tensor, rows: Tensor | None = None) -> Tensor:
        """Mix the tokens.

        Args:
            x: (B, L, width).
            visible: (B, L, L) bool, which query (row) sees which key (column).
            rows: (R,) int64, the tokens that are wanted; the last block computes only those.

        Returns:
            (B, L, width), or (B, R, width).
        """
        bias = attention_bias(visible, x.dtype)
        *earlier, last = self.blocks
        for block in earlier:
            x = block(x, bias)
        x = last(x, bias if rows is None else bias[:, :, rows], rows)
        return self.norm(x)
