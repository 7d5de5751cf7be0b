"""Conditional 1-D U-Net over an action chunk (Chi et al. 2023, "Diffusion Policy").

The features of an observation and the diffusion step modulate every block (FiLM, Perez et al.
2018). Both parts are linear in their own embedding, so they are computed apart, the features'
once per observation and the steps' once per step, and added: that makes many noise draws per
observation and many sampling steps cheap. SiLU stands in for Mish, which is seven times slower
on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupNorm1d(nn.GroupNorm):
    """Group norm of (N, C, T) through the layer-norm kernel, three times faster on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.reshape(x.shape[0], self.num_groups, -1)
        normed = F.layer_norm(grouped, grouped.shape[-1:], eps=self.eps).reshape(x.shape)
        return normed * self.weight.unsqueeze(-1) + self.bias.unsqueeze(-1)


class StepEmbedding(nn.Module):
    """Sinusoidal embedding of the diffusion step, then a two-layer network."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.network = nn.Sequential(
            nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size), nn.SiLU()
        )

    def forward(self, count: int) -> Tensor:
        """Embeddings of the steps from 0 to below `count`, (count, size)."""
        return self.network(torch.from_numpy(_waves(count, self.size)).to(self.network[0].weight))


@cache
def _waves(count: int, size: int) -> np.ndarray:
    """Sines and cosines of the steps from 0 to below `count`, (count, size) float32.

    By the C library: PyTorch's own come from MKL, and hang on the processor.
    """
    frequencies = [math.exp(-math.log(10_000) * i / (size // 2 - 1)) for i in range(size // 2)]
    return np.float32(
        [
            [wave(step * frequency) for wave in (math.sin, math.cos) for frequency in frequencies]
            for step in range(count)
        ]
    )


class ResidualBlock(nn.Module):
    """Two convolutions with group norm; scale and shift are applied between them."""

    def __init__(self, before: int, after: int, condition: int, step: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(before, after, 3, padding=1)
        self.norm1 = GroupNorm1d(groups, after)
        self.conv2 = nn.Conv1d(after, after, 3, padding=1)
        self.norm2 = GroupNorm1d(groups, after)
        self.from_features = nn.Linear(condition, 2 * after)
        self.from_step = nn.Linear(step, 2 * after, bias=False)
        self.shortcut = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """x (N, before, T), film (N, 2 after, 1) to (N, after, T)."""
        scale, shift = film.chunk(2, 1)
        hidden = F.silu(self.norm1(self.conv1(x))) * (1 + scale) + shift
        return F.silu(self.norm2(self.conv2(hidden))) + self.shortcut(x)


class ConditionalUNet(nn.Module):
    """Predicts from a noisy chunk; one level per entry of `down_dims`, halving the length."""

    def __init__(
        self,
        chunk: int,
        action_size: int,
        width: int,
        down_dims: tuple[int, ...],
        step_embedding: int,
        groups: int,
        condition: int,
        blocks: int,
    ) -> None:
        super().__init__()
        if chunk % 2 ** (len(down_dims) - 1):
            raise ValueError(
                f"'diffusion.down_dims' halve the chunk of {chunk} more often than it can be"
            )
        if any(size % groups for size in down_dims):
            raise ValueError("'diffusion.groups' must divide every entry of 'down_dims'")
        self.features = nn.Sequential(nn.Linear(width, condition), nn.SiLU())
        self.steps = StepEmbedding(step_embedding)

        def level(before: int, after: int) -> nn.ModuleList:
            sizes = [before] + [after] * blocks
            return nn.ModuleList(
                ResidualBlock(a, b, condition, step_embedding, groups) for a, b in pairwise(sizes)
            )

        falling = list(pairwise(down_dims))
        self.down = nn.ModuleList(level(a, b) for a, b in pairwise((action_size, *down_dims)))
        self.shrink = nn.ModuleList(nn.Conv1d(a, a, 3, 2, 1) for a, _ in falling)
        self.middle = level(down_dims[-1], down_dims[-1])
        self.up = nn.ModuleList(level(2 * b, a) for a, b in reversed(falling))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(a, a, 4, 2, 1) for a, _ in reversed(falling))
        self.out = nn.Sequential(
            nn.Conv1d(down_dims[0], down_dims[0], 3, padding=1),
            GroupNorm1d(groups, down_dims[0]),
            nn.SiLU(),
            nn.Conv1d(down_dims[0], action_size, 1),
        )

    def _blocks(self) -> Iterator[ResidualBlock]:
        """In the order in which `forward` uses them."""
        for level in (*self.down, self.middle, *self.up):
            yield from level

    def condition(self, features: Tensor) -> list[Tensor]:
        """The features' part of every block's modulation: (N, width) to a list of (N, 2C)."""
        hidden = self.features(features)
        return [block.from_features(hidden) for block in self._blocks()]

    def step_condition(self, steps: int) -> list[Tensor]:
        """The steps' part, for steps 0 to `steps` - 1: a list of (steps, 2C)."""
        embeddings = self.steps(steps)
        return [block.from_step(embeddings) for block in self._blocks()]

    def forward(self, actions: Tensor, film: list[Tensor]) -> Tensor:
        """Noisy chunks (N, T, A) and the summed modulations, each (N, 2C), to (N, T, A)."""
        modulations = iter([part.unsqueeze(-1) for part in film])

        def run(level: nn.ModuleList, x: Tensor) -> Tensor:
            for block in level:
                x = block(x, next(modulations))
            return x

        x = run(self.down[0], actions.transpose(1, 2))
        skips = []
        for shrink, level in zip(self.shrink, self.down[1:], strict=True):
            x = run(level, shrink(x))
            skips.append(x)
        x = run(self.middle, x)
        for level, grow in zip(self.up, self.grow, strict=True):
            x = grow(run(level, torch.cat([x, skips.pop()], 1)))
        return self.out(x).transpose(1, 2)
