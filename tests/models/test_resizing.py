"""Resizing beside Pillow's Lanczos filter on float images, and where it is easy to go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from octo_bench.models.octo_1_5.resizing import resize


def pixels(*shape: int, seed: int = 0) -> torch.Tensor:
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(values)


def by_pillow(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, C) uint8 to (size, size, C) float32: mode "F" does not round between the passes."""
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in np.moveaxis(image, -1, 0)]
    return np.stack([p.resize((size, size), Image.Resampling.LANCZOS) for p in planes], -1)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (96, 96, 256),
        (96, 96, 128),
        (256, 256, 128),
        (480, 640, 256),
        (100, 37, 64),
        (7, 300, 16),
        (3, 2, 9),
        (1, 5, 4),
    ],
)
def test_agrees_with_pillow_up_and_down(height: int, width: int, size: int) -> None:
    image = pixels(height, width, 3)
    expected = by_pillow(image.numpy(), size).clip(0, 255)
    resized = resize(image, size)
    assert resized.dtype == torch.uint8
    assert resized.shape == (size, size, 3)
    # Rounded, so half a step away at most, and rounding error of float32.
    assert np.abs(resized.numpy() - expected).max() <= 0.5 + 1e-3


def test_batches_are_resized_image_by_image() -> None:
    images = pixels(2, 3, 24, 30, 3)
    together = resize(images, 17)
    assert together.shape == (2, 3, 17, 17, 3)
    for row in range(2):
        for step in range(3):
            assert torch.equal(together[row, step], resize(images[row, step], 17))


def test_an_image_of_the_right_size_is_left_alone() -> None:
    images = pixels(2, 16, 16, 3)
    assert torch.equal(resize(images, 16), images)


@pytest.mark.parametrize("value", [0, 1, 127, 255])
@pytest.mark.parametrize("size", [5, 31, 64, 200])
def test_a_constant_image_stays_constant_up_to_its_border(value: int, size: int) -> None:
    image = torch.full((31, 64, 3), value, dtype=torch.uint8)
    assert (resize(image, size) == value).all()


def test_overshoot_is_clipped_and_does_not_wrap_around() -> None:
    image = torch.zeros(8, 8, 3, dtype=torch.uint8)
    image[:, 4:] = 255
    unclipped = by_pillow(image.numpy(), 64)
    assert unclipped.min() < -5
    assert unclipped.max() > 260
    resized = resize(image, 64)
    assert (resized[:, :24] <= 30).all()
    assert (resized[:, 40:] >= 225).all()


def test_shrinking_averages_what_it_leaves_out() -> None:
    stripes = torch.zeros(64, 64, 3, dtype=torch.uint8)
    stripes[:, ::2] = 255
    inner = resize(stripes, 8)[:, 1:-1].float()
    assert (inner - 127.5).abs().max() < 8


def test_centres_lie_at_halves_so_that_mirroring_commutes() -> None:
    image = pixels(20, 20, 3)
    assert torch.equal(resize(image.flip(1), 33), resize(image, 33).flip(1))
