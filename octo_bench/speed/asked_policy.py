"""A policy with several sets of inference options, and observations to time them on."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from octo_bench.agents.inference import Inference
from octo_bench.agents.octo import OctoAgent
from octo_bench.agents.octo_1_5 import Octo15Agent
from octo_bench.agents.protocol import TaskInput
from octo_bench.checkpoints.config import ModelConfig
from octo_bench.checkpoints.folder import Policy
from octo_bench.demonstrations.normalisation import POOLED, Affine
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.models.octo_1_5.network import Inputs, Octo15

INSTRUCTION = "put the red cube on the green one"
INSTRUCTION_TOKENS = 16
_PATCHES = 8
"""Patches of one colour along an image's side: nearer to a scene than noise of single pixels."""


@dataclass(frozen=True)
class Query:
    """Inputs of an agent: observations, one row each, and noise (B, *noise_shape)."""

    observations: Mapping[str, np.ndarray]
    noise: np.ndarray

    @classmethod
    def random(cls, policy: Policy, noise_shape: Sequence[int], rows: int, seed: int) -> Query:
        """Random rows with all cameras, in the network's own image sizes, and a whole history."""
        random = np.random.default_rng(seed)
        model = policy.config.model
        shape = (rows, model.window)
        observations = {"timestep_pad_mask": np.ones(shape, bool)}
        for camera, size in _cameras(model).items():
            patches = random.integers(0, 256, (*shape, _PATCHES, _PATCHES, 3), np.uint8)
            pixels = np.arange(size) * _PATCHES // size
            observations[camera] = patches[:, :, pixels[:, None], pixels]
        scaling = policy.statistics.proprio
        normalised = random.standard_normal((*shape, len(scaling.offset)), np.float32)
        observations["proprio"] = scaling.restore(normalised)
        return cls(observations, random.standard_normal((rows, *noise_shape), np.float32))

    def rows(self, rows: Sequence[int]) -> Query:
        """Those rows alone."""
        chosen = list(rows)
        observations = {name: array[chosen] for name, array in self.observations.items()}
        return Query(observations, self.noise[chosen])

    def with_other_noise(self, seed: int) -> Query:
        """The same observations."""
        random = np.random.default_rng(seed)
        return replace(self, noise=random.standard_normal(self.noise.shape, np.float32))


def _cameras(model: ModelConfig) -> dict[str, int]:
    """The side of each camera's images in pixels, by the observation's key."""
    if isinstance(model, Octo15Config):
        return {each.image: each.size for each in model.images}
    names = ("image_primary", "image_wrist", "image_wrist_2")[: 1 + model.wrist_cameras]
    return dict.fromkeys(names, model.image_size)


class AskedPolicy:
    """An agent with a network of its own, and the normalised actions that it comes to."""

    def __init__(self, policy: Policy, inference: Inference, *, naive: bool = False) -> None:
        """Copy the policy but for T5, which no inference option changes.

        `naive`, of an Octo 1.5 with diffusion: recompute everything at every denoising step.
        """
        t5 = policy.model.language.t5
        self.model = copy.deepcopy(policy.model, {id(t5): t5})
        if naive:
            _recompute_at_every_step(self.model)
        scaling = policy.statistics.actions_of(None)
        self._recorder = _Recorder(scaling.offset, scaling.scale)
        statistics = replace(policy.statistics, actions={POOLED: self._recorder})
        own = replace(policy, model=self.model, statistics=statistics)
        self._agent: OctoAgent | Octo15Agent
        if isinstance(policy.model, Octo15):
            self._agent = Octo15Agent(own, inference)
        else:
            self._agent = OctoAgent(own, inference)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Of the noise of one row."""
        return self._agent.noise_shape

    def embed_instruction(self) -> tuple[float, Tensor]:
        """Milliseconds, and what T5 makes of an instruction; any tokens take as long as others."""
        language = self.model.language
        ids = torch.arange(INSTRUCTION_TOKENS).unsqueeze(0) + 1
        encode = language.states if isinstance(self._agent, Octo15Agent) else language
        started = time.perf_counter()
        with torch.inference_mode():
            embedded = encode(ids, torch.ones_like(ids))[0]
        return 1e3 * (time.perf_counter() - started), embedded

    def remember_instruction(self, embedded: Tensor) -> None:
        """Take the instruction as embedded, as it is after an episode's first query."""
        self._agent._instructions[INSTRUCTION] = embedded

    def ask(self, query: Query) -> tuple[float, np.ndarray]:
        """Milliseconds that the agent takes, and its normalised actions (B, T, A)."""
        noise, draws = query.noise, self.noise_shape
        if noise.shape[1:] != draws:
            # DDIM draws only what the chain starts from, DDPM that first.
            noise = noise[:, : draws[0]]
        tasks = [TaskInput(INSTRUCTION)] * len(noise)
        started = time.perf_counter()
        self._agent.act(query.observations, tasks, noise)
        return 1e3 * (time.perf_counter() - started), self._recorder.normalised[-1]


@dataclass(frozen=True)
class _Recorder(Affine):
    """Keeps the last actions from before scaling and clipping."""

    normalised: list[np.ndarray] = field(default_factory=list)

    def restore(self, normalised: np.ndarray) -> np.ndarray:
        """See `Affine.restore`."""
        self.normalised[:] = [normalised.copy()]
        return super().restore(normalised)


def _recompute_at_every_step(model: Octo15) -> None:
    """Make a network run as a whole at every denoising step.

    Only the instruction stays embedded. The same actions as by its own DDPM, but for rounding.
    """
    readouts, head, bound = model.readouts, model.head, model.config.max_action
    last_inputs: list[Inputs] = []

    def remember(inputs: Inputs, *, last_only: bool = False) -> Tensor:
        last_inputs[:] = [inputs]
        return readouts(inputs, last_only=last_only)

    def sample(first: Tensor, noise: Tensor, action_size: int | None = None) -> Tensor:
        del action_size
        x, steps = noise[:, 0], len(head.betas)
        for draw, step in enumerate(reversed(range(steps)), start=1):
            current = first if draw == 1 else readouts(*last_inputs)[:, -1]
            predicted = head.epsilon(head.pooled(current), x, torch.full((len(x),), step))
            beta, signal = head.betas[step], head.signal[step]
            x = (x - beta / (1 - signal).sqrt() * predicted) / (1 - beta).sqrt()
            if step > 0:
                x = x + beta.sqrt() * noise[:, draw]
            x = x.clamp(-bound, bound)
        return x.unflatten(-1, (model.config.chunk, model.config.action_size))

    model.readouts, head.sample = remember, sample
