"""What commands print: tables and texts for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

_WIDE = 240


def print_rows(rows: Sequence[dict[str, object]], as_json: bool) -> None:
    """Print rows that have the same keys; a table without rows is not printed."""
    if as_json:
        print(json.dumps(rows, indent=2))
    elif rows:
        table = Table(box=None)
        for number, key in enumerate(rows[0]):
            # Names stay whole, so that they can be copied; the rest breaks where it must.
            heading = key.replace("_", " ")
            table.add_column(heading, no_wrap=number == 0, overflow="fold")
        for row in rows:
            table.add_row(*(escape(str(value)) for value in row.values()))
        # Lines are kept whole where a program reads them.
        Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def print_markdown(text: str) -> None:
    """Print a Markdown text: laid out in a terminal, as it is elsewhere."""
    if sys.stdout.isatty():
        Console().print(Markdown(text))
    else:
        print(text)
