"""Which pairs of task and embodiment are supported: those whose scripted expert succeeds.

`octo-bench demonstrators` runs every scripted expert on the same number of seeds and writes the
table that is read here.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from octo_bench.definitions.environments import VERSION, Environment
from octo_bench.errors import BadRecords, UnsupportedEnvironment
from octo_bench.files import atomic_path
from octo_bench.paths import demonstrators_table
from octo_bench.reading import read_text, require_regular

REQUIRED_SUCCESS = 0.9
_MOST_SEEDS = 10**9
_FIX = "make it again with `octo-bench demonstrators`"


@dataclass(frozen=True)
class Demonstrated:
    """How often the scripted expert of one environment succeeded, over `seeds` seeds.

    `mean_steps` is of the successes, until the task is done for the first time; `failures` says how
    far the others got, as "grasp 3, lift 1"; `stock_successes` is with robosuite's own controller
    on the same seeds, -1 if not measured.
    """

    env_id: str
    seeds: int
    successes: int
    mean_steps: float
    failures: str = ""
    stock_successes: int = -1

    @property
    def rate(self) -> float:
        """Fraction of the seeds on which it succeeded."""
        return self.successes / self.seeds


@dataclass(frozen=True)
class Support:
    """Whether a pair is supported (None: not measured), and why not."""

    supported: bool | None
    reason: str
    demonstrator_success: float | None


def support(declared: Environment) -> Support:
    """Whether an environment is supported.

    Raises:
        BadRecords: for a table that cannot be read.
    """
    return support_in(read_demonstrated(demonstrators_table()), declared)


def support_in(rows: Mapping[str, Demonstrated], declared: Environment) -> Support:
    """Whether an environment is supported by what a table says."""
    measured = rows.get(declared.id)
    task = declared.task.name
    reasons = {each.task: each.reason for each in declared.embodiment.unsupported}
    if measured is None:
        if task in reasons:
            return Support(False, reasons[task], None)
        return Support(None, "not measured; run `octo-bench demonstrators`", None)
    if measured.rate >= REQUIRED_SUCCESS:
        return Support(True, "", measured.rate)
    seen = (
        f"{measured.successes} of {measured.seeds}; failures by furthest stage: {measured.failures}"
    )
    reason = f"{reasons[task]} ({seen})" if task in reasons else seen
    return Support(False, reason, measured.rate)


def require_supported(declared: Environment) -> None:
    """Refuse an environment that is not supported; one that is not measured passes.

    Raises:
        UnsupportedEnvironment: naming the table, the reason and the fix.
    """
    found = support(declared)
    if found.supported is False:
        raise UnsupportedEnvironment(
            f"{demonstrators_table()}: {declared.id} is not supported: {found.reason}; "
            "choose one that `octo-bench envs` lists as supported"
        )


def read_demonstrated(path: Path) -> dict[str, Demonstrated]:
    """The table's rows by the newest environment id; empty where there is no table yet.

    Raises:
        BadRecords: for a table that cannot be read.
    """
    if not os.path.lexists(path):
        return {}
    require_regular(path, BadRecords, _FIX)
    return _read(path, path.stat().st_mtime_ns)


@cache
def _read(path: Path, changed: int) -> dict[str, Demonstrated]:
    converters = {"str": str, "int": int, "float": float}
    kinds = {field.name: converters[str(field.type)] for field in fields(Demonstrated)}
    text = read_text(path, BadRecords, _FIX)
    try:
        rows = [
            Demonstrated(**{name: kind(row[name]) for name, kind in kinds.items()})
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
        for row in rows:
            if not 0 <= row.successes <= row.seeds <= _MOST_SEEDS or row.seeds < 1:
                raise ValueError(f"{row.env_id}: {row.successes} successes of {row.seeds}")
            if not 0 <= row.mean_steps < math.inf:
                raise ValueError(f"{row.env_id}: {row.mean_steps} steps")
    except (KeyError, TypeError, ValueError, csv.Error) as broken:
        raise BadRecords(path, f"is not a table of scripted experts ({broken})", _FIX) from broken
    # A row may have been measured in an earlier version of the environment.
    return {re.sub(r"-v\d+$", f"-v{VERSION}", row.env_id): row for row in rows}


def write_demonstrated(path: Path, rows: dict[str, Demonstrated]) -> None:
    """Write the table, in the order of the ids."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        names = [field.name for field in fields(Demonstrated)]
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(rows[env_id]) for env_id in sorted(rows))
