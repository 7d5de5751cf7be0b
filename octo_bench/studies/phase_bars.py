"""The progress of a study for people: a bar per phase, a line per task."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from octo_bench.studies.pool import Task

# Tasks take minutes: the remaining time is judged by all that was done in the last hours (s).
_REMEMBERED = 10_000.0

OnStart = Callable[[Task], None]
OnDone = Callable[[Task, Mapping[str, Any]], None]


@contextmanager
def show_progress(
    tasks: Sequence[Task], missing: Sequence[Task], phases: Sequence[str]
) -> Iterator[tuple[OnStart, OnDone]]:
    """Show how far `missing` of `tasks` are, on stderr; yields what to call as tasks go on.

    On a terminal the bars move; elsewhere there is a line when a task starts and when it is done.
    """
    console = Console(stderr=True)
    start = time.monotonic()
    to_do = {task.name for task in missing}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("about"),
        TimeRemainingColumn(),
        TextColumn("to go, {task.fields[running]} at work"),
    )
    with Progress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        speed_estimate_period=_REMEMBERED,
    ) as progress:
        bars, running = {}, dict.fromkeys(phases, 0)
        for phase in phases:
            of_phase = [task for task in tasks if task.phase == phase]
            bars[phase] = progress.add_task(
                phase,
                total=sum(task.cost for task in of_phase),
                completed=sum(task.cost for task in of_phase if task.name not in to_do),
                running=0,
            )

        def say(text: str) -> None:
            minutes, seconds = divmod(int(time.monotonic() - start), 60)
            line = f"{minutes:3d}:{seconds:02d}  {text}"
            progress.console.print(line, highlight=False, soft_wrap=True)

        def on_start(task: Task) -> None:
            running[task.phase] += 1
            progress.update(bars[task.phase], running=running[task.phase])
            if not console.is_terminal:
                say(f"started: {task.name}")

        def on_done(task: Task, summary: Mapping[str, Any]) -> None:
            running[task.phase] -= 1
            progress.update(bars[task.phase], advance=task.cost, running=running[task.phase])
            say(f"done: {task.name} ({_what(summary)})")

        if len(missing) < len(tasks):
            say(f"{len(tasks) - len(missing)} of {len(tasks)} tasks are already done")
        yield on_start, on_done


def _what(summary: Mapping[str, Any]) -> str:
    time_taken = f"{summary['seconds']:.0f} s"
    if "successes" in summary:
        return f"{summary['successes']} of {summary['episodes']} succeeded, {time_taken}"
    return time_taken
