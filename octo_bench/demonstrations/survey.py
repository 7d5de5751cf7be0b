"""The survey of the scripted experts, which decides which pairs are supported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from octo_bench.definitions.environments import environment
from octo_bench.definitions.support import Demonstrated, read_demonstrated, write_demonstrated
from octo_bench.demonstrations.attempts import Attempt, attempt
from octo_bench.processes.exclusive import exclusive
from octo_bench.processes.jobs import results
from octo_bench.processes.worker import note_progress
from octo_bench.progress import ProgressBar
from octo_bench.simulation.world import Control

SEEDS = 100
_FIRST_SEED = 50_000_000
"""Separate from the seeds of demonstrations, which start at 0, and of evaluation."""


def survey(
    env_ids: Sequence[str],
    table: Path,
    *,
    seeds: int = SEEDS,
    stock: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> dict[str, Demonstrated]:
    """Run the scripted experts of `env_ids` on `seeds` seeds each, disturbed as for collecting.

    The table is written after each environment, so that a survey that is cut off keeps what it
    has. With `stock` the same seeds are tried with robosuite's own controller too.

    Returns:
        All rows of the table, also those that were there before.

    Raises:
        UnknownName: for an unknown environment.
        BadRecords: for a table that cannot be read.
        InUse: when another process is writing the table.
        ProcessLost: when the processes of an environment die again and again.
    """
    names = [environment(env_id).id for env_id in env_ids]
    bar = ProgressBar(
        total=len(names), desc=f"scripted experts, {seeds} seeds", disable=not progress
    )
    # A process for each environment: what one holds is only given back when its process ends.
    jobs = [(name, seeds, stock) for name in names]
    with bar, exclusive(table):
        rows = dict(read_demonstrated(table))
        with closing(results(survey_one, jobs, workers, fresh=True)) as surveyed:
            for _, row in surveyed:
                rows[row.env_id] = row
                write_demonstrated(table, rows)
                bar.update()
                bar.set_postfix_str(f"{row.env_id} {row.successes}/{row.seeds}")
    return rows


def survey_one(env_id: str, seeds: int, stock: bool) -> Demonstrated:
    """Run one scripted expert on the first `seeds` seeds of the survey."""
    tries = _tries(env_id, seeds, "fast")
    steps = [each.first_success_step for each in tries if each.success]
    failed = Counter(each.furthest_stage for each in tries if not each.success)
    return Demonstrated(
        env_id=env_id,
        seeds=seeds,
        successes=len(steps),
        mean_steps=round(float(np.mean(steps)), 1) if steps else 0.0,
        failures=", ".join(f"{stage} {count}" for stage, count in failed.most_common()),
        stock_successes=sum(each.success for each in _tries(env_id, seeds, "stock"))
        if stock
        else -1,
    )


def _tries(env_id: str, seeds: int, control: Control) -> list[Attempt]:
    tries = []
    for number in range(seeds):
        tries.append(attempt(env_id, _FIRST_SEED + number, images=False, control=control))
        note_progress()
    return tries
