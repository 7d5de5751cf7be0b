"""Image encoders are exact on flat and low-contrast images, in both generations."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from octo_bench.models.config import VisionConfig
from octo_bench.models.octo_1_5.config import ImageTokenizerConfig
from octo_bench.models.octo_1_5.image_tokenizer import ImageTokenizer
from octo_bench.models.vision import VisionEncoder

FLAT, LOW_CONTRAST = "flat", "low contrast"


def image(kind: str, size: int) -> Tensor:
    """A grey image (1, size, size, 3), with one grey level of contrast or none."""
    plain = torch.full((1, size, size, 3), 190.0)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 2, plain.shape, generator=generator)
    return plain if kind == FLAT else plain + noise


def in_double(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).double().to(memory_format=torch.contiguous_format)


@pytest.mark.parametrize("kind", [FLAT, LOW_CONTRAST])
def test_tokens_of_octo_1_5_equal_those_in_float64(kind: str) -> None:
    torch.manual_seed(0)
    sizes = ImageTokenizerConfig("primary", "image_primary", 128, (32, 96, 192, 384), 64)
    tokenizer = ImageTokenizer(sizes, 32, 2).eval()
    for layer in tokenizer.stem:
        nn.init.normal_(layer.conv.bias)
    seen = image(kind, 128).unsqueeze(1)
    with torch.inference_mode():
        exact = in_double(tokenizer)(seen.double(), None)
        tokens = tokenizer(seen, None)
        tokenizer.fold()
        folded = tokenizer(seen, None)
    for each in (tokens, folded):
        torch.testing.assert_close(each.double(), exact, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [FLAT, LOW_CONTRAST])
def test_embeddings_of_the_seed_architecture_equal_those_in_float64(kind: str) -> None:
    torch.manual_seed(0)
    config = VisionConfig(blocks=(1, 1), widths=(32, 64), strides=(1, 2), pooling="flatten")
    encoder = VisionEncoder(config, 128, 32).eval()
    for module in encoder.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.normal_(module.weight)
    seen = image(kind, 128) / 127.5 - 1
    with torch.inference_mode():
        exact = in_double(encoder)(seen.double())
        torch.testing.assert_close(encoder(seen).double(), exact, atol=2e-5, rtol=0)
