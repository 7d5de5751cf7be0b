"""What a `study.toml` lists: policies, targets, conditions, and where demonstrations come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from octo_bench.agents.inference import Inference, TaskMode
from octo_bench.agents.sources import source_of
from octo_bench.models import config as octo
from octo_bench.models.octo_1_5 import config as octo_1_5
from octo_bench.records.conditions import Condition

Head = Literal[octo.Head, octo_1_5.Head]
"""The action heads of every architecture."""

TrainSeeds = tuple[int, ...] | Literal["draw"]
"""Seeds that a policy is fine-tuned with on each draw; "draw": one, the number of the draw."""


@dataclass(frozen=True)
class PolicyEntry:
    """A policy under study, where it comes from, and how it is fine-tuned.

    Either `policy` or `recipe` is given. A baseline (`random`, `expert`) is measured as it is: it
    takes nothing but `policy` and `name`.

    Attributes:
        policy: what is loaded: a name under `policies/`, a folder, a Hub id, or a baseline.
        recipe: of the pre-training that makes it, which is then part of the study; in the file it
            is relative to the file's folder.
        head: its action head after fine-tuning, one that its architecture has, as records and
            tables call it; None for a baseline.
        from_scratch: fine-tuning starts from random weights instead of the pre-trained ones, and
            so nothing is measured without demonstrations.
        name: what records and tables call it, unique in the study; made of the above if left out:
            of a recipe it is the file's name without its ending.
        finetune: what is otherwise than in the study's `finetune` table, key by key.
        demos: numbers of demonstrations, instead of each target's.
        draws, train_seeds: instead of the study's.
    """

    policy: str = ""
    head: Head | None = None
    from_scratch: bool = False
    name: str = ""
    finetune: Mapping[str, Any] = field(default_factory=dict, hash=False)
    demos: tuple[int, ...] | None = None
    draws: tuple[int, ...] | None = None
    train_seeds: TrainSeeds | None = None
    recipe: Path | None = None

    def __post_init__(self) -> None:
        if not self.name:
            name = self.policy if self.recipe is None else self.recipe.stem
            name = f"{name} from scratch" if self.from_scratch else name
            object.__setattr__(self, "name", name)

    @property
    def is_baseline(self) -> bool:
        """Whether it is an agent that nothing is trained for."""
        return self.recipe is None and not source_of(self.policy).trainable


@dataclass(frozen=True)
class Target:
    """An environment to measure in, after how many demonstrations.

    Attributes:
        reference: a CSV with the rates to compare with, see `read_reference`; in the file it is
            relative to the file's folder.
        draws: the only ones of a policy's draws that are trained on here; None for all.
    """

    env: str
    demos: tuple[int, ...]
    reference: Path | None = None
    draws: tuple[int, ...] | None = None


@dataclass(frozen=True)
class DemonstrationPool:
    """What demonstrations are drawn from: successes, tried from seed `first_seed` on.

    `count`: how many there may be in an environment: at least the number of draws times the
    largest number of demonstrations. Where a target's draws need fewer, fewer are collected.
    """

    count: int
    first_seed: int


@dataclass(frozen=True)
class ConditionEntry:
    """A condition that every policy is measured under: a perturbation, inference options, or both.

    Attributes:
        suite: a perturbation of what is seen or said; "" for none.
        level: how much of it; 1 if left out.
        task, execute, ensemble, diffusion_steps: as of `Inference`.
    """

    suite: str = ""
    level: int | None = None
    task: TaskMode = "language"
    execute: int | None = None
    ensemble: bool = False
    diffusion_steps: int | None = None

    @property
    def inference(self) -> Inference:
        """The inference options.

        Raises:
            BadInference: for options that contradict each other.
        """
        return Inference(
            execute=self.execute,
            ensemble=self.ensemble,
            diffusion_steps=self.diffusion_steps,
            task=self.task,
        )

    @property
    def condition(self) -> Condition:
        """As records say it.

        Raises:
            BadInference: as `inference`.
        """
        level = (1 if self.level is None else self.level) if self.suite else 0
        return Condition(self.suite, level, self.inference.description)
