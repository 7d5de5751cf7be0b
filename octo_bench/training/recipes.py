"""Pre-training recipes: a TOML file to a frozen dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from octo_bench.declarations import read_declaration
from octo_bench.demonstrations.normalisation import Kind
from octo_bench.errors import BadRecipe
from octo_bench.models.octo import OctoConfig
from octo_bench.training.settings import Optimisation


@dataclass(frozen=True)
class Data:
    """Demonstrations of one environment; they are collected if the file is not there yet.

    `weight`: how often training draws from it, relative to the other entries.
    """

    env: str
    demos: int
    first_seed: int
    weight: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """All that determines a pre-trained policy.

    `execute`: environment steps executed of each predicted chunk. `normalisation` of the actions:
    "bounds" (to [-1, 1]) or "mean_std", for which the head's `action_range` must be wide enough.
    """

    data: tuple[Data, ...]
    model: OctoConfig
    optimisation: Optimisation
    execute: int
    seed: int = 0
    normalisation: Kind = "bounds"

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("'data' must have at least one entry")
        if not 1 <= self.execute <= self.model.chunk:
            raise ValueError(f"'execute' must lie between 1 and 'model.chunk' = {self.model.chunk}")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        BadRecipe: naming the key that is wrong.
    """
    try:
        return read_declaration(path, Recipe, BadRecipe)
    except ValueError as error:
        raise BadRecipe(path, str(error), "correct it") from error
