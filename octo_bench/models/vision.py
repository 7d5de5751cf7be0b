"""ResNet image encoder: uint8 images to one embedding each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import FrozenBatchNorm2d

from octo_bench.models.config import VisionConfig
from octo_bench.models.group_norm import GroupNorm
from octo_bench.models.pretrained import copy_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of pixels in [0, 1]: what networks trained on ImageNet have their input standardised by."""


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution with a stride, as one without a stride on every `step`-th pixel.

    The same function with the same weights; but the backward pass of a strided one crashes in
    torch 2.14.1's oneDNN with more than one thread and batches of changing size.
    """

    def __init__(self, before: int, after: int, step: int) -> None:
        super().__init__(before, after, 1, bias=False)
        self.step = step

    def forward(self, maps: Tensor) -> Tensor:
        """(N, before, h, w) to (N, after, ceil(h / step), ceil(w / step))."""
        return super().forward(maps[..., :: self.step, :: self.step])


class ImageNetScaling(nn.Module):
    """Images in [-1, 1] as networks trained on ImageNet take them.

    Not folded into the first convolution, which pads with zeros: those must stay ImageNet's mean.
    """

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("scale", (0.5 / std)[:, None, None], persistent=False)
        self.register_buffer("offset", ((0.5 - mean) / std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) to the same shape."""
        return images * self.scale + self.offset


class SpatialSoftmax(nn.Module):
    """Each channel's expected image coordinates under a softmax over its map.

    Levine et al. 2016, "End-to-End Training of Deep Visuomotor Policies".
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 2C): x then y, each in [-1, 1]."""
        height, width = maps.shape[-2:]
        weights = (maps.flatten(2) * torch.exp(-self.log_temperature)).softmax(-1)
        weights = weights.unflatten(-1, (height, width))
        x = weights.sum(-2) @ torch.linspace(-1, 1, width, dtype=maps.dtype, device=maps.device)
        y = weights.sum(-1) @ torch.linspace(-1, 1, height, dtype=maps.dtype, device=maps.device)
        return torch.cat([x, y], -1)


class VisionEncoder(nn.Module):
    """ResNet of torchvision's basic blocks, pooled, then linear to `width`."""

    def __init__(
        self, config: VisionConfig, image_size: int, width: int, *, load_pretrained: bool = False
    ) -> None:
        """Randomly initialised, or with the weights that the configuration names.

        Raises:
            UnavailableError: when these are not available or do not fit.
        """
        super().__init__()
        self.standardise = ImageNetScaling() if config.pretrained else nn.Identity()

        def norm(channels: int) -> nn.Module:
            match config.norm:
                case "group":
                    return GroupNorm(math.gcd(config.groups, channels), channels)
                case "batch_frozen":
                    return FrozenBatchNorm2d(channels)
                case "none":
                    return nn.Identity()

        first = config.widths[0]
        stem: list[nn.Module] = [
            nn.Conv2d(
                3,
                first,
                config.stem_kernel,
                config.stem_stride,
                padding=(config.stem_kernel - 1) // 2,
                bias=config.norm == "none",
            ),
            norm(first),
            nn.ReLU(inplace=True),
        ]
        if config.stem_maxpool:
            stem.append(nn.MaxPool2d(3, 2, 1))
        self.stem = nn.Sequential(*stem)

        stages: list[nn.Module] = []
        channels = first
        for count, planes, stride in zip(config.blocks, config.widths, config.strides, strict=True):
            for index in range(count):
                step = stride if index == 0 else 1
                shortcut = None
                if step != 1 or channels != planes:
                    shortcut = nn.Sequential(StridedPointwise(channels, planes, step), norm(planes))
                stages.append(BasicBlock(channels, planes, step, shortcut, norm_layer=norm))
                channels = planes
        self.stages = nn.Sequential(*stages)

        match config.pooling:
            case "average":
                self.pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
                features = channels
            case "spatial_softmax":
                self.pool = SpatialSoftmax()
                features = 2 * channels
            case "flatten":
                self.pool = nn.Flatten()
                features = channels * _map_size(config, image_size) ** 2
        self.projection = nn.Linear(features, width)
        self._initialise(config)
        if config.pretrained and load_pretrained:
            copy_weights(config.pretrained, self._imported(config))
        self.to(memory_format=torch.channels_last)

    def _initialise(self, config: VisionConfig) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, BasicBlock):
                # The residual branch starts at zero, so that depth costs nothing at first
                # (Goyal et al. 2017; without normalisation: De and Smith 2020).
                if config.norm == "group":
                    nn.init.zeros_(module.bn2.weight)
        if config.norm == "none":
            for module in self.modules():
                if isinstance(module, BasicBlock):
                    nn.init.zeros_(module.conv2.weight)

    def _imported(self, config: VisionConfig) -> Mapping[str, Tensor]:
        """The tensors of stem and stages under the names that torchvision gives them."""
        blocks = iter(self.stages)
        parts = {"conv1": self.stem[0], "bn1": self.stem[1]}
        for layer, count in enumerate(config.blocks, 1):
            parts |= {f"layer{layer}.{index}": next(blocks) for index in range(count)}
        return {
            f"{part}.{name}": tensor
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, H, W, 3), uint8 or already float in [-1, 1], to embeddings (N, width)."""
        if images.dtype == torch.uint8:
            images = images * (1 / 127.5) - 1
        images = self.standardise(images.to(self.projection.weight.dtype).permute(0, 3, 1, 2))
        return self.projection(self.pool(self.stages(self.stem(images))))


def _map_size(config: VisionConfig, image_size: int) -> int:
    """Side of the last stage's map, in pixels of that map."""

    def convolved(size: int, kernel: int, stride: int) -> int:
        return (size + 2 * ((kernel - 1) // 2) - kernel) // stride + 1

    size = convolved(image_size, config.stem_kernel, config.stem_stride)
    if config.stem_maxpool:
        size = convolved(size, 3, 2)
    for stride in config.strides:
        size = convolved(size, 3, stride)
    return size
