"""Every size of an Octo 1.5 network; the defaults are those of octo-small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Head = Literal["diffusion", "l1", "mse", "discrete"]


@dataclass(frozen=True)
class ImageTokenizerConfig:
    """One camera's tokenizer: `features` of the four stem layers, then `embedding`.

    `name` is the tokenizer's, `image` the key of its observation and of its goal image, `size`
    the side of both in pixels. An image gives `(size / 16) ** 2` tokens.
    """

    name: str
    image: str
    size: int
    features: tuple[int, ...] = (32, 96, 192, 384)
    embedding: int = 512

    def __post_init__(self) -> None:
        if self.size % 2 ** len(self.features):
            raise ValueError(
                f"'size' = {self.size} is not a multiple of {2 ** len(self.features)}, "
                "by which the stem divides it"
            )

    @property
    def tokens(self) -> int:
        """Tokens of one image."""
        return (self.size // 2 ** len(self.features)) ** 2


@dataclass(frozen=True)
class ProprioTokenizerConfig:
    """Proprioception, a token an entry; `entries` are those that are read, () for none.

    With `bins` an entry's token stands for its bin, with 0 it is proportional to its value.
    "uniform" bins share [low, high]; "normal" bins are equally likely under a standard normal.
    """

    entries: tuple[int, ...] = ()
    bins: int = 0
    spacing: Literal["uniform", "normal"] = "normal"
    low: float = -2.0
    high: float = 2.0


@dataclass(frozen=True)
class T5Config:
    """Sizes of the T5 encoder, those of T5-base by default, and where its tokenizer comes from.

    `tokenizer` is a Hugging Face Hub id or a folder; a folder `tokenizer` inside the policy's own
    goes first. `tokens`: every instruction is cut or padded to so many.
    """

    vocabulary: int = 32128
    width: int = 768
    head_width: int = 64
    feed_forward: int = 3072
    layers: int = 12
    heads: int = 12
    buckets: int = 32
    distance: int = 128
    tokens: int = 16
    tokenizer: str = "google-t5/t5-base"


@dataclass(frozen=True)
class DiffusionConfig:
    """The denoising network and its chain.

    `sampling_steps` below `steps` samples by DDIM (Song et al. 2021, eta 0) instead of DDPM.
    """

    hidden: int = 256
    blocks: int = 3
    time: int = 32
    layer_norm: bool = True
    dropout: float = 0.0
    steps: int = 20
    sampling_steps: int = 20
    pool: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.sampling_steps <= self.steps:
            raise ValueError("'sampling_steps' must lie between 1 and 'steps'")


@dataclass(frozen=True)
class ContinuousConfig:
    """The heads "l1" and "mse"; `pool`: by attention (the original's `use_map`), or the mean."""

    pool: bool = True


@dataclass(frozen=True)
class DiscreteConfig:
    """The head "discrete": bins of each action entry.

    `token_per`: what a token stands for, everything, a step of the chunk, or an entry of a step.
    Without `pool` there must be that many readouts. The original's bins span [0, 1] by default,
    which puts negative normalised actions into bin 0; ours span the range of normalised actions.
    """

    bins: int = 256
    token_per: Literal["all", "step", "entry"] = "entry"
    pool: bool = True
    spacing: Literal["uniform", "normal"] = "uniform"
    low: float = -5.0
    high: float = 5.0
    decode: Literal["argmax", "sample"] = "sample"


@dataclass(frozen=True)
class Octo15Config:
    """An Octo 1.5 network.

    `max_window` is the number of time steps that have a position; `window` of them are used.
    `max_action` bounds normalised actions. `head` chooses one of the heads, each of which has a
    table of its own.
    """

    width: int = 384
    layers: int = 12
    heads: int = 6
    feed_forward: int = 1536
    dropout: float = 0.0
    window: int = 2
    max_window: int = 10
    readouts: int = 1
    repeat_task_tokens: bool = True
    chunk: int = 4
    action_size: int = 7
    max_action: float = 5.0
    images: tuple[ImageTokenizerConfig, ...] = (
        ImageTokenizerConfig("primary", "image_primary", 256),
        ImageTokenizerConfig("wrist", "image_wrist", 128),
    )
    proprio: ProprioTokenizerConfig = field(default_factory=ProprioTokenizerConfig)
    language: T5Config = field(default_factory=T5Config)
    head: Head = "diffusion"
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    continuous: ContinuousConfig = field(default_factory=ContinuousConfig)
    discrete: DiscreteConfig = field(default_factory=DiscreteConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.window <= self.max_window:
            raise ValueError(f"'window' must lie between 1 and 'max_window' = {self.max_window}")
        if self.width % self.heads:
            raise ValueError(f"'heads' = {self.heads} must divide 'width' = {self.width}")

    @property
    def proprio_entries(self) -> tuple[int, ...]:
        """The entries of the proprioception that are read."""
        return self.proprio.entries

    @property
    def action_range(self) -> float:
        """Bound of the normalised actions that the head can give."""
        return self.max_action


OCTO_SMALL = Octo15Config()
OCTO_BASE = Octo15Config(width=768, heads=12, feed_forward=3072)
