"""Image resizing as Octo was trained with: Lanczos with three lobes, antialiased.

The rule is that of TensorFlow's `tf.image.resize(method="lanczos3", antialias=True)`: pixels are
areas, so that centres lie at halves; the kernel is widened by the factor by which an image
shrinks; at the border, the weights that remain are scaled to sum to 1. The sums are in float32,
and only the result is rounded, half to even, and clipped to bytes.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_LOBES = 3


def resize(images: Tensor, size: int) -> Tensor:
    """Images (..., H, W, C) uint8 to (..., size, size, C) uint8, those of this size as they are."""
    height, width = images.shape[-3:-1]
    if height == width == size:
        return images
    planes = images.movedim(-1, -3).float()
    resized = _weights(height, size) @ planes @ _weights(width, size).T
    return resized.round().clamp(0, 255).to(torch.uint8).movedim(-3, -1)


@cache
def _weights(old: int, new: int) -> Tensor:
    """(new, old) float32: how much each pixel of a line counts in each new pixel."""
    ratio = old / new
    centres = (torch.arange(new, dtype=torch.float64) + 0.5) * ratio
    sources = torch.arange(old, dtype=torch.float64) + 0.5
    distance = (sources - centres[:, None]) / max(ratio, 1.0)
    kernel = torch.sinc(distance) * torch.sinc(distance / _LOBES)
    kernel[distance.abs() > _LOBES] = 0
    return (kernel / kernel.sum(1, keepdim=True)).float()
