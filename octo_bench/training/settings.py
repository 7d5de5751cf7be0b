"""How a network is trained, as frozen dataclasses that recipes and studies fill in."""

from __future__ import annotations

from dataclasses import dataclass, field

_BOUNDS = {
    "steps": (1, 10**9),
    "batch_size": (1, 2**16),
    "learning_rate": (0, 1e3),
    "warmup": (0, 10**9),
    "weight_decay": (0, 1e3),
    "gradient_clip": (0, 1e6),
    "ema_decay": (0, 1),
    "noise_draws": (1, 2**10),
    "proprio_dropout": (0, 1),
    "threads": (1, 2**10),
    "checkpoint_every": (1, 10**9),
    "log_every": (1, 10**9),
}
"""Of `Optimisation`."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of each image; each is drawn uniformly within plus or minus its bound.

    `shift` is in pixels and small by default: at 96 px one pixel is about half a centimetre, and
    a shift must stay small against what has to be located. `brightness` adds that share of the
    full range, `contrast` and `colour` scale (all channels alike, and each channel by itself).
    """

    shift: int = 1
    brightness: float = 0.1
    contrast: float = 0.1
    colour: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 64:
            raise ValueError("'shift' must lie between 0 and 64 pixels")
        if not all(0 <= each <= 10 for each in (self.brightness, self.contrast, self.colour)):
            raise ValueError("'brightness', 'contrast' and 'colour' must lie between 0 and 10")


@dataclass(frozen=True)
class TaskModes:
    """Share of training rows whose task is an instruction, a goal image, both, or neither."""

    language: float = 0.6
    goal: float = 0.15
    both: float = 0.15
    neither: float = 0.1

    def __post_init__(self) -> None:
        shares = self.shares
        if not (min(shares) >= 0 and 0 < sum(shares) <= 1e6):
            raise ValueError("'language', 'goal', 'both' and 'neither' must be shares")

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """In the order of the fields."""
        return (self.language, self.goal, self.both, self.neither)


@dataclass(frozen=True)
class Optimisation:
    """Settings of the one training loop.

    The learning rate rises linearly over `warmup` steps and falls to zero along a cosine;
    `ema_decay` bounds a decay that starts low, so that short trainings average too. `noise_draws`
    is per observation, in the diffusion loss. `threads`: CPU threads of this process; two
    processes on two cores want one each. `vision_bfloat16` runs the image encoder in bfloat16,
    up to twice as fast on a CPU with AVX-512 BF16 and slow on one without.
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 1e-4
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    noise_draws: int = 16
    proprio_dropout: float = 0.1
    task_modes: TaskModes = field(default_factory=TaskModes)
    augmentation: Augmentation = field(default_factory=Augmentation)
    vision_bfloat16: bool = False
    threads: int = 1
    checkpoint_every: int = 500
    log_every: int = 20

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"'{name}' must lie between {low:g} and {high:g}")


@dataclass(frozen=True)
class TrainingSummary:
    """What a training run took: wall-clock seconds, steps, and the loss at the end (smoothed)."""

    seconds: float
    steps: int
    final_loss: float
