"""A policy folder as an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.folder import Policy
from octo_bench.checkpoints.text import TextTokenizer, find_tokenizer
from octo_bench.demonstrations.layout import IMAGES, SECOND_WRIST
from octo_bench.errors import UnsupportedEnvironment
from octo_bench.models.octo import Octo

if TYPE_CHECKING:
    from octo_bench.simulation.environment import OctoBenchEnvironment


class OctoAgent:
    """Runs the network on a batch of fixed size; no row's result depends on the other rows."""

    def __init__(
        self, policy: Policy, inference: Inference = DEFAULT, embodiment: str | None = None
    ) -> None:
        """Takes the policy's network, which some options change.

        An arm that `statistics.json` does not list is scaled by the pooled statistics.
        """
        config = policy.config.model
        self._folder = policy.folder
        self._config = config
        self._proprio = policy.statistics.proprio
        self._scaling = policy.statistics.actions_of(embodiment)
        self._mode = inference.task
        self._cameras = (*IMAGES, SECOND_WRIST)[: 1 + config.wrist_cameras]
        self._model = _prepared(policy.model, inference)
        self._instructions: dict[str, Tensor] = {}
        self.wants_images = True
        self.wants_goal = inference.wants_goal
        self.window = config.window
        self.execute = policy.config.execute
        self.action_size = config.action_size
        self.noise_shape = self._model.head.noise_shape

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """Nothing: the network keeps no state between queries."""

    def require_images(self, size: int) -> None:
        """Check that the network was trained with images of this size, pixels.

        Raises:
            UnsupportedEnvironment: if it was not.
        """
        own = self._config.image_size
        if size != own:
            raise UnsupportedEnvironment(
                f"{self._folder} sees images of {own} x {own} pixels and is shown {size} x {size}; "
                f"make the environment with image_size={own}"
            )

    @torch.inference_mode()
    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """A chunk of actions for every row.

        Args:
            observations: image_primary, image_wrist and, with two arms, image_wrist_2
                (B, W, H, W, 3) uint8, each masked if it is left out; proprio (B, W, P) float32;
                timestep_pad_mask (B, W) bool, False for padded history.
            tasks: one per row; what the task mode does not use is ignored, what is missing is
                replaced by the learned null embedding.
            noise: (B, *noise_shape) float32, standard normal.

        Returns:
            (B, T, A) float32 in environment units, within [-1, 1].

        Raises:
            BadCheckpoint: when there is text and no tokenizer for it.
            UnsupportedEnvironment: for images of another size than the network was trained with.
        """
        for name in self._cameras:
            if name in observations:
                self.require_images(observations[name].shape[-2])
        timesteps = torch.from_numpy(observations["timestep_pad_mask"])
        proprio = self._proprio.normalise(observations["proprio"])
        normalised = self._network(
            timesteps,
            [_camera(observations, name) for name in self._cameras],
            torch.from_numpy(proprio[..., list(self._config.proprio)]),
            *self._texts(tasks),
            *self._goals(tasks),
            torch.from_numpy(noise),
        )
        return self._scaling.restore(normalised.numpy()).clip(-1, 1)

    def _network(
        self,
        timesteps: Tensor,
        cameras: Sequence[Tensor | None],
        proprio: Tensor,
        texts: Tensor | None,
        text_index: Tensor,
        goals: Tensor | None,
        goal_index: Tensor,
        noise: Tensor,
    ) -> Tensor:
        """What `act` gathered, to normalised actions (B, T, A)."""
        model, (batch, window) = self._model, timesteps.shape
        missing = torch.zeros_like(timesteps)
        blank = torch.zeros((batch * window, *self._image_shape), dtype=torch.uint8)
        primary, *wrists = (blank if seen is None else seen.flatten(0, 1) for seen in cameras)
        of_primary, of_wrists, of_goals = model.encode_images(primary, torch.cat(wrists), goals)
        of_wrist, of_wrist_2 = _per_arm(of_wrists, batch, window)
        primary_mask, wrist_mask, *more = (missing if seen is None else None for seen in cameras)
        features = model.features(
            model.task(texts, text_index, of_goals, goal_index),
            of_primary.unflatten(0, (batch, window)),
            of_wrist,
            proprio,
            timesteps,
            wrist_2=of_wrist_2,
            primary_mask=primary_mask,
            wrist_mask=wrist_mask,
            wrist_2_mask=more[0] if more else None,
        )
        return model.sample(features[:, -1], noise)

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        return (self._config.image_size, self._config.image_size, 3)

    def _texts(self, tasks: Sequence[TaskInput]) -> tuple[Tensor | None, Tensor]:
        """Embeddings of the instructions (B, width) and each row's index (B,), -1 for none."""
        index = torch.full((len(tasks),), -1)
        if self._mode not in ("language", "both"):
            return None, index
        embeddings = torch.zeros((len(tasks), self._config.width))
        for row, task in enumerate(tasks):
            if task.instruction is not None:
                embeddings[row] = self._embedding(task.instruction)
                index[row] = row
        return embeddings, index

    def _embedding(self, text: str) -> Tensor:
        """The embedding (width,) of an instruction.

        Every instruction is encoded by itself and kept, so that its embedding does not depend on
        what else is in the batch.
        """
        if text not in self._instructions:
            language, sizes = self._model.language, self._config.language
            if language.tokenise is None:
                file = find_tokenizer(self._folder, sizes.pretrained)
                language.tokenise = TextTokenizer(file, sizes.max_length)
            self._instructions[text] = language.encode([text])[0]
        return self._instructions[text]

    def _goals(self, tasks: Sequence[TaskInput]) -> tuple[Tensor | None, Tensor]:
        """Goal images (B, H, W, 3) and each row's index (B,), -1 for none.

        One image per row even where there is none, so that the batch keeps its size.
        """
        index = torch.full((len(tasks),), -1)
        if not self.wants_goal:
            return None, index
        images = torch.zeros((len(tasks), *self._image_shape), dtype=torch.uint8)
        for row, task in enumerate(tasks):
            if task.goal is not None:
                images[row] = torch.from_numpy(task.goal)
                index[row] = row
        return images, index


def _per_arm(wrists: Tensor, batch: int, window: int) -> tuple[Tensor, Tensor | None]:
    """Embeddings of all wrists, one after the other, to (B, W, width) each; None with one arm."""
    first, *second = wrists.unflatten(0, (-1, batch, window))
    return first, second[0] if second else None


def _camera(observations: Mapping[str, np.ndarray], name: str) -> Tensor | None:
    return torch.from_numpy(observations[name]) if name in observations else None


def _prepared(model: Octo, inference: Inference) -> Octo:
    """The network with the inference options."""
    if inference.diffusion_steps is not None:
        model.head.sample_in(inference.diffusion_steps)
    if inference.precision == "bfloat16":
        model.lower_precision()
    if inference.compiled:
        model.compile_parts()
    return model
