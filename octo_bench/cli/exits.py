"""What the exit codes say: 0 fine, 2 the user's mistake, and those below.

`BROKEN` is an error of octo-bench itself (`EX_SOFTWARE` of sysexits.h), or a pipe that nobody reads
any more: Python's own 1 would be read as `FAILED`, the answer "worse".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from octo_bench.processes.interrupts import Terminated

if TYPE_CHECKING:
    from octo_bench.reports.table import Row

FAILED = 1
UNDECIDED = 3
UNFIT = 4
BROKEN = 70
INTERRUPTED = 130
TERMINATED = 143


@contextmanager
def resumable() -> Iterator[None]:
    """Inside, what is interrupted keeps what it has done, which is said."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print("interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        sys.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)


def require_few_errors(rows: Sequence[Row]) -> None:
    """Say how many episodes ended in an infrastructure error; exit with `UNFIT` if many."""
    if errors := sum(row.errors for row in rows):
        episodes = errors + sum(row.episodes for row in rows)
        print(f"infrastructure errors: {errors} of {episodes} episodes", file=sys.stderr)
    if any(row.unfit for row in rows):
        raise typer.Exit(UNFIT)
