"""Episode records: one row an episode, kept as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow
import pyarrow.parquet

from octo_bench.errors import BadRecords
from octo_bench.files import atomic_path

TIMING_COLUMNS = ("latency_ms_p50",)
"""Columns that differ from run to run; all others are determined."""


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

    `env_seed` and `initial_state_sha256` say where it started; `steps` are control steps until
    its end; `latency_ms_p50` is the median time of one batched query of the policy;
    `action_jerk` is the mean length of the second difference of the commanded translation, in
    action units a step; `error` names what broke the episode off, which then counts neither as
    success nor as failure. `suite` and `level` name the perturbation, "" and 0 if there was none;
    `inference` says how the policy was asked, "" for its own way (see `Inference.description`).
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
    success_at_end: bool
    steps: int
    furthest_stage: str
    latency_ms_p50: float
    action_jerk: float
    error: str
    suite: str = ""
    level: int = 0
    inference: str = ""


_ADDED_COLUMNS = ("suite", "level", "inference")
"""Columns that older files do not have."""

_TYPES = {"str": pyarrow.string(), "int": pyarrow.int64(), "bool": pyarrow.bool_()}
_SCHEMA = pyarrow.schema(
    [
        (field.name, _TYPES.get(str(field.type), pyarrow.float64()))
        for field in fields(EpisodeRecord)
    ]
)


def write_records(records: Sequence[EpisodeRecord], path: Path) -> None:
    """Write records as Parquet, in the order given.

    Raises:
        BadFile: when the disk is full.
    """
    table = pyarrow.Table.from_pylist([asdict(record) for record in records], schema=_SCHEMA)
    with atomic_path(Path(path)) as temporary:
        pyarrow.parquet.write_table(table, temporary)


def read_records(path: Path) -> list[EpisodeRecord]:
    """Read records that `write_records` wrote.

    Raises:
        BadRecords: for a file that is missing, broken, or not of episode records.
    """
    path = Path(path)
    if not path.is_file():
        raise BadRecords(path, "no such file", "make it with `octo-bench evaluate`")
    mend = "make it anew with `octo-bench evaluate`"
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as broken:
        raise BadRecords(path, "is no readable Parquet file", mend) from broken
    missing = [name for name in _SCHEMA.names if name not in table.schema.names]
    needed = [name for name in missing if name not in _ADDED_COLUMNS]
    if needed:
        raise BadRecords(path, f"has no column '{needed[0]}'", mend)
    known = pyarrow.schema([field for field in _SCHEMA if field.name not in missing])
    try:
        rows = table.select(known.names).cast(known).to_pylist()
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as broken:
        raise BadRecords(path, f"has a column of another type ({broken})", mend) from broken
    return [EpisodeRecord(**row) for row in rows]
