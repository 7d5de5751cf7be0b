"""How to reproduce a study's numbers: commands, versions and hashes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_bench.definitions.declarations import read_table
from octo_bench.errors import BadRecipe
from octo_bench.files import sha256_file
from octo_bench.paths import study_roots
from octo_bench.records.record import EpisodeRecord
from octo_bench.studies.artifacts import RECORDS, read_result
from octo_bench.studies.replaying import CHOICES, option
from octo_bench.studies.study import Study
from octo_bench.tables.wording import duration


@dataclass(frozen=True)
class Facts:
    """What a study was measured with.

    Attributes:
        commands: that measure it again and make the page.
        replay: the command that runs the first episode again.
        machine: name and value.
        versions: name and value.
        hashes: SHA-256 by what is hashed.
        declaration: the text of its `study.toml`.
        recipes: of the policies that it has pre-trained, name and text, what a recipe is based on
            included.
    """

    commands: tuple[str, ...]
    replay: str
    machine: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    hashes: tuple[tuple[str, str], ...]
    declaration: str
    recipes: tuple[tuple[str, str], ...] = ()


def facts_of(study: Study, folder: Path, records: Sequence[EpisodeRecord]) -> Facts:
    """The facts of a study that has run in `folder`, and of its `records`.

    Raises:
        BadFile: when its `study_result.json` is not there or broken.
    """
    result = read_result(folder)
    machine = result["machine"]
    hours = result["process_seconds"]
    versions = dict(result["versions"])
    sources = versions.pop("octo_bench_sources", "")
    hashes = {"episodes.parquet": sha256_file(folder / RECORDS)}
    if sources:
        hashes["octo_bench's code that decides an episode"] = sources
    for policy, files in result["policies"].items():
        hashes |= {f"{policy}/{name}": value for name, value in files.items() if name != "agent"}
    pretrained = result.get("pretraining", {})
    for policy, summary in pretrained.items():
        hashes[f"pre-training of {policy}"] = summary["key"]
        files = summary.get("policy", {})
        hashes |= {f"{policy}/{name}": value for name, value in files.items()}
    for name, pool in result["demonstrations"].items():
        if "sha256" in pool:
            hashes[name] = pool["sha256"]
    for cell in result["cells"]:
        trained = f", draw {cell['draw']}, seed {cell['train_seed']}" if cell["demos"] else ""
        name = f"cell: {cell['policy']}, {cell['env_id']}, {cell['demos']} demonstrations{trained}"
        asked = [str(cell[key]) for key in ("suite", "level", "inference") if cell.get(key)]
        name = ", ".join([name, *asked])
        hashes[name] = cell["key"]
    name = _called(study.file)
    at_home = folder.resolve() == study.file.resolve().parent
    elsewhere = "" if at_home else shlex.quote(str(folder))
    return Facts(
        commands=(
            f"octo-bench reproduce {name}{f' --out {elsewhere}' if elsewhere else ''}",
            f"octo-bench report {name}{f' --from {elsewhere}' if elsewhere else ''}",
        ),
        replay=_replay(elsewhere or name, records),
        machine=(
            ("Processor", f"{machine['processor']}, {machine['cores']} cores"),
            ("Python", str(machine["python"])),
            *_last_run(result),
            *((f"Time at {phase}", duration(spent / 60)) for phase, spent in hours.items()),
            *(
                (f"Pre-training of {policy}", _pretraining(summary))
                for policy, summary in pretrained.items()
            ),
            ("Seed of the evaluation", str(study.seed)),
        ),
        versions=tuple((name, str(version)) for name, version in versions.items()),
        hashes=tuple(hashes.items()),
        declaration=study.file.read_text(encoding="utf-8"),
        recipes=tuple(
            (entry.name, _with_bases(entry.recipe))
            for entry in study.policies
            if entry.recipe is not None and entry.name in pretrained
        ),
    )


def _with_bases(recipe: Path) -> str:
    """The text of a recipe, then that of what it is based on."""
    text = recipe.read_text(encoding="utf-8")
    base = read_table(recipe, BadRecipe).get("base")
    return f"{text}\n# {base}\n{_with_bases(recipe.parent / base)}" if base else text


def _pretraining(summary: Mapping[str, Any]) -> str:
    steps, loss = summary["steps"], summary["final_loss"]
    return f"{duration(summary['seconds'] / 60)}, {steps} steps, final loss {loss:.4f}"


def _last_run(result: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """How the study was run; empty for one that never finished."""
    if result["workers"] is None:
        return ()
    return (
        ("Processes", str(result["workers"])),
        ("Wall time of the last run", duration(result["wall_seconds"] / 60)),
    )


def _called(file: Path) -> str:
    """What the command line calls a study: its name under `results/`, else its file."""
    file = file.resolve()
    if file.parent.parent in [root.resolve() for root in study_roots()]:
        return shlex.quote(file.parent.name)
    return shlex.quote(str(file))


def _replay(study: str, records: Sequence[EpisodeRecord]) -> str:
    """The command for the first episode, with the options that tell it from the others."""
    first = records[0]
    options = [
        f" {option(name)} {shlex.quote(str(getattr(first, name)))}"
        for name in CHOICES
        if len({getattr(record, name) for record in records}) > 1
    ]
    return f"octo-bench replay {study} {first.episode}{''.join(options)}"
