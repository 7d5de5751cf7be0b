"""Running a study on this machine: what is missing is computed, what is there is kept."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from octo_bench.errors import OctoBenchError
from octo_bench.studies.cells import Cell, demonstrations_key
from octo_bench.studies.pool import Task, read_summary, run_tasks
from octo_bench.studies.progress import show_progress
from octo_bench.studies.study import Study, finetune_settings
from octo_bench.studies.tasks import collect_demonstrations, fine_tune, measure

PHASES = ("demonstrations", "fine-tuning", "evaluation")
_COLLECT, _TRAIN, _MEASURE = PHASES

POLICY = "policy"
"""The folder of a fine-tuned policy, in the folder of its records."""

# Episodes of one evaluation task: small enough to keep all workers busy to the end.
EPISODES_AT_ONCE = 25


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Be the only one that computes and writes a study's results in `out`.

    What a run that was killed has half written is removed.

    Raises:
        OctoBenchError: when another run is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OctoBenchError(
                f"{out}: another run is at work here; wait for it, or give another --out"
            ) from error
        for where in (out.glob, (out / "demonstrations").glob, (out / "cells").rglob):
            for half_written in where(".*.tmp"):
                half_written.unlink()
        yield


def run_cells(study: Study, cells: Sequence[Cell], out: Path, workers: int) -> None:
    """Compute all that is missing of some of a study's cells, in up to `workers` processes.

    Everything is kept in `out`: demonstrations under `demonstrations/`, policies and records under
    `cells/`. When it is stopped in any way, calling it again goes on.

    Raises:
        OctoBenchError: when a task met a user's mistake.
    """
    tasks = plan(study, cells, out, workers)
    missing = _missing(tasks)
    with show_progress(tasks, missing, PHASES) as (on_start, on_done):
        run_tasks(missing, workers, out / "cells" / "workers.log", on_start, on_done)


def plan(study: Study, cells: Sequence[Cell], out: Path, workers: int) -> tuple[Task, ...]:
    """All tasks of some of a study's cells, done or not.

    What several cells share (demonstrations, a fine-tuning, all episodes of one policy under two
    names) is one task, called by the first of them.
    """
    collecting: dict[str, Task] = {}
    training: dict[str, Task] = {}
    measuring: dict[str, list[Task]] = {}
    for cell in cells:
        policy, needs = cell.policy.policy, []
        if cell.demos:
            if cell.env not in collecting:
                # One process is left for what needs no demonstrations.
                collecting[cell.env] = _collect(study, cell.env, out, max(1, workers - 1))
            if cell.policy_key not in training:
                training[cell.policy_key] = _fine_tune(study, cell, collecting[cell.env], out)
            task = training[cell.policy_key]
            policy, needs = str(task.arguments["out"]), [task.name]
        if cell.key not in measuring:
            measuring[cell.key] = [
                _measure(study, cell, policy, needs, first, episodes, out)
                for first, episodes in chunks(study.episodes)
            ]
    measured = [task for of_cell in measuring.values() for task in of_cell]
    return (*collecting.values(), *training.values(), *measured)


def pool_name(study: Study, env: str) -> str:
    """What the demonstrations of an environment are called: "200 demonstrations in ..."."""
    return f"{study.demonstrations.count} demonstrations in {env}"


def demonstrations_file(study: Study, env: str, out: Path) -> Path:
    """Where the demonstrations of an environment are kept."""
    name = env.partition("/")[2]
    return out / "demonstrations" / f"{name}-{demonstrations_key(study, env)[:16]}.hdf5"


def policy_folder(cell: Cell, out: Path) -> Path:
    """Where everything of a cell's policy is kept: `policy/` if it was fine-tuned, and records."""
    return out / "cells" / cell.policy_key[:16]


def training_file(cell: Cell, out: Path) -> Path:
    """Where the summary of the cell's fine-tuning is kept."""
    return policy_folder(cell, out) / "training.json"


def records_file(cell: Cell, first_episode: int, episodes: int, out: Path) -> Path:
    """Where the records of the cell's episodes from `first_episode` on are kept."""
    last = first_episode + episodes - 1
    name = f"episodes-{first_episode:05d}-{last:05d}.parquet"
    return policy_folder(cell, out) / cell.key[:16] / name


def chunks(episodes: int) -> Iterator[tuple[int, int]]:
    """The first episode and the number of episodes of each evaluation task of a cell."""
    for first in range(0, episodes, EPISODES_AT_ONCE):
        yield first, min(EPISODES_AT_ONCE, episodes - first)


def _collect(study: Study, env: str, out: Path, workers: int) -> Task:
    file = demonstrations_file(study, env, out)
    pool = study.demonstrations
    return Task(
        name=pool_name(study, env),
        phase=_COLLECT,
        function=collect_demonstrations,
        arguments={
            "env": env,
            "count": pool.count,
            "first_seed": pool.first_seed,
            "out": file,
            "workers": workers,
        },
        done=file.with_suffix(".json"),
        cost=pool.count,
        urgency=2,
        slots=workers,
    )


def _fine_tune(study: Study, cell: Cell, demonstrations: Task, out: Path) -> Task:
    settings = finetune_settings(study, cell.policy, cell.demos, cell.train_seed)
    return Task(
        name=f"fine-tuning of {cell.trained}",
        phase=_TRAIN,
        function=fine_tune,
        arguments={
            "cell": cell,
            "settings": settings,
            "demonstrations": demonstrations.arguments["out"],
            "out": policy_folder(cell, out) / POLICY,
        },
        done=training_file(cell, out),
        cost=settings.optimisation.steps,
        urgency=1,
        needs=(demonstrations.name,),
    )


def _measure(
    study: Study,
    cell: Cell,
    policy: str,
    needs: Sequence[str],
    first: int,
    episodes: int,
    out: Path,
) -> Task:
    file = records_file(cell, first, episodes, out)
    return Task(
        name=f"episodes {first} to {first + episodes - 1} of {cell}",
        phase=_MEASURE,
        function=measure,
        arguments={
            "cell": cell,
            "policy": policy,
            "seed": study.seed,
            "first_episode": first,
            "episodes": episodes,
            "out": file,
        },
        done=file.with_suffix(".json"),
        cost=episodes,
        needs=needs,
    )


def _missing(tasks: Sequence[Task]) -> list[Task]:
    """The evaluation that is not done, and what it needs that is not done either.

    Episodes that ended in an infrastructure error are to be repeated.
    """
    by_name = {task.name: task for task in tasks}
    missing: dict[str, Task] = {}
    wanted = [task for task in tasks if task.phase == _MEASURE]
    while wanted:
        task = wanted.pop()
        summary = read_summary(task.done)
        if task.name not in missing and (summary is None or summary.get("errors")):
            missing[task.name] = task
            wanted += [by_name[name] for name in task.needs]
    return list(missing.values())
