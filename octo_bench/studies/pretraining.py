"""The policies that a study pre-trains by a recipe: what goes into them, and their keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from octo_bench.definitions.environments import Disturbance, environment
from octo_bench.definitions.suites import find_level
from octo_bench.definitions.support import require_supported
from octo_bench.errors import (
    BadRecipe,
    OutdatedEnvironment,
    UnknownLevel,
    UnknownName,
    UnsupportedEnvironment,
)
from octo_bench.files import sha256_json
from octo_bench.records.provenance import definition_sha256
from octo_bench.studies.versions import COLLECTING, TRAINING, versions
from octo_bench.training.recipes import Data, Recipe, read_recipe


@dataclass(frozen=True)
class Collection:
    """Demonstrations that recipes ask for, however many each: the first ones of the same file.

    Attributes:
        env: environment id.
        first_seed: of the first try; the rest follow.
        suite, level: the perturbation of how episodes look; "" and 0 for none.
        disturbance: of the scripted expert, instead of the task's own.
        key: hex digest of everything that they depend on, but for their number.
    """

    env: str
    first_seed: int
    suite: str
    level: int
    disturbance: Disturbance | None
    key: str

    def __str__(self) -> str:
        """For people: "octo_bench/Lift-IIWA-v1 from seed 5, camera, level 2"."""
        look = f", {self.suite}, level {self.level}" if self.suite else ""
        noise = self.disturbance
        by = f", disturbed by {noise.translation:g} and {noise.rotation:g}" if noise else ""
        return f"{self.env} from seed {self.first_seed}{look}{by}"

    def file(self, out: Path) -> Path:
        """Where they are kept, in a study's work folder."""
        look = f"-{self.suite}{self.level}" if self.suite else ""
        name = f"{self.env.partition('/')[2]}{look}-seed{self.first_seed}-{self.key[:16]}.hdf5"
        return out / "demonstrations" / name

    def done(self, demos: int, out: Path) -> Path:
        """Where the summary is kept of having collected so many."""
        file = self.file(out)
        return file.with_name(f"{file.stem}-{demos}.json")


@dataclass(frozen=True)
class Pretraining:
    """A recipe that a study names, as it was read.

    Attributes:
        file: the recipe's.
        recipe: with what its base says.
        collections: of each of the recipe's `data` its demonstrations.
        key: hex digest of everything that the pre-trained policy depends on.
    """

    file: Path
    recipe: Recipe
    collections: tuple[Collection, ...]
    key: str

    def folder(self, out: Path) -> Path:
        """Where everything of its policy is kept, in a study's work folder."""
        return out / "cells" / self.key[:16]

    def done(self, out: Path) -> Path:
        """Where the summary of the pre-training is kept."""
        return self.folder(out) / "pretraining.json"


def read_pretraining(file: Path) -> Pretraining:
    """Read and check a recipe, and the demonstrations that it asks for.

    Raises:
        BadRecipe: naming the key that is wrong, also for demonstrations that cannot be collected.
    """
    recipe = read_recipe(file)
    collections = tuple(_collection(entry, i, file) for i, entry in enumerate(recipe.data))
    key = sha256_json(
        {
            "recipe": asdict(recipe),
            "demonstrations": [collection.key for collection in collections],
            "versions": versions(TRAINING),
        }
    )
    return Pretraining(file, recipe, collections, key)


def largest(pretrainings: Iterable[Pretraining]) -> dict[Collection, int]:
    """All demonstrations that some recipes ask for, and the largest number of each."""
    counts: dict[Collection, int] = {}
    for pretraining in pretrainings:
        for collection, entry in zip(pretraining.collections, pretraining.recipe.data, strict=True):
            counts[collection] = max(entry.demos, counts.get(collection, 0))
    return counts


def _collection(entry: Data, number: int, file: Path) -> Collection:
    try:
        declared = environment(entry.env)
        require_supported(declared)
        look = asdict(find_level(entry.suite, entry.level)) if entry.suite else {}
    except (UnknownName, OutdatedEnvironment, UnknownLevel, UnsupportedEnvironment) as error:
        raise BadRecipe(file, f"'data[{number}]': {error}", "correct it") from error
    level = entry.level if entry.suite else 0
    key = sha256_json(
        {
            "environment": definition_sha256(declared.id),
            "first_seed": entry.first_seed,
            "look": [entry.suite, level, look],
            "disturbance": asdict(entry.disturbance) if entry.disturbance else {},
            "versions": versions(COLLECTING),
        }
    )
    return Collection(declared.id, entry.first_seed, entry.suite, level, entry.disturbance, key)
