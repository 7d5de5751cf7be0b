"""The diffusion head: a residual network denoises the flat chunk, given readout and step."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octo_bench.models.octo_1_5.attention_pool import AttentionPool
from octo_bench.models.octo_1_5.config import Octo15Config
from octo_bench.models.octo_1_5.heads import masked_mean
from octo_bench.models.octo_1_5.initialisation import NORM_EPSILON

EXPANSION = 4
TIME_HIDDEN = 2
"""Width of the hidden layer of the step's embedding, over the embedding's."""
COSINE_SHIFT = 0.008
LARGEST_BETA = 0.999


def cosine_betas(steps: int) -> np.ndarray:
    """Betas of the squared-cosine schedule (Nichol and Dhariwal 2021, equation 17), float32."""
    shifted = ((step / steps + COSINE_SHIFT) / (1 + COSINE_SHIFT) for step in range(steps + 1))
    signal = [math.cos(each * math.pi / 2) ** 2 for each in shifted]
    return np.float32([min(max(1 - b / a, 0.0), LARGEST_BETA) for a, b in pairwise(signal)])


class ResidualBlock(nn.Module):
    """x + contract(swish(expand(norm(x))))."""

    def __init__(self, width: int, dropout: float, layer_norm: bool) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON) if layer_norm else nn.Identity()
        self.expand = nn.Linear(width, EXPANSION * width)
        self.contract = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width) to the same shape."""
        return x + self.contract(F.silu(self.expand(self.norm(self.dropout(x)))))


