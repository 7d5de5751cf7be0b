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
    from octo_bench.tables.table import Row

FAILED = 1
UNDECIDED = 3
INVALID = 4
BROKEN = 70
INTERRUPTED = 130
TERMINATED = 143


@contextmanager
def resumable() -> Iterator[None]:
    """Inside, what is interrupted keeps what it has done, which is said."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print("interrupted; finished work is kept, and the same command continues", file=sys.stderr)
        sys.exit(TERMINATED if isinstance(interrupt, Terminated) else INTERRUPTED)


def require_few_errors(rows: Sequence[Row]) -> None:
    """Print the number of infrastructure errors; exit with `INVALID` if there are too many."""
    if errors := sum(row.errors for row in rows):
        episodes = errors + sum(row.episodes for row in rows)
        print(f"infrastructure errors: {errors} of {episodes} episodes", file=sys.stderr)
    if any(row.invalid for row in rows):
        raise typer.Exit(INVALID)
