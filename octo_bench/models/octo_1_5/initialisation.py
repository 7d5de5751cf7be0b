"""How the network starts where no checkpoint gives its values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from octo_bench.models.transformer import Attention

NORM_EPSILON = 1e-6
POSITION_DEVIATION = 0.02


def positions(*shape: int) -> nn.Parameter:
    """Learned positions (1, *shape)."""
    return nn.Parameter(torch.randn(1, *shape) * POSITION_DEVIATION)


def initialise(module: nn.Module) -> None:
    """Start linear and convolutional layers as the original's do: no biases, variance 1 / inputs.

    Attention and what is named `feed_forward` take Glorot's uniform distribution instead.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            _lecun_normal(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        if isinstance(part, Attention) or name.endswith("feed_forward"):
            for weight in part.parameters():
                if weight.ndim == 2:
                    nn.init.xavier_uniform_(weight)


def _lecun_normal(weight: Tensor) -> None:
    """A normal distribution of variance 1 / inputs, cut off at two deviations."""
    # Cutting off leaves 0.8796 of the deviation, which is made up for.
    deviation = weight[0].numel() ** -0.5 / 0.87962566
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
