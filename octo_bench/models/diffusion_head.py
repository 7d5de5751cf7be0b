"""Denoising-diffusion action head with explicit noise."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from octo_bench.models.config import DiffusionConfig, Schedule
from octo_bench.models.diffusion_unet import ConditionalUNet

LINEAR_BETAS = (1e-4, 0.02)
LARGEST_BETA = 0.999


def cumulative_alphas(schedule: Schedule, steps: int) -> np.ndarray:
    """(steps,) float32: the share of the signal's variance that is left after each step.

    "linear": betas that rise evenly (Ho et al. 2020, section 4). "squared_cosine": betas whose
    product follows cos^2 (Nichol and Dhariwal 2021, equation 17), none above 0.999, so that the
    last step keeps a trace of the signal.
    """
    if schedule == "linear":
        betas = np.linspace(*LINEAR_BETAS, steps).astype(np.float32)
    else:
        left = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(steps + 1)]
        betas = np.float32([min(1 - b / a, LARGEST_BETA) for a, b in pairwise(left)])
    return np.cumprod(1 - betas, dtype=np.float64).astype(np.float32)


class DiffusionHead(nn.Module):
    """Features of an observation to a chunk of normalised actions."""

    def __init__(self, config: DiffusionConfig, chunk: int, action_size: int, width: int) -> None:
        super().__init__()
        self.config, self.chunk, self.action_size = config, chunk, action_size
        self.unet = ConditionalUNet(
            chunk=chunk,
            action_size=action_size,
            width=width,
            down_dims=config.down_dims,
            step_embedding=config.step_embedding,
            groups=config.groups,
            condition=config.condition,
            blocks=config.blocks,
        )
        # Roots by NumPy, which are exact: PyTorch's own come from MKL, and hang on the processor.
        self._cumulative = cumulative_alphas(config.schedule, config.steps)
        for name, values in (
            ("of_signal", np.sqrt(self._cumulative)),
            ("of_noise", np.sqrt(1 - self._cumulative)),
        ):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Standard-normal draws that one sample takes: the first, then one per further step."""
        draws = self.config.steps if self.config.sampler == "ddpm" else 1
        return (draws, self.chunk, self.action_size)

    def sample_in(self, steps: int) -> None:
        """From now on, sample in so many steps, by DDIM."""
        self.config = replace(self.config, sampler="ddim", sampling_steps=steps)

    def loss(
        self,
        features: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean squared error of the prediction, over `draws` noise draws per observation.

        The diffusion steps of one observation's draws are consecutive from a random one (modulo
        their number): each is uniform, and together they cover the schedule.

        Args:
            features: (N, width).
            actions: (N, T, A), normalised.
            mask: (N, T, A) bool, False for padding.

        Returns:
            A scalar.
        """
        count, device = len(features), features.device
        first = torch.randint(
            self.config.steps, (count, 1), generator=generator, device=generator_device(generator)
        ).to(device)
        steps = (first + torch.arange(draws, device=device)) % self.config.steps
        noise = torch.randn(
            (count, draws, *actions.shape[1:]),
            generator=generator,
            device=generator_device(generator),
        ).to(device)
        # The noisy chunk is seen whole, so padding must be the same whatever it was filled with.
        clean = actions.where(mask, 0).unsqueeze(1)
        of_signal, of_noise = (
            root[steps][..., None, None] for root in (self.of_signal, self.of_noise)
        )
        noisy = of_signal * clean + of_noise * noise
        target = noise if self.config.prediction == "epsilon" else clean

        film = [
            (of_features.unsqueeze(1) + of_step[steps]).flatten(0, 1)
            for of_features, of_step in zip(
                self.unet.condition(features),
                self.unet.step_condition(self.config.steps),
                strict=True,
            )
        ]
        predicted = self.unet(noisy.flatten(0, 1), film).unflatten(0, (count, draws))
        squared = (predicted - target).square() * mask.unsqueeze(1)
        return squared.sum() / (mask.sum() * draws).clamp(min=1)

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Denoise from explicit noise.

        Args:
            features: (N, width).
            noise: (N, *noise_shape), standard normal.

        Returns:
            (N, T, A), normalised actions within `action_range`.
        """
        config = self.config
        of_features = self.unet.condition(features)
        of_steps = self.unet.step_condition(config.steps)
        x = noise[:, 0]
        timesteps = self.timesteps()
        for index, step in enumerate(timesteps):
            following = timesteps[index + 1] if index + 1 < len(timesteps) else -1
            film = [a + b[step] for a, b in zip(of_features, of_steps, strict=True)]
            clean = self._clean(self.unet(x, film), x, step)
            of_clean, of_noisy, deviation = self._step_coefficients(step, following)
            x = of_clean * clean + of_noisy * x
            if config.sampler == "ddpm" and following >= 0:
                x = x + deviation * noise[:, index + 1]
        return x

    def timesteps(self) -> list[int]:
        """The steps that sampling visits, from the noisiest down ("trailing" spacing)."""
        stride = self.config.steps / self.config.sampling_steps
        return [
            round(self.config.steps - i * stride) - 1 for i in range(self.config.sampling_steps)
        ]

    def _clean(self, predicted: Tensor, noisy: Tensor, step: int) -> Tensor:
        """The clean chunk that a prediction stands for, clipped to the range of actions."""
        if self.config.prediction == "epsilon":
            predicted = (noisy - self.of_noise[step] * predicted) / self.of_signal[step]
        return predicted.clamp(-self.config.action_range, self.config.action_range)

    def _step_coefficients(self, step: int, following: int) -> tuple[float, float, float]:
        """Weights of the clean and the noisy chunk, and the noise's deviation, for one step.

        DDPM: Ho et al. 2020, equations 6 and 7. DDIM: Song et al. 2021, equation 12 with eta 0
        and the noise implied by the clipped clean chunk.
        """
        signal = self._cumulative[step]
        left = self._cumulative[following] if following >= 0 else np.float32(1)
        if self.config.sampler == "ddim":
            of_noisy = np.sqrt((1 - left) / (1 - signal))
            return float(np.sqrt(left) - of_noisy * np.sqrt(signal)), float(of_noisy), 0.0
        beta = 1 - signal / left
        return (
            float(np.sqrt(left) * beta / (1 - signal)),
            float(np.sqrt(1 - beta) * (1 - left) / (1 - signal)),
            float(np.sqrt((1 - left) / (1 - signal) * beta)),
        )


def generator_device(generator: torch.Generator | None) -> torch.device:
    """Where a generator's draws have to be made."""
    return torch.device("cpu") if generator is None else generator.device
