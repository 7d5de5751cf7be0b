"""From a declared study to its cells, each with a key made of all that its result depends on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from octo_bench.agents.loading import BASELINES
from octo_bench.checkpoints.folder import find_policy, read_config
from octo_bench.definitions import environment
from octo_bench.errors import BadStudy
from octo_bench.evaluation import provenance
from octo_bench.evaluation.provenance import definition_sha256
from octo_bench.files import sha256_file, sha256_json
from octo_bench.simulation.initial_states import find_bank
from octo_bench.studies.study import PolicyEntry, Study, finetune_settings

# Parts of octo_bench whose code can change an episode.
_SOURCES = (
    "definitions.py",
    "simulation",
    "experts",
    "demonstrations",
    "models",
    "agents",
    "training",
    "evaluation/episodes.py",
    "evaluation/goals.py",
)


@dataclass(frozen=True)
class Cell:
    """One fine-tuned (or, with 0 demonstrations, shipped) policy in one environment.

    Attributes:
        key: hex digest of everything that its episodes depend on.
    """

    policy: PolicyEntry
    env: str
    demos: int
    draw: int
    train_seed: int
    key: str

    def __str__(self) -> str:
        """For people: "octo-tiny, octo_bench/Stack-Panda-v0, 50 demonstrations"."""
        text = f"{self.policy.name}, {self.env}, {self.demos} demonstrations"
        return text + (f", draw {self.draw}, seed {self.train_seed}" if self.demos else "")


def declared_cells(study: Study) -> tuple[Cell, ...]:
    """All cells of a study, in the order of its declaration.

    Without demonstrations there is one cell a policy and environment, and none for a policy that
    starts from scratch.

    Raises:
        UnknownName: for a policy that is not there; the nearest are offered.
        BadStudy: for a policy that is declared with another head than it has.
    """
    for entry in study.policies:
        if entry.policy not in BASELINES:
            head = read_config(find_policy(entry.policy)).model.head
            if head != entry.head:
                problem = f"'{entry.policy}' has a {head} head, not {entry.head}"
                raise BadStudy(study.file, problem, "correct 'policies.head'")
    return tuple(
        Cell(*combination, key=_key(study, *combination)) for combination in _combinations(study)
    )


def versions() -> dict[str, str]:
    """What results depend on beside the declaration: versions and our own code's hash."""
    return {**provenance.versions(), "octo_bench_sources": _sources_sha256()}


def policy_sha256(policy: str) -> dict[str, str]:
    """The files of a policy folder and their hashes; just the name for a built-in agent."""
    if policy in BASELINES:
        return {"agent": policy}
    folder = find_policy(policy)
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in (".json", ".safetensors") and file.is_file()
    )
    return {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}


def demonstrations_key(study: Study, env: str) -> str:
    """Hex digest of everything that the demonstrations in `env` depend on."""
    return sha256_json(_demonstrations(study, env))


def _combinations(study: Study) -> Iterator[tuple[PolicyEntry, str, int, int, int]]:
    for policy in study.policies:
        for target in study.targets:
            for demos in target.demos:
                if demos == 0:
                    if not policy.from_scratch:
                        yield policy, target.env, 0, 0, 0
                    continue
                for draw in study.draws:
                    for train_seed in study.train_seeds:
                        yield policy, target.env, demos, draw, train_seed


def _key(
    study: Study, policy: PolicyEntry, env: str, demos: int, draw: int, train_seed: int
) -> str:
    # How many episodes are measured is left out: an episode does not depend on the others.
    ingredients: dict[str, Any] = {
        "policy": _policy_files(policy.policy),
        "environment": definition_sha256(env),
        "initial_states": _initial_states(env),
        "study_seed": study.seed,
        "versions": versions(),
    }
    if demos:
        settings = finetune_settings(study, demos, train_seed)
        ingredients["training"] = {
            "from_scratch": policy.from_scratch,
            "demonstrations": _demonstrations(study, env),
            "demos": demos,
            "draw": draw,
            "settings": dataclasses.asdict(settings),
        }
    return sha256_json(ingredients)


def _initial_states(env: str) -> str:
    """Hash of the environment's frozen initial states, empty where it has none."""
    bank = find_bank(environment(env))
    return bank.sha256 if bank else ""


def _demonstrations(study: Study, env: str) -> dict[str, Any]:
    return {
        "environment": definition_sha256(env),
        "pool": dataclasses.asdict(study.demonstrations),
        "versions": versions(),
    }


_policy_files = cache(policy_sha256)


@cache
def _sources_sha256() -> str:
    package = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for name in _SOURCES:
        source = package / name
        for file in [source] if source.is_file() else sorted(source.rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()
