"""The objective of Octo 1.5.

T5 is never trained, so the instructions' states are computed once. A goal image goes through the
same convolutions as the observation, so that the tokens of images cannot be kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from octo_bench.checkpoints.text import TextTokenizer
from octo_bench.demonstrations.windows import Draw, Windows
from octo_bench.models.octo_1_5.network import Inputs, Octo15
from octo_bench.models.octo_1_5.resizing import resize
from octo_bench.training.augmentation import HALF, augment
from octo_bench.training.settings import Optimisation
from octo_bench.training.task_rows import draw_task_rows


class Octo15Objective:
    """See `Objective`; goal images are of the primary camera, as the agent has them."""

    def __init__(
        self,
        model: Octo15,
        windows: Windows,
        settings: Optimisation,
        tokenizer: TextTokenizer | None,
    ) -> None:
        """Without a `tokenizer` no row may have an instruction."""
        self.model, self.windows, self.settings = model, windows, settings
        self.tokenizer = tokenizer
        sizes = model.config.language
        self.states = torch.zeros((len(windows.texts), sizes.tokens, sizes.width))

    def prepare(self) -> None:
        """See `Objective.prepare`."""
        self.model.train()
        self.model.language.t5.eval()
        if self.tokenizer is not None:
            self.states = self.model.language.states(*self.tokenizer(self.windows.texts))

    def loss(self, draw: Draw, generator: torch.Generator) -> Tensor:
        """See `Objective.loss`."""
        model, settings = self.model, self.settings
        batch, window = draw.frames.shape
        with_text, with_goal = draw_task_rows(settings.task_modes, batch, generator)
        proprio = proprio_mask = None
        if model.proprio is not None:
            proprio = draw.proprio
            kept = torch.rand(batch, window, generator=generator)
            proprio_mask = kept >= settings.proprio_dropout
        images, goals = {}, {}
        for camera in model.config.images:
            if camera.image not in self.windows.cameras:
                continue
            seen = self._images(camera.image, draw.frames.flatten(), camera.size, generator)
            images[camera.name] = seen.unflatten(0, (batch, window))
            if camera.image == "image_primary":
                goal = self._images(camera.image, draw.goal_frames, camera.size, generator)
                goals[camera.name] = goal * with_goal[:, None, None, None]
        inputs = Inputs(
            timestep_mask=draw.timestep_mask,
            images=images,
            goals=goals,
            language=self.states[draw.instructions],
            language_mask=with_text,
            proprio=proprio,
            proprio_mask=proprio_mask,
        )
        return model.loss(
            model.readouts(inputs).flatten(0, 1),
            draw.actions.flatten(0, 1),
            draw.action_mask.flatten(0, 1),
            draws=settings.noise_draws,
            generator=generator,
        )

    def _images(self, image: str, frames: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """A camera's frames (N,), changed at random and resized: (N, size, size, 3) uint8."""
        changed = augment(self.windows.images(image, frames), self.settings.augmentation, generator)
        return resize(((changed + 1) * HALF).round().to(torch.uint8), size)
