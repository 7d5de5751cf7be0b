"""The objective of the seed architecture.

An encoder that is not trained is run once over all frames, and its embeddings are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from octo_bench.demonstrations.layout import IMAGES, SECOND_WRIST
from octo_bench.demonstrations.windows import Draw, Windows
from octo_bench.models.octo import Octo
from octo_bench.training.augmentation import augment
from octo_bench.training.settings import Optimisation
from octo_bench.training.task_rows import distinct_of, draw_task_rows

EMBEDDING_BATCH = 256


@dataclass(frozen=True)
class Embeddings:
    """What frozen encoders give, computed once; None where an encoder is trained."""

    images: tuple[Tensor, ...] | None
    """Embeddings of every frame, (N, width) each: primary, wrist, and the second arm's wrist."""
    instructions: Tensor | None
    """(texts, width)."""


class OctoObjective:
    """See `Objective`."""

    def __init__(self, model: Octo, windows: Windows, settings: Optimisation) -> None:
        self.model, self.windows, self.settings = model, windows, settings
        self.cameras = (*IMAGES, SECOND_WRIST)[: 1 + model.config.wrist_cameras]
        self.embeddings = Embeddings(None, None)

    def prepare(self) -> None:
        """See `Objective.prepare`."""
        model = self.model
        model.train()
        for part in (model.language, model.vision_primary, model.vision_wrist):
            if part is not None and not _trained(part):
                part.eval()
        self.embeddings = self._embed()

    def loss(self, draw: Draw, generator: torch.Generator) -> Tensor:
        """See `Objective.loss`."""
        model, settings = self.model, self.settings
        batch, window = draw.frames.shape
        with_text, with_goal = draw_task_rows(settings.task_modes, batch, generator)
        texts, text_index = distinct_of(draw.instructions, with_text)
        goals, goal_index = distinct_of(draw.goal_frames, with_goal)
        (primary, *wrists), goal = self._images(draw.frames.flatten(), goals, generator)
        wrist, wrist_2 = (*(each.unflatten(0, (batch, window)) for each in wrists), None)[:2]
        task = model.task(self._instructions(texts), text_index, goal, goal_index)
        kept = torch.rand(batch, window, generator=generator) >= settings.proprio_dropout
        features = model.features(
            task,
            primary.unflatten(0, (batch, window)),
            wrist,
            draw.proprio,
            draw.timestep_mask,
            wrist_2=wrist_2,
            proprio_mask=kept,
        )
        return model.loss(
            features.flatten(0, 1),
            draw.actions.flatten(0, 1),
            draw.action_mask.flatten(0, 1),
            draws=settings.noise_draws,
            generator=generator,
        )

    def _images(
        self, frames: Tensor, goals: Tensor, generator: torch.Generator
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Embeddings of all cameras at `frames` (N,) and of the primary one at `goals` (G,)."""
        if self.embeddings.images is not None:
            images = self.embeddings.images
            goal = images[0][goals] if len(goals) else None
            return tuple(each[frames] for each in images), goal
        change = self.settings.augmentation
        primary, *wrists = (
            augment(self.windows.images(camera, frames), change, generator)
            for camera in self.cameras
        )
        goal = augment(self.windows.primary(goals), change, generator) if len(goals) else None
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.vision_bfloat16):
            embedded = self.model.encode_images(primary, torch.cat(wrists), goal)
        of_primary, of_wrists, of_goals = (None if e is None else e.float() for e in embedded)
        return (of_primary, *of_wrists.chunk(len(wrists))), of_goals

    def _instructions(self, texts: Tensor) -> Tensor | None:
        """Embeddings of the instructions numbered `texts` (U,)."""
        if not len(texts):
            return None
        if self.embeddings.instructions is not None:
            return self.embeddings.instructions[texts]
        return self.model.encode_instructions([self.windows.texts[i] for i in texts.tolist()])

    @torch.no_grad()
    def _embed(self) -> Embeddings:
        """Run the encoders that are not trained over all there is."""
        model, windows = self.model, self.windows
        images = instructions = None
        encoders = [e for e in (model.vision_primary, model.vision_wrist) if e is not None]
        if not any(_trained(encoder) for encoder in encoders):
            parts = []
            for frames in torch.arange(windows.frame_count).split(EMBEDDING_BATCH):
                primary, *wrists = (windows.images(camera, frames) for camera in self.cameras)
                of_primary, of_wrists, _ = model.encode_images(primary, torch.cat(wrists))
                parts.append((of_primary, *of_wrists.chunk(len(wrists))))
            images = tuple(torch.cat(camera) for camera in zip(*parts, strict=True))
        modes = self.settings.task_modes
        if (modes.language or modes.both) and not _trained(model.language):
            instructions = model.encode_instructions(windows.texts)
        return Embeddings(images, instructions)


def _trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())
