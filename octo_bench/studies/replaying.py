"""Running a recorded episode again and comparing it with its record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_bench.agents.inference import described
from octo_bench.errors import BadFile, BadRecords, OctoBenchError, UnknownName
from octo_bench.machine import processor
from octo_bench.paths import study_roots
from octo_bench.records.code import code_sha256
from octo_bench.records.provenance import versions
from octo_bench.records.record import EpisodeRecord, read_provenance, success_text
from octo_bench.studies.artifacts import RECORDS, RESULT, read_result
from octo_bench.studies.cells import TRAINED
from octo_bench.studies.scheduler import POLICY
from octo_bench.studies.study import FILE

CHOICES = (
    "env_id",
    "policy",
    "head",
    "demos",
    "draw",
    "train_seed",
    "suite",
    "level",
    "inference",
)
"""Columns that tell the episodes of one number apart."""

_START = "initial_state_sha256"
_TRAJECTORY = "trajectory_sha256"
SAID = {True: "the same", False: "DIFFERS", None: "not recorded"}
_OUTCOME = ("success_once", "success_held", "steps", "furthest_stage", "policy_fault", "error")


@dataclass(frozen=True)
class Replay:
    """An episode as recorded, and as rolled out now."""

    recorded: EpisodeRecord
    again: EpisodeRecord

    @property
    def agreement(self) -> dict[str, bool | None]:
        """Whether the start, all states, and the end are the same; None where it is not recorded.

        The keys name the columns that were compared, for people.
        """
        trajectory = self._same(_TRAJECTORY) if self.recorded.trajectory_sha256 else None
        return {
            _START: self._same(_START),
            _TRAJECTORY: trajectory,
            "outcome": self._same(*_OUTCOME),
        }

    @property
    def matches(self) -> bool:
        """Whether all that is recorded is the same."""
        return False not in self.agreement.values()

    def _same(self, *columns: str) -> bool:
        return all(getattr(self.recorded, c) == getattr(self.again, c) for c in columns)


def find_records(where: str) -> Path:
    """The file of records that `where` means: itself, a folder with one, or a study's name.

    Raises:
        UnknownName: when nothing is there; the nearest studies are offered.
        BadFile: for a study that has not been run.
    """
    if where.endswith(".parquet"):
        return Path(where)
    folders = [Path(where), *(root / where for root in study_roots())]
    for folder in folders:
        if (folder / RECORDS).is_file():
            return folder / RECORDS
        if (folder / FILE).is_file():
            problem = "the study has no records yet"
            raise BadFile(folder, problem, f"make them with `octo-bench reproduce {where}`")
    known = {found.parent.name for root in study_roots() for found in root.glob(f"*/{RECORDS}")}
    raise UnknownName("study or file of records", where, known)


def choose(
    records: Sequence[EpisodeRecord], episode: int, wanted: Mapping[str, object], path: Path
) -> EpisodeRecord:
    """The one record of an episode.

    Args:
        records: of `path`.
        episode: its number.
        wanted: values of columns of `CHOICES`; None for any.

    Raises:
        BadRecords: when there is no such episode.
        OctoBenchError: when there are several; lists what to choose between.
    """
    found = [record for record in records if record.episode == episode]
    if not found:
        numbers = [record.episode for record in records]
        fix = f"choose one from {min(numbers)} to {max(numbers)}"
        raise BadRecords(path, f"has no episode {episode}", fix)
    for column, value in wanted.items():
        if value is None:
            continue
        known = _values(found, column)
        found = [record for record in found if getattr(record, column) == value]
        if not found:
            problem = f"has no episode {episode} with {option(column)} {shown(value)}"
            raise BadRecords(path, problem, f"choose {option(column)} from {listed(known)}")
    if len(found) == 1:
        return found[0]
    several = {column: _values(found, column) for column in CHOICES}
    choices = [
        f"{option(column)} ({listed(values)})"
        for column, values in several.items()
        if len(values) > 1
    ]
    if not choices:
        raise BadRecords(path, f"has episode {episode} more than once", "make it again")
    raise OctoBenchError(
        f"{path} has {len(found)} episodes of number {episode}; choose one by {', '.join(choices)}"
    )


def option(column: str) -> str:
    """The option of the command line that chooses by a column."""
    return "--env" if column == "env_id" else f"--{column.replace('_', '-')}"


def listed(values: Iterable[object]) -> str:
    """Values to choose from, for people."""
    return ", ".join(shown(value) for value in values)


def shown(value: object) -> str:
    """A value as it is given on the command line."""
    said = str(value)
    return f'"{said}"' if not said or "," in said else said


def policy_of(record: EpisodeRecord, path: Path) -> str:
    """What to load the policy of a record from: its own name, or where the study has trained it.

    Args:
        record: of `path`.
        path: the study's records, or those of one of its cells.

    Raises:
        BadFile: when the trained policy is not there; tells how to get it.
    """
    folder = path.parent.parent / POLICY  # of a cell, above its records
    of_cell = folder.is_dir() and (record.demos or folder.parent.parent.name == "cells")
    if not record.demos and not of_cell:
        known = _cell_of(record, path) if (path.parent / RESULT).is_file() else None
        if known is None or not known.get("pretrained"):
            # What is measured as it is shipped may have another name in the study.
            return str((known or {}).get("loaded", record.policy))
    if not of_cell:
        folder = _cell_policy(record, path)
    if not (folder / "config.json").is_file():
        study = path.parent
        declared = study.name if study.parent in study_roots() else study
        named = declared if (study / FILE).is_file() else f"STUDY --out {study}"
        raise BadFile(
            folder,
            f"the policy that was {_trained(record)} is not available here",
            f"make it with `octo-bench reproduce {named}`",
        )
    return str(folder)


def replay(record: EpisodeRecord, policy: str, out: Path) -> Replay:
    """Roll out the episode of a record again with `policy` and write a film of it to `out`.

    Raises:
        OctoBenchError: when the policy or the environment is not available, or for another kind of
            file.
    """
    from octo_bench.films.watching import watch
    from octo_bench.simulation.initial_states import study_seed_of

    again = watch(
        policy,
        record.env_id,
        record.episode,
        out,
        study_seed_of(record.env_seed, record.episode),
        record.suite,
        record.level,
        described(record.inference),
    )
    return Replay(record, again)


def outcome(record: EpisodeRecord) -> str:
    """How an episode ended, for people."""
    if record.error:
        return f"an infrastructure error after {record.steps} steps ({record.error})"
    if record.success_once:
        return success_text(record)
    fault = f" ({record.policy_fault})" if record.policy_fault else ""
    return f"failure after {record.steps} steps, furthest stage '{record.furthest_stage}'{fault}"


def reasons_to_differ(path: Path) -> list[str]:
    """Why an episode of the records of `path` may take another course here, for people.

    Versions, code and processor, as far as the records and the study's result tell them.
    """
    provenance = read_provenance(path)
    measured = provenance.versions if provenance else {}
    here = versions()
    reasons = [
        f"measured with {name} {version}, here {here.get(name, 'none')}"
        for name, version in measured.items()
        if version != here.get(name)
    ]
    if provenance is not None and provenance.code and provenance.code != code_sha256():
        reasons.append("measured with other code of octo-bench than here")
    there = _processor_of(path)
    if there is not None and there != processor():
        reasons.append(
            f"measured on {there}, here {processor()}: the last bits of the simulation depend on "
            "the processor, so trajectories can differ; success rates agree within their intervals"
        )
    if reasons:
        return reasons
    known = "versions and processor name agree" if there else "the records do not name a processor"
    return [
        f"{known}; processors with other instruction sets give other last bits, so trajectories "
        "can differ between machines; success rates agree within their intervals"
    ]


def _processor_of(path: Path) -> str | None:
    """The processor that a study's records were gathered on; None where nothing tells it."""
    if path.name != RECORDS or not (path.parent / RESULT).is_file():
        return None
    machine = read_result(path.parent).get("machine", {})
    return machine.get("processor")


def _trained(record: EpisodeRecord) -> str:
    return f"fine-tuned on {record.demos} demonstrations" if record.demos else "pre-trained"


def _cell_policy(record: EpisodeRecord, path: Path) -> Path:
    """Where the study beside the records has kept the policy of the record's cell."""
    if not (path.parent / RESULT).is_file():
        raise BadFile(
            path,
            f"is not in its study's folder, which has the policy that was {_trained(record)}",
            "name the study instead",
        )
    cell = _cell_of(record, path)
    if cell is None:
        raise BadFile(path.parent / RESULT, "lists no cell of this episode", "run the study again")
    # In older files, every cell had a policy of its own.
    key = cell.get("policy_key", cell["key"])
    return path.parent / "cells" / key[:16] / POLICY


def _cell_of(record: EpisodeRecord, path: Path) -> Mapping[str, Any] | None:
    """A cell with the policy of the record, whatever it was measured under."""
    for cell in read_result(path.parent)["cells"]:
        if all(cell[name] == getattr(record, name) for name in TRAINED):
            return cell
    return None


def _values(records: Sequence[EpisodeRecord], column: str) -> list[object]:
    return list(dict.fromkeys(getattr(record, column) for record in records))
