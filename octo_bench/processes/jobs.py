"""The usual ways to have jobs done in processes: as they come, all of them, or in order."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

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

ATTEMPTS = 3
"""How often a job is begun whose process dies or hangs."""

_AHEAD = 2
"""Jobs of one process that may be done before it is their turn."""

Job = TypeVar("Job")
T = TypeVar("T")


def stream(
    function: Callable[[Job], Iterable[T]],
    jobs: deque[Job],
    workers: int,
    limit: float = LIMIT,
) -> Iterator[tuple[Job, T | Death]]:
    """Do `jobs` in up to `workers` processes; yield each job's results as they come.

    The caller may put more into `jobs` while it iterates, such as what a dead process has left
    undone. Closing the iterator ends the processes.

    Args:
        function: importable; called with a job, in a process; gives results one by one.
        jobs: taken from the left.
        workers: processes at the same time.
        limit: seconds between two results after which a process counts as hung.

    Raises:
        OctoBenchError: a job raised it.
        RuntimeError: a job raised anything else.
    """
    with Executor[int](workers, limit=limit) as executor:
        running: dict[int, Job] = {}
        begun = 0
        while jobs or running:
            while jobs and len(running) < workers:
                running[begun] = jobs.popleft()
                executor.start(begun, function, running[begun])
                begun += 1
            for number, news in executor.wait():
                match news:
                    case Result():
                        yield running[number], news.value
                    case Done():
                        del running[number]
                    case Raised():
                        raise news.error
                    case Death():
                        yield running.pop(number), news


def results(
    function: Callable[..., T],
    jobs: Iterable[tuple[object, ...]],
    workers: int,
    *,
    fresh: bool = False,
) -> Iterator[tuple[int, T]]:
    """The results of `function` for the arguments in `jobs`, each with its number, as they come.

    A job whose process dies or hangs is begun again, up to `ATTEMPTS` times in all.

    Args:
        function: importable.
        jobs: arguments.
        workers: processes at the same time.
        fresh: each job in a new process, where what a process holds is given back only at its end.

    Raises:
        ProcessLost: a job was begun `ATTEMPTS` times.
        OctoBenchError: a job raised it.
        RuntimeError: a job raised anything else.
    """
    return _results(function, jobs, workers, fresh, lambda number: True)


def in_order(
    function: Callable[..., T], jobs: Iterable[tuple[object, ...]], workers: int
) -> Iterator[T]:
    """The results of `function` for the arguments in `jobs`, in their order.

    `jobs` may have no end: only so many are begun as keep the processes at work. Arguments, errors
    and retries are those of `results`.
    """
    early: dict[int, T] = {}
    given = 0

    def is_near(number: int) -> bool:
        return number < given + _AHEAD * workers

    for number, value in _results(function, jobs, workers, False, is_near):
        early[number] = value
        while given in early:
            yield early.pop(given)
            given += 1


def _results(
    function: Callable[..., T],
    jobs: Iterable[tuple[object, ...]],
    workers: int,
    fresh: bool,
    may_begin: Callable[[int], bool],
) -> Iterator[tuple[int, T]]:
    """As `results`; a job is begun when its number may."""
    untouched = iter(jobs)
    again: deque[int] = deque()
    deaths: Counter[int] = Counter()
    running: dict[int, tuple[object, ...]] = {}
    begun = 0
    with Executor[int](workers) as executor:
        while True:
            while len(executor.running) < workers:
                if again:
                    number = again.popleft()
                elif may_begin(begun) and (arguments := next(untouched, None)) is not None:
                    number, begun = begun, begun + 1
                    running[number] = arguments
                else:
                    break
                executor.start(number, once, function, *running[number], fresh=fresh)
            if not running:
                return
            for number, news in executor.wait():
                match news:
                    case Result():
                        yield number, news.value
                    case Done():
                        del running[number]
                    case Raised():
                        raise news.error
                    case Death():
                        deaths[number] += 1
                        if deaths[number] == ATTEMPTS:
                            raise ProcessLost(str(running[number][0]), news.reason)
                        again.append(number)
