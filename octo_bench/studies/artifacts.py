"""What a study leaves: all episode records, and what they were measured with."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from octo_bench.errors import BadFile
from octo_bench.evaluation.provenance import provenance_of
from octo_bench.evaluation.records import EpisodeRecord, read_records, write_records
from octo_bench.files import write_json
from octo_bench.studies.cells import declared_cells, policy_sha256, versions
from octo_bench.studies.pool import read_summary
from octo_bench.studies.scheduler import PHASES, chunks, plan, records_file, training_file
from octo_bench.studies.study import Study

RECORDS = "episodes.parquet"
RESULT = "study_result.json"


def write_artifacts(study: Study, out: Path, workers: int, wall_seconds: float) -> None:
    """Gather the cells of a finished study into `episodes.parquet` and `study_result.json`.

    Records are in the order of the declaration, then by episode.

    Args:
        study: the declaration.
        out: where it ran.
        workers: in how many processes the last run worked.
        wall_seconds: how long the last run took; after a resume, without what came before.
    """
    cells = declared_cells(study)
    records: list[EpisodeRecord] = []
    measured = []
    for cell in cells:
        for first, episodes in chunks(study.episodes):
            records += read_records(records_file(cell, first, episodes, out))
        training = read_summary(training_file(cell, out)) if cell.demos else None
        measured.append(
            {
                "policy": cell.policy.name,
                "env_id": cell.env,
                "demos": cell.demos,
                "draw": cell.draw,
                "train_seed": cell.train_seed,
                "key": cell.key,
                "training": training,
            }
        )
    write_records(records, out / RECORDS, provenance_of(records, study.seed))

    tasks = plan(study, cells, out, workers)
    done = {task: read_summary(task.done) or {} for task in tasks}
    result = {
        "title": study.title,
        "workers": workers,
        "wall_seconds": round(wall_seconds, 1),
        "process_seconds": {
            phase: round(sum(done[t].get("seconds", 0.0) for t in tasks if t.phase == phase), 1)
            for phase in PHASES
        },
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "versions": versions(),
        "policies": {entry.policy: policy_sha256(entry.policy) for entry in study.policies},
        "demonstrations": {t.name: done[t] for t in tasks if t.phase == "demonstrations"},
        "cells": measured,
    }
    write_json(out / RESULT, result)


def read_result(out: Path) -> dict[str, Any]:
    """Read `study_result.json` of a study's folder.

    Raises:
        BadFile: when it is not there or broken.
    """
    path = out / RESULT
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(path, f"cannot be read ({error})", "run the study again") from error


def _processor() -> str:
    """The processor's model name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
