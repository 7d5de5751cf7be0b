"""Reading `study.toml`: what a study measures, declared once and checked strictly."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from octo_bench.definitions.declarations import from_table, merged, read_declaration
from octo_bench.definitions.environments import recorded_environment, recorded_id
from octo_bench.definitions.suites import find_level
from octo_bench.errors import BadInference, BadStudy, UnknownLevel, UnknownName
from octo_bench.paths import study_roots
from octo_bench.records.conditions import Condition
from octo_bench.studies.entries import (
    ConditionEntry,
    DemonstrationPool,
    PolicyEntry,
    Target,
    TrainSeeds,
)
from octo_bench.training.finetune import FinetuneSettings
from octo_bench.training.settings import Optimisation
from octo_bench.training.steps import steps_for

FILE = "study.toml"


@dataclass(frozen=True)
class Study:
    """One declared comparison; its results depend on this and on nothing else.

    Attributes:
        file: where it was read from.
        seed: of the evaluation's episodes.
        episodes: per cell.
        draws: numbers of the subsets of the demonstrations that are used, see `drawn`.
        train_seeds: seeds of the fine-tunings; "draw" for the number of the draw.
        beside: other studies, by name, whose rows stand beside this one's in its table.
        finetune: fields of `FinetuneSettings`, except that the optimiser's steps are by number
            of demonstrations, under `steps`; read it with `finetune_settings`.
        conditions: how every policy but the baselines is measured; a policy is trained once for
            all of them. Without any there is the plain one.
    """

    file: Path
    title: str
    seed: int
    episodes: int
    policies: tuple[PolicyEntry, ...]
    targets: tuple[Target, ...]
    demonstrations: DemonstrationPool
    draws: tuple[int, ...] = (0,)
    train_seeds: TrainSeeds = (0,)
    beside: tuple[str, ...] = ()
    finetune: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[ConditionEntry, ...] = (ConditionEntry(),)

    @property
    def is_outdated(self) -> bool:
        """Whether it measures in an earlier version of an environment: it is kept as history."""
        named = {recorded_id(target.env): target.env for target in self.targets}
        return any(full != recorded_environment(env).id for full, env in named.items())

    def draws_of(self, entry: PolicyEntry, target: Target) -> tuple[int, ...]:
        """Which subsets of a target's demonstrations a policy is fine-tuned on."""
        draws = self.draws if entry.draws is None else entry.draws
        return tuple(draw for draw in draws if target.draws is None or draw in target.draws)

    def train_seeds_of(self, entry: PolicyEntry, draw: int) -> tuple[int, ...]:
        """The seeds that a policy is fine-tuned with on a draw."""
        seeds = self.train_seeds if entry.train_seeds is None else entry.train_seeds
        return (draw,) if seeds == "draw" else seeds

    def demos_of(self, entry: PolicyEntry, target: Target) -> tuple[int, ...]:
        """The numbers of demonstrations that a policy is measured with in a target."""
        if entry.is_baseline:
            return (0,)
        return target.demos if entry.demos is None else entry.demos

    def per_draw(self, target: Target) -> int:
        """Demonstrations of one draw in a target: the largest number that a policy gets there."""
        return max(max(self.demos_of(entry, target)) for entry in self.policies)

    def pool(self, target: Target) -> DemonstrationPool:
        """The demonstrations that are collected in a target: enough for all of its draws."""
        trained = [entry for entry in self.policies if not entry.is_baseline]
        draws = [draw for entry in trained for draw in self.draws_of(entry, target)]
        count = (max(draws, default=0) + 1) * self.per_draw(target)
        return replace(self.demonstrations, count=count)

    def target(self, env: str) -> Target:
        """The target with this environment id."""
        return next(target for target in self.targets if target.env == env)


def find_study(study: str) -> Path:
    """The `study.toml` that `study` means: a file, its folder, or a name under `results/`.

    Raises:
        BadStudy: for a path where none is.
        UnknownName: for a name of no study; the nearest names are offered.
    """
    named = [root / study / FILE for root in study_roots()]
    for candidate in (Path(study), Path(study) / FILE, *named):
        if candidate.is_file():
            return candidate
    if os.sep in study or study.endswith(".toml"):
        problem = f"has no {FILE}" if Path(study).is_dir() else "no such file"
        raise BadStudy(study, problem, f"name a {FILE}, its folder, or a name under results/")
    known = {found.parent.name for root in study_roots() for found in root.glob(f"*/{FILE}")}
    raise UnknownName("study", study, known)


