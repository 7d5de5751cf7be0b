"""Work in processes that may die or hang without taking the rest along.

A job gives its results bit by bit, and each bit is also a sign of life. What a process had given
before it died stays; whoever gave out the job decides what becomes of the rest of it.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from octo_bench.errors import OctoBenchError

PATIENCE = 600.0
"""Seconds without a sign of life after which a process counts as hung. Loading a policy,
compiling it, and a query of a large one all take less."""

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Death:
    """A process that ended before its job did, or was ended because it hung; why."""

    reason: str


def work(
    function: Callable[[Job], Iterable[Result]],
    jobs: deque[Job],
    workers: int,
    patience: float = PATIENCE,
) -> Iterator[tuple[Job, Result | Death]]:
    """Do `jobs` in up to `workers` processes; yield each job's results as they come.

    A process is started anew in place of one that died. The caller may put more into `jobs` while
    it iterates, such as what a dead process has left undone.

    Args:
        function: importable; called with a job, in a process.
        jobs: taken from the left.
        workers: processes at the same time.
        patience: seconds between two results after which a process counts as hung.

    Raises:
        OctoBenchError: a job raised it.
        RuntimeError: a job raised anything else.
    """
    pool: list[_Worker[Job]] = []
    try:
        while jobs or any(worker.busy for worker in pool):
            while jobs and (worker := _free(pool, workers, function)):
                worker.start(jobs.popleft())
            busy = [worker for worker in pool if worker.busy]
            patient = max(0.0, min(worker.deadline(patience) for worker in busy) - time.monotonic())
            ready = wait([worker.connection for worker in busy], timeout=patient)
            for worker in busy:
                if worker.connection in ready:
                    news = worker.receive()
                elif time.monotonic() >= worker.deadline(patience):
                    news = Death(f"the process gave no sign of life for {patience:g} s")
                else:
                    continue
                job = worker.job
                if isinstance(news, Death):
                    worker.kill()
                    pool.remove(worker)
                    yield job, news
                elif news is _DONE:
                    worker.busy = False
                else:
                    yield job, news
    finally:
        for worker in pool:
            worker.kill()


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started inside never hear Ctrl-C: this one does, and stops them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_DONE = object()


class _Worker(Generic[Job]):
    """A process, and the job it is at."""

    job: Job

    def __init__(self, function: Callable[[Job], Iterable[Any]]) -> None:
        context = get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        with without_interrupts():
            self._process.start()
        theirs.close()
        self.busy = False

    def start(self, job: Job) -> None:
        self.job, self.busy = job, True
        self._heard = time.monotonic()
        with suppress(ConnectionError):  # one that has just died; receiving tells
            self.connection.send(job)

    def deadline(self, patience: float) -> float:
        """When it counts as hung, on the monotonic clock."""
        return self._heard + patience

    def receive(self) -> Any:
        """A result, `_DONE`, or the process' death."""
        self._heard = time.monotonic()
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            self._process.join()
            return Death(_reason(self._process.exitcode))
        if kind == "raised":
            raise content
        return content if kind == "result" else _DONE

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _free(
    pool: list[_Worker[Job]], workers: int, function: Callable[[Job], Iterable[Any]]
) -> _Worker[Job] | None:
    """A process without a job, a new one if there may be more; None if all are busy."""
    idle = next((worker for worker in pool if not worker.busy), None)
    if idle is None and len(pool) < workers:
        pool.append(idle := _Worker(function))
    return idle


def _reason(exit_code: int | None) -> str:
    """Why a process ended, for people."""
    if exit_code is not None and exit_code < 0:
        return f"the process was killed by {signal.Signals(-exit_code).name}"
    return f"the process ended with exit code {exit_code}"


def _serve(connection: Connection, function: Callable[[Job], Iterable[Any]]) -> None:
    """What runs in a process: jobs as they come, until the other side is gone."""
    with suppress(EOFError, ConnectionError):
        while True:
            job = connection.recv()
            try:
                for result in function(job):
                    connection.send(("result", result))
                answer: tuple[str, Any] = ("done", None)
            except OctoBenchError as error:
                answer = ("raised", error)
            except Exception:
                answer = ("raised", RuntimeError(f"in a worker process:\n{traceback.format_exc()}"))
            connection.send(answer)
