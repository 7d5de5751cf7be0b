"""Sizes of the Octo network and its parts, as `config.json` has them: plain Python, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Schedule = Literal["squared_cosine", "linear"]
Head = Literal["diffusion", "categorical"]

TASK_TOKENS = 2


@dataclass(frozen=True)
class VisionConfig:
    """Sizes of the encoder; the defaults are those of ResNet-18.

    `norm`: "group", "batch_frozen" (for imported weights), or "none", with which every residual
    branch starts at zero instead. `pooling`: "average", "spatial_softmax" (expected coordinates
    of every channel) or "flatten"; the last two keep where things are.

    `pretrained`: a safetensors file of ImageNet weights as torchvision and timm name them, a
    folder with a `model.safetensors`, or a Hugging Face Hub id ("timm/resnet18.tv_in1k"). With it
    images are standardised as ImageNet's were.
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    strides: tuple[int, ...] = (1, 2, 2, 2)
    stem_kernel: int = 7
    stem_stride: int = 2
    stem_maxpool: bool = True
    norm: Literal["group", "batch_frozen", "none"] = "group"
    groups: int = 32
    pooling: Literal["average", "spatial_softmax", "flatten"] = "average"
    pretrained: str = ""

    def __post_init__(self) -> None:
        if not len(self.blocks) == len(self.widths) == len(self.strides) > 0:
            raise ValueError("'blocks', 'widths' and 'strides' must have one entry per stage")
        if self.pretrained and self.norm != "batch_frozen":
            raise ValueError("'pretrained' weights need the 'norm' \"batch_frozen\"")


@dataclass(frozen=True)
class LanguageConfig:
    """Sizes of the T5 encoder, those of T5-base by default, and what it starts from.

    `pretrained`, a Hugging Face Hub id or a folder, is where its weights (`model.safetensors`)
    and its tokenizer (`tokenizer.json`) come from; it is trained only if `trainable`. Without,
    the encoder starts at random, is trained, and reads bytes: 259 tokens, whatever `vocabulary`
    says.
    """

    pretrained: str = "google-t5/t5-base"
    trainable: bool = False
    max_length: int = 64
    vocabulary: int = 32128
    layers: int = 12
    width: int = 768
    heads: int = 12
    feed_forward: int = 3072


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes; the width is the model's. `context` is the longest sequence, in tokens."""

    layers: int = 8
    heads: int = 8
    feed_forward: int = 2048
    context: int = 32
    dropout: float = 0.0


@dataclass(frozen=True)
class DiffusionConfig:
    """Sizes, schedule and sampler.

    `schedule`: a linear one from 1e-4 to 0.02 over 10 steps leaves a cumulative alpha of about
    0.90, so that pure noise is unlike anything trained on; squared cosine is the default.
    `sampler`: "ddpm" draws noise at every step, "ddim" (eta 0) only the first.
    `action_range`: bound of normalised actions, to which predictions are clipped.
    """

    down_dims: tuple[int, ...] = (128, 256)
    blocks: int = 2
    step_embedding: int = 64
    groups: int = 8
    condition: int = 256
    steps: int = 10
    schedule: Schedule = "squared_cosine"
    prediction: Literal["epsilon", "sample"] = "epsilon"
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    sampling_steps: int = 10
    action_range: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.sampling_steps <= self.steps:
            raise ValueError("'sampling_steps' must lie between 1 and 'steps'")
        if self.sampler == "ddpm" and self.sampling_steps != self.steps:
            raise ValueError("'sampling_steps' below 'steps' needs the sampler \"ddim\"")


@dataclass(frozen=True)
class CategoricalConfig:
    """`action_range`: bound of normalised actions; the bins share it evenly.

    `hidden`: width of a hidden layer before the bins, 0 for none. `decode`: the likeliest bin, or
    a sampled one.
    """

    bins: int = 256
    hidden: int = 0
    decode: Literal["argmax", "sample"] = "argmax"
    action_range: float = 1.0


@dataclass(frozen=True)
class OctoConfig:
    """Every size of the model; the defaults are the seed architecture's (DESIGN.md).

    `proprio` lists the entries of the proprioception that are read, so that one can leave out
    what does not mean the same on every arm. `wrist_cameras`: 2 for two arms. `shared_encoder`:
    one image encoder for all cameras, or one for the primary camera and one for the wrists; the
    goal image always goes through the primary camera's.
    """

    width: int = 512
    window: int = 1
    chunk: int = 4
    action_size: int = 7
    image_size: int = 96
    proprio: tuple[int, ...] = tuple(range(11))
    wrist_cameras: int = 1
    shared_encoder: bool = True
    head: Head = "diffusion"
    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    categorical: CategoricalConfig = field(default_factory=CategoricalConfig)

    def __post_init__(self) -> None:
        if self.wrist_cameras not in (1, 2):
            raise ValueError(f"'wrist_cameras' = {self.wrist_cameras} is neither 1 nor 2")
        needed = self.tokens
        if self.window < 1 or needed > self.transformer.context:
            raise ValueError(
                f"'window' = {self.window} takes {needed} tokens, more than "
                f"'transformer.context' = {self.transformer.context}"
            )

    @property
    def step_tokens(self) -> int:
        """Tokens of a time step: the cameras', proprioception's and the readout's."""
        return 3 + self.wrist_cameras

    @property
    def tokens(self) -> int:
        """Tokens of the whole sequence."""
        return TASK_TOKENS + self.step_tokens * self.window

    @property
    def proprio_entries(self) -> tuple[int, ...]:
        """The entries of the proprioception that are read."""
        return self.proprio

    @property
    def action_range(self) -> float:
        """Bound of the normalised actions that the configured head can give."""
        chosen = self.diffusion if self.head == "diffusion" else self.categorical
        return chosen.action_range
