"""Commands that run declared studies."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from octo_bench.cli.arguments import CORES, Workers
from octo_bench.cli.exits import INTERRUPTED, require_few_errors


def reproduce(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="A name under results/, or a study.toml.")
    ],
    workers: Workers = CORES,
    out: Annotated[
        Path | None, typer.Option(help="Where to work and write; the study's folder if not given.")
    ] = None,
) -> None:
    """Run a declared study: collect, fine-tune, evaluate, and write the table and the figure.

    Whatever is done is kept: when it is stopped, the same command goes on.
    """
    from octo_bench.studies.study import find_study, read_study

    path = find_study(study)
    declared = read_study(path)
    out = path.parent if out is None else out

    from octo_bench.reports.study_report import write_reports
    from octo_bench.reports.table import markdown
    from octo_bench.studies.artifacts import write_artifacts
    from octo_bench.studies.scheduler import run_study

    start = time.monotonic()
    try:
        run_study(declared, out, workers)
        write_artifacts(declared, out, workers, time.monotonic() - start)
        table = write_reports(declared, out)
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, the same command goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)
    print(markdown(table))
    print(f"Written to {out}.")
    errors = sum(row.errors for row in table.rows)
    require_few_errors(errors, errors + sum(row.episodes for row in table.rows))
