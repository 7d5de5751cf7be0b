"""The cells of a declared study, each with a key made of everything that its result depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from octo_bench.agents.sources import policy_sha256
from octo_bench.checkpoints.config import ModelConfig, find_policy, read_config
from octo_bench.definitions.environments import environment
from octo_bench.definitions.suites import find_level
from octo_bench.errors import BadInference, BadStudy, OutdatedEnvironment
from octo_bench.files import sha256_json
from octo_bench.records.conditions import PLAIN, Condition
from octo_bench.records.provenance import definition_sha256
from octo_bench.records.record import EpisodeRecord
from octo_bench.simulation.initial_states import find_bank
from octo_bench.studies.entries import ConditionEntry, PolicyEntry, Target
from octo_bench.studies.pretraining import Pretraining, read_pretraining
from octo_bench.studies.study import Study, finetune_settings, finetune_table
from octo_bench.studies.versions import COLLECTING, TRAINING, versions
from octo_bench.training.adaptation import HEADS
from octo_bench.training.recipes import read_recipe

TRAINED = ("policy", "env_id", "demos", "draw", "train_seed")
"""Columns of the records that tell the policies of a study apart, each as it was fine-tuned."""

COLUMNS = (*TRAINED, "suite", "level", "inference")
"""Columns of the records that tell the cells of a study apart."""

Place = tuple[str | int, ...]
"""A cell's values of `COLUMNS`."""


@dataclass(frozen=True)
class Cell:
    """One fine-tuned (or, with 0 demonstrations, shipped or pre-trained) policy in one environment.

    Attributes:
        policy_key: hex digest of everything that the policy depends on. Cells that differ in
            nothing but the condition have the same one: what is trained is shared.
        key: hex digest of everything that the cell's episodes depend on.
        pretraining: of the policy that it is, or starts from; None for a shipped one.
    """

    policy: PolicyEntry
    env: str
    demos: int
    draw: int
    train_seed: int
    condition: Condition
    policy_key: str
    key: str
    pretraining: Pretraining | None = field(default=None, compare=False, repr=False)

    @property
    def columns(self) -> dict[str, str | int]:
        """What its records say, by `COLUMNS`."""
        condition = dataclasses.asdict(self.condition)
        return {
            "policy": self.policy.name,
            "env_id": self.env,
            "demos": self.demos,
            "draw": self.draw,
            "train_seed": self.train_seed,
            **condition,
        }

    @property
    def place(self) -> Place:
        """What tells it from the study's other cells, whatever its key."""
        return tuple(self.columns[name] for name in COLUMNS)

    @property
    def trained(self) -> str:
        """For people: "octo-tiny, octo_bench/Stack-Panda-v1, 50 demonstrations"."""
        text = f"{self.policy.name}, {self.env}, {self.demos} demonstrations"
        return text + (f", draw {self.draw}, seed {self.train_seed}" if self.demos else "")

    def __str__(self) -> str:
        """For people: what is `trained`, and the condition unless it is the plain one."""
        return self.trained if self.condition.is_plain else f"{self.trained}, {self.condition.name}"


def place_of(values: EpisodeRecord | Mapping[str, Any]) -> Place:
    """Of an episode's record, or of a cell in `study_result.json`: which cell it belongs to."""
    if isinstance(values, EpisodeRecord):
        return tuple(getattr(values, name) for name in COLUMNS)
    plain = dataclasses.asdict(PLAIN)  # older files lack them
    return tuple(values.get(name, plain.get(name)) for name in COLUMNS)


def declared_cells(study: Study) -> tuple[Cell, ...]:
    """All cells of a study, in the order of its declaration.

    Without demonstrations there is one cell a policy, environment and condition, and none for a
    policy that starts from scratch or gets another head: it is not what was shipped. A baseline
    sees and is told nothing: it is measured under the plain condition only.

    Raises:
        UnknownName: for a policy that is not there; the nearest are offered.
        BadRecipe: for a recipe that cannot be followed.
        BadStudy: for a policy that is declared with another head than it has, that cannot be
            asked as a condition says, or of which nothing is measured; and for a study of an
            earlier version of an environment.
    """
    _require_current(study)
    cells = []
    for i, entry in enumerate(study.policies):
        pretraining = None if entry.recipe is None else read_pretraining(entry.recipe)
        keeps_head = _checked(study, entry, pretraining)
        of_entry = []
        for target in study.targets:
            for training in _trainings(study, entry, target, keeps_head):
                policy_key = _policy_key(study, entry, pretraining, target.env, *training)
                for condition in _conditions(study, entry):
                    key = _key(study, target.env, condition, policy_key)
                    cell = Cell(
                        entry, target.env, *training, condition, policy_key, key, pretraining
                    )
                    of_entry.append(cell)
        if not of_entry:
            problem = f"'policies[{i}]', '{entry.name}', has nothing to measure"
            raise BadStudy(study.file, problem, "give it 'demos' above 0")
        cells += of_entry
    return tuple(cells)