class DiffusionHead(nn.Module):
    """Readouts to chunks of normalised actions.

    The first layer reads [step, readout, noisy chunk]. It is linear in each, so the readout's
    part is computed once for a chain and the steps' parts once for all rows.
    """

    def __init__(self, config: Octo15Config) -> None:
        super().__init__()
        self.config = config
        sizes = config.diffusion
        entries = config.chunk * config.action_size
        self.pool = AttentionPool(config.width) if sizes.pool else None
        self.frequencies = nn.Parameter(torch.randn(sizes.time // 2, 1) * 0.2)
        self.time = nn.Sequential(
            nn.Linear(sizes.time, TIME_HIDDEN * sizes.time),
            nn.SiLU(),
            nn.Linear(TIME_HIDDEN * sizes.time, sizes.time),
        )
        self.input = nn.Linear(sizes.time + config.width + entries, sizes.hidden)
        self.blocks = nn.ModuleList(
            ResidualBlock(sizes.hidden, sizes.dropout, sizes.layer_norm)
            for _ in range(sizes.blocks)
        )
        self.output = nn.Linear(sizes.hidden, entries)
        self.sampling_steps = sizes.sampling_steps
        self.ddim = sizes.sampling_steps < sizes.steps
        betas = cosine_betas(sizes.steps)
        signal = np.cumprod(1 - betas, dtype=np.float64).astype(np.float32)
        # Roots by NumPy, which are exact: PyTorch's own come from MKL, and hang on the processor.
        for name, values in (
            ("betas", betas),
            ("signal", signal),
            ("of_signal", np.sqrt(signal)),
            ("of_noise", np.sqrt(1 - signal)),
            ("of_fresh", np.sqrt(betas)),
            ("of_kept", np.sqrt(1 - betas)),
        ):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Standard-normal draws that one sample takes.

        With all steps (DDPM) the noise to start from, then one draw a step; that of the last step
        is used only for entries that the arm does not have. With fewer (DDIM) only the first.
        """
        draws = 1 if self.ddim else self.config.diffusion.steps + 1
        return (draws, self.config.chunk * self.config.action_size)

    def sample_in(self, steps: int) -> None:
        """From now on, sample in so many steps, by DDIM."""
        self.sampling_steps, self.ddim = steps, True

    def pooled(self, readouts: Tensor) -> Tensor:
        """Readouts (N, R, width) to one embedding each, (N, width)."""
        return readouts.mean(1) if self.pool is None else self.pool(readouts)[:, 0]

    def epsilon(self, embedding: Tensor, noisy: Tensor, steps: Tensor) -> Tensor:
        """The noise that is predicted to be in a noisy chunk.

        Args:
            embedding: (N, width), from `pooled`.
            noisy: (N, T * A), entry by entry within a step of the chunk.
            steps: (N,) int64, of the diffusion.

        Returns:
            (N, T * A).
        """
        of_step, of_embedding, of_noisy = self._input_parts()
        condition = self._of_steps(of_step)[steps] + F.linear(embedding, of_embedding)
        return self._denoise(noisy, condition, of_noisy)

    def loss(
        self,
        readouts: Tensor,
        actions: Tensor,
        mask: Tensor,
        *,
        draws: int = 1,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `ActionHead.loss`: squared error of the predicted noise, at random steps.

        Padding is zeros, as sampling has it, whatever is there: the network reads the whole chunk.
        """
        shape, device = (len(actions), draws), actions.device
        on = torch.device("cpu") if generator is None else generator.device
        steps = torch.randint(
            self.config.diffusion.steps, shape, generator=generator, device=on
        ).to(device)
        noise = torch.randn((*shape, actions[0].numel()), generator=generator, device=on).to(device)
        return self.loss_at(readouts, actions.where(mask, 0), mask, steps, noise)

    def loss_at(
        self, readouts: Tensor, actions: Tensor, mask: Tensor, steps: Tensor, noise: Tensor
    ) -> Tensor:
        """The loss at given steps (N, draws) and noise (N, draws, T * A)."""
        bound, draws = self.config.max_action, steps.shape[1]
        clean = actions.clamp(-bound, bound).flatten(1).unsqueeze(1)
        of_signal, of_noise = (
            root[steps].unsqueeze(-1) for root in (self.of_signal, self.of_noise)
        )
        noisy = of_signal * clean + of_noise * noise
        embedding = self.pooled(readouts).repeat_interleave(draws, 0)
        predicted = self.epsilon(embedding, noisy.flatten(0, 1), steps.flatten())
        squared = (predicted.view_as(noise) - noise).square()
        kept = mask.flatten(1).unsqueeze(1).expand_as(squared)
        return self.config.action_size * masked_mean(squared, kept)

    def sample(self, readouts: Tensor, noise: Tensor, action_size: int | None = None) -> Tensor:
        """See `ActionHead.sample`."""
        chunk = (self.config.chunk, self.config.action_size)
        return self.chain(readouts, noise, action_size)[-1].unflatten(-1, chunk)

    def chain(
        self, readouts: Tensor, noise: Tensor, action_size: int | None = None
    ) -> list[Tensor]:
        """The chunk (N, T * A) after each sampling step, from the noisiest down.

        DDPM (Ho et al. 2020, algorithm 2), clipped after each step as in the original; or DDIM
        (Song et al. 2021, equation 12 with eta 0), its clean chunk clipped. Entries from
        `action_size` on are kept at noise of the step's own level.
        """
        bound = self.config.max_action
        of_step, of_embedding, of_noisy = self._input_parts()
        of_steps = self._of_steps(of_step)
        of_readout = F.linear(self.pooled(readouts), of_embedding)
        missing = self._missing(action_size)
        x, states = noise[:, 0], []
        timesteps = self.timesteps()
        for index, step in enumerate(timesteps):
            predicted = self._denoise(x, of_steps[step] + of_readout, of_noisy)
            of_signal, of_noise = self.of_signal[step], self.of_noise[step]
            fresh = noise[:, 0] if self.ddim else noise[:, index + 1]
            if not self.ddim:
                x = (x - self.betas[step] / of_noise * predicted) / self.of_kept[step]
                if step > 0:
                    x = x + self.of_fresh[step] * fresh
                x = x.clamp(-bound, bound)
            else:
                clean = (x - of_noise * predicted) / of_signal
                clean = clean.clamp(-bound, bound)
                if index + 1 < len(timesteps):
                    following = timesteps[index + 1]
                    implied = (x - of_signal * clean) / of_noise
                    x = self.of_signal[following] * clean + self.of_noise[following] * implied
                else:
                    x = clean
            if missing is not None:
                x = torch.where(missing, of_noise * fresh, x)
            states.append(x)
        return states

    def timesteps(self) -> list[int]:
        """The steps that sampling visits, from the noisiest down ("trailing" spacing)."""
        steps = self.config.diffusion.steps
        stride = steps / self.sampling_steps
        return [round(steps - i * stride) - 1 for i in range(self.sampling_steps)]

    def _input_parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer's weights for the step, the embedding and the noisy chunk."""
        time, width = self.config.diffusion.time, self.config.width
        return self.input.weight.tensor_split((time, time + width), 1)

    def _of_steps(self, weight: Tensor) -> Tensor:
        """The first layer's answer to every step, its bias included: (steps, hidden)."""
        steps = torch.arange(self.config.diffusion.steps, dtype=weight.dtype, device=weight.device)
        angles = 2 * math.pi * (steps.unsqueeze(1) @ self.frequencies.T)
        embedded = self.time(torch.cat([angles.cos(), angles.sin()], -1))
        return F.linear(embedded, weight, self.input.bias)

    def _denoise(self, noisy: Tensor, condition: Tensor, weight: Tensor) -> Tensor:
        """Noisy chunks (N, T * A) and what the first layer makes of the rest, to the noise."""
        x = F.linear(noisy, weight) + condition
        for block in self.blocks:
            x = block(x)
        return self.output(F.silu(x))

    def _missing(self, action_size: int | None) -> Tensor | None:
        """(T * A,) bool, True for the entries that the arm does not have; None if it has all."""
        size = self.config.action_size
        if action_size is None or action_size == size:
            return None
        entry = torch.arange(self.config.chunk * size, device=self.betas.device) % size
        return entry >= action_size
