"""The results of a study: all episode records, and what they were measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from octo_bench.errors import BadFile
from octo_bench.files import write_json
from octo_bench.machine import processor
from octo_bench.reading import read_json
from octo_bench.records.provenance import provenance_of
from octo_bench.records.record import EpisodeRecord, read_records, write_records
from octo_bench.shapes import NOTHING, NUMBER, TEXT, WHOLE, Each, List, Or, Table, problem_of
from octo_bench.studies.cells import Cell, Place, place_of, policy_sha256
from octo_bench.studies.pool import read_summary
from octo_bench.studies.pretraining import Collection
from octo_bench.studies.scheduler import (
    PHASES,
    PRETRAINING,
    chunks,
    demonstrations_file,
    pool_name,
    records_file,
    training_file,
)
from octo_bench.studies.study import Study
from octo_bench.studies.versions import versions

RECORDS = "episodes.parquet"
RESULT = "study_result.json"

_AGAIN = "run the study again"
_SUMMARY = Table(
    {"key": TEXT, "seconds": NUMBER, "steps": WHOLE, "final_loss": NUMBER},
    {"policy": Each(TEXT)},
)
_CELL = Table(
    {
        "policy": TEXT,
        "env_id": TEXT,
        "demos": WHOLE,
        "draw": WHOLE,
        "train_seed": WHOLE,
        "key": TEXT,
        "training": Or(NOTHING, Table({"seconds": NUMBER}, {})),
    },
    {
        "suite": TEXT,
        "level": WHOLE,
        "inference": TEXT,
        "policy_key": TEXT,
        "seconds": NUMBER,
        "loaded": Or(NOTHING, TEXT),
        "pretrained": Or(NOTHING, TEXT),
    },
)
_RESULT = Table(
    {
        "workers": Or(NOTHING, WHOLE),
        "wall_seconds": Or(NOTHING, NUMBER),
        "process_seconds": Each(NUMBER),
        "machine": Table({"processor": TEXT, "cores": Or(NOTHING, WHOLE), "python": TEXT}, {}),
        "versions": Each(TEXT),
        "policies": Each(Each(TEXT)),
        "demonstrations": Each(
            Table({}, {"sha256": TEXT, "seconds": NUMBER, "key": TEXT, "kept": WHOLE})
        ),
        "cells": List(_CELL),
    },
    {"title": TEXT, "declared_cells": WHOLE, "pretraining": Each(_SUMMARY)},
)
"""What is relied on."""


@dataclass(frozen=True)
class Run:
    """How a study was last run: in how many processes, and how long that took.

    After a resume, `wall_seconds` is without what came before.
    """

    workers: int
    wall_seconds: float


@dataclass(frozen=True)
class Gathered:
    """The result of `write_artifacts`.

    Attributes:
        written: whether the folder's files are up to date.
        outdated: cells in the folder that were measured with other code, versions or settings and
            have not been measured again. While there are any, nothing is written.
    """

    written: bool
    outdated: tuple[Cell, ...]


@dataclass(frozen=True)
class _Finished:
    """A finished cell.

    Attributes:
        seconds: that its evaluation took.
        training: the summary of its fine-tuning, if there was one.
        pretraining: the summary of the pre-training of the policy that it is, or starts from, if
            the study has pre-trained it.
        here: it lies under `cells/`, and not only in the gathered files.
    """

    records: tuple[EpisodeRecord, ...]
    seconds: float
    training: Mapping[str, Any] | None
    pretraining: Mapping[str, Any] | None
    here: bool


def write_artifacts(study: Study, cells: Sequence[Cell], out: Path, run: Run | None) -> Gathered:
    """Gather the finished cells of a study into `episodes.parquet` and `study_result.json`.

    Cells that are finished under `cells/` are gathered. For the others, the two files keep what
    they have if the key is the same, so that a study can be measured in several sessions and
    places. If the files hold a cell with another key, nothing is written until that cell has been
    measured again, so that an interrupted run loses no result. Nothing is written, either, if no
    cell is finished under `cells/`.

    Records are in the order of the declaration, then by episode.

    Args:
        study: the declaration.
        cells: all of it.
        out: where it ran.
        run: how; None to leave what the files say.

    Raises:
        BadFile: when the files that are there cannot be read.
    """
    before = _Before.read(out)
    found = {cell: _finished_here(study, cell, out) or before.kept(study, cell) for cell in cells}
    outdated = tuple(cell for cell in cells if not found[cell] and cell.place in before.cells)
    finished = {cell: each for cell, each in found.items() if each is not None}
    if outdated or not any(each.here for each in finished.values()):
        return Gathered(written=False, outdated=outdated)

    records = [record for each in finished.values() for record in each.records]
    pools = _pools(study, finished, before, out)
    # What several cells share was done once.
    pretrained = {e.pretraining["key"]: e.pretraining for e in finished.values() if e.pretraining}
    trained = {cell.policy_key: e.training for cell, e in finished.items() if e.training}
    measured = {cell.key: each.seconds for cell, each in finished.items()}
    seconds = (
        sum(pool.get("seconds", 0.0) for pool in pools.values()),
        sum(pretraining.get("seconds", 0.0) for pretraining in pretrained.values()),
        sum(training.get("seconds", 0.0) for training in trained.values()),
        sum(measured.values()),
    )
    result = {
        "title": study.title,
        "workers": run.workers if run else before.result.get("workers"),
        "wall_seconds": round(run.wall_seconds, 1) if run else before.result.get("wall_seconds"),
        "process_seconds": {
            phase: round(spent, 1)
            for phase, spent in zip(PHASES, seconds, strict=True)
            if phase != PRETRAINING or pretrained
        },
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": versions(),
        "policies": {
            entry.policy: policy_sha256(entry.policy)
            for entry in study.policies
            if entry.recipe is None
        },
        "pretraining": {
            cell.policy.name: each.pretraining
            for cell, each in finished.items()
            if each.pretraining
        },
        "demonstrations": pools,
        "declared_cells": len(cells),
        "cells": [
            {
                **cell.columns,
                "loaded": cell.policy.policy or None,
                "pretrained": cell.pretraining and cell.pretraining.key,
                "policy_key": cell.policy_key,
                "key": cell.key,
                "seconds": each.seconds,
                "training": each.training,
            }
            for cell, each in finished.items()
        ],
    }
    write_records(records, out / RECORDS, provenance_of(records, study.seed))
    write_json(out / RESULT, result)
    return Gathered(written=True, outdated=())


def read_result(out: Path) -> dict[str, Any]:
    """Read `study_result.json` of a study's folder.

    Raises:
        BadFile: when it is not there or broken.
    """
    path = out / RESULT
    result = read_json(path, BadFile, _AGAIN, missing=_AGAIN)
    if problem := problem_of(result, _RESULT):
        raise BadFile(path, f"is not a result of a study ({problem})", _AGAIN)
    return result


def read_finished(study: Study, cell: Cell, out: Path) -> tuple[EpisodeRecord, ...] | None:
    """The episodes of a cell that was run in `out`; None if it is not finished there."""
    finished = _finished_here(study, cell, out)
    return None if finished is None else finished.records


@dataclass(frozen=True)
class _Before:
    """What the gathered files say: the result, its cells and the records by cell."""

    result: Mapping[str, Any]
    cells: Mapping[Place, Mapping[str, Any]]
    records: Mapping[Place, Sequence[EpisodeRecord]]

    @classmethod
    def read(cls, out: Path) -> _Before:
        if not (out / RESULT).is_file() or not (out / RECORDS).is_file():
            return cls({}, {}, {})
        result = read_result(out)
        records: dict[Place, list[EpisodeRecord]] = {}
        for record in read_records(out / RECORDS):
            records.setdefault(place_of(record), []).append(record)
        return cls(result, {place_of(cell): cell for cell in result["cells"]}, records)

    def kept(self, study: Study, cell: Cell) -> _Finished | None:
        """A cell of which they have all episodes under the same key."""
        known = self.cells.get(cell.place)
        if known is None or known["key"] != cell.key:
            return None
        of_cell = self.records.get(cell.place, ())
        records = tuple(record for record in of_cell if record.episode < study.episodes)
        if len(records) < study.episodes:
            return None
        pretraining = None
        if cell.pretraining is not None:
            pretraining = self.result.get("pretraining", {}).get(cell.policy.name)
            if pretraining is None:
                return None
        seconds = known.get("seconds", 0.0)
        return _Finished(records, seconds, known["training"], pretraining, here=False)


def _finished_here(study: Study, cell: Cell, out: Path) -> _Finished | None:
    """A cell of which all is there under `cells/`."""
    files = [records_file(cell, first, count, out) for first, count in chunks(study.episodes)]
    summaries = [read_summary(file.with_suffix(".json")) for file in files]
    training = read_summary(training_file(cell, out)) if cell.demos else None
    pretraining = None
    if cell.pretraining is not None:
        pretraining = read_summary(cell.pretraining.done(out))
        if pretraining is None:
            return None
        pretraining = {"key": cell.pretraining.key, **pretraining}
    done = [summary for summary in summaries if summary is not None]
    if len(done) < len(files) or (cell.demos and training is None):
        return None
    # A policy that the study has under several names is measured under the first.
    records = tuple(
        replace(record, policy=cell.policy.name) for file in files for record in read_records(file)
    )
    seconds = round(sum(summary.get("seconds", 0.0) for summary in done), 3)
    return _Finished(records, seconds, training, pretraining, here=True)


def _pools(
    study: Study, finished: Mapping[Cell, _Finished], before: _Before, out: Path
) -> dict[str, Mapping[str, Any]]:
    """The summaries of the demonstrations that the finished cells were trained on."""
    known = before.result.get("demonstrations", {})
    pools: dict[str, Mapping[str, Any]] = {}
    pretrainings = (cell.pretraining for cell in finished if cell.pretraining is not None)
    for collection in dict.fromkeys(each for of in pretrainings for each in of.collections):
        name = f"demonstrations in {collection}"
        of_before = known.get(name, {})
        pools[name] = _collected(collection, out) or (
            of_before if of_before.get("key") == collection.key else {}
        )
    for env in dict.fromkeys(cell.env for cell in finished if cell.demos):
        name = pool_name(study, env)
        here = read_summary(demonstrations_file(study, env, out).with_suffix(".json"))
        pools[name] = here or known.get(name, {})
    return pools


def _collected(collection: Collection, out: Path) -> dict[str, Any] | None:
    """What was collected for recipes; None if nothing was, here.

    The seconds are of all the times that the file has grown, the rest is of the last one.
    """
    stem = collection.file(out).stem
    found = (read_summary(file) for file in (out / "demonstrations").glob(f"{stem}-*.json"))
    summaries = sorted((each for each in found if each), key=lambda each: each["kept"])
    if not summaries:
        return None
    seconds = round(sum(each["seconds"] for each in summaries), 3)
    return {**summaries[-1], "seconds": seconds, "key": collection.key}