def recipe_of(study: Study, entry: PolicyEntry) -> str:
    """How a policy's training starts and goes, but for the head: alike for what compares it.

    Raises:
        BadRecipe: as `read_recipe`.
    """
    table = {key: value for key, value in finetune_table(study, entry).items() if key != "head"}
    recipe = None
    if entry.recipe is not None:
        recipe = dataclasses.asdict(read_recipe(entry.recipe))
        del recipe["model"]["head"]
    return sha256_json([entry.from_scratch, table, recipe])


def demonstrations_key(study: Study, env: str) -> str:
    """Hex digest of everything that the demonstrations in `env` depend on."""
    return sha256_json(_demonstrations(study, env))


def _require_current(study: Study) -> None:
    for i, target in enumerate(study.targets):
        try:
            environment(target.env)
        except OutdatedEnvironment as error:
            problem = f"'targets[{i}].env': {error}"
            raise BadStudy(
                study.file, problem, "the study is kept with its results; run a copy of it"
            ) from error


def _checked(study: Study, entry: PolicyEntry, pretraining: Pretraining | None) -> bool:
    """Check an entry against its policy; returns whether fine-tuning keeps the policy's head."""
    if entry.is_baseline:
        return True
    if pretraining is None:
        config = read_config(find_policy(entry.policy))
        called, model, heads = entry.policy, config.model, HEADS[config.architecture]
    else:
        called, model, heads = pretraining.file.name, pretraining.recipe.model, HEADS["octo"]
    given = finetune_table(study, entry).get("head")
    if (given or model.head) != entry.head:
        verb = "gets" if given else "has"
        problem = f"'{called}' {verb} a {given or model.head} head, not {entry.head}"
        raise BadStudy(study.file, problem, "correct 'policies.head'")
    if entry.head not in heads:
        problem = f"the architecture of '{called}' has no {entry.head} head"
        raise BadStudy(study.file, problem, f"use one of {', '.join(heads)}")
    for i, condition in enumerate(study.conditions):
        try:
            _require_fits(condition, entry, called, model)
        except BadInference as error:
            problem = f"'conditions[{i}]': {error}"
            raise BadStudy(study.file, problem, "or leave out the policy") from error
    return model.head == entry.head


def _require_fits(
    condition: ConditionEntry, entry: PolicyEntry, called: str, model: ModelConfig
) -> None:
    condition.inference.require_fits(
        called,
        chunk=model.chunk,
        diffusion_steps=model.diffusion.steps if entry.head == "diffusion" else None,
    )


def _trainings(
    study: Study, entry: PolicyEntry, target: Target, keeps_head: bool
) -> Iterator[tuple[int, int, int]]:
    """Numbers of demonstrations, draws and training seeds; draw and seed are 0 without any."""
    for count in study.demos_of(entry, target):
        if count:
            for draw in study.draws_of(entry, target):
                for seed in study.train_seeds_of(entry, draw):
                    yield count, draw, seed
        elif keeps_head and not entry.from_scratch:
            yield 0, 0, 0


def _conditions(study: Study, entry: PolicyEntry) -> tuple[Condition, ...]:
    return (PLAIN,) if entry.is_baseline else tuple(each.condition for each in study.conditions)


def _policy_key(
    study: Study,
    entry: PolicyEntry,
    pretraining: Pretraining | None,
    env: str,
    demos: int,
    draw: int,
    train_seed: int,
) -> str:
    if pretraining is not None and not demos:
        return pretraining.key
    start = _policy_files(entry.policy) if pretraining is None else pretraining.key
    ingredients: dict[str, Any] = {"policy": start}
    if demos:
        settings = finetune_settings(study, entry, demos, train_seed)
        ingredients["training"] = {
            "from_scratch": entry.from_scratch,
            "demonstrations": _demonstrations(study, env),
            "demos": demos,
            "draw": draw,
            "per_draw": study.per_draw(study.target(env)),
            "settings": dataclasses.asdict(settings),
            "versions": versions(TRAINING),
        }
    return sha256_json(ingredients)


def _key(study: Study, env: str, condition: Condition, policy_key: str) -> str:
    # How many episodes are measured is left out: an episode does not depend on the others.
    ingredients: dict[str, Any] = {
        "policy": policy_key,
        "environment": definition_sha256(env),
        "initial_states": _initial_states(env),
        "study_seed": study.seed,
        "versions": versions(),
        "inference": condition.inference,
    }
    if condition.suite:
        level = dataclasses.asdict(find_level(condition.suite, condition.level))
        ingredients["perturbation"] = [condition.suite, condition.level, level]
    return sha256_json(ingredients)


def _initial_states(env: str) -> str:
    """Hash of the environment's frozen initial states, empty where it has none."""
    bank = find_bank(environment(env))
    return bank.sha256 if bank else ""


def _demonstrations(study: Study, env: str) -> dict[str, Any]:
    return {
        "environment": definition_sha256(env),
        "pool": dataclasses.asdict(study.pool(study.target(env))),
        "versions": versions(COLLECTING),
    }


_policy_files = cache(policy_sha256)
