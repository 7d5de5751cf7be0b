"""An image, stacked on its goal image, as a grid of tokens: the original's `SmallStem16`."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octo_bench.models.group_norm import GroupNorm
from octo_bench.models.octo_1_5.config import ImageTokenizerConfig
from octo_bench.models.octo_1_5.initialisation import NORM_EPSILON, positions

GROUPS = 32
STANDARDISATION_EPSILON = 1e-5


class StdConv(nn.Conv2d):
    """A 3x3 convolution with stride 2 whose kernel is standardised per output channel.

    Weight standardisation (Qiao et al. 2019) with the population's deviation; the bias is left.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, stride=2, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, before, h, w) to (N, after, h / 2, w / 2)."""
        return self._conv_forward(maps, self._standardised(), self.bias)

    def folded(self) -> nn.Conv2d:
        """The same function as a plain convolution, for inference."""
        plain = nn.Conv2d(self.in_channels, self.out_channels, 3, stride=2, padding=1)
        with torch.no_grad():
            plain.weight.copy_(self._standardised())
            plain.bias.copy_(self.bias)
        return plain

    def _standardised(self) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        return (self.weight - mean) / (deviation + STANDARDISATION_EPSILON)


class StemLayer(nn.Module):
    """Standardised convolution, group norm, ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = StdConv(before, after)
        self.norm = GroupNorm(GROUPS, after, eps=NORM_EPSILON)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, before, h, w) to (N, after, h / 2, w / 2)."""
        return F.relu(self.norm(self.conv(maps)))


class ImageTokenizer(nn.Module):
    """One camera's images and goal images to tokens of the transformer's width."""

    def __init__(self, config: ImageTokenizerConfig, width: int, max_window: int) -> None:
        super().__init__()
        self.config = config
        channels = (6, *config.features)
        self.stem = nn.ModuleList(StemLayer(before, after) for before, after in pairwise(channels))
        self.embedding = nn.Conv2d(channels[-1], config.embedding, 1)
        self.projection = nn.Linear(config.embedding, width)
        self.positions = positions(max_window, config.tokens, width)

    def forward(self, images: Tensor, goals: Tensor | None) -> Tensor:
        """Tokens, positions included.

        Args:
            images: (B, W, S, S, 3), uint8 or float in [0, 255].
            goals: (B, S, S, 3) likewise; None, like zeros, stands for no goal.

        Returns:
            (B, W, n, width).
        """
        window = images.shape[1]
        return self.projection(self.patches(images, goals)) + self.positions[:, :window]

    def fold(self) -> None:
        """Standardise the kernels once and for all; the tokenizer can be trained no more."""
        for layer in self.stem:
            if isinstance(layer.conv, StdConv):
                layer.conv = layer.conv.folded()

    def patches(self, images: Tensor, goals: Tensor | None) -> Tensor:
        """The embeddings before projection, (B, W, n, embedding), row by row of the grid."""
        batch, window = images.shape[:2]
        if goals is None:
            goals = torch.zeros_like(images[:, 0])
        stacked = torch.cat([images, goals.unsqueeze(1).expand_as(images)], -1).flatten(0, 1)
        # The memory stays as it is: permuted, it is a channels-last batch, the fastest on a CPU.
        maps = (stacked / 127.5 - 1).to(self.embedding.weight.dtype).permute(0, 3, 1, 2)
        for layer in self.stem:
            maps = layer(maps)
        return self.embedding(maps).flatten(2).mT.unflatten(0, (batch, window))