def read_study(path: Path) -> Study:
    """Read and check a study declaration.

    Raises:
        BadStudy: for a file that is not TOML, a key that is unknown, missing or ill-typed, or a
            file that it names and that is not there.
        UnknownName: for an environment that does not exist.
    """
    study = read_declaration(path, Study, BadStudy, file=path)
    for problem in _problems(study):
        raise BadStudy(path, problem, "correct it")
    policies = tuple(
        entry if entry.recipe is None else replace(entry, recipe=path.parent / entry.recipe)
        for entry in study.policies
    )
    for i, entry in enumerate(policies):
        if entry.recipe is not None and not entry.recipe.is_file():
            raise BadStudy(path, f"there is no {entry.recipe}", f"correct 'policies[{i}].recipe'")
    targets = tuple(
        replace(
            target,
            env=recorded_id(target.env),
            reference=target.reference and path.parent / target.reference,
        )
        for target in study.targets
    )
    for target in targets:
        if target.reference is not None and not target.reference.is_file():
            raise BadStudy(path, f"there is no {target.reference}", "correct 'targets.reference'")
    study = replace(study, policies=policies, targets=targets)
    for entry in policies:
        for demos in {demos for target in targets for demos in study.demos_of(entry, target)}:
            if demos:
                finetune_settings(study, entry, demos, seed=0)
    return study


def finetune_settings(study: Study, entry: PolicyEntry, demos: int, seed: int) -> FinetuneSettings:
    """The settings to fine-tune a policy of the study on `demos` demonstrations with.

    Raises:
        BadStudy: for a setting that does not exist, or steps that are not declared for `demos`.
    """
    steps = declared_steps(study, entry)
    if demos not in steps:
        raise BadStudy(study.file, f"the key 'finetune.steps.{demos}' is missing", "add it")
    return _settings(study, entry, steps[demos], seed)


def declared_steps(study: Study, entry: PolicyEntry) -> dict[int, int]:
    """The optimiser's steps that the study declares for a policy, by number of demonstrations.

    Raises:
        BadStudy: for what is not a such table.
    """
    steps = finetune_table(study, entry).get("steps", {})
    is_table = isinstance(steps, Mapping) and all(
        key.isdecimal() and int(key) > 0 and type(value) is int for key, value in steps.items()
    )
    if not is_table:
        problem = "'finetune.steps' must be steps by number of demonstrations"
        raise BadStudy(study.file, problem, "declare them as `50 = 1000`")
    if min(steps.values(), default=1) < 1:
        raise BadStudy(study.file, "'finetune.steps' must be at least 1", "correct it")
    return {int(key): value for key, value in steps.items()}


def _settings(study: Study, entry: PolicyEntry, steps: int, seed: int) -> FinetuneSettings:
    path, table = study.file, finetune_table(study, entry)
    where = f"policies[{study.policies.index(entry)}].finetune." if entry.finetune else "finetune."
    table.pop("steps", None)
    optimisation = table.pop("optimisation", {})
    if not isinstance(optimisation, Mapping):
        raise BadStudy(path, f"'{where}optimisation' must be a table", "correct it")
    if "steps" in optimisation:
        raise BadStudy(path, f"unknown key '{where}optimisation.steps'", "use [finetune.steps]")
    default = asdict(FinetuneSettings().optimisation)
    try:
        complete = from_table(
            {**default, **optimisation, "steps": steps},
            Optimisation,
            BadStudy,
            path,
            where=f"{where}optimisation.",
        )
        given = {"optimisation": complete, "seed": seed}
        return from_table(table, FinetuneSettings, BadStudy, path, where=where, given=given)
    except ValueError as error:
        raise BadStudy(path, f"[{where[:-1]}] {error}", "correct it") from error


def settings_for(
    study: Study, policy: str, demos: int, *, from_scratch: bool = False, seed: int = 0
) -> FinetuneSettings:
    """The settings that the study fine-tunes `policy` with; if it does not, its shared ones.

    The steps for a number of demonstrations that the study does not declare are interpolated,
    see `steps_for`.

    Args:
        policy: as the study names what is loaded.
        from_scratch: whether to take what the study says of the policy from scratch.

    Raises:
        BadStudy: for a setting that does not exist, when the study declares no steps, and when
            it fine-tunes the policy in several ways.
    """
    found = [
        entry
        for entry in study.policies
        if entry.policy == policy and entry.from_scratch == from_scratch
    ] or [PolicyEntry(policy)]
    settings = []
    for entry in found:
        steps = declared_steps(study, entry)
        if not steps:
            raise BadStudy(study.file, "declares no 'finetune.steps'", "choose another study")
        settings.append(_settings(study, entry, steps_for(demos, steps), seed))
    if any(each != settings[0] for each in settings):
        names = ", ".join(f"'{entry.name}'" for entry in found)
        fix = "keep one of them in a copy of the file"
        raise BadStudy(study.file, f"fine-tunes {policy} in several ways ({names})", fix)
    return settings[0]


