"""Numbers in bins: the original's `BinTokenizer`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

NORMAL_TAIL = 1e-6
"""Probability outside the "normal" bins, on either side."""


class Bins(nn.Module):
    """`count` bins, of one width over [low, high] or equally likely under a standard normal.

    What lies outside falls in the outermost bin. (The original's "normal" bins put it in the
    first one, on whichever side it is.)
    """

    def __init__(
        self, count: int, spacing: Literal["uniform", "normal"], low: float, high: float
    ) -> None:
        super().__init__()
        self.count = count
        if spacing == "uniform":
            borders = torch.linspace(low, high, count + 1)
        else:
            shares = torch.linspace(NORMAL_TAIL, 1 - NORMAL_TAIL, count + 1, dtype=torch.float64)
            borders = torch.special.ndtri(shares).float()
        self.register_buffer("borders", borders, persistent=False)

    def encode(self, values: Tensor) -> Tensor:
        """Values of any shape to the index of their bin, int64."""
        return torch.bucketize(values.contiguous(), self.borders[1:-1], right=True)

    def decode(self, bins: Tensor) -> Tensor:
        """Indices of bins to the values in their middle."""
        return ((self.borders[:-1] + self.borders[1:]) / 2)[bins]
