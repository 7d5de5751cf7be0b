"""Running tasks that depend on each other in a fixed number of processes.

Every task leaves a small JSON file when it is done and is not run again while that file is there,
so what was killed is continued by running the same tasks again. Processes are started afresh
(`spawn`) with one thread each, so that two of them do not wait for each other's threads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import Any

from octo_bench.errors import OctoBenchError
from octo_bench.files import explain_full_disk, write_json
from octo_bench.processes.interrupts import without_interrupts

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_SECONDS_TO_STOP = 5.0
_TRIES_TO_STOP = 3
_LIVES = 3


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
        return json.loads(done.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


class TaskFailed(OctoBenchError):
    """What an `OctoBenchError` in a task's process becomes here: its message and exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _ProcessDied(RuntimeError):
    """The process of a task ended before it: `task` is what it was at."""

    def __init__(self, message: str, task: Task) -> None:
        super().__init__(message)
        self.task = task


class _Worker:
    """A process, and the task it is at."""

    def __init__(self, log: Path) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._log = log
        # Not a daemon: a task with several slots starts processes of its own.
        self.process = context.Process(target=_serve, args=(theirs, log))
        with _environment({name: "1" for name in _ONE_THREAD}), without_interrupts():
            self.process.start()
        theirs.close()
        self.task: Task | None = None
        self._kind = ""

    def choose(self, ready: Sequence[Task]) -> Task:
        """Which of the tasks that can run, the first ones first, it had best do now."""
        as_urgent = (task for task in ready if task.urgency == ready[0].urgency)
        return next((task for task in as_urgent if task.kind == self._kind), ready[0])

    def start(self, task: Task) -> None:
        self.task = task
        self._kind = task.kind or self._kind
        self._connection.send((task.function, dict(task.arguments), task.done))

    @property
    def news(self) -> Connection:
        """Readable when the task has ended, or the process has."""
        return self._connection

    def receive(self) -> tuple[Task, Mapping[str, Any]]:
        """The task that has ended, and its summary."""
        task, self.task = self.task, None
        assert task is not None
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise _ProcessDied(
                f"the process that did '{task.name}' died (exit code {self.process.exitcode}; "
                f"its output is in {self._log})",
                task,
            ) from None
        match answer:
            case ("done", summary):
                return task, summary
            case ("refused", message, exit_code):
                raise TaskFailed(message, exit_code)
            case ("crashed", trace):
                raise RuntimeError(f"'{task.name}' failed:\n{trace}")
        raise AssertionError(answer)


def run_tasks(
    tasks: Sequence[Task],
    workers: int,
    log: Path,
    on_start: Callable[[Task], None],
    on_done: Callable[[Task, Mapping[str, Any]], None],
) -> None:
    """Run all `tasks`, each after what it needs, in up to `workers` processes.

    A need that is not among `tasks` counts as done. When a task fails or the caller is
    interrupted, the other processes are stopped and the exception goes on. A task whose process
    dies goes on in another one, up to `_LIVES` processes in all.

    Args:
        log: what the processes print goes there.
        on_start: called in this process when a task starts.
        on_done: called in this process with each task's summary.

    Raises:
        TaskFailed: a task raised an `OctoBenchError`.
        RuntimeError: a task raised anything else, or its processes died.
    """
    waiting = sorted(tasks, key=lambda task: (-task.urgency, -task.cost, task.name))
    undone = {task.name for task in tasks}
    deaths: Counter[str] = Counter()
    pool: list[_Worker] = []
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        while undone:
            running = [worker.task for worker in pool if worker.task is not None]
            free = workers - sum(task.slots for task in running)
            while ready := [
                task
                for task in waiting
                if undone.isdisjoint(task.needs) and min(task.slots, workers) <= free
            ]:
                idle = next((worker for worker in pool if worker.task is None), None)
                if idle is None:
                    pool.append(idle := _Worker(log))
                task = idle.choose(ready)
                idle.start(task)
                waiting.remove(task)
                free -= task.slots
                if not deaths[task.name]:
                    on_start(task)
            if not any(worker.task for worker in pool):
                raise RuntimeError(f"these tasks wait in a circle: {', '.join(sorted(undone))}")
            busy = {worker.news: worker for worker in pool if worker.task is not None}
            for news in wait(list(busy)):
                try:
                    task, summary = busy[news].receive()
                except _ProcessDied as death:
                    pool.remove(busy[news])
                    deaths[death.task.name] += 1
                    if deaths[death.task.name] == _LIVES:
                        raise
                    waiting.insert(0, death.task)
                    continue
                undone.remove(task.name)
                on_done(task, summary)
    finally:
        _stop(pool)


def _stop(pool: Sequence[_Worker]) -> None:
    """End all processes, giving each time to remove what it has half written."""
    for _ in range(_TRIES_TO_STOP):  # an exception raised inside a destructor is lost
        for worker in pool:
            worker.process.terminate()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        for worker in pool:
            worker.process.join(max(0.0, deadline - time.monotonic()))
    for worker in pool:
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the processes started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# What runs in a worker.


def _serve(connection: Connection, log: Path) -> None:
    """Do the tasks that come through `connection` until this process is stopped."""
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with log.open("a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    while True:
        function, arguments, done = connection.recv()
        connection.send(_outcome(function, arguments, done))


def _outcome(
    function: Callable[..., Mapping[str, Any]], arguments: Mapping[str, Any], done: Path
) -> tuple[Any, ...]:
    start = time.perf_counter()
    try:
        with explain_full_disk(done.parent):
            result = function(**arguments)
        # A task that is continued tells by itself how long all of it took.
        summary = {"seconds": round(time.perf_counter() - start, 3), **result}
        write_json(done, summary)
    except OctoBenchError as error:
        return ("refused", str(error), error.exit_code)
    except Exception:
        return ("crashed", traceback.format_exc())
    return ("done", summary)


def _leave(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(1)  # so that `finally` clauses remove temporary files


def _leave_with_parent() -> None:
    """Stop this process when its parent is gone, however that ended."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    for _ in range(_TRIES_TO_STOP):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_SECONDS_TO_STOP)
    os._exit(1)
