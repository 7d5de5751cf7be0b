"""Pre-training recipes: a TOML file to a frozen dataclass.

A recipe that names another as its `base` says only what is different, one change against another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from octo_bench.checkpoints.sizes import require_network
from octo_bench.definitions.declarations import from_table, merged, read_table
from octo_bench.definitions.environments import Disturbance
from octo_bench.demonstrations.normalisation import Kind
from octo_bench.errors import BadRecipe
from octo_bench.models.config import OctoConfig
from octo_bench.models.octo import Octo
from octo_bench.training.settings import Optimisation

MOST_SEEDS = 100_000_000
"""Where the seeds of evaluation start."""
MOST_DEMONSTRATIONS = 100_000


@dataclass(frozen=True)
class Data:
    """Demonstrations of one environment; they are collected if the file is not there yet.

    `weight`: how often training draws from it, relative to the other entries. `suite` and `level`:
    a perturbation of `envs/suites/` that changes how each episode looks; none if empty.
    `disturbance`: of the scripted expert, instead of the task's own.
    """

    env: str
    demos: int
    first_seed: int
    weight: float = 1.0
    suite: str = ""
    level: int = 1
    disturbance: Disturbance | None = None


@dataclass(frozen=True)
class Recipe:
    """All that determines a pre-trained policy.

    `execute`: environment steps executed of each predicted chunk. `normalisation` of the actions:
    "bounds" (to [-1, 1]) or "mean_std", for which the head's `action_range` must be wide enough.
    `scaling`: one for all arms, or one for each embodiment.
    """

    data: tuple[Data, ...]
    model: OctoConfig
    optimisation: Optimisation
    execute: int
    seed: int = 0
    normalisation: Kind = "bounds"
    scaling: Literal["shared", "embodiment"] = "shared"

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("'data' must have at least one entry")
        if not 1 <= self.execute <= self.model.chunk:
            raise ValueError(f"'execute' must lie between 1 and 'model.chunk' = {self.model.chunk}")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; `base`, if there is one, is relative to its folder.

    Raises:
        BadRecipe: naming the key that is wrong.
    """
    try:
        recipe = from_table(_table(path), Recipe, BadRecipe, path)
    except (ValueError, ArithmeticError) as error:
        raise BadRecipe(path, str(error), "correct it") from error
    for problem in _problems(recipe):
        raise BadRecipe(path, problem, "correct it")
    try:
        require_network(recipe.model, lambda: Octo(recipe.model))
    except ValueError as error:
        raise BadRecipe(path, f"[model] {error}", "correct it") from error
    return recipe


def _problems(recipe: Recipe) -> Iterator[str]:
    """Checks beyond the types."""
    if not 0 <= recipe.seed < MOST_SEEDS:
        yield f"'seed' must lie between 0 and {MOST_SEEDS}"
    for number, entry in enumerate(recipe.data):
        where = f"data[{number}]"
        if not 1 <= entry.demos <= MOST_DEMONSTRATIONS:
            yield f"'{where}.demos' must lie between 1 and {MOST_DEMONSTRATIONS}"
        if not 0 <= entry.first_seed < MOST_SEEDS - MOST_DEMONSTRATIONS:
            yield f"'{where}.first_seed' must be below {MOST_SEEDS - MOST_DEMONSTRATIONS}"
        if not 0 < entry.weight <= 1e6:
            yield f"'{where}.weight' must be positive"
        noise = entry.disturbance
        if noise and not (0 <= noise.translation <= 2 and 0 <= noise.rotation <= 2):
            yield f"'{where}.disturbance' must lie between 0 and 2, in units of the action"


def _table(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """All keys of a recipe, those of its base included."""
    table = read_table(path, BadRecipe)
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise BadRecipe(path, "'base' must be the path of another recipe", "correct it")
    above = (*above, path.resolve())
    below = (path.parent / base).resolve()
    if below in above:
        raise BadRecipe(path, f"its 'base' {base} is based on itself", "correct it")
    return merged(_table(below, above), table)
