"""Running a study on this machine: missing cells are computed, finished ones are kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from octo_bench.files import remove_half_written
from octo_bench.processes.exclusive import exclusive
from octo_bench.studies.cells import Cell, demonstrations_key
from octo_bench.studies.phase_bars import show_progress
from octo_bench.studies.pool import Task, read_summary, run_tasks
from octo_bench.studies.pretraining import Collection, Pretraining, largest
from octo_bench.studies.study import Study, finetune_settings
from octo_bench.studies.tasks import (
    collect_demonstrations,
    fine_tune,
    measure,
    pre_train,
    require_network,
)

PHASES = ("demonstrations", "pre-training", "fine-tuning", "evaluation")
_COLLECT, PRETRAINING, _TRAIN, _MEASURE = PHASES

POLICY = "policy"
"""The folder of a policy that was trained, in the folder of its records."""

# Episodes of one evaluation task: small enough to keep all workers busy to the end.
EPISODES_AT_ONCE = 25


LOCK = ".lock"


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Lock `out`, so that only one run computes and writes the study's results there.

    What a run or a process that was killed has half written is removed.

    Raises:
        InUse: when another run is at work there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with exclusive(out, out / LOCK):
        _remove_half_written(out)
        try:
            yield
        finally:
            _remove_half_written(out)


def _remove_half_written(out: Path) -> None:
    cells = out / "cells"
    folders = (folder for folder in cells.rglob("*") if folder.is_dir())
    for folder in (out, out / "demonstrations", cells, *folders):
        remove_half_written(folder)


def run_cells(study: Study, cells: Sequence[Cell], out: Path, workers: int) -> None:
    """Compute all that is missing of some of a study's cells, in up to `workers` processes.

    Everything is kept in `out`: demonstrations under `demonstrations/`, policies and records under
    `cells/`. After a stop, calling it again continues.

    Raises:
        OctoBenchError: when a task met a user's mistake.
    """
    tasks = plan(study, cells, out, workers)
    missing = _missing(tasks)
    for task in missing:
        if task.phase == PRETRAINING:
            require_network(task.arguments["pretraining"])
    phases = [phase for phase in PHASES if any(task.phase == phase for task in tasks)]
    with show_progress(tasks, missing, phases) as (on_start, on_done):
        run_tasks(missing, workers, out / "cells" / "workers.log", on_start, on_done)


def plan(study: Study, cells: Sequence[Cell], out: Path, workers: int) -> tuple[Task, ...]:
    """All tasks of some of a study's cells, done or not.

    What several cells share (demonstrations, a training, all episodes of one policy under two
    names) is one task, called by the first of them.
    """
    # One process is left for what needs no demonstrations.
    collectors = max(1, workers - 1)
    pretrainings = [cell.pretraining for cell in cells if cell.pretraining is not None]
    shared = {
        collection: _collect_for_recipes(collection, demos, out, collectors)
        for collection, demos in largest(pretrainings).items()
    }
    collecting: dict[str, Task] = {}
    pretraining: dict[str, Task] = {}
    training: dict[str, Task] = {}
    measuring: dict[str, list[Task]] = {}
    for cell in cells:
        policy, needs = cell.policy.policy, []
        if cell.pretraining is not None:
            key = cell.pretraining.key
            if key not in pretraining:
                of_recipe = [shared[each] for each in cell.pretraining.collections]
                pretraining[key] = _pre_train(cell.policy.name, cell.pretraining, of_recipe, out)
            task = pretraining[key]
            policy, needs = str(task.arguments["out"]), [task.name]
        if cell.demos:
            if cell.env not in collecting:
                collecting[cell.env] = _collect(study, cell.env, out, collectors)
            if cell.policy_key not in training:
                demonstrations = collecting[cell.env]
                needed = (demonstrations.name, *needs)
                training[cell.policy_key] = _fine_tune(
                    study, cell, policy, needed, demonstrations.arguments["out"], out
                )
            task = training[cell.policy_key]
            policy, needs = str(task.arguments["out"]), [task.name]
        if cell.key not in measuring:
            measuring[cell.key] = [
                _measure(study, cell, policy, needs, first, episodes, out)
                for first, episodes in chunks(study.episodes)
            ]
    measured = [task for of_cell in measuring.values() for task in of_cell]
    collected = (*shared.values(), *collecting.values())
    return (*collected, *pretraining.values(), *training.values(), *measured)


def pool_name(study: Study, env: str) -> str:
    """What the demonstrations of an environment are called: "200 demonstrations in ..."."""
    return f"{study.pool(study.target(env)).count} demonstrations in {env}"


def demonstrations_file(study: Study, env: str, out: Path) -> Path:
    """Where the demonstrations of an environment are kept."""
    name = env.partition("/")[2]
    return out / "demonstrations" / f"{name}-{demonstrations_key(study, env)[:16]}.hdf5"


def policy_folder(cell: Cell, out: Path) -> Path:
    """Where everything of a cell's policy is kept: `policy/` if it was trained, and records."""
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
    pool = study.pool(study.target(env))
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
        urgency=3,
        slots=workers,
    )


