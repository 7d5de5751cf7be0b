"""Octo 1.5: tokens of every modality, a block-wise causal transformer, readouts, an action head.

The sequence is the instruction's tokens, then for every time step the cameras' tokens, those of
proprioception, the instruction's again, and the readouts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.models.octo_1_5.diffusion_head import DiffusionHead
from octo_bench.models.octo_1_5.heads import ActionHead, ContinuousHead, DiscreteHead
from octo_bench.models.octo_1_5.image_tokenizer import ImageTokenizer
from octo_bench.models.octo_1_5.initialisation import initialise, positions
from octo_bench.models.octo_1_5.language_tokenizer import LanguageTokenizer
from octo_bench.models.octo_1_5.proprio_tokenizer import ProprioTokenizer
from octo_bench.models.octo_1_5.transformer import BlockTransformer, Layout


@dataclass(frozen=True)
class Inputs:
    """A batch of observations and tasks. B rows, W time steps, S a camera's image size.

    A camera that is left out has no tokens at all; one that is there but masked has tokens that
    nothing sees.
    """

    timestep_mask: Tensor
    """(B, W) bool, False for padded history."""
    images: Mapping[str, Tensor] = field(default_factory=dict)
    """By tokenizer, (B, W, S, S, 3) uint8, or float in [0, 255]."""
    image_masks: Mapping[str, Tensor] = field(default_factory=dict)
    """By tokenizer, (B, W) bool, False where the image is missing; all are there if left out."""
    goals: Mapping[str, Tensor] = field(default_factory=dict)
    """By tokenizer, (B, S, S, 3) likewise; zeros, or left out, for no goal."""
    language: Tensor | None = None
    """(B, L, T5's width), T5's states of the instruction; None leaves its tokens out."""
    language_mask: Tensor | None = None
    """(B,) bool, False for rows without an instruction; all have one if left out."""
    proprio: Tensor | None = None
    """(B, W, P), normalised, the configured entries only."""
    proprio_mask: Tensor | None = None
    """(B, W) bool, False where it is missing; it is there everywhere if left out."""


@dataclass(frozen=True)
class Sequence:
    """The tokens before the transformer."""

    tokens: Tensor
    """(B, L, width)."""
    valid: Tensor
    """(B, L) bool, False for padding."""
    layout: Layout

    def visible(self) -> Tensor:
        """(B, L, L) bool: which token (row) sees which (column)."""
        structure = self.layout.structure().to(self.valid.device)
        return structure & self.valid.unsqueeze(1)


class Octo15(nn.Module):
    """The network; its weights are random until a checkpoint's are loaded."""

    def __init__(self, config: Octo15Config) -> None:
        super().__init__()
        self.config = config
        width, horizon = config.width, config.max_window
        self.images = nn.ModuleDict(
            {each.name: ImageTokenizer(each, width, horizon) for each in config.images}
        )
        self.proprio = (
            ProprioTokenizer(config.proprio, width, horizon) if config.proprio.entries else None
        )
        self.readout = positions(horizon, config.readouts, width)
        self.transformer = BlockTransformer(
            width, config.layers, config.heads, config.feed_forward, config.dropout
        )
        self.head: ActionHead
        match config.head:
            case "diffusion":
                self.head = DiffusionHead(config)
            case "l1" | "mse":
                self.head = ContinuousHead(config)
            case "discrete":
                self.head = DiscreteHead(config)
        initialise(self)
        self.language = LanguageTokenizer(config.language, width)
        initialise(self.language.projection)

    def sequence(self, inputs: Inputs) -> Sequence:
        """The tokens of all modalities in their order, positions included."""
        timesteps = inputs.timestep_mask
        batch, window = timesteps.shape
        parts: list[Tensor] = []
        valid: list[Tensor] = []

        def add(tokens: Tensor, mask: Tensor) -> None:
            parts.append(tokens)
            valid.append(mask.unsqueeze(-1).expand(tokens.shape[:3]))

        for name, tokenizer in self.images.items():
            if name in inputs.images:
                mask = inputs.image_masks.get(name)
                tokens = tokenizer(inputs.images[name], inputs.goals.get(name))
                add(tokens, timesteps if mask is None else timesteps & mask)
        if self.proprio is not None and inputs.proprio is not None:
            mask = inputs.proprio_mask
            add(self.proprio(inputs.proprio), timesteps if mask is None else timesteps & mask)
        prefix = self.readout.new_zeros((batch, 0, self.config.width))
        of_prefix = timesteps.new_zeros((batch, 0))
        if inputs.language is not None:
            prefix = self.language(inputs.language)
            given = inputs.language_mask
            given = timesteps.new_ones(batch) if given is None else given
            of_prefix = given.unsqueeze(1).expand(prefix.shape[:2])
            if self.config.repeat_task_tokens:
                repeated = prefix.unsqueeze(1).expand(-1, window, -1, -1)
                add(repeated, given.unsqueeze(1).expand(batch, window))
        observations = sum(part.shape[2] for part in parts)
        add(self.readout[:, :window].expand(batch, -1, -1, -1), torch.ones_like(timesteps))
        return Sequence(
            torch.cat([prefix, torch.cat(parts, 2).flatten(1, 2)], 1),
            torch.cat([of_prefix, torch.cat(valid, 2).flatten(1)], 1),
            Layout(prefix.shape[1], window, observations, self.config.readouts),
        )

    def readouts(self, inputs: Inputs, *, last_only: bool = False) -> Tensor:
        """What the head reads, at every time step or (`last_only`) at the last one.

        Returns:
            (B, W or 1, R, width).
        """
        sequence = self.sequence(inputs)
        rows = sequence.layout.readout_rows(last_only=last_only).to(sequence.tokens.device)
        mixed = self.transformer(sequence.tokens, sequence.visible(), rows)
        return mixed.unflatten(1, (-1, self.config.readouts))

    def loss(
        self,
        readouts: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The head's loss: readouts (N, R, width), actions and mask (N, T, A), to a scalar."""
        return self.head.loss(readouts, actions, mask, draws=draws, generator=generator)
