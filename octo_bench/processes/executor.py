"""The `Executor`: jobs in processes of this machine, which may die or hang without harm.

Everything that octo-bench does in another process goes through here. Processes are started afresh
(`spawn`) with one thread each, so that two of them do not wait for each other's threads. One that
dies, is stopped, or makes no progress is ended and reported; the caller decides whether its job is
tried again. None outlives its parent by more than two seconds, whatever ended that.
"""

from __future__ import annotations

import atexit
import os
import pickle
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, TypeVar

from octo_bench.errors import OctoBenchError
from octo_bench.processes.interrupts import uninterrupted, without_interrupts
from octo_bench.processes.worker import HEARTBEAT, Kind, note_progress, serve

LIMIT = 1800.0
"""Seconds without a result or other progress after which a job counts as hung. Loading a policy,
compiling it, and a query of a large one all take less, on a busy machine, too."""

SILENCE = 60.0
"""Seconds without a sign of life after which a process counts as hung."""

STOPPED = 5.0
"""The same for one that the system says is stopped."""

START = 300.0
"""Seconds that a process has to give its first sign of life."""

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
_SECONDS_TO_STOP = 5.0
_TRIES_TO_STOP = 3

Key = TypeVar("Key")
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """One of the results of a job."""

    value: Any


@dataclass(frozen=True)
class Done:
    """A job has given its last result."""


@dataclass(frozen=True)
class Death:
    """A process that ended before its job did, or was ended because it hung; why."""

    reason: str


@dataclass(frozen=True)
class Raised:
    """A job has raised an `OctoBenchError`, or anything else: then it is a `RuntimeError` that has
    the traceback in its message."""

    error: Exception


News = Result | Done | Raised | Death


class ProcessLost(OctoBenchError):
    """A job whose processes died again and again: the machine's fault, or that of a library."""

    exit_code = 4

    def __init__(self, job: str, reason: str, log: Path | None = None) -> None:
        super().__init__(job, reason, log)

    def __str__(self) -> str:
        job, reason, log = self.args
        where = f"; its output is in {log}" if log else ""
        return f"{job}: {reason}, repeatedly{where}; the same command continues"


