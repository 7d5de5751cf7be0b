"""What the action heads have in common, and the three that are not diffusion."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octo_bench.models.categorical_head import gumbel_max
from octo_bench.models.octo_1_5.attention_pool import AttentionPool
from octo_bench.models.octo_1_5.bins import Bins
from octo_bench.models.octo_1_5.config import Octo15Config

SMALLEST_SHARE = 1e-5
"""Least share of entries that a masked mean is divided by."""


class ActionHead(Protocol):
    """Readouts (N, R, width) to chunks of normalised actions (N, T, A)."""

    noise_shape: tuple[int, ...]

    def loss(
        self,
        readouts: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """A scalar; actions and mask (N, T, A), False for padding. `draws`: noise draws a row."""

    def sample(self, readouts: Tensor, noise: Tensor, action_size: int | None = None) -> Tensor:
        """Normalised actions (N, T, A) from explicit noise (N, *noise_shape).

        Entries from `action_size` on, which the arm does not have, mean nothing.
        """


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values (N, T, A) where the mask is True."""
    share = mask.to(values.dtype).mean().clamp(min=SMALLEST_SHARE)
    return (values * mask).mean() / share


class ContinuousHead(nn.Module):
    """Regression, squashed to the range of actions: the original's L1 and MSE heads."""

    noise_shape: tuple[int, ...] = ()

    def __init__(self, config: Octo15Config) -> None:
        super().__init__()
        self.config = config
        self.pool = AttentionPool(config.width) if config.continuous.pool else None
        self.mean = nn.Linear(config.width, config.chunk * config.action_size)

    def loss(
        self,
        readouts: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `ActionHead.loss`; `draws` and `generator` have nothing to do here.

        A mean over what is not padded, times the action size: a sum over the entries of a step.
        """
        del draws, generator
        error = self._mean(readouts) - actions
        values = error.abs() if self.config.head == "l1" else error.square()
        return self.config.action_size * masked_mean(values, mask)

    def sample(self, readouts: Tensor, noise: Tensor, action_size: int | None = None) -> Tensor:
        """See `ActionHead.sample`; there is nothing random."""
        del noise, action_size
        return self._mean(readouts)

    def _mean(self, readouts: Tensor) -> Tensor:
        pooled = readouts.mean(1) if self.pool is None else self.pool(readouts)[:, 0]
        bound = self.config.max_action
        squashed = bound * torch.tanh(self.mean(pooled) / bound)
        return squashed.unflatten(-1, (self.config.chunk, self.config.action_size))


class DiscreteHead(nn.Module):
    """Every entry of the chunk in bins, all in parallel: the original's discrete heads."""

    def __init__(self, config: Octo15Config) -> None:
        super().__init__()
        self.config = config
        sizes = config.discrete
        entries = config.chunk * config.action_size
        tokens = {"all": 1, "step": config.chunk, "entry": entries}[sizes.token_per]
        if not sizes.pool and tokens != config.readouts:
            raise ValueError(
                f"'discrete.token_per' = \"{sizes.token_per}\" without 'discrete.pool' needs "
                f"'readouts' = {tokens}"
            )
        self.pool = AttentionPool(config.width, tokens) if sizes.pool else None
        self.logits = nn.Linear(config.width, entries // tokens * sizes.bins)
        self.bins = Bins(sizes.bins, sizes.spacing, sizes.low, sizes.high)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Standard-normal draws that one sample takes."""
        config = self.config
        if config.discrete.decode == "argmax":
            return ()
        return (config.chunk, config.action_size, config.discrete.bins)

    def loss(
        self,
        readouts: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `ActionHead.loss`: the mean cross-entropy; `draws` and `generator` are not used."""
        del draws, generator
        logits, labels = self._logits(readouts), self.bins.encode(actions)
        losses = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
        return masked_mean(losses.view_as(actions), mask)

    def sample(self, readouts: Tensor, noise: Tensor, action_size: int | None = None) -> Tensor:
        """See `ActionHead.sample`: the likeliest bins, or bins drawn with the noise."""
        del action_size
        logits = self._logits(readouts)
        if self.config.discrete.decode == "argmax":
            return self.bins.decode(logits.argmax(-1))
        return self.bins.decode(gumbel_max(logits, noise))

    def _logits(self, readouts: Tensor) -> Tensor:
        """(N, R, width) to (N, T, A, bins)."""
        config = self.config
        tokens = readouts if self.pool is None else self.pool(readouts)
        shape = (config.chunk, config.action_size, config.discrete.bins)
        return self.logits(tokens).flatten(1).unflatten(-1, shape)
