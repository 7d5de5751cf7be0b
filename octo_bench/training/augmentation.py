"""Light image augmentation of a whole batch at once."""

from __future__ import annotations

import numpy as np
import torch
from numba import njit
from torch import Tensor

from octo_bench.training.settings import Augmentation

HALF = 127.5


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Shift, then one scale and offset per image and channel.

    The border is repeated where a shift uncovers it.

    Args:
        images: (N, H, W, 3) uint8.

    Returns:
        (N, H, W, 3) float32 in [-1, 1], as the vision encoder takes it.
    """
    count, bound = len(images), settings.shift
    moves = torch.zeros(count, 2, dtype=torch.long)
    if bound:
        moves = torch.randint(-bound, bound + 1, (count, 2), generator=generator)
    uniform = torch.rand(5, count, generator=generator) * 2 - 1
    contrast = 1 + settings.contrast * uniform[0]
    gain = contrast.unsqueeze(1) * (1 + settings.colour * uniform[1:4].T) / HALF
    offset = 2 * settings.brightness * uniform[4] - contrast
    out = torch.empty(images.shape)
    _augment(images.numpy(), moves.numpy(), gain.numpy(), offset.numpy(), out.numpy())
    return out


@njit(cache=True)
def _augment(
    images: np.ndarray, moves: np.ndarray, gain: np.ndarray, offset: np.ndarray, out: np.ndarray
) -> None:
    """One pass over the pixels, instead of several over a batch of floats.

    Args:
        moves: (N, 2), pixels down and right.
        gain: (N, 3); offset: (N,): what a pixel is scaled by, and what is then added.
        out: (N, H, W, 3) float32, overwritten.
    """
    count, height, width, channels = images.shape
    length = width * channels
    gains = np.empty(length, np.float32)
    for n in range(count):
        down, right = moves[n, 0], moves[n, 1]
        for x in range(length):
            gains[x] = gain[n, x % channels]
        source = images[n].reshape(height, length)
        target = out[n].reshape(height, length)
        for y in range(height):
            row = source[min(max(y - down, 0), height - 1)]
            shift = right * channels
            first, last = max(shift, 0), length + min(shift, 0)
            for x in range(first, last):
                value = row[x - shift] * gains[x] + offset[n]
                target[y, x] = min(max(value, np.float32(-1)), np.float32(1))
            for x in range(first):
                value = row[x % channels] * gains[x] + offset[n]
                target[y, x] = min(max(value, np.float32(-1)), np.float32(1))
            for x in range(last, length):
                value = row[length - channels + x % channels] * gains[x] + offset[n]
                target[y, x] = min(max(value, np.float32(-1)), np.float32(1))
