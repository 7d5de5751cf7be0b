"""A policy folder of the Octo 1.5 architecture as an agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.folder import Policy
from octo_bench.checkpoints.text import TextTokenizer, find_tokenizer
from octo_bench.models.octo_1_5.network import Inputs, Octo15
from octo_bench.models.octo_1_5.resizing import resize

if TYPE_CHECKING:
    from octo_bench.simulation.environment import OctoBenchEnvironment

METRES, RADIANS = 0.05, 0.5
"""How far an action of 1 moves and turns the end effector in a step (robosuite's `OSC_POSE`)."""
METRIC_ENTRIES = 7
"""Of the only actions in metres and radians whose meaning is known: those of one arm."""


class Octo15Agent:
    """Runs the network on a batch of fixed size; no row's result depends on the other rows."""

    def __init__(
        self, policy: Policy, inference: Inference = DEFAULT, embodiment: str | None = None
    ) -> None:
        """An arm that `statistics.json` does not list is scaled by its default entry."""
        config = policy.config.model
        self._folder = policy.folder
        self._config = config
        self._proprio = policy.statistics.proprio
        self._scaling = policy.statistics.actions_of(embodiment)
        self._inference = inference
        self._model = _prepared(policy.model, inference)
        # The head is left out: its chain takes minutes to compile and little to run.
        readouts = self._model.readouts
        self._readouts = torch.compile(readouts) if inference.compiled else readouts
        self._encode_text: Callable[[Sequence[str]], tuple[Tensor, Tensor]] | None = None
        self._instructions: dict[str, Tensor] = {}
        self.wants_images = True
        self.wants_goal = inference.wants_goal
        self.window = config.window
        self.execute = policy.config.execute
        self.action_size = len(self._scaling.offset)
        self._is_metric = policy.config.actions == "metric"
        self.noise_shape = self._model.head.noise_shape

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
            observations: images (B, W, H, W, 3) uint8 of the cameras there are, resized as the
                original does; `proprio` (B, W, P) float32, if the network reads it;
                `timestep_pad_mask` (B, W) bool, False for padded history.
            tasks: one per row; what the task mode does not use is ignored. A missing instruction
                is masked, a missing goal image is black.
            noise: (B, *noise_shape) float32, standard normal.

        Returns:
            (B, T, A) float32 in environment units, within [-1, 1]. Converted policies whose
            actions are not one arm's give them as their data set has them.

        Raises:
            BadCheckpoint: when there is text and no tokenizer for it.
        """
        images, goals = {}, {}
        for camera in self._config.images:
            if camera.image in observations:
                seen = torch.from_numpy(observations[camera.image])
                images[camera.name] = resize(seen, camera.size)
                goals[camera.name] = self._goals(tasks, camera.image, camera.size)
        language, given = self._language(tasks)
        proprio = None
        if self._config.proprio.entries:
            entries = list(self._config.proprio.entries)
            scaled = self._proprio.normalise(observations["proprio"])[..., entries]
            proprio = torch.from_numpy(scaled)
        inputs = Inputs(
            timestep_mask=torch.from_numpy(observations["timestep_pad_mask"]),
            images=images,
            goals=goals,
            language=language,
            language_mask=given,
            proprio=proprio,
        )
        readouts = self._readouts(inputs, last_only=True)[:, 0].float()
        normalised = self._model.head.sample(readouts, torch.from_numpy(noise), self.action_size)
        actions = self._scaling.restore(normalised[..., : self.action_size].numpy())
        if self._is_metric:
            if self.action_size != METRIC_ENTRIES:
                return actions
            actions = environment_actions(actions)
        return actions.clip(-1, 1)

    def _language(self, tasks: Sequence[TaskInput]) -> tuple[Tensor, Tensor]:
        """T5's states (B, L, width) of the instructions, and (B,) bool, False for none.

        Every instruction is encoded by itself and kept, so that its states do not depend on what
        else is in the batch.
        """
        sizes = self._config.language
        states = torch.zeros((len(tasks), sizes.tokens, sizes.width))
        given = torch.zeros(len(tasks), dtype=torch.bool)
        if self._inference.task in ("language", "both"):
            for row, task in enumerate(tasks):
                if task.instruction is not None:
                    states[row] = self._states(task.instruction)
                    given[row] = True
        return states, given

    def _states(self, text: str) -> Tensor:
        if text not in self._instructions:
            if self._encode_text is None:
                sizes = self._config.language
                file = find_tokenizer(self._folder, sizes.tokenizer)
                self._encode_text = TextTokenizer(file, sizes.tokens)
            self._instructions[text] = self._model.language.states(*self._encode_text([text]))[0]
        return self._instructions[text]

    def _goals(self, tasks: Sequence[TaskInput], image: str, size: int) -> Tensor:
        """Goal images (B, size, size, 3) uint8 of the primary camera; zeros where there is none."""
        goals = torch.zeros((len(tasks), size, size, 3), dtype=torch.uint8)
        if self._inference.wants_goal and image == "image_primary":
            for row, task in enumerate(tasks):
                if task.goal is not None:
                    goals[row] = resize(torch.from_numpy(task.goal), size)
        return goals


def environment_actions(metric: np.ndarray) -> np.ndarray:
    """Actions (..., 7) of the original's data sets, in environment units.

    Theirs are a displacement in metres, a rotation in radians by roll, pitch and yaw, and an
    opening from 0 to 1 (`EEF_POS` in octo/data/oxe/oxe_dataset_configs.py). Roll, pitch and yaw
    turn about the fixed axes x, y and z, in this order; the environment takes the same rotation
    as a vector along its axis, as long as its angle.
    """
    position, euler, opening = np.split(metric, (3, 6), -1)
    turns = Rotation.from_euler("xyz", euler.reshape(-1, 3)).as_rotvec().reshape(euler.shape)
    actions = [position / METRES, turns / RADIANS, 1 - 2 * opening]
    return np.concatenate(actions, -1).astype(np.float32)


def _prepared(model: Octo15, inference: Inference) -> Octo15:
    """The network made ready for inference, in place; the action head stays in float32."""
    for tokenizer in model.images.values():
        tokenizer.fold()
    if inference.diffusion_steps is not None:
        model.head.sample_in(inference.diffusion_steps)
    if inference.precision == "bfloat16":
        for part in (model.images, model.transformer, model.language.projection, model.proprio):
            if part is not None:
                part.to(torch.bfloat16)
        for positions in (model.readout, model.language.positions):
            positions.data = positions.data.to(torch.bfloat16)
    return model