class Executor(Generic[Key]):
    """Up to `workers` processes, each at one job or idle.

    Used in a `with` statement, at whose end no process is left. Jobs are functions that give their
    results one by one, and are told apart by keys that the caller chooses.

    Args:
        workers: processes at the same time.
        limit: seconds without progress (a result, or `note_progress`) that end a job.
        log: what the processes print goes there; here if None.
        grace: whether a process that is at work when all is stopped gets time to remove what it
            has half written.
    """

    def __init__(
        self,
        workers: int,
        *,
        limit: float = LIMIT,
        log: Path | None = None,
        grace: bool = False,
    ) -> None:
        self.workers = workers
        self._limit, self._log, self._grace = limit, log, grace
        self._pool: list[_Worker[Key]] = []
        self._mail: queue.SimpleQueue[tuple[_Worker[Key], Kind | None, Any]] = queue.SimpleQueue()
        self._looked = time.monotonic()
        _EXECUTORS.add(self)

    def __enter__(self) -> Executor[Key]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def running(self) -> list[Key]:
        """The jobs that are being done."""
        return [worker.job.key for worker in self._pool if worker.job is not None]

    @property
    def idle_kinds(self) -> set[str]:
        """The kinds of jobs that the idle processes have done last."""
        return {worker.kind for worker in self._pool if worker.job is None}

    def start(
        self,
        key: Key,
        function: Callable[..., Iterable[Any]],
        *arguments: Any,
        kind: str = "",
        fresh: bool = False,
    ) -> None:
        """Let an idle process do a job, or a new one; there must be fewer jobs than `workers`.

        Args:
            function: importable; its results, and the arguments, can be pickled.
            kind: a process that has done a job of the same kind is preferred.
            fresh: only a new process will do, such as where one has to give back all it held.
        """
        # Here and not while it is sent: what cannot be pickled is the caller's mistake.
        message = pickle.dumps((function, arguments))
        self._begin(_Job(key, message, kind, fresh))

    def wait(self) -> list[tuple[Key, News]]:
        """News of the jobs in the order it came, at least one of each job that has any."""
        news: list[tuple[Key, News]] = []
        while self.running and not news:
            with suppress(queue.Empty):
                news += self._hear(*self._mail.get(timeout=HEARTBEAT))
                while not self._mail.empty():
                    news += self._hear(*self._mail.get())
            if time.monotonic() - self._looked >= HEARTBEAT:
                news += self._end_hung()
        return news

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in a process and wait; for executors of one process without keys.

        Raises:
            ProcessLost: when the process dies.
            OctoBenchError, RuntimeError: as `Raised` says.
        """
        self.start(None, once, function, *arguments)  # type: ignore[arg-type]
        value: Any = None
        while True:
            for _, news in self.wait():
                match news:
                    case Result():
                        value = news.value
                    case Done():
                        return value
                    case Raised():
                        raise news.error
                    case Death():
                        raise ProcessLost(function.__name__, news.reason, self._log)

    def close(self) -> None:
        """End all processes; what is not done is left."""
        if self._grace:
            self._stop([worker for worker in self._pool if worker.job is not None])
        for worker in self._pool:
            worker.process.kill()
        for worker in self._pool:
            worker.end()
        self._pool.clear()

    def _begin(self, job: _Job[Key]) -> None:
        idle = [worker for worker in self._pool if worker.job is None]
        for worker in [worker for worker in idle if job.fresh and worker.served]:
            worker.end()
            self._pool.remove(worker)
            idle.remove(worker)
        same = (worker for worker in idle if worker.kind == job.kind)
        worker = next(same, idle[0] if idle else None)
        if worker is None:
            if len(self._pool) >= self.workers:
                raise RuntimeError(f"all {self.workers} processes are at work")
            with uninterrupted():  # one that is not in the pool would not be ended
                worker = _Worker(self._log, self._mail)
                self._pool.append(worker)
        worker.give(job)

    def _hear(
        self, worker: _Worker[Key], kind: Kind | None, content: Any
    ) -> list[tuple[Key, News]]:
        """What a message means for the caller; `kind` None: the process has ended."""
        if worker not in self._pool:
            return []  # it was ended because it hung, and had more to say
        job = worker.job
        if kind is None:
            return self._bury(worker, f"the process {worker.end()}")
        if job is None:
            return []
        job.begun, job.idle = True, 0.0
        note_progress()
        match kind:
            case Kind.RESULT:
                return [(job.key, Result(content))]
            case Kind.DONE:
                worker.job = None
                return [(job.key, Done())]
            case Kind.RAISED:
                worker.job = None
                return [(job.key, Raised(content))]
        return []

    def _bury(self, worker: _Worker[Key], reason: str) -> list[tuple[Key, News]]:
        self._pool.remove(worker)
        job = worker.job
        if job is None:
            return []
        if worker.served and not job.begun:
            self._begin(job)  # it died while it was idle, which is not the job's doing
            return []
        return [(job.key, Death(reason))]

    def _end_hung(self) -> list[tuple[Key, News]]:
        """End the processes that hang, and say so of their jobs."""
        now = time.monotonic()
        # No more than the time that this process looked for: it may have been stopped, too.
        passed, self._looked = min(now - self._looked, 2 * HEARTBEAT), now
        news = []
        for worker in list(self._pool):
            reason = worker.hung(passed, self._limit)
            if reason is not None:
                worker.end()
                news += self._bury(worker, reason)
        return news

    def _stop(self, workers: list[_Worker[Key]]) -> None:
        """Let processes end by themselves, each with time to remove what it has half written."""
        for _ in range(_TRIES_TO_STOP):  # an exception raised inside a destructor is lost
            for worker in workers:
                worker.process.terminate()
                if _is_stopped(worker.process.pid):
                    os.kill(worker.process.pid, signal.SIGCONT)
            deadline = time.monotonic() + _SECONDS_TO_STOP
            for worker in workers:
                worker.process.join(max(0.0, deadline - time.monotonic()))
            workers = [worker for worker in workers if worker.process.is_alive()]
            if not workers:
                return


_EXECUTORS: weakref.WeakSet[Executor[Any]] = weakref.WeakSet()


@atexit.register  # after, so before, that of `multiprocessing`, which waits for all processes
def _close_all() -> None:
    """End what a caller has left open, such as a generator that was not closed."""
    for executor in list(_EXECUTORS):
        executor.close()


def once(function: Callable[..., T], *arguments: Any) -> Iterator[T]:
    """A job that gives the one result of a function."""
    yield function(*arguments)


@dataclass
class _Job(Generic[Key]):
    """What a process is at; `idle` are the seconds since it got on."""

    key: Key
    message: bytes
    kind: str
    fresh: bool
    begun: bool = False
    idle: float = 0.0


class _Worker(Generic[Key]):
    """A process, and the job it is at."""

    def __init__(
        self,
        log: Path | None,
        mail: queue.SimpleQueue[tuple[_Worker[Key], Kind | None, Any]],
    ) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Not a daemon: it may start processes of its own.
        self.process = context.Process(target=serve, args=(theirs, log), daemon=False)
        with _environment(ONE_THREAD), without_interrupts():
            self.process.start()
        theirs.close()
        self.job: _Job[Key] | None = None
        self.kind = ""
        self.served = False
        self._heard = self._noticed = 0
        self._silent = 0.0
        # A thread reads: a process that is stopped in the middle of a message blocks its reader.
        threading.Thread(target=self._read, args=(mail,), daemon=True).start()

    def give(self, job: _Job[Key]) -> None:
        self.job, self.kind = job, job.kind or self.kind
        job.begun, job.idle = False, 0.0
        # A thread writes, for the same reason. One that has just died: its reader tells.
        threading.Thread(target=self._send, args=(job.message,), daemon=True).start()

    def hung(self, passed: float, limit: float) -> str | None:
        """Why it counts as hung, `passed` seconds after it was last asked; None if it does not."""
        if self._heard != self._noticed:
            self._noticed, self._silent = self._heard, 0.0
        else:
            self._silent += passed
        if self._silent > STOPPED and _is_stopped(self.process.pid):
            return f"the process was stopped, and gave no sign of life for {STOPPED:g} s"
        patience = SILENCE if self._heard else START
        if self._silent > patience:
            return f"the process gave no sign of life for {patience:g} s"
        if self.job is not None:
            self.job.idle += passed
            if self.job.idle > limit:
                return f"the process made no progress for {limit:g} s"
        return None

    def end(self) -> str:
        """End the process if it has not ended; how it did, for people."""
        self.process.kill()
        self.process.join()
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def _send(self, message: bytes) -> None:
        with suppress(OSError):
            self._connection.send_bytes(message)

    def _read(self, mail: queue.SimpleQueue[tuple[_Worker[Key], Kind | None, Any]]) -> None:
        try:
            while True:
                kind, content = self._connection.recv()
                self._heard += 1
                if kind is Kind.BEGUN:
                    self.served = True
                if kind is not Kind.ALIVE:
                    mail.put((self, kind, content))
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            mail.put((self, None, None))
        except Exception as error:
            mail.put((self, Kind.RAISED, RuntimeError(f"a result cannot be read here: {error!r}")))
        finally:
            self._connection.close()  # nobody else does: another thread could be reading


def _is_stopped(pid: int | None) -> bool:
    """Whether the system says that a process is stopped; False where it does not tell."""
    if sys.platform != "linux":
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "T"


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
