"""A policy folder as an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from octo_bench.agents.protocol import TaskInput
from octo_bench.training.policy import Policy, read_policy

if TYPE_CHECKING:
    from octo_bench.simulation.environment import OctoBenchEnvironment

TaskMode = Literal["language", "goal", "both", "none"]


class OctoAgent:
    """Runs the network on a batch of fixed size; no row's result depends on the other rows."""

    def __init__(
        self, policy: Policy, task_mode: TaskMode = "language", embodiment: str | None = None
    ) -> None:
        """An arm that `statistics.json` does not list is scaled by the pooled statistics."""
        self._model = policy.model
        self._proprio = policy.statistics.proprio
        self._entries = list(policy.config.model.proprio)
        self._scaling = policy.statistics.actions_of(embodiment)
        self._mode = task_mode
        self._instructions: dict[str, Tensor] = {}
        self.wants_images = True
        self.window = policy.config.model.window
        self.execute = policy.config.execute
        self.action_size = policy.config.model.action_size
        self.noise_shape = policy.model.head.noise_shape

    def begin(self, slot: int, environment: OctoBenchEnvironment, seed: int) -> None:
        """Nothing: the network keeps no state between queries."""

    @torch.inference_mode()
    def act(
        self,
        observations: Mapping[str, np.ndarray],
        tasks: Sequence[TaskInput],
        noise: np.ndarray,
    ) -> np.ndarray:
        """A chunk of actions for every row.

        Args:
            observations: image_primary and image_wrist (B, W, H, W, 3) uint8, proprio (B, W, P)
                float32, timestep_pad_mask (B, W) bool, False for padded history.
            tasks: one per row; what the task mode does not use is ignored, what is missing is
                replaced by the learned null embedding.
            noise: (B, *noise_shape) float32, standard normal.

        Returns:
            (B, T, A) float32 in environment units, within [-1, 1].
        """
        model = self._model
        primary = torch.from_numpy(observations["image_primary"])
        wrist = torch.from_numpy(observations["image_wrist"])
        batch, window = primary.shape[:2]
        goals, goal_index = self._goals(tasks, tuple(primary.shape[2:]))
        of_primary, of_wrist, of_goals = model.encode_images(
            primary.flatten(0, 1), wrist.flatten(0, 1), goals
        )
        texts, text_index = self._texts(tasks)
        proprio = self._proprio.normalise(observations["proprio"])[..., self._entries]
        features = model.features(
            model.task(texts, text_index, of_goals, goal_index),
            of_primary.unflatten(0, (batch, window)),
            of_wrist.unflatten(0, (batch, window)),
            torch.from_numpy(proprio),
            torch.from_numpy(observations["timestep_pad_mask"]),
        )
        normalised = model.sample(features[:, -1], torch.from_numpy(noise))
        return self._scaling.restore(normalised.numpy()).clip(-1, 1)

    def _texts(self, tasks: Sequence[TaskInput]) -> tuple[Tensor | None, Tensor]:
        """Embeddings of the instructions (U, width) and each row's index (B,), -1 for none.

        Every instruction is encoded by itself and kept, so that its embedding does not depend on
        what else is in the batch.
        """
        index = torch.full((len(tasks),), -1)
        if self._mode not in ("language", "both"):
            return None, index
        given = [task.instruction for task in tasks]
        distinct = sorted({text for text in given if text is not None})
        for text in distinct:
            if text not in self._instructions:
                self._instructions[text] = self._model.encode_instructions([text])
        for row, text in enumerate(given):
            if text is not None:
                index[row] = distinct.index(text)
        if not distinct:
            return None, index
        return torch.cat([self._instructions[text] for text in distinct]), index

    def _goals(
        self, tasks: Sequence[TaskInput], shape: tuple[int, ...]
    ) -> tuple[Tensor | None, Tensor]:
        """Goal images (B, H, W, 3) and each row's index (B,), -1 for none.

        One image per row even where there is none, so that the batch keeps its size.
        """
        index = torch.full((len(tasks),), -1)
        if self._mode not in ("goal", "both"):
            return None, index
        images = torch.zeros((len(tasks), *shape), dtype=torch.uint8)
        for row, task in enumerate(tasks):
            if task.goal is not None:
                images[row] = torch.from_numpy(task.goal)
                index[row] = row
        return images, index


def load_octo_agent(
    folder: Path, *, task_mode: TaskMode = "language", embodiment: str | None = None
) -> OctoAgent:
    """Read a policy folder into an agent.

    Args:
        embodiment: the arm it will act on, whose action scaling is used if the policy has one.

    Raises:
        BadCheckpoint: naming the file, and the key or the tensor.
    """
    return OctoAgent(read_policy(folder), task_mode, embodiment)
