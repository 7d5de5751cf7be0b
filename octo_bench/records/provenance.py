"""What a file of episode records depends on beside the policy: kept in the file itself.

Two files are compared only where this agrees (see `matching`).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING

from octo_bench import __version__
from octo_bench.definitions.environments import environment
from octo_bench.definitions.suites import find_level
from octo_bench.files import sha256_json
from octo_bench.reading import parse_json
from octo_bench.records.code import code_sha256
from octo_bench.shapes import TEXT, WHOLE, Each, Table, problem_of

if TYPE_CHECKING:
    from octo_bench.records.record import EpisodeRecord

FORMAT = 2
"""Of what is kept in the file; a file of a later one is refused, format 1 has no `code`."""

_KEPT = Table(
    {"study_seed": WHOLE, "definitions": Each(TEXT), "versions": Each(TEXT)}, {"code": TEXT}
)
"""What is in a file, whatever its format."""

_LIBRARIES = (
    "mujoco",
    "robosuite",
    "gymnasium",
    "numpy",
    "numba",
    "torch",
    "torchvision",
    "transformers",
)
"""Packages whose version can change an episode."""


@dataclass(frozen=True)
class Provenance:
    """What episodes depend on beside the policy.

    Attributes:
        study_seed: decides where the episodes start and the noise of the policy.
        definitions: hex SHA-256 of what is declared under each name: of the environments by their
            ids, of the suites' levels as "lighting, level 2".
        versions: of octo-bench, the libraries and the renderer, by name.
        code: hex SHA-256 of the code that can change an episode, see `code_sha256`; "" in files of
            format 1.
        format: of this.
    """

    study_seed: int
    definitions: Mapping[str, str]
    versions: Mapping[str, str]
    code: str = ""
    format: int = FORMAT

    def to_json(self) -> str:
        """As it is kept in a file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Provenance:
        """What `to_json` gave.

        Raises:
            ValueError: says what is wrong with it.
        """
        kept = parse_json(text)
        found = kept.get("format") if isinstance(kept, dict) else None
        if not isinstance(found, int):
            raise ValueError("no format is named")
        if found > FORMAT:
            raise ValueError(f"it is of format {found}, and this octo-bench knows up to {FORMAT}")
        names = {field.name for field in dataclasses.fields(cls)}
        if found == 1:
            names.remove("code")
        if missing := sorted(names - kept.keys()):
            raise ValueError(f"'{missing[0]}' is missing")
        if problem := problem_of(kept, _KEPT):
            raise ValueError(problem)
        return cls(**{name: kept[name] for name in names})


def provenance_of(records: Iterable[EpisodeRecord], study_seed: int) -> Provenance:
    """What episodes that have just been rolled out here depend on."""
    records = tuple(records)
    places = {record.env_id for record in records}
    levels = {(record.suite, record.level) for record in records if record.suite}
    definitions = {env_id: definition_sha256(env_id) for env_id in places}
    for suite, level in levels:
        definitions[f"{suite}, level {level}"] = sha256_json(asdict(find_level(suite, level)))
    return Provenance(study_seed, definitions, versions(), code_sha256())


def definition_sha256(env_id: str) -> str:
    """Hex SHA-256 of all that is declared of an environment: its task and its embodiment."""
    return sha256_json(asdict(environment(env_id)))


@cache
def versions() -> Mapping[str, str]:
    """The versions of octo-bench, of the libraries and of the renderer that episodes depend on."""
    from octo_bench.rendering.renderers import renderer_name  # MuJoCo: not needed to read records

    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"octo-bench": __version__, **libraries, "renderer": renderer_name()}
