"""Inference options: what may be chosen without training the policy again."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from octo_bench.errors import BadInference

Precision = Literal["float32", "bfloat16"]
TaskMode = Literal["language", "goal", "both", "none"]


@dataclass(frozen=True)
class Inference:
    """Inference options; the defaults are the policy's own.

    `execute`: environment steps that are executed of each chunk, receding-horizon control.
    `ensemble`: the policy is queried at every step, and the chunks that cover the step are
    averaged.
    `diffusion_steps`: denoising steps, by DDIM.
    `precision`: of the network's layers; what is seen and what is done stay float32.
    `compiled`: the network goes through `torch.compile`, which takes a while at first.
    `task`: what the policy is told: the instruction, a goal image, both, or nothing.
    """

    execute: int | None = None
    ensemble: bool = False
    diffusion_steps: int | None = None
    precision: Precision = "float32"
    compiled: bool = False
    task: TaskMode = "language"

    def __post_init__(self) -> None:
        for name in ("execute", "diffusion_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInference(f"{name} = {value} is not a number of steps; use 1 or more")
        if self.ensemble and self.execute is not None:
            raise BadInference("an ensemble executes one step of each chunk; leave out execute")

    @property
    def wants_goal(self) -> bool:
        """Whether the policy is shown a goal image."""
        return self.task in ("goal", "both")

    @property
    def description(self) -> str:
        """What differs from the defaults, such as "execute=2,ensemble"; "" if nothing does."""
        chosen = {each.name: getattr(self, each.name) for each in fields(self)}
        return ",".join(
            name if value is True else f"{name}={value}"
            for name, value in chosen.items()
            if value != getattr(DEFAULT, name)
        )

    def require_fits(self, policy: str, *, chunk: int, diffusion_steps: int | None) -> None:
        """Check the options against a policy.

        Args:
            policy: what it is called.
            chunk: actions that it predicts at once.
            diffusion_steps: denoising steps that it was trained with; None without such a head.

        Raises:
            BadInference: for what the policy cannot do.
        """
        if self.execute is not None and self.execute > chunk:
            raise BadInference(
                f"{policy} predicts chunks of {chunk} actions, of which {self.execute} cannot be "
                f"executed; use an execute of at most {chunk}"
            )
        if self.diffusion_steps is None:
            return
        if diffusion_steps is None:
            raise BadInference(f"{policy} has no diffusion head; leave out diffusion_steps")
        if self.diffusion_steps > diffusion_steps:
            raise BadInference(
                f"{policy} was trained with {diffusion_steps} diffusion steps and cannot take "
                f"{self.diffusion_steps}; use at most {diffusion_steps}"
            )


DEFAULT = Inference()

_WORDS = {"precision": get_args(Precision), "task": get_args(TaskMode)}


def described(description: str) -> Inference:
    """The options that `Inference.description` gave `description` for.

    Raises:
        BadInference: for a text that it does not give.
    """
    types = {each.name: type(getattr(DEFAULT, each.name)) for each in fields(Inference)}
    chosen: dict[str, object] = {}
    for option in description.split(",") if description else ():
        name, equals, value = option.partition("=")
        if name not in types or (types[name] is bool) == bool(equals):
            raise BadInference(f"'{option}' is not an inference option; known: {', '.join(types)}")
        if name in _WORDS:
            if value not in _WORDS[name]:
                raise BadInference(f"'{option}' is unknown; use one of {', '.join(_WORDS[name])}")
            chosen[name] = value
        elif not equals:
            chosen[name] = True
        elif value.isdecimal():
            chosen[name] = int(value)
        else:
            raise BadInference(f"'{option}' is not a number of steps; use 1 or more")
    return Inference(**chosen)
