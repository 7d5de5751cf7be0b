"""What the exit codes say: 0 fine, 2 the user's mistake, and those below."""

from __future__ import annotations

import sys

import typer

FAILED = 1
UNFIT = 4
INTERRUPTED = 130

# A study with more than this share of infrastructure errors says nothing.
_TOLERATED_ERRORS = 0.05


def require_few_errors(errors: int, episodes: int) -> None:
    """Say how many of the episodes ended in an infrastructure error; exit with `UNFIT` if many."""
    if errors:
        print(f"{errors} episodes ended in an infrastructure error", file=sys.stderr)
    if errors > _TOLERATED_ERRORS * episodes:
        raise typer.Exit(UNFIT)
