"""Running a study on this machine: what is missing is computed, what is there is kept."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from octo_bench.errors import OctoBenchError
from octo_bench.studies.cells import Cell, declared_cells, demonstrations_key
from octo_bench.studies.pool import Task, read_summary, run_tasks
from octo_bench.studies.progress import show_progress
from octo_bench.studies.study import Study, finetune_settings
from octo_bench.studies.tasks import collect_demonstrations, fine_tune, measure

PHASES = ("demonstrations", "fine-tuning", "evaluation")
_COLLECT, _TRAIN, _MEASURE = PHASES

# Episodes of one evaluation task: small enough to keep all workers busy to the end.
EPISODES_AT_ONCE = 25


def run_study(study: Study, out: Path, workers: int) -> None:
    """Compute all that the study lacks, in up to `workers` processes.

    Everything is kept in `out`: demonstrations under `demonstrations/`, fine-tuned policies and
    records under `cells/<key>/`. When it is stopped in any way, calling it again goes on.

    Raises:
        OctoBenchError: when another run is at work in `out`, or a task met a user's mistake.
    """
    with _only_one_run_in(out):
        for half_written in out.rglob(".*.tmp"):
            half_written.unlink()
        tasks = plan(study, declared_cells(study), out, workers)
        missing = _missing(tasks)
        with show_progress(tasks, missing, PHASES) as (on_start, on_done):
            run_tasks(missing, workers, out / "cells" / "workers.log", on_start, on_done)


def plan(study: Study, cells: Sequence[Cell], out: Path, workers: int) -> tuple[Task, ...]:
    """All tasks of a study, done or not."""
    collecting: dict[str, Task] = {}
    others: list[Task] = []
    for cell in cells:
        policy, needs = cell.policy.policy, []
        if cell.demos:
            if cell.env not in collecting:
                # One process is left for what needs no demonstrations.
                collecting[cell.env] = _collect(study, cell.env, out, max(1, workers - 1))
            training = _fine_tune(study, cell, collecting[cell.env], out)
            others.append(training)
            policy, needs = str(training.arguments["out"]), [training.name]
        for first, episodes in chunks(study.episodes):
            others.append(_measure(study, cell, policy, needs, first, episodes, out))
    return (*collecting.values(), *others)


def records_file(cell: Cell, first_episode: int, episodes: int, out: Path) -> Path:
    """Where the records of the cell's episodes from `first_episode` on are kept."""
    last = first_episode + episodes - 1
    return cell_folder(cell, out) / f"episodes-{first_episode:05d}-{last:05d}.parquet"


def cell_folder(cell: Cell, out: Path) -> Path:
    """Where everything of a cell is kept."""
    return out / "cells" / cell.key[:16]


def training_file(cell: Cell, out: Path) -> Path:
    """Where the summary of the cell's fine-tuning is kept."""
    return cell_folder(cell, out) / "training.json"


def chunks(episodes: int) -> Iterator[tuple[int, int]]:
    """The first episode and the number of episodes of each evaluation task of a cell."""
    for first in range(0, episodes, EPISODES_AT_ONCE):
        yield first, min(EPISODES_AT_ONCE, episodes - first)


def _collect(study: Study, env: str, out: Path, workers: int) -> Task:
    name = env.partition("/")[2]
    file = out / "demonstrations" / f"{name}-{demonstrations_key(study, env)[:16]}.hdf5"
    pool = study.demonstrations
    return Task(
        name=f"{pool.count} demonstrations in {env}",
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
    settings = finetune_settings(study, cell.demos, cell.train_seed)
    return Task(
        name=f"fine-tuning of {cell}",
        phase=_TRAIN,
        function=fine_tune,
        arguments={
            "cell": cell,
            "settings": settings,
            "demonstrations": demonstrations.arguments["out"],
            "out": cell_folder(cell, out) / "policy",
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


@contextmanager
def _only_one_run_in(out: Path) -> Iterator[None]:
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OctoBenchError(
                f"{out}: another run is at work here; wait for it, or give another --out"
            ) from error
        yield
