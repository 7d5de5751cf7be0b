"""Evaluating into a file: what is done is kept beside it, and the same command goes on.

While `episodes.parquet` is measured, the records that are finished are in `.episodes.parquet.part`.
The file itself appears whole, and no file is overwritten by episodes of something else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_bench.agents.inference import DEFAULT, Inference
from octo_bench.agents.sources import policy_fingerprint
from octo_bench.errors import BadRecords
from octo_bench.files import remove_half_written
from octo_bench.processes.exclusive import exclusive
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import (
    EpisodeRecord,
    read_provenance,
    read_records,
    write_records,
)
from octo_bench.rollouts.evaluate import evaluate, require_possible

_SECONDS_BETWEEN_WRITES = 2.0
_FIX = "choose another --out, or delete it"


@dataclass(frozen=True)
class Resumed:
    """Records of all episodes, in order, and how many of them were there before."""

    records: tuple[EpisodeRecord, ...]
    found: int


def evaluate_into(
    out: Path,
    policy: str,
    env_id: str,
    episodes: int,
    *,
    workers: int = 1,
    study_seed: int = 0,
    suite: str = "",
    level: int = 1,
    inference: Inference = DEFAULT,
    progress: bool = True,
) -> Resumed:
    """Roll out what is missing of an evaluation in the file `out`, and write it.

    What is finished is kept every few seconds, and when this is interrupted. Episodes that ended
    in an infrastructure error are rolled out again.

    Args:
        out: a file of episode records, which may be there already.
        policy, env_id, episodes, workers, study_seed, suite, level, inference, progress: as for
            `evaluate`, from episode 0 on.

    Raises:
        BadRecords: when `out`, or what is kept beside it, holds other episodes.
        InUse: when another process evaluates into it.
        OctoBenchError: see `require_possible`.
    """
    declared = require_possible(policy, env_id, suite=suite, level=level, inference=inference)
    wanted = {
        "policy": policy,
        "policy_fingerprint": policy_fingerprint(policy),
        "env_id": declared.id,
        "suite": suite,
        "level": level if suite else 0,
        "inference": inference.description,
    }
    part = out.with_name(f".{out.name}.part")
    with exclusive(out):
        remove_half_written(out.parent, out.name)
        remove_half_written(out.parent, part.name)
        kept = _Kept(part, out, study_seed)
        _discard_damaged(part)
        for file in (out, part):
            if file.exists():
                _require_same(file, wanted, study_seed)
                records = read_records(file)
                if file == out and any(record.episode >= episodes for record in records):
                    raise BadRecords(out, f"has more than {episodes} episodes", _FIX)
                kept.add([record for record in records if record.episode < episodes])
        found = len(kept.records)
        if found < episodes:
            with kept.saved():
                evaluate(
                    policy,
                    env_id,
                    episodes,
                    workers=workers,
                    study_seed=study_seed,
                    suite=suite,
                    level=level,
                    inference=inference,
                    skip=tuple(kept.records),
                    on_finished=kept.add_and_save,
                    progress=progress,
                )
        if found < episodes or not out.exists():
            write_records(kept.in_order, out, provenance_of(kept.in_order, study_seed))
        part.unlink(missing_ok=True)
    return Resumed(kept.in_order, found)


class _Kept:
    """Records that are finished, and the file that they are kept in until all are.

    Attributes:
        records: by the number of the episode.
    """

    def __init__(self, file: Path, out: Path, study_seed: int) -> None:
        self.records: dict[int, EpisodeRecord] = {}
        self._file, self._out, self._study_seed = file, out, study_seed
        self._saved, self._written = time.monotonic(), 0

    @property
    def in_order(self) -> tuple[EpisodeRecord, ...]:
        return tuple(self.records[number] for number in sorted(self.records))

    def add(self, records: Sequence[EpisodeRecord]) -> None:
        """Take what was found in a file, less the episodes that ended in an error."""
        self.records |= {record.episode: record for record in records if not record.error}
        self._written = len(self.records)

    def add_and_save(self, records: Sequence[EpisodeRecord]) -> None:
        """Take what has just finished, and write it all now and then."""
        self.records |= {record.episode: record for record in records}
        if time.monotonic() - self._saved >= _SECONDS_BETWEEN_WRITES:
            self._save()

    @contextmanager
    def saved(self) -> Iterator[None]:
        """Whatever breaks off what is done inside, what has finished is in the file."""
        try:
            yield
        except BaseException:
            if len(self.records) > self._written:
                self._save()
            raise

    def _save(self) -> None:
        provenance = provenance_of(self.in_order, self._study_seed)
        write_records(self.in_order, self._file, provenance, named=self._out)
        self._saved, self._written = time.monotonic(), len(self.records)


def _discard_damaged(part: Path) -> None:
    try:
        read_records(part)
    except BadRecords:
        part.unlink(missing_ok=True)


def _require_same(file: Path, wanted: Mapping[str, Any], study_seed: int) -> None:
    """Refuse a file of other episodes than those that are asked for.

    Raises:
        BadRecords: names the first thing that differs.
    """
    records, provenance = read_records(file), read_provenance(file)
    for name, value in wanted.items():
        for held in {getattr(record, name) for record in records}:
            if held != value:
                raise BadRecords(
                    file, f"holds episodes of {name} {held or None}, not {value}", _FIX
                )
    here = provenance_of(records, study_seed)
    if provenance is None:
        raise BadRecords(file, "does not record what its episodes depend on", _FIX)
    if provenance.study_seed != study_seed:
        raise BadRecords(file, f"holds episodes of study seed {provenance.study_seed}", _FIX)
    for what, held, value in (
        ("definitions", provenance.definitions, here.definitions),
        ("library versions", provenance.versions, here.versions),
        ("code", provenance.code, here.code),
    ):
        if held != value:
            raise BadRecords(file, f"was measured with other {what}", _FIX)
