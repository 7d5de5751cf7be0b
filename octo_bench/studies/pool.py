"""Running tasks that depend on each other in a fixed number of processes.

Every task leaves a small JSON file when it is done and is not run again while that file is there,
so what was killed is continued by running the same tasks again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octo_bench.errors import BadFile
from octo_bench.files import explain_full_disk, write_json
from octo_bench.processes.executor import (
    LIMIT,
    Death,
    Done,
    Executor,
    ProcessLost,
    Raised,
    Result,
    once,
)
from octo_bench.processes.jobs import ATTEMPTS
from octo_bench.reading import read_json


@dataclass(frozen=True, eq=False)
class Task:
    """One piece of work.

    Attributes:
        name: unique, for people and for `needs`.
        phase: what progress is counted under.
        function: importable; called with `arguments` in a worker; returns a JSON-able summary.
        done: the summary is written here, with the seconds it took, as the last thing.
        cost: expected duration in any unit; of what can run, the urgent and then the longest
            is started first.
        urgency: tasks that others wait for have a higher one.
        needs: names of tasks that must be done before.
        slots: how many of the pool's processes it stands for (it may start that many itself).
        kind: of tasks that are as urgent, a process takes one of the kind it did last, whose
            environments it still has.
    """

    name: str
    phase: str
    function: Callable[..., Mapping[str, Any]]
    arguments: Mapping[str, Any]
    done: Path
    cost: float
    urgency: int = 0
    needs: Collection[str] = ()
    slots: int = 1
    kind: str = ""


def read_summary(done: Path) -> dict[str, Any] | None:
    """The summary that a finished task has left in its `done` file, None when there is none."""
    try:
        summary = read_json(done, BadFile, "delete it")
    except BadFile:
        return None
    return summary if isinstance(summary, dict) else None


def run_tasks(
    tasks: Sequence[Task],
    workers: int,
    log: Path,
    on_start: Callable[[Task], None],
    on_done: Callable[[Task, Mapping[str, Any]], None],
    limit: float = LIMIT,
) -> None:
    """Run all `tasks`, each after what it needs, in up to `workers` processes.

    A need that is not among `tasks` counts as done. When a task fails or the caller is
    interrupted, the other processes are stopped and the exception goes on. A task whose process
    dies or hangs goes on in another one, up to `ATTEMPTS` times in all.

    Args:
        log: what the processes print goes there.
        on_start: called in this process when a task starts.
        on_done: called in this process with each task's summary.
        limit: seconds without progress after which a task counts as hung.

    Raises:
        OctoBenchError: a task raised it.
        ProcessLost: the processes of a task died again and again.
        RuntimeError: a task raised anything else.
    """
    waiting = sorted(tasks, key=lambda task: (-task.urgency, -task.cost, task.name))
    undone = {task.name for task in tasks}
    summaries: dict[str, Mapping[str, Any]] = {}
    deaths: Counter[str] = Counter()
    log.parent.mkdir(parents=True, exist_ok=True)
    with Executor[Task](workers, limit=limit, log=log, grace=True) as executor:
        while undone:
            for task in _startable(waiting, undone, workers, executor):
                waiting.remove(task)
                executor.start(
                    task,
                    once,
                    _do,
                    task.function,
                    dict(task.arguments),
                    task.done,
                    kind=task.kind,
                )
                if not deaths[task.name]:
                    on_start(task)
            if not executor.running:
                raise RuntimeError(f"these tasks wait in a circle: {', '.join(sorted(undone))}")
            for task, news in executor.wait():
                match news:
                    case Result():
                        summaries[task.name] = news.value
                    case Done():
                        undone.remove(task.name)
                        on_done(task, summaries[task.name])
                    case Raised():
                        raise news.error
                    case Death():
                        deaths[task.name] += 1
                        if deaths[task.name] == ATTEMPTS:
                            raise ProcessLost(f"'{task.name}'", news.reason, log)
                        waiting.insert(0, task)


def _startable(
    waiting: Sequence[Task], undone: Collection[str], workers: int, executor: Executor[Task]
) -> Iterator[Task]:
    """The tasks to start now, the caller starting each before the next is asked for."""
    while True:
        free = workers - sum(task.slots for task in executor.running)
        ready = [
            task
            for task in waiting
            if undone.isdisjoint(task.needs) and min(task.slots, workers) <= free
        ]
        if not ready:
            return
        as_urgent = [task for task in ready if task.urgency == ready[0].urgency]
        kinds = executor.idle_kinds
        yield next((task for task in as_urgent if task.kind in kinds), ready[0])


def _do(
    function: Callable[..., Mapping[str, Any]], arguments: Mapping[str, Any], done: Path
) -> Mapping[str, Any]:
    """Do a task in its process, and leave its summary."""
    start = time.perf_counter()
    with explain_full_disk(done.parent):
        result = function(**arguments)
    # A task that is continued tells by itself how long all of it took.
    summary = {"seconds": round(time.perf_counter() - start, 3), **result}
    write_json(done, summary)
    return summary