def _collect_for_recipes(collection: Collection, demos: int, out: Path, workers: int) -> Task:
    return Task(
        name=f"{demos} demonstrations in {collection}",
        phase=_COLLECT,
        function=collect_demonstrations,
        arguments={
            "env": collection.env,
            "count": demos,
            "first_seed": collection.first_seed,
            "out": collection.file(out),
            "suite": collection.suite,
            "level": collection.level,
            "disturbance": collection.disturbance,
            "workers": workers,
        },
        done=collection.done(demos, out),
        cost=demos,
        urgency=5,
        slots=workers,
    )


def _pre_train(name: str, pretraining: Pretraining, collecting: Sequence[Task], out: Path) -> Task:
    optimisation = pretraining.recipe.optimisation
    return Task(
        name=f"pre-training of {name}",
        phase=PRETRAINING,
        function=pre_train,
        arguments={
            "pretraining": pretraining,
            "demonstrations": [task.arguments["out"] for task in collecting],
            "out": pretraining.folder(out) / POLICY,
        },
        done=pretraining.done(out),
        cost=optimisation.steps,
        urgency=4,
        needs=tuple(dict.fromkeys(task.name for task in collecting)),
        slots=optimisation.threads,
    )


def _fine_tune(
    study: Study, cell: Cell, policy: str, needs: Sequence[str], demonstrations: Path, out: Path
) -> Task:
    settings = finetune_settings(study, cell.policy, cell.demos, cell.train_seed)
    return Task(
        name=f"fine-tuning of {cell.trained}",
        phase=_TRAIN,
        function=fine_tune,
        arguments={
            "cell": cell,
            "policy": policy,
            "settings": settings,
            "demonstrations": demonstrations,
            "per_draw": study.per_draw(study.target(cell.env)),
            "out": policy_folder(cell, out) / POLICY,
        },
        done=training_file(cell, out),
        cost=settings.optimisation.steps,
        urgency=1,
        needs=needs,
        slots=settings.optimisation.threads,
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
        urgency=2,
        needs=needs,
        kind=f"{cell.env}, {cell.condition.suite}, {cell.condition.level}",
    )


def _missing(tasks: Sequence[Task]) -> list[Task]:
    """The evaluation that is not done, and what it needs that is not done either.

    Episodes that ended in an infrastructure error are to be repeated, and demonstrations to be
    collected again that are not there any more, or are just being added to.
    """

    def is_done(task: Task) -> bool:
        summary = read_summary(task.done)
        if summary is None or summary.get("errors"):
            return False
        return task.phase != _COLLECT or task.arguments["out"].is_file()

    by_name = {task.name: task for task in tasks}
    missing: dict[str, Task] = {}
    wanted = [task for task in tasks if task.phase == _MEASURE]
    while wanted:
        task = wanted.pop()
        if task.name not in missing and not is_done(task):
            missing[task.name] = task
            wanted += [by_name[name] for name in task.needs]
    return list(missing.values())