def finetune_table(study: Study, entry: PolicyEntry) -> dict[str, Any]:
    """The study's `finetune` table with what a policy has otherwise, tables key by key."""
    return merged(study.finetune, entry.finetune)


def _problems(study: Study) -> Iterator[str]:
    """Checks beyond the types."""
    if study.seed < 0:
        yield "'seed' must not be negative"
    if study.episodes < 1:
        yield "'episodes' must be at least 1"
    for key in ("policies", "targets", "conditions"):
        if not getattr(study, key):
            yield f"'{key}' must not be empty"
    yield from _problems_of_numbers("draws", study.draws)
    yield from _problems_of_seeds("train_seeds", study.train_seeds)
    environments = [target.env for target in study.targets]
    if len(set(environments)) < len(environments):
        yield "'targets' has an environment twice"
    for i, target in enumerate(study.targets):
        yield from _problems_of_demos(f"targets[{i}].demos", target.demos)
        if target.draws is not None:
            yield from _problems_of_numbers(f"targets[{i}].draws", target.draws)
    names: set[str] = set()
    for i, entry in enumerate(study.policies):
        if entry.name in names:
            yield f"'policies' has two entries named '{entry.name}': give 'policies[{i}]' a 'name'"
        names.add(entry.name)
        yield from _problems_of_policy(study, entry, f"policies[{i}]")
    yield from _problems_of_conditions(study.conditions)
    yield from _problems_of_pools(study)


def _problems_of_policy(study: Study, entry: PolicyEntry, where: str) -> Iterator[str]:
    if bool(entry.policy) == (entry.recipe is not None):
        yield f"'{where}' must have either a 'policy' or a 'recipe'"
    if entry.recipe is not None and entry.from_scratch:
        yield f"'{where}.from_scratch' contradicts the recipe, which is for pre-training"
    if entry.is_baseline:
        for key in ("head", "from_scratch", "finetune", "demos", "draws", "train_seeds"):
            if getattr(entry, key) not in (None, False, {}):
                yield f"'{where}.{key}' has no effect: '{entry.policy}' is measured as it is"
        return
    if entry.head is None:
        yield f"the key '{where}.head' is missing"
    if entry.demos is not None:
        yield from _problems_of_demos(f"{where}.demos", entry.demos)
    if entry.draws is not None:
        yield from _problems_of_numbers(f"{where}.draws", entry.draws)
    if entry.train_seeds is not None:
        yield from _problems_of_seeds(f"{where}.train_seeds", entry.train_seeds)
    for i, target in enumerate(study.targets):
        if not study.draws_of(entry, target):
            yield f"'targets[{i}].draws' leaves no draw of '{entry.name}'"


def _problems_of_numbers(key: str, values: Sequence[int]) -> Iterator[str]:
    if not values:
        yield f"'{key}' must not be empty"
    elif min(values) < 0:
        yield f"'{key}' must not be negative"
    elif len(set(values)) < len(values):
        yield f"'{key}' has an entry twice"


def _problems_of_seeds(key: str, seeds: TrainSeeds) -> Iterator[str]:
    if seeds != "draw":
        yield from _problems_of_numbers(key, seeds)


def _problems_of_demos(key: str, demos: Sequence[int]) -> Iterator[str]:
    if not demos or min(demos) < 0 or len(set(demos)) < len(demos):
        yield f"'{key}' must be different counts of demonstrations"


def _problems_of_pools(study: Study) -> Iterator[str]:
    """Whether there are enough demonstrations; in an older study, draws shared them."""
    if study.is_outdated:
        return
    for i, target in enumerate(study.targets):
        needed, per_draw = study.pool(target).count, study.per_draw(target)
        if needed > study.demonstrations.count:
            yield (
                f"'demonstrations.count' is {study.demonstrations.count}, but 'targets[{i}]' "
                f"needs {needed}: draws 0 to {needed // per_draw - 1} of {per_draw} each"
            )


def _problems_of_conditions(entries: Sequence[ConditionEntry]) -> Iterator[str]:
    seen: set[Condition] = set()
    for i, entry in enumerate(entries):
        where = f"conditions[{i}]"
        if entry.level is not None and not entry.suite:
            yield f"'{where}.level' has no effect without '{where}.suite'"
        try:
            condition = entry.condition
            if condition.suite:
                find_level(condition.suite, condition.level)
        except UnknownName as error:
            yield f"'{where}.suite': {error}"
        except UnknownLevel as error:
            yield f"'{where}.level': {error}"
        except BadInference as error:
            key = "ensemble" if entry.ensemble else str(error).partition(" ")[0]
            yield f"'{where}.{key}': {error}"
        else:
            if condition in seen:
                yield f"'conditions' has the same one twice, the second is '{where}'"
            seen.add(condition)
