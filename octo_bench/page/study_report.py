"""Everything a study's folder shows: `table.md`, `table.csv`, `figure.svg` and `figure.png`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from octo_bench.charts.figure import write_figure
from octo_bench.files import write_text
from octo_bench.records.record import read_records
from octo_bench.studies.artifacts import RECORDS, read_result
from octo_bench.studies.study import Study
from octo_bench.tables.csv_files import csv_text, read_reference, read_rows
from octo_bench.tables.markdown import markdown
from octo_bench.tables.table import Row, Table, summarise

TABLE = "table.csv"


def write_reports(study: Study, out: Path) -> Table:
    """Write the table and the figure of a study that has run in `out`; returns the table."""
    table = study_table(study, out)
    write_text(out / "table.md", markdown(table))
    write_text(out / TABLE, csv_text(table))
    write_figure(table, out)
    return table


def study_table(study: Study, out: Path) -> Table:
    """The table of a study that has run in `out`.

    Studies that are declared to stand beside it are looked for beside its own folder; one that
    has not run is left out.
    """
    records = read_records(out / RECORDS)
    result = read_result(out)
    beside: list[Row] = []
    for name in study.beside:
        other = study.file.resolve().parents[1] / name / TABLE
        if other.is_file():
            beside += read_rows(other)
    return Table(
        title=study.title,
        rows=summarise(records, _training_minutes(result)),
        references={
            target.env: read_reference(target.reference)
            for target in study.targets
            if target.reference is not None
        },
        beside=tuple(beside),
        targets=_averaged(study),
        finished=len(result["cells"]),
        declared=result.get("declared_cells", len(result["cells"])),
    )


def _averaged(study: Study) -> tuple[str, ...]:
    """The environments to take the mean over: all, if the same is asked of them, else none."""
    demos = {frozenset(target.demos) for target in study.targets}
    several = len(study.targets) > 1 and len(demos) == 1
    return tuple(target.env for target in study.targets) if several else ()


def _training_minutes(result: Mapping[str, Any]) -> dict[tuple[str, str, int], float]:
    """Mean minutes of fine-tuning by policy, environment id and demonstrations."""
    seconds: dict[tuple[str, str, int], dict[str, float]] = defaultdict(dict)
    for cell in result["cells"]:
        if cell["training"] is not None:
            place = (cell["policy"], cell["env_id"], cell["demos"])
            # Measured under several conditions, it was still trained once.
            seconds[place][cell.get("policy_key", cell["key"])] = cell["training"]["seconds"]
    return {place: mean(of_each.values()) / 60 for place, of_each in seconds.items()}
