"""Episode records: one row an episode, kept as Parquet with what they depend on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import pyarrow
import pyarrow.parquet

from octo_bench.definitions.environments import HELD
from octo_bench.errors import BadRecords
from octo_bench.files import atomic_path
from octo_bench.reading import require_regular
from octo_bench.records.provenance import Provenance

Measure = Literal["held", "once"]
"""Which success counts: that it held, or that it was reached once."""

VARYING_COLUMNS = ("latency_ms_p50", "attempts")
"""Columns that differ from run to run; all others are determined."""

_METADATA = b"octo_bench"
"""Where in a file's metadata its provenance is."""

_FIX = "make it again with `octo-bench evaluate`"


@dataclass(frozen=True)
class Labels:
    """What a study says about the policy that is rolled out."""

    head: str = ""
    demos: int = 0
    draw: int = 0
    train_seed: int = 0


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode.

    `env_seed` and `initial_state_sha256` say where it started; `steps` are the control steps of
    the whole episode. `success_once`: robosuite's own check held after some step, the first time
    after `first_success_step`, counted from 1, 0 if never. `success_held`: it held at the end of
    the steps that follow the first success (see `HOLD_STEPS`). `latency_ms_p50` is the median time
    of one batched query of the policy; `action_jerk` is the mean length of the second difference
    of the commanded translation, in action units a step; `error` names what broke the episode off,
    which then counts neither as success nor as failure. `suite` and `level` name the perturbation,
    "" and 0 if there was none; `inference` names the inference options, "" for the default
    (see `Inference.description`).

    `trajectory_sha256` is the hash over those of the simulation's state at the start and after
    every step: an episode that is rolled out again has the same one. `attempts` are the times it
    was begun; more than 1 after an infrastructure error. `policy_fault` says what the policy did
    that no episode can go on after, such as actions that are no numbers: it has failed then.
    `policy_fingerprint` identifies the policy's weights, configuration and statistics by a hex
    SHA-256; `random` and `expert` by their names.

    In older files these columns may be missing; the defaults apply. In those without
    `success_held`, an episode ended at the first success, so that `first_success_step` is known,
    and whether success would have held is not: None.
    """

    env_id: str
    embodiment: str
    task: str
    policy: str
    head: str
    demos: int
    draw: int
    train_seed: int
    episode: int
    env_seed: int
    initial_state_sha256: str
    success_once: bool
    steps: int
    furthest_stage: str
    latency_ms_p50: float
    action_jerk: float
    error: str
    suite: str = ""
    level: int = 0
    inference: str = ""
    trajectory_sha256: str = ""
    attempts: int = 1
    policy_fault: str = ""
    success_held: bool | None = None
    first_success_step: int = 0
    policy_fingerprint: str = ""


OLD_RECORDS = "recorded before success had to hold: success_held is unknown"
"""What there is to say of records without `success_held`."""


def measure_of(records: Iterable[EpisodeRecord]) -> Measure:
    """Which measure of success some records support: "held" if all have it, else "once"."""
    return "once" if any(record.success_held is None for record in records) else "held"


def succeeded(record: EpisodeRecord, measure: Measure) -> bool:
    """Whether an episode counts as a success.

    Raises:
        ValueError: for "held" of a record that does not have it.
    """
    if measure == "once":
        return record.success_once
    if record.success_held is None:
        raise ValueError(OLD_RECORDS)
    return record.success_held


def success_text(record: EpisodeRecord) -> str:
    """For people, of an episode in which the task was done: "success after 52 steps"."""
    after = f"success after {record.first_success_step} steps"
    return f"reached {after} and lost it" if record.success_held is False else after


def stages_of(declared: Sequence[str], records: Iterable[EpisodeRecord]) -> tuple[str, ...]:
    """The stages that some episodes pass, in order: those of their task, and whether success held,
    where the records tell."""
    told = any(record.success_held is not None for record in records)
    return (*declared, HELD) if told else tuple(declared)


_ADDED_COLUMNS = tuple(
    field.name for field in fields(EpisodeRecord) if field.default is not MISSING
)
"""Columns that older files do not have."""

_TYPES = {
    "str": pyarrow.string(),
    "int": pyarrow.int64(),
    "bool": pyarrow.bool_(),
    "bool | None": pyarrow.bool_(),
}
MOST_EPISODES = 5_000_000
_LARGEST_FILE = 2**32
_LARGEST_COUNT = 2**53
_LONGEST_TEXT = 10_000
_COUNTS = tuple(field.name for field in fields(EpisodeRecord) if str(field.type) == "int")
_TEXTS = tuple(field.name for field in fields(EpisodeRecord) if str(field.type) == "str")
_OPTIONAL = ("success_held",)
"""Columns that may be empty in a row."""
_SCHEMA = pyarrow.schema(
    [
        (field.name, _TYPES.get(str(field.type), pyarrow.float64()))
        for field in fields(EpisodeRecord)
    ]
)


def write_records(
    records: Sequence[EpisodeRecord],
    path: Path,
    provenance: Provenance | None,
    named: Path | None = None,
) -> None:
    """Write records as Parquet, in the order given, with what they depend on, if that is known.

    Args:
        named: what an error names, `path` if not given.

    Raises:
        BadFile: when the disk is full.
    """
    table = pyarrow.Table.from_pylist([asdict(record) for record in records], schema=_SCHEMA)
    if provenance is not None:
        table = table.replace_schema_metadata({_METADATA: provenance.to_json()})
    with atomic_path(Path(path), named) as temporary:
        pyarrow.parquet.write_table(table, temporary, write_page_checksum=True)


def read_records(path: Path) -> list[EpisodeRecord]:
    """Read records that `write_records` wrote.

    Raises:
        BadRecords: for a file that is missing, broken, not of episode records, or without any.
    """
    path = Path(path)
    with _explained(path):
        file = pyarrow.parquet.ParquetFile(path, page_checksum_verification=True)
        with file:
            if file.metadata.num_rows > MOST_EPISODES:
                raise BadRecords(path, f"has more than {MOST_EPISODES} episodes", _FIX)
            table = file.read()
        columns = table.schema.names
    if len(set(columns)) < len(columns):
        raise BadRecords(path, "has two columns of one name", _FIX)
    missing = [name for name in _SCHEMA.names if name not in columns]
    needed = [name for name in missing if name not in _ADDED_COLUMNS]
    if needed:
        raise BadRecords(path, f"has no column '{needed[0]}'", _FIX)
    known = pyarrow.schema([field for field in _SCHEMA if field.name not in missing])
    try:
        table = table.select(known.names).cast(known)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, ValueError, TypeError, LookupError) as broken:
        raise BadRecords(path, f"has a column of another type ({broken})", _FIX) from broken
    if not rows:
        raise BadRecords(path, "has no episodes", _FIX)
    for name in known.names:
        if name not in _OPTIONAL and table.column(name).null_count:
            raise BadRecords(path, f"has empty places in column '{name}'", _FIX)
    records = [EpisodeRecord(**row) for row in rows]
    for number, record in enumerate(records):
        if problem := _problem(record):
            raise BadRecords(path, f"row {number}: {problem}", _FIX)
    if "first_success_step" not in missing:
        return records
    return [replace(each, first_success_step=each.steps * each.success_once) for each in records]


def _problem(record: EpisodeRecord) -> str:
    """What cannot be of an episode, "" if nothing."""
    for name in _COUNTS:
        if not 0 <= getattr(record, name) <= _LARGEST_COUNT:
            return f"'{name}' is {getattr(record, name)}"
    if not math.isfinite(record.action_jerk) or math.isinf(record.latency_ms_p50):
        return "'action_jerk' or 'latency_ms_p50' is not a finite number"
    if record.first_success_step > record.steps:
        return "'first_success_step' is beyond the end"
    longest = max(_TEXTS, key=lambda name: len(getattr(record, name)))
    if len(getattr(record, longest)) > _LONGEST_TEXT:
        return f"'{longest}' has more than {_LONGEST_TEXT} characters"
    return ""


def read_provenance(path: Path) -> Provenance | None:
    """What the records in a file depend on; None for a file of before that was kept.

    Raises:
        BadRecords: for a file that is missing or broken, or of a later version of octo-bench.
    """
    path = Path(path)
    with _explained(path):
        metadata = pyarrow.parquet.read_schema(path).metadata or {}
    if _METADATA not in metadata:
        return None
    try:
        return Provenance.from_json(metadata[_METADATA])
    except ValueError as broken:
        raise BadRecords(path, f"does not record what it depends on ({broken})", _FIX) from broken


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever reading Parquet raises into `BadRecords`."""
    size = require_regular(
        path, BadRecords, _FIX, missing="make it with `octo-bench evaluate`", limit=_LARGEST_FILE
    )
    if not size:
        raise BadRecords(path, "is empty", _FIX)
    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, MemoryError) as broken:
        raise BadRecords(path, "is not a readable Parquet file", _FIX) from broken
