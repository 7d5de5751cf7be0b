"""Categorical action head: every action dimension of every step of the chunk in bins."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octo_bench.models.config import CategoricalConfig


class CategoricalHead(nn.Module):
    """Features of an observation to a chunk of normalised actions, all entries in parallel."""

    def __init__(self, config: CategoricalConfig, chunk: int, action_size: int, width: int) -> None:
        super().__init__()
        self.config, self.chunk, self.action_size = config, chunk, action_size
        outputs = chunk * action_size * config.bins
        if config.hidden:
            self.logits: nn.Module = nn.Sequential(
                nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, outputs)
            )
        else:
            self.logits = nn.Linear(width, outputs)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Standard-normal draws that one sample takes."""
        if self.config.decode == "argmax":
            return ()
        return (self.chunk, self.action_size, self.config.bins)

    def _logits(self, features: Tensor) -> Tensor:
        shape = (self.chunk, self.action_size, self.config.bins)
        return self.logits(features).unflatten(-1, shape)

    def bin_of(self, actions: Tensor) -> Tensor:
        """Normalised actions to the index of their bin, int64; outliers to the outermost."""
        bound = self.config.action_range
        scaled = (actions + bound) * (self.config.bins / (2 * bound))
        return scaled.clamp(0, self.config.bins - 1).long()

    def centre_of(self, bins: Tensor) -> Tensor:
        """Bin indices to the normalised action in their middle."""
        bound = self.config.action_range
        return (bins + 0.5) * (2 * bound / self.config.bins) - bound

    def loss(
        self,
        features: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean cross-entropy; `draws` and `generator` have nothing to do here.

        Args:
            features: (N, width).
            actions: (N, T, A), normalised.
            mask: (N, T, A) bool, False for padding.

        Returns:
            A scalar.
        """
        del draws, generator
        losses = F.cross_entropy(
            self._logits(features).flatten(0, 2), self.bin_of(actions).flatten(), reduction="none"
        )
        kept = mask.flatten()
        return (losses * kept).sum() / kept.sum().clamp(min=1)

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Decode the bins: the likeliest, or the Gumbel-max of explicit noise.

        Args:
            features: (N, width).
            noise: (N, *noise_shape), standard normal; its normal CDF gives the uniform draws.

        Returns:
            (N, T, A), normalised actions.
        """
        logits = self._logits(features)
        if self.config.decode == "sample":
            return self.centre_of(gumbel_max(logits, noise))
        return self.centre_of(logits.argmax(-1))


def gumbel_max(logits: Tensor, noise: Tensor) -> Tensor:
    """Draw from categorical distributions with explicit noise (Gumbel 1954).

    Args:
        logits: (..., K).
        noise: the same shape, standard normal; its normal CDF gives the uniform draws.

    Returns:
        (...), int64.
    """
    tail = torch.finfo(logits.dtype).tiny
    uniform = torch.special.ndtr(noise).clamp(tail, 1 - torch.finfo(logits.dtype).eps)
    return (logits - (-uniform.log()).log()).argmax(-1)
