"""Octo: task tokens, then camera, proprioception and readout tokens of every time step.

The sequence is [instruction, goal, (primary, wrist, proprioception, readout) x window]; with two
arms a step ends with the second arm's wrist, so that the rest keeps its positions. Task and
observation tokens see the task and all observations up to their own time step; a readout sees
the same and itself; nothing else sees a readout. The readout of a time step feeds the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from octo_bench.models.categorical_head import CategoricalHead
from octo_bench.models.config import TASK_TOKENS, OctoConfig
from octo_bench.models.diffusion_head import DiffusionHead
from octo_bench.models.language import LanguageEncoder
from octo_bench.models.task import TaskTokens
from octo_bench.models.transformer import Transformer
from octo_bench.models.vision import VisionEncoder

READOUT = 3
"""Place of the readout among the tokens of a step."""


class Octo(nn.Module):
    """The network. Images are embedded first (and may be cached), then `features`, then a head."""

    def __init__(self, config: OctoConfig, *, load_pretrained: bool = False) -> None:
        """Randomly initialised; `load_pretrained` fetches what the configuration starts from.

        Raises:
            UnavailableError: when this is not available or does not fit.
        """
        super().__init__()
        self.config = config
        width = config.width

        def vision_encoder() -> VisionEncoder:
            return VisionEncoder(
                config.vision, config.image_size, width, load_pretrained=load_pretrained
            )

        self.vision_primary = vision_encoder()
        self.vision_wrist = None if config.shared_encoder else vision_encoder()
        self.language = LanguageEncoder(config.language, width, load_pretrained=load_pretrained)
        self.task = TaskTokens(width)
        self.proprio = nn.Linear(len(config.proprio), width)
        self.readout = nn.Parameter(torch.randn(width) * 0.02)
        self.transformer = Transformer(width, config.transformer)
        self.head: DiffusionHead | CategoricalHead
        if config.head == "diffusion":
            self.head = DiffusionHead(config.diffusion, config.chunk, config.action_size, width)
        else:
            self.head = CategoricalHead(config.categorical, config.chunk, config.action_size, width)
        self.register_buffer(
            "structure", _structure(config.window, config.step_tokens), persistent=False
        )

    def encode_images(
        self, primary: Tensor, wrist: Tensor, goals: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Embed the images of all cameras and the primary camera's goal images, in one pass.

        Args:
            primary: (N, H, W, 3), uint8 or float in [-1, 1].
            wrist: (M, H, W, 3) likewise; with two arms, all of one wrist and then of the other.
            goals: (G, H, W, 3) likewise, or None.

        Returns:
            (N, width), (M, width) and (G, width) or None.
        """
        count, wrists = len(primary), len(wrist)
        shared = self.vision_wrist is None
        batches = [primary] + ([wrist] if shared else []) + ([] if goals is None else [goals])
        embedded = self.vision_primary(torch.cat(batches))
        of_wrist = embedded[count : count + wrists] if shared else self.vision_wrist(wrist)
        rest = embedded[count + (wrists if shared else 0) :]
        return embedded[:count], of_wrist, None if goals is None else rest

    def encode_instructions(self, texts: Sequence[str]) -> Tensor:
        """Distinct instructions to (U, width)."""
        return self.language.encode(texts)

    def features(
        self,
        task: Tensor,
        primary: Tensor,
        wrist: Tensor,
        proprio: Tensor,
        timestep_mask: Tensor,
        *,
        wrist_2: Tensor | None = None,
        primary_mask: Tensor | None = None,
        wrist_mask: Tensor | None = None,
        wrist_2_mask: Tensor | None = None,
        proprio_mask: Tensor | None = None,
    ) -> Tensor:
        """Features for the head at every time step.

        Args:
            task: (B, 2, width), from `task`.
            primary, wrist: (B, W, width), from `encode_images`.
            proprio: (B, W, P), normalised, the configured entries only.
            timestep_mask: (B, W) bool, False for padded history.
            wrist_2: like `wrist`, of the second arm; None with one.
            primary_mask, wrist_mask, wrist_2_mask, proprio_mask: (B, W) bool, False where missing.

        Returns:
            (B, W, width), float32 whatever the precision of the transformer.
        """
        batch, window = timestep_mask.shape
        readout = self.readout.expand(batch, window, -1)
        states = self.proprio(proprio.to(readout.dtype))
        step, masks = [primary, wrist, states, readout], [primary_mask, wrist_mask, proprio_mask]
        masks.append(None)
        if wrist_2 is not None:
            step.append(wrist_2)
            masks.append(wrist_2_mask)
        tokens = torch.stack(step, 2).flatten(1, 2)
        seen = [timestep_mask if mask is None else timestep_mask & mask for mask in masks]
        keys = torch.cat(
            [
                torch.ones(batch, TASK_TOKENS, dtype=torch.bool, device=task.device),
                torch.stack(seen, 2).flatten(1),
            ],
            1,
        )
        length = keys.shape[1]
        mixed = self.transformer(
            torch.cat([task, tokens], 1), self.structure[:length, :length], keys
        )
        return mixed[:, TASK_TOKENS + READOUT :: len(step)].float()

    def loss(
        self,
        features: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The head's loss: features (N, width), actions and mask (N, T, A), to a scalar."""
        return self.head.loss(features, actions, mask, draws=draws, generator=generator)

    def lower_precision(self) -> None:
        """From now on, see and mix tokens in bfloat16.

        The language encoder stays as it is, for it runs once per instruction; so does the head,
        whose output is the action.
        """
        for part in (self.vision_primary, self.vision_wrist, self.proprio, self.transformer):
            if part is not None:
                part.to(torch.bfloat16)
        for tensor in (self.readout, *self.task.parameters()):
            tensor.data = tensor.data.to(torch.bfloat16)

    def compile_parts(self) -> None:
        """From now on, run what takes the time compiled, each batch shape by itself.

        Part by part: compiled whole, the sampling steps are unrolled, which takes minutes.
        """
        parts: list[nn.Module | None] = [self.vision_primary, self.vision_wrist, self.transformer]
        if isinstance(self.head, DiffusionHead):
            parts.append(self.head.unet)
        for part in parts:
            if part is not None:
                part.compile(dynamic=False)

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Normalised actions (N, T, A) from features (N, width) and noise (N, *noise_shape)."""
        return self.head.sample(features, noise)


def _structure(window: int, step_tokens: int) -> Tensor:
    """(L, L) bool: which token (row) may see which (column); see the module's docstring."""
    place = torch.arange(window * step_tokens)
    step = torch.cat([torch.full((TASK_TOKENS,), -1), place // step_tokens])
    readout = torch.zeros(len(step), dtype=torch.bool)
    readout[TASK_TOKENS:] = place % step_tokens == READOUT
    return (step.unsqueeze(1) >= step.unsqueeze(0)) & ~readout.unsqueeze(0)
